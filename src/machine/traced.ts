/**
 * Step mode: the third build of the guest's core, which reports every access that it makes to a guest's words. The entry
 * `evtchn/traced`; the main entry does not carry the build.
 *
 *     host core ── call_indirect ──▶ trampoline ──▶ enter, traced core, leave
 *                                                          └─ after each access ──▶ onAccess
 *
 * The core has no state. So `onAccess` may send, mask or scan, and that is another processor which acts between two accesses:
 * every interleaving of a sender and a scan can be run, exactly, on one thread. Not so inside fifoRaise, fifoSetLink and
 * fifoSetHead: the hypervisor holds the queues there (EC-fifo-4), and another sender would wait.
 *
 * The host core calls guests' cores through a table, and a table takes functions of WebAssembly only. A module that imports
 * functions and exports them again makes such functions of ours; it is written here, byte by byte.
 */

import { ParameterError } from '../check.js'
import { traced } from '../generated/traced.js'
import { adoptCore, type CoreExports, decodeModule, isShared, type WasmMemory } from './core.js'

/** What an access does: `take` puts 0 in place of the word. */
export type AccessKind = 'read' | 'write' | 'or' | 'and' | 'take' | 'compareExchange'

/** In the order in which the core numbers them (assembly/trace.ts). */
const ACCESS_KINDS: readonly AccessKind[] = ['read', 'write', 'or', 'and', 'take', 'compareExchange']

/** One access to a guest's word. */
export interface Access {
  readonly kind: AccessKind
  /** Byte in the memory, not in the domain: `Domain.words()` says which word it is. */
  readonly at: number
  /** Width: 1, 4 or 8 bytes. */
  readonly bytes: number
  /** The word before and after, without a sign. The same where nothing changed. */
  readonly before: bigint
  readonly after: bigint
  /** The core's function, such as `leafSet`, `climb3x64`, `scan3x64`. */
  readonly fn: keyof CoreExports
}

const FUNC = 0x60
const I32 = 0x7f

const name = (text: string): number[] => [text.length, ...[...text].map((c) => c.charCodeAt(0))]
/** A section; its length in two bytes of LEB128, and so is every count in it. */
const long = (n: number): number[] => [(n & 0x7f) | 0x80, n >> 7]
const section = (id: number, items: readonly (readonly number[])[]): number[] => {
  const body = [...long(items.length), ...items.flat()]
  return [id, ...long(body.length), ...body]
}

/** Functions without a result. */
const VOID: readonly string[] = ['fillBits', 'zeroWords', 'moveLeaf', 'fifoSetHead']

/** A module that imports functions of these names and numbers of parameters, all i32, and exports each again. */
function trampolines(functions: readonly (readonly [string, number])[]): Uint8Array<ArrayBuffer> {
  const types = functions.map(([fn, parameters]) => [
    FUNC,
    parameters,
    ...Array<number>(parameters).fill(I32),
    ...(VOID.includes(fn) ? [0] : [1, I32]),
  ])
  const imports = functions.map(([fn], i) => [...name('core'), ...name(fn), 0, i])
  const exports = functions.map(([fn], i) => [...name(fn), 0, i])
  const magic = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]
  return Uint8Array.from([...magic, ...section(1, types), ...section(2, imports), ...section(7, exports)])
}

let module: object | undefined

/**
 * From now on domains in `memory` have the traced core. Call it before the first domain is created there. `onAccess` gets
 * each access after it was made; it may call the library again. What it throws ends the operation between two accesses, as
 * a processor that stops there, and comes out of the call.
 * @throws ParameterError for a shared memory, whose accesses are other threads' too, and for one that has a core already.
 */
export function traceMemory(memory: WasmMemory, onAccess: (access: Access) => void): void {
  if (!(memory instanceof WebAssembly.Memory) || isShared(memory))
    throw new ParameterError('traceMemory', 'memory', memory, 'a WebAssembly.Memory that is not shared')
  if (typeof onAccess !== 'function') throw new ParameterError('traceMemory', 'onAccess', onAccess, 'a function')
  module ??= decodeModule(traced)
  const running: (keyof CoreExports)[] = []
  const access = (kind: number, at: number, bytes: number, before: bigint, after: bigint) =>
    onAccess({
      kind: ACCESS_KINDS[kind]!,
      at: at >>> 0,
      bytes,
      before: BigInt.asUintN(bytes * 8, before),
      after: BigInt.asUintN(bytes * 8, after),
      fn: running.at(-1)!,
    })
  const core = new WebAssembly.Instance(module, { env: { memory }, trace: { access } }).exports
  const calls = Object.entries(core).filter(([, call]) => typeof call === 'function') as [
    keyof CoreExports,
    (...args: number[]) => number,
  ][]
  const told = calls.map(([fn, call]) => [
    fn,
    (...args: number[]) => {
      running.push(fn)
      try {
        return call(...args)
      } finally {
        running.pop()
      }
    },
  ])
  const bytes = trampolines(calls.map(([fn, call]) => [fn, call.length]))
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), { core: Object.fromEntries(told) })
  if (!adoptCore({ ...(exports as unknown as CoreExports), memory, shared: false }))
    throw new ParameterError('traceMemory', 'memory', memory, 'a memory in which no domain was created yet')
}
