/**
 * A port moves to another vCPU: NL-vcpu-1, and with n = 2 what Xen does.
 *
 *     guest         filter of the new vCPU ─ filter of the old one ─ bind_vcpu
 *     hypervisor                                                     notify := new ─ pending ─ mask ─ active ─ climb
 *     sender        leaf ─ mask ─ vcpu ─ active ─ climb
 *
 * A sender that still loads the old vCPU has set the leaf bit before, so bind_vcpu sees it and climbs on the new one.
 */

import { describe, expect, it } from 'vitest'
import { type Case, losesAnEvent, losesNothing } from './check.js'
import { type Depth, Tree } from './model.js'
import {
  bindVcpu,
  bindVcpuSteps,
  climb,
  localUnmask,
  mask,
  type Operation,
  refilter,
  send,
  unmask,
} from './operations.js'
import type { ScanOptions } from './scan_options.js'
import { Scanner } from './scanner.js'
import { type Step, StepThread } from './steps.js'

interface Options extends ScanOptions {
  readonly masked?: boolean
}

/** A thread a list, two vCPUs that scan; port 0 begins on vCPU 0. */
function rebinding(n: Depth, lists: Operation[][], { masked = false, ...how }: Options = {}): Case {
  const tree = new Tree(n, 2)
  const threads = lists.map((list, i) => new StepThread(tree, `thread ${i}`, list))
  const scans = [0, 1].map((vcpu) => new Scanner(tree, vcpu, { filter: true, ...how }))
  const prepare: Case['prepare'] = (s) => {
    if (masked) tree.maskPort(s, 0)
  }
  return { tree, threads: [...threads, ...scans], prepare }
}

/** Filters first, then the call. */
const move = (n: Depth, vcpu: number, steps?: Step[]) => [refilter(0, vcpu), bindVcpu(n, 0, vcpu, steps)]
/** With n = 2 bind_vcpu stores the vCPU and does no more. */
const xenBind = (vcpu: number) => bindVcpu(2, 0, vcpu, ['notify'])

describe('rebinding', () => {
  it.each([
    [3, 1],
    [4, 1],
  ] as const)('NL-vcpu-1: to and fro beside a sender loses nothing (n = %i, over %i states)', (n, states) => {
    losesNothing(
      rebinding(n, [
        [send(n, 0), send(n, 1)],
        [...move(n, 1), ...move(n, 0)],
      ]),
      states,
    )
  })

  it.each([
    [3, 1],
    [4, 1],
  ] as const)('NL-vcpu-1: once beside two senders loses nothing (n = %i, over %i states)', (n, states) => {
    losesNothing(rebinding(n, [[send(n, 0), send(n, 1)], [send(n, 0)], move(n, 1)]), states)
  })

  it('NL-vcpu-1, NL-scan-2: beside scans that stop early loses nothing (n = 3, over 1 states)', () => {
    losesNothing(rebinding(3, [[send(3, 0)], [send(3, 1)], move(3, 1)], { buffer: 1 }), 1)
  })

  it.each([
    [3, 1],
    [4, 1],
  ] as const)(
    'NL-vcpu-1, NL-unmask-1: beside a mask and an unmask loses nothing (n = %i, over %i states)',
    (n, states) => {
      losesNothing(rebinding(n, [[send(n, 0), send(n, 0)], [mask(0), unmask(n, 0)], move(n, 1)]), states)
    },
  )

  it.each([
    [3, 1],
    [4, 1],
  ] as const)(
    'NL-vcpu-1, NL-scan-5: before or after a local unmask loses nothing (n = %i, over %i states)',
    (n, states) => {
      const sends = [send(n, 0), send(n, 0)]
      losesNothing(rebinding(n, [sends, [localUnmask(n, 0, 0), ...move(n, 1)]], { masked: true }), states)
      losesNothing(rebinding(n, [sends, [...move(n, 1), localUnmask(n, 0, 1)]], { masked: true }), states)
    },
  )

  it('NL-vcpu-1: with n = 2 mask, bind_vcpu, filter, unmask loses nothing (over 1 states)', () => {
    const guest = (vcpu: number) => [mask(0), xenBind(vcpu), refilter(0, vcpu), unmask(2, 0)]
    losesNothing(
      rebinding(2, [
        [send(2, 0), send(2, 1)],
        [...guest(1), ...guest(0)],
      ]),
      1,
    )
  })
})

describe('orders that nlevel.md excludes lose an event', () => {
  const deep = [3, 4] as const

  it.each([2, 3, 4] as const)('NL-vcpu-1: bind_vcpu does not climb (n = %i)', (n) => {
    losesAnEvent(rebinding(n, [[send(n, 0)], move(n, 1, ['notify'])]))
  })

  it.each(deep)('NL-vcpu-1: the guest updates its filters after the call (n = %i)', (n) => {
    losesAnEvent(rebinding(n, [[send(n, 0)], move(n, 1).reverse()]))
  })

  it.each(deep)('NL-vcpu-1: pending is loaded before the new vCPU is stored (n = %i)', (n) => {
    const steps: Step[] = ['pending', 'notify', ...bindVcpuSteps(n).slice(2)]
    losesAnEvent(rebinding(n, [[send(n, 0)], move(n, 1, steps)]))
  })

  it.each(deep)('NL-vcpu-1: the mask is loaded before the new vCPU is stored (n = %i)', (n) => {
    const steps: Step[] = ['mask', 'notify', 'pending', ...bindVcpuSteps(n).slice(3)]
    losesAnEvent(rebinding(n, [[send(n, 0)], [unmask(n, 0)], move(n, 1, steps)], { masked: true }))
  })

  it.each(deep)("NL-set-1: a sender loads the notify vCPU before the leaf's test-and-set (n = %i)", (n) => {
    losesAnEvent(rebinding(n, [[send(n, 0, ['vcpu', 'leaf', 'mask', 'active', ...climb(n)])], move(n, 1)]))
  })

  it.each(deep)('NL-unmask-1: an unmask loads the notify vCPU before it clears the mask (n = %i)', (n) => {
    const steps: Step[] = ['vcpu', 'clear mask', 'pending', 'active', ...climb(n)]
    losesAnEvent(rebinding(n, [[send(n, 0)], [unmask(n, 0, steps)], move(n, 1)], { masked: true }))
  })

  it('NL-vcpu-1: with n = 2 the guest does not mask before bind_vcpu', () => {
    losesAnEvent(rebinding(2, [[send(2, 0)], [xenBind(1), refilter(0, 1)]]))
  })

  it('NL-vcpu-1: with n = 2 the guest updates its filters after the unmask', () => {
    losesAnEvent(rebinding(2, [[send(2, 0)], [mask(0), xenBind(1), unmask(2, 0), refilter(0, 1)]]))
  })

  it('NL-vcpu-1: with n = 2 the guest clears the mask without EVTCHNOP_unmask', () => {
    const guest = [mask(0), xenBind(1), refilter(0, 1), localUnmask(2, 0, 1, ['clear mask'])]
    losesAnEvent(rebinding(2, [[send(2, 0)], guest]))
  })
})

describe('what the guest has to keep apart', () => {
  // The choice of NL-scan-5 is only as good as the guest's own table: upcalls held off on one vCPU do not keep another
  // vCPU from rebinding the port. bind_vcpu finds it masked and does not climb; the local unmask then climbs where the
  // port no longer is.
  it.each([2, 3, 4] as const)('NL-scan-5: a local unmask loses an event beside a rebind of the port (n = %i)', (n) => {
    const schedule = losesAnEvent(rebinding(n, [[send(n, 0)], [localUnmask(n, 0, 0)], move(n, 1)], { masked: true }))
    const at = (what: string) => schedule.findIndex((step) => step.endsWith(what))
    expect(at('local unmask 0: choose')).toBeLessThan(at('filter out'))
    expect(at('filter out')).toBeLessThan(at('local unmask 0: pending'))
  })
})

describe('orders that nlevel.md excludes and that lose nothing here', () => {
  it.each([
    [3, 1],
    [4, 1],
  ] as const)('NL-unmask-1: the notify vCPU is loaded before pending (n = %i, over %i states)', (n, states) => {
    const steps: Step[] = ['clear mask', 'vcpu', 'pending', 'active', ...climb(n)]
    losesNothing(rebinding(n, [[send(n, 0), send(n, 0)], [unmask(n, 0, steps)], move(n, 1)], { masked: true }), states)
  })
})
