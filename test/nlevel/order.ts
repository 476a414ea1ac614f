/**
 * Tables of failing checks, and what follows from them: each check alone, and each two of them at once, where the one
 * that comes first in the rule must decide. After every refusal the domain and its RAM are as they were.
 */

import { expect } from 'vitest'
import { type Args, DOMID_SELF } from '../../src/abi/index.js'
import { type DomainOptions, type HypervisorOptions, SOFTIRQ } from '../../src/index.js'
import { ARGUMENT, stateOf, TreeGuest } from './guest.js'

/** One check, made to fail. */
export interface Break {
  name: string
  /** Its place in the rule; checks of one place have no order between them. */
  rank: number
  errno: number
  /** What it changes: two that change the same thing cannot be had at once. */
  keys: string[]
  host?: Partial<HypervisorOptions>
  domain?: Partial<DomainOptions>
  /** Before the arguments are written. */
  before?: (guest: TreeGuest) => void
  /** After they were written. */
  edit?: (guest: TreeGuest) => void
  args?: Args
  /** Where the struct is. */
  gpa?: number
  /** The operation is made while a reset of the domain is in progress. */
  inReset?: boolean
}

/** How the operation is made when nothing is broken. */
export interface Operation {
  host?: HypervisorOptions
  domain: Partial<DomainOptions>
  prepare: (guest: TreeGuest) => void
  call: (guest: TreeGuest, args: Args, gpa: number | undefined) => number
}

/** Makes the operation with some checks broken: its answer, and that a refusal left no trace. */
export function attempt(operation: Operation, breaks: readonly Break[]): number {
  const merged = <T extends object>(base: object, part: (each: Break) => T | undefined) =>
    Object.assign({}, base, ...breaks.map((each) => part(each) ?? {}))
  let preempt = false
  const guest = TreeGuest.on(
    { preempt: () => preempt, ...merged(operation.host ?? {}, (each) => each.host) },
    merged(operation.domain, (each) => each.domain),
  )
  for (const each of breaks) each.before?.(guest)
  operation.prepare(guest)
  for (const each of breaks) each.edit?.(guest)
  const gpa = breaks.find((each) => each.gpa !== undefined)?.gpa
  const args = merged({}, (each) => each.args)

  let rc = 0
  const make = () => {
    // The struct is the guest's own doing, and it is written before anything is compared.
    const state = JSON.stringify(stateOf(guest))
    const ram = guest.bytes.slice()
    rc = operation.call(guest, args, gpa)
    if (rc >= 0) return
    expect(JSON.stringify(stateOf(guest)), 'the state after a refusal').toBe(state)
    const at = Math.min(gpa ?? ARGUMENT, ram.length)
    ram.set(guest.bytes.subarray(at, at + 32), at)
    expect(Buffer.compare(ram, guest.bytes), 'RAM after a refusal').toBe(0)
  }
  if (!breaks.some((each) => each.inReset)) {
    make()
    return rc
  }
  // A reset is in progress while its continuation waits for softirqs.
  for (let port = 1; port <= 66; port++) guest.must(guest.op('bind_ipi', { vcpu: 0 }, 0, ARGUMENT + 64))
  const { softirqs } = guest.xen
  softirqs.open(SOFTIRQ.TASKLET, () => {
    preempt = false
    make()
  })
  softirqs.raise(SOFTIRQ.TASKLET)
  preempt = true
  guest.domain.eventChannelOp('reset', { dom: DOMID_SELF })
  expect(softirqs.stats.served, 'the reset was interrupted').toBe(1)
  return rc
}

/** The checks that come after one and can fail together with it. */
export const later = (breaks: readonly Break[], first: Break): Break[] =>
  breaks.filter(({ rank, keys }) => first.rank < rank && !keys.some((key) => first.keys.includes(key)))
