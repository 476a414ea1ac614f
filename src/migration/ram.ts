/**
 * RAM of a saved domain without its zero frames: runs of the others, each with its first frame number and base64 of its
 * bytes. A run is at most 256 frames long, so that no text grows with the RAM.
 */

import { PAGE_SIZE } from '../abi/index.js'
import type { GuestMemory } from '../machine/memory.js'
import { fromBase64, toBase64 } from './base64.js'
import { type Fields, SavedStateError } from './fields.js'

/** Frames that are not zero, next to each other. */
export interface SavedRun {
  gfn: number
  base64: string
}

/** A run as bytes. */
export interface CheckedRun {
  gfn: number
  bytes: Uint8Array
}

const RUN_FRAMES = 256

/** The frames that are not zero. */
export function saveRam(memory: GuestMemory): SavedRun[] {
  const bytes = memory.view()
  const words = new Int32Array(memory.memory.buffer, memory.base, memory.bytes / 4)
  const isZero = (gfn: number) => {
    const end = ((gfn + 1) * PAGE_SIZE) / 4
    for (let i = (gfn * PAGE_SIZE) / 4; i < end; i += 4)
      if (words[i]! | words[i + 1]! | words[i + 2]! | words[i + 3]!) return false
    return true
  }
  const runs: SavedRun[] = []
  for (let gfn = 0; gfn < memory.frames; gfn++) {
    if (isZero(gfn)) continue
    const first = gfn
    while (gfn + 1 < Math.min(memory.frames, first + RUN_FRAMES) && !isZero(gfn + 1)) gfn++
    runs.push({ gfn: first, base64: toBase64(bytes.slice(first * PAGE_SIZE, (gfn + 1) * PAGE_SIZE)) })
  }
  return runs
}

/** Reads the runs: ascending, none overlapping another, all within the domain's frames. */
export function readRam(fields: Fields, frames: number): CheckedRun[] {
  let end = 0
  return fields.objects('ram', frames).map((run) => {
    const gfn = run.int('gfn', end, frames - 1)
    const base64 = run.raw('base64')
    const bytes = typeof base64 === 'string' ? fromBase64(base64, (frames - gfn) * PAGE_SIZE) : null
    if (!bytes?.length || bytes.length % PAGE_SIZE)
      throw new SavedStateError(
        run.path('base64'),
        `is not base64 of whole frames of 4096 bytes, at most ${frames - gfn} of them`,
      )
    end = gfn + bytes.length / PAGE_SIZE
    return { gfn, bytes }
  })
}

/**
 * Fills a new domain's RAM; frames that the state does not have are zero. `fresh`: the memory was made for the domain and
 * is zero by itself, and filling it would only make the engine find real pages for all of it.
 */
export function loadRam(memory: GuestMemory, runs: readonly CheckedRun[], fresh: boolean): void {
  const view = memory.view()
  if (fresh) {
    for (const { gfn, bytes } of runs) view.set(bytes, gfn * PAGE_SIZE)
    return
  }
  let end = 0
  for (const { gfn, bytes } of runs) {
    view.fill(0, end, gfn * PAGE_SIZE)
    view.set(bytes, gfn * PAGE_SIZE)
    end = gfn * PAGE_SIZE + bytes.length
  }
  view.fill(0, end)
}
