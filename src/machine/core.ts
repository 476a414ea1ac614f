/**
 * Loads the core. The only file that knows WebAssembly instances.
 *
 * The core is position-free and stateless, so one instance serves everything that lives in one memory: domains in
 * windows share it. Two builds of one source: for plain memories, and for shared ones (atomics). A third reports its
 * accesses (traced.ts).
 */

import * as wasm from '../generated/wasm.js'

/** What the library needs of a `WebAssembly.Memory`. Its declarations name no type of the DOM or of Node. */
export interface WasmMemory {
  readonly buffer: ArrayBuffer | SharedArrayBuffer
  grow(delta: number): number
}
/** A `WebAssembly.Module`, by a name that needs no DOM. */
export type WasmModule = object

/** set-pending's climb: l1 = address of evtchn_pending_sel, l2…l4 = page with the port's bit. 1: notify the vCPU. */
export type Climb = (port: number, upcall: number, l1: number, l2: number, l3: number, l4: number) => number
/** One round of a guest's scan over its descriptor (assembly/guest/scan.ts); returns how many ports it wrote to `out`. */
export type Scan = (descriptor: number, out: number, max: number) => number

/** The core's exports; every address is absolute in the memory of the instance. See assembly/guest/levels.ts, scan.ts, fifo.ts. */
export interface CoreExports {
  leafSet(pendingPage: number, maskPage: number, port: number): number
  leafUnmask(pendingPage: number, maskPage: number, port: number): number
  bitSet(page: number, port: number): number
  bitClear(page: number, port: number): number
  bitTest(page: number, port: number): number
  markPending(upcallPending: number): number
  fillBits(at: number, nbits: number): void
  zeroWords(at: number, words: number): void
  moveLeaf(fromPending: number, fromMask: number, pendingPage: number, maskPage: number, words: number): void
  fifoRaise(word: number): number
  fifoSetLink(tailWord: number, port: number): number
  fifoSetHead(controlBlock: number, priority: number, port: number): void
  fifoReady(controlBlock: number, priority: number, upcallPending: number): number
  fifoWord(word: number): number
  fifoUnmask(word: number): number
  fifoScan: Scan
  climb2x32: Climb
  climb3x32: Climb
  climb4x32: Climb
  climb5x32: Climb
  climb2x64: Climb
  climb3x64: Climb
  climb4x64: Climb
  scan2x32: Scan
  scan3x32: Scan
  scan4x32: Scan
  scan5x32: Scan
  scan2x64: Scan
  scan3x64: Scan
  scan4x64: Scan
}

/** An instance of the core over one memory. */
export interface Core extends CoreExports {
  readonly memory: WasmMemory
  /** True if the memory is shared and the atomics are real. */
  readonly shared: boolean
}

const modules: { single?: WasmModule; threads?: WasmModule } = {}
const cores = new WeakMap<WasmMemory, Core>()

/** A module from its base64. */
export function decodeModule(base64: string): WasmModule {
  return new WebAssembly.Module(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)))
}

/** The compiled module, for instantiating it in another worker over the same memory. */
export function coreModule(shared: boolean): WasmModule {
  const build = shared ? 'threads' : 'single'
  let module = modules[build]
  if (!module) {
    module = decodeModule(shared ? wasm.threads : wasm.single)
    modules[build] = module
  }
  return module
}

/** True if the engine offers shared memory here (in a page: only when it is cross-origin isolated). */
export const hasSharedMemory = (): boolean =>
  typeof SharedArrayBuffer === 'function' &&
  (globalThis as { crossOriginIsolated?: boolean }).crossOriginIsolated !== false

/** Is this memory shared between threads? */
export function isShared(memory: WasmMemory): boolean {
  return typeof SharedArrayBuffer === 'function' && memory.buffer instanceof SharedArrayBuffer
}

/** The core over `memory`: the threads build if the memory is shared, the single-thread build if not. */
export function coreOf(memory: WasmMemory): Core {
  let core = cores.get(memory)
  if (!core) {
    const shared = isShared(memory)
    const { exports } = new WebAssembly.Instance(coreModule(shared), { env: { memory } })
    core = Object.freeze({ ...(exports as unknown as CoreExports), memory, shared })
    cores.set(memory, core)
  }
  return core
}

/** Makes `core` the one of its memory; false if that has one already. For the traced build (traced.ts). @internal */
export function adoptCore(core: Core): boolean {
  if (cores.has(core.memory)) return false
  cores.set(core.memory, Object.freeze(core))
  return true
}

/** A memory of `frames` 4 KiB frames, rounded up to wasm's pages of 64 KiB. */
export function createMemory(frames: number, shared: boolean): WasmMemory {
  const pages = Math.max(1, Math.ceil(frames / 16))
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared })
}

/** The climb for a depth and width. */
export function climbOf(core: Core, levels: number, bits: 32 | 64): Climb {
  return core[`climb${levels}x${bits}` as 'climb2x64']
}

/** The scan for a depth and width. */
export function scanOf(core: Core, levels: number, bits: 32 | 64): Scan {
  return core[`scan${levels}x${bits}` as 'scan2x64']
}
