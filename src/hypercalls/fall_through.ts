/**
 * Hypercalls that the library does not know go to the embedder, who has the emulator or the toolstack that they are about:
 * console_io, say, or a memory_op. What it throws or returns beside the point is reported, and the guest gets ENOSYS.
 */

import type { Caller } from '../domain/domain.js'
import { domainHandle } from '../domain/handles.js'
import { type Refusal, refuse } from '../errno.js'
import type { FallThrough, HypercallCaller, World } from '../host/world.js'
import type { NotKnown } from './parts.js'

/** Registers that a hypercall may have. */
const REGISTERS = 6

/** Highest errno of Xen's ABI. */
const MAX_ERRNO = 4095

function callerOf({ domain, vcpu }: Caller): HypercallCaller {
  const handle = domainHandle(domain)
  const { memory } = domain
  return {
    domain: handle,
    vcpu: handle.vcpu(vcpu.vcpuId),
    copyIn: (gva, length) => {
      const bytes = new Uint8Array(length)
      return memory.copyIn(vcpu.vcpuId, gva, bytes, length) ? bytes : undefined
    },
    copyOut: (gva, bytes) => memory.copyOut(vcpu.vcpuId, gva, bytes, bytes.length),
  }
}

/** Asks the embedder. `unknown` is what the guest gets if it does not know either. */
export function fallThrough(
  world: World,
  caller: Caller,
  nr: number,
  register: (i: number) => number,
  unknown: NotKnown,
): number | Refusal {
  const ask = world.fallThrough as FallThrough
  const args = Array.from({ length: REGISTERS }, (_, i) => register(i))
  const result = world.callouts.run('hypercall', undefined, () => {
    const value = ask(callerOf(caller), nr, args)
    if (value === undefined || (Number.isInteger(value) && value >= -MAX_ERRNO && value < 2 ** 31)) return value
    throw new TypeError(`the option hypercall returned ${value} for hypercall ${nr}: 0 or more, -errno, or undefined`)
  })
  if (result === undefined) return unknown
  if (result >= 0) return result
  return refuse(-result as Refusal['errno'], () => `the embedder refused hypercall ${nr}`)
}
