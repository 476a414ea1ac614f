/**
 * RAM of a saved domain without its zero frames: runs of the others, each with its first frame number and its bytes.
 *
 *     frames   0 [1] 0 0 [5 6 7] 0 …      ▶   { gfn: 1, 4096 bytes }, { gfn: 5, 12288 bytes }
 *
 * In a structured clone a run is bytes. Text has no bytes: `JSON.stringify` writes them as base64, four characters for
 * three bytes, and the reader takes either. A run is at most 256 frames long, so that no single text grows with the RAM.
 */

import { PAGE_SIZE } from '../abi/index.js'
import type { GuestMemory } from '../machine/memory.js'
import { fromBase64, toBase64 } from './base64.js'
import { type Fields, SavedStateError, shown } from './fields.js'

/** Frames that are not zero, next to each other. As JSON it has `base64` instead of `bytes`. */
export interface SavedRun {
  readonly gfn: number
  readonly bytes: Uint8Array
}

const RUN_FRAMES = 256

/** A run as saved. A structured clone of it is a plain object. */
class Run implements SavedRun {
  readonly gfn: number
  readonly bytes: Uint8Array

  constructor(gfn: number, bytes: Uint8Array) {
    this.gfn = gfn
    this.bytes = bytes
  }

  toJSON(): { gfn: number; base64: string } {
    return { gfn: this.gfn, base64: toBase64(this.bytes) }
  }
}

/** The frames that are not zero. The bytes are copies, and not of a shared buffer: they can be transferred. */
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
    runs.push(new Run(first, bytes.slice(first * PAGE_SIZE, (gfn + 1) * PAGE_SIZE)))
  }
  return runs
}

/** Runs with some frames copied anew: those that senders wrote to while the rest was copied. */
export function renewFrames(runs: readonly SavedRun[], memory: GuestMemory, gfns: Iterable<number>): SavedRun[] {
  const bytes = memory.view()
  const renewed = [...runs]
  for (const gfn of gfns) {
    const frame = bytes.slice(gfn * PAGE_SIZE, (gfn + 1) * PAGE_SIZE)
    const run = renewed.find((each) => gfn >= each.gfn && gfn < each.gfn + each.bytes.length / PAGE_SIZE)
    if (run) run.bytes.set(frame, (gfn - run.gfn) * PAGE_SIZE)
    else if (frame.some((byte) => byte !== 0)) renewed.push(new Run(gfn, frame))
  }
  return renewed.sort((a, b) => a.gfn - b.gfn)
}

/** Reads the runs: ascending, none overlapping another, all within the domain's frames. Null: the state has no RAM. */
export function readRam(fields: Fields, frames: number): SavedRun[] | null {
  if (fields.raw('ram') === null) return null
  let end = 0
  return fields.objects('ram', frames).map((run) => {
    const gfn = run.int('gfn', end, frames - 1)
    const bytes = run.has('bytes') ? readBytes(run, frames - gfn) : readText(run, frames - gfn)
    end = gfn + bytes.length / PAGE_SIZE
    return { gfn, bytes }
  })
}

const whole = (bytes: number, most: number) => bytes > 0 && bytes % PAGE_SIZE === 0 && bytes <= most * PAGE_SIZE

function readText(run: Fields, most: number): Uint8Array {
  run.only(['gfn', 'base64'])
  const base64 = run.raw('base64')
  const bytes = typeof base64 === 'string' ? fromBase64(base64, most * PAGE_SIZE) : null
  if (bytes && whole(bytes.length, most)) return bytes
  throw new SavedStateError(
    run.path('base64'),
    `is not base64 of whole frames of ${PAGE_SIZE} bytes, at most ${most} of them`,
  )
}

function readBytes(run: Fields, most: number): Uint8Array {
  run.only(['gfn', 'bytes'])
  const bytes = run.raw('bytes')
  if (!(bytes instanceof Uint8Array))
    throw new SavedStateError(
      run.path('bytes'),
      `is ${shown(bytes)}, not a Uint8Array; JSON has base64, which only the saved state itself writes, not a clone`,
    )
  if (!whole(bytes.length, most))
    throw new SavedStateError(run.path('bytes'), `has ${bytes.length} bytes, not whole frames, at most ${most} of them`)
  // A view of this length, whatever becomes of the buffer.
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length)
}

/** What fills a restored domain's memory: runs into a new memory or a given one; or nothing, for the embedder did. */
export type RamSource = { readonly runs: readonly SavedRun[]; readonly fresh: boolean } | 'keep'

/**
 * Fills a new domain's RAM; frames that the state does not have are zero. `fresh`: the memory was made for the domain and
 * is zero by itself, and filling it would only make the engine find real pages for all of it.
 */
export function loadRam(memory: GuestMemory, source: RamSource): void {
  if (source === 'keep') return
  const { runs, fresh } = source
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
