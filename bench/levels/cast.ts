/** Who runs in a group. */

import { fullTree } from 'evtchn/abi'
import { type Contender, NAMES, type Runner, type Task } from './contender.js'
import { hasNative, NativeRunner } from './contenders/native.js'
import { LocalRunner } from './cycle.js'
import { type Group, portsOf, rangeOf } from './plan.js'

/**
 * A module of its own for each shape. The engine keeps what it knows about a call per function of a module, and one
 * function that served every depth, width and library would be slower for all of them than in a program that uses one.
 */
const shaped = async <T>(path: string, query: string): Promise<T> => (await import(`${path}?${query}`)) as T

type Core = typeof import('./contenders/core.js')
type Calls = typeof import('./contenders/calls.js')
type Atomics = typeof import('./contenders/atomics.js')
type Sets = typeof import('./contenders/sets.js')

/** Bytes of bitmap that one cycle may walk where a scan walks all of it: it needs no more to be timed. */
const WALKED_BYTES = 1 << 18

/** The contenders of one depth. */
async function castOf(task: Task): Promise<Runner[]> {
  const { levels, bits, group } = task
  const shape = `levels=${levels}&bits=${bits}`
  const walked = Math.max(1, Math.min(group.trees, Math.floor(WALKED_BYTES / (fullTree(bits, levels) / 8))))
  const local = (name: string, contender: Contender) => new LocalRunner(name, task, contender)
  const core = async (kind: string) => shaped<Core>('./contenders/core.js', `${shape}&${kind}`)
  const calls = async (build: string) => shaped<Calls>('./contenders/calls.js', `${shape}&${build}`)
  const sets = async (kind: string) => shaped<Sets>('./contenders/sets.js', `${shape}&${kind}`)
  const atomics = await shaped<Atomics>('./contenders/atomics.js', shape)
  return [
    local(NAMES.core, (await core('threads')).core(task, true)),
    ...(hasNative() ? [new NativeRunner(task, 'any'), new NativeRunner(task, 'own')] : []),
    local(NAMES.coreSingle, (await core('single')).core(task, false)),
    local(NAMES.calls, (await calls('threads')).calls(task, true)),
    local(NAMES.callsSingle, (await calls('single')).calls(task, false)),
    local(NAMES.flat, (await core('flat')).flat(task, true, walked)),
    local(NAMES.flatSingle, (await core('flat-single')).flat(task, false, walked)),
    local(NAMES.atomics, atomics.atomics(task)),
    local(NAMES.bitset, (await sets('bitset')).sets(task, 'bitset', walked)),
    local(NAMES.typedfastbitset, (await sets('typedfastbitset')).sets(task, 'typedfastbitset', walked)),
    local(NAMES.set, (await sets('set')).sets(task, 'set', group.trees)),
  ]
}

/** All contenders of a group, ready to run. */
export async function cast(group: Group, seed: number): Promise<Runner[]> {
  const runners: Runner[] = []
  const drawn = new Map<number, Uint32Array>()
  for (const levels of group.levels) {
    // Depths that draw from the same range share the ports.
    const range = rangeOf(group.bits, levels, group.placement, group.k)
    const ports = drawn.get(range) ?? portsOf(group, levels, seed)
    drawn.set(range, ports)
    runners.push(...(await castOf({ group, levels, bits: group.bits, ports, seed })))
  }
  return runners
}
