/**
 * A domain's RAM: 4 KiB frames, all of a WebAssembly.Memory or a window of one.
 *
 *     memory   |……… base ├─ frame 0 ─┼─ frame 1 ─┼ … ┼─ frame frames-1 ─┤ ……… |
 *
 * A guest frame number is an index into the window. Every guest address passes through here, and a bad one is a result
 * (false, -1), never an exception: the hypervisor turns it into EFAULT or EINVAL.
 */

import { MAX_FRAMES, PAGE_SIZE } from '../abi/index.js'
import { anything, flag, func, integer, options, ParameterError, type Table, within } from '../check.js'
import { Errno, XenError } from '../errno.js'
import { type Core, coreOf, createMemory, hasSharedMemory, isShared, type WasmMemory } from './core.js'

/**
 * A page walk: turns a virtual address of vCPU `vcpuId` into a guest physical one, or -1. Page tables belong to a vCPU, so
 * every copy names the one whose hypercall it serves. Identity unless the embedder has page tables.
 */
export type PageWalk = (vcpuId: number, gva: number, write: boolean) => number

/** What a domain's memory is made of. */
export interface GuestMemoryOptions {
  /** Number of 4 KiB frames. */
  frames: number
  /** A memory to live in; without it the domain gets one of its own. */
  memory?: WasmMemory | undefined
  /** Byte offset of frame 0 in `memory`, a multiple of 4096. Default 0. */
  base?: number | undefined
  /** A memory of its own is shared between threads. Default false. */
  shared?: boolean | undefined
  /** Page tables. Default: identity. */
  translate?: PageWalk | undefined
}

const MEMORY_OPTIONS: Table<GuestMemoryOptions> = {
  frames: anything,
  memory: anything,
  base: within(0, 2 ** 32 - PAGE_SIZE),
  shared: flag,
  translate: func,
}

/** The memory that was given, or a new one. */
function readMemory(call: string, { frames, memory, shared }: GuestMemoryOptions): WasmMemory {
  if (memory !== undefined) {
    if (!(memory instanceof WebAssembly.Memory))
      throw new ParameterError(call, 'memory', memory, 'a WebAssembly.Memory')
    if (shared !== undefined && shared !== isShared(memory)) {
      const given = shared ? 'is not shared: make it with shared: true' : 'is shared'
      throw new ParameterError(call, 'shared', shared, `${!shared} or nothing, for the given memory ${given}`)
    }
    return memory
  }
  if (shared && !hasSharedMemory())
    throw new ParameterError(
      call,
      'shared',
      shared,
      'false: there is no shared memory here. A page has it when it is cross-origin isolated (headers ' +
        'Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp)',
    )
  try {
    return createMemory(frames, shared ?? false)
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    throw new XenError(call, Errno.ENOMEM, `the engine has no memory of ${frames} frames: ${error.message}`)
  }
}

const WORD = new Uint8Array(4)
const WORD_VIEW = new DataView(WORD.buffer)

/** How often the hypervisor holds each frame of one domain (NL-frame-1: a frame that it writes to stays RAM). */
class FrameReferences {
  readonly #count = new Map<number, number>()

  /** The hypervisor holds a frame, until it lets go. */
  hold(gfn: number): void {
    this.#count.set(gfn, this.references(gfn) + 1)
  }

  /** Lets go of a frame. */
  release(gfn: number): void {
    const left = this.references(gfn) - 1
    if (left > 0) this.#count.set(gfn, left)
    else this.#count.delete(gfn)
  }

  /** How often the hypervisor holds a frame. */
  references(gfn: number): number {
    return this.#count.get(gfn) ?? 0
  }

  /** The frames that it holds. */
  get held(): Iterable<number> {
    return this.#count.keys()
  }

  /** How many it holds at present. */
  get frames(): number {
    return this.#count.size
  }
}

let referencesOf: (memory: GuestMemory) => FrameReferences
let replaceWalk: (memory: GuestMemory, make: (before: PageWalk | undefined) => PageWalk | undefined) => void

/** Puts another page walk in the place of a domain's: its vCPUs run on threads that have page tables of their own. */
export const rewalk: typeof replaceWalk = (memory, make) => replaceWalk(memory, make)

/** The references to a domain's frames. They are the hypervisor's, and no member of what the package exports. */
export const frameRefs = (memory: GuestMemory): FrameReferences => referencesOf(memory)

/** Guest-physical memory of one domain. */
export class GuestMemory {
  static {
    referencesOf = (memory) => memory.#references
    replaceWalk = (memory, make) => {
      memory.#translate = make(memory.#translate)
    }
  }

  readonly memory: WasmMemory
  readonly core: Core
  /** Byte offset of frame 0 in the core's memory. */
  readonly base: number
  readonly frames: number
  readonly bytes: number
  #translate: PageWalk | undefined
  readonly #readOnly = new Set<number>()
  readonly #references = new FrameReferences()
  #u8: Uint8Array
  #data: DataView

  /**
   * `call` is what errors name.
   * @throws ParameterError; XenError ENOMEM if the engine has no such memory.
   */
  constructor(given: GuestMemoryOptions, call = 'GuestMemory') {
    this.frames = integer(call, 'frames', options(call, given, MEMORY_OPTIONS).frames, 1, MAX_FRAMES)
    this.base = given.base ?? 0
    if (this.base % PAGE_SIZE) throw new ParameterError(call, 'base', this.base, 'a multiple of 4096')
    if (given.base !== undefined && !given.memory)
      throw new ParameterError(call, 'base', given.base, 'only together with a memory')
    this.bytes = this.frames * PAGE_SIZE
    this.memory = readMemory(call, given)
    if (this.base + this.bytes > this.memory.buffer.byteLength)
      throw new ParameterError(
        call,
        'frames',
        this.frames,
        `base + frames · 4096 within the memory's ${this.memory.buffer.byteLength} bytes`,
      )
    this.core = coreOf(this.memory)
    this.#translate = given.translate
    this.#u8 = new Uint8Array(this.memory.buffer)
    this.#data = new DataView(this.memory.buffer, this.base, this.bytes)
  }

  #renew(): void {
    this.#u8 = new Uint8Array(this.memory.buffer)
    this.#data = new DataView(this.memory.buffer, this.base, this.bytes)
  }

  /**
   * The whole memory's bytes; renewed when the embedder's memory has grown, which leaves older views of a memory that is
   * not shared without bytes. Those of a shared one stay good for the window, which does not grow.
   */
  get #all(): Uint8Array {
    if (this.#u8.length === 0) this.#renew()
    return this.#u8
  }

  /** The domain's bytes for reading and writing members at guest-physical addresses; kept like `#all`. */
  get data(): DataView {
    if (this.#u8.length === 0) this.#renew()
    return this.#data
  }

  /** The domain's own bytes: a fresh view, valid until the memory grows. */
  view(): Uint8Array {
    return this.#all.subarray(this.base, this.base + this.bytes)
  }

  /** Absolute address of a guest-physical range that lies inside the window, or -1. */
  absolute(gpa: number, length: number): number {
    return gpa >= 0 && gpa + length <= this.bytes && Number.isInteger(gpa) ? this.base + gpa : -1
  }

  /** Absolute address of frame `gfn` if it is RAM and may be mapped writable (NL-frame-1), or -1. Compared before any arithmetic. */
  frame(gfn: number): number {
    if (!(gfn >= 0 && gfn < this.frames) || !Number.isInteger(gfn) || this.#readOnly.has(gfn)) return -1
    return this.base + gfn * PAGE_SIZE
  }

  /** A byte at an absolute address that was resolved before. */
  peek8(at: number): number {
    return this.#all[at >>> 0]!
  }

  /** Stores a byte at an absolute address that was resolved before. */
  poke8(at: number, value: number): void {
    this.#all[at >>> 0] = value
  }

  /** Forbids writable mappings of a frame and guest copies into it: the role of a page of another type in Xen. */
  protect(gfn: number): void {
    this.#readOnly.add(integer('GuestMemory.protect', 'gfn', gfn, 0, this.frames - 1))
  }

  /** Frames that `protect` named, ascending. */
  get protectedFrames(): readonly number[] {
    return Object.freeze([...this.#readOnly].sort((a, b) => a - b))
  }

  /** Frames that the hypervisor holds at present. */
  get heldFrames(): number {
    return this.#references.frames
  }

  /** A u32 at a virtual address of a vCPU; -1 is EFAULT. */
  readU32(vcpuId: number, gva: number): number {
    if (!this.#translate && gva >= 0 && gva + 4 <= this.bytes && Number.isInteger(gva))
      return this.data.getUint32(gva, true)
    return this.copyIn(vcpuId, gva, WORD, 4) ? WORD_VIEW.getUint32(0, true) : -1
  }

  /** Copies guest bytes at a virtual address of a vCPU into `to`; false is EFAULT. */
  copyIn(vcpuId: number, gva: number, to: Uint8Array, length: number): boolean {
    for (let done = 0; done < length; ) {
      const at = this.#resolve(vcpuId, gva + done, length - done, false)
      if (at < 0) return false
      const run = this.#run(gva + done, length - done)
      const from = this.#all
      for (let i = 0; i < run; i++) to[done + i] = from[at + i]!
      done += run
    }
    return true
  }

  /** Copies bytes out to a virtual address of a vCPU; false is EFAULT and may have written a part, as a fault in Xen may. */
  copyOut(vcpuId: number, gva: number, from: Uint8Array, length: number): boolean {
    for (let done = 0; done < length; ) {
      const at = this.#resolve(vcpuId, gva + done, length - done, true)
      if (at < 0) return false
      const run = this.#run(gva + done, length - done)
      const to = this.#all
      for (let i = 0; i < run; i++) to[at + i] = from[done + i]!
      done += run
    }
    return true
  }

  /** True if `length` bytes at a virtual address of a vCPU can be copied; touches nothing. */
  accessible(vcpuId: number, gva: number, length: number, write: boolean): boolean {
    for (let done = 0; done < length; done += this.#run(gva + done, length - done))
      if (this.#resolve(vcpuId, gva + done, length - done, write) < 0) return false
    return true
  }

  /** Bytes up to the end of the page: two pages that are neighbours for the guest need not be so in RAM. */
  #run(gva: number, length: number): number {
    return Math.min(length, PAGE_SIZE - (gva % PAGE_SIZE))
  }

  /** Absolute address of the part of a virtual range that lies in its first page, or -1. */
  #resolve(vcpuId: number, gva: number, length: number, write: boolean): number {
    if (!Number.isSafeInteger(gva) || gva < 0) return -1
    const gpa = this.#translate ? this.#translate(vcpuId, gva, write) : gva
    if (write && this.#readOnly.has(Math.floor(gpa / PAGE_SIZE))) return -1
    return this.absolute(gpa, this.#run(gva, length))
  }
}
