/**
 * What does not compile: members that an operation does not have, and results that it does not give. Checked by
 * `tsc -p test`; nothing here is run.
 */

import type { In, Out } from '../../src/abi/index.js'
import type { Domain, Vcpu } from '../../src/index.js'

declare const domain: Domain
declare const vcpu: Vcpu

/** Compiles only if both types are one. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
const same = <_T extends true>() => {}

same<Same<In<'send'>, { port: number }>>()
same<Same<Out<'bind_ipi'>, { port: number }>>()
same<Same<In<'bind_pirq'>, { pirq: number; flags?: number }>>()

export function operations(): number[] {
  const { port } = domain.eventChannelOp('bind_ipi', { vcpu: 0 })
  vcpu.eventChannelOp('send', { port })
  // @ts-expect-error a misspelt member
  domain.eventChannelOp('send', { prot: port })
  // @ts-expect-error a member is missing
  domain.eventChannelOp('bind_vcpu', { port })
  // @ts-expect-error a member of another operation
  domain.eventChannelOp('close', { port, vcpu: 0 })
  // @ts-expect-error Xen fills this one in
  domain.eventChannelOp('bind_ipi', { vcpu: 0, port: 5 })
  // @ts-expect-error there is no such operation
  domain.eventChannelOp('sned', { port })
  // @ts-expect-error send has no results
  domain.eventChannelOp('send', { port }).status
  const { status, vcpu: bound, virq } = vcpu.eventChannelOp('status', { dom: 0x7ff0, port })
  // @ts-expect-error only the port of a VIRQ has it
  return [port, status, bound, virq]
}
