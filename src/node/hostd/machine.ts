/**
 * The machine's memory: one shared WebAssembly.Memory laid over a file, of which every domain has a window, and which native
 * processes map.
 *
 *     file DIR/machine   |    window of d0    |    window of d1    | … free … |
 *     frame              0                    2048                 3072
 *
 * Without the addon (or where the engine's memory does not follow the file) the memory is the engine's own: events and xenbus
 * work, and mapping pages is refused.
 */

import { closeSync, ftruncateSync, openSync, readSync, unlinkSync, writeSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { PAGE_SIZE } from '../../abi/index.js'
import { Errno, XenError } from '../../errno.js'

const WASM_PAGE = 65536

/** A free run of frames. */
interface Run {
  first: number
  frames: number
}

/** The memory of one host. */
export class Machine {
  readonly memory: WebAssembly.Memory
  readonly bytes: Uint8Array
  readonly frames: number
  readonly file: string
  /** Why native programs cannot map its pages; undefined: they can. */
  readonly unshared: string | undefined
  readonly #free: Run[]

  /** `addon`: path of hostmem.node; undefined: native programs share no pages. */
  constructor(folder: string, frames: number, addon: string | undefined) {
    const pages = Math.ceil((frames * PAGE_SIZE) / WASM_PAGE)
    this.frames = (pages * WASM_PAGE) / PAGE_SIZE
    this.memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true })
    this.bytes = new Uint8Array(this.memory.buffer)
    this.file = join(folder, 'machine')
    this.#free = [{ first: 0, frames: this.frames }]
    const fd = openSync(this.file, 'w+', 0o600)
    try {
      ftruncateSync(fd, this.frames * PAGE_SIZE)
      this.unshared = this.#lay(fd, addon)
    } finally {
      closeSync(fd)
    }
  }

  #lay(fd: number, addon: string | undefined): string | undefined {
    if (addon === undefined) return 'it was asked for without shared memory'
    try {
      const { map } = createRequire(import.meta.url)(addon) as { map(bytes: Uint8Array, fd: number): void }
      map(this.bytes, fd)
    } catch (error) {
      return `the file cannot be laid under the memory: ${(error as Error).message}`
    }
    return proveShared(this.bytes, fd) ? undefined : 'this engine moves its memory, and the file does not follow'
  }

  /** Takes a window of frames, filled with 0. @throws XenError ENOMEM */
  take(frames: number): number {
    const run = this.#free.find((each) => each.frames >= frames)
    if (!run) throw new XenError('createDomain', Errno.ENOMEM, `the machine has no ${frames} frames in one piece left`)
    const { first } = run
    run.first += frames
    run.frames -= frames
    this.bytes.fill(0, first * PAGE_SIZE, (first + frames) * PAGE_SIZE)
    return first
  }

  /** Gives a window back. */
  give(first: number, frames: number): void {
    this.#free.push({ first, frames })
    this.#free.sort((a, b) => a.first - b.first)
    for (let i = this.#free.length - 1; i > 0; i--) {
      const [left, right] = [this.#free[i - 1]!, this.#free[i]!]
      if (left.first + left.frames !== right.first) continue
      left.frames += right.frames
      this.#free.splice(i, 1)
    }
  }

  /** Frames that no domain has. */
  get freeFrames(): number {
    return this.#free.reduce((sum, { frames }) => sum + frames, 0)
  }

  /** Removes the file. */
  close(): void {
    unlinkSync(this.file)
  }
}

/** Writes on both sides and reads on the other, at both ends: is the file really what the memory is? */
function proveShared(bytes: Uint8Array, fd: number): boolean {
  const one = new Uint8Array(1)
  for (const at of [0, bytes.length - 1]) {
    bytes[at] = 0xa5
    if (readSync(fd, one, 0, 1, at) !== 1 || one[0] !== 0xa5) return false
    one[0] = 0x5a
    if (writeSync(fd, one, 0, 1, at) !== 1 || bytes[at] !== 0x5a) return false
    bytes[at] = 0
  }
  return true
}
