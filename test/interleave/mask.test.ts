/**
 * Masks: NL-unmask-1 in the hypervisor, NL-scan-5 and NL-scan-6 in the guest, and the load of the mask in NL-set-1.
 *
 *     sender     leaf ── mask            one of the two sees what the other has set or cleared,
 *     unmask     clear mask ── pending   and that one climbs
 *
 * A local unmask is guest code on the port's own vCPU with upcalls held off: it comes between any two operations of a
 * scan there, as a task before it or a handler within it would, and no operation of that scan between its own.
 */

import { describe, it } from 'vitest'
import { type Case, losesAnEvent, losesNothing } from './check.js'
import { type Depth, Tree } from './model.js'
import {
  localUnmask,
  localUnmaskSteps,
  mask,
  type Operation,
  send,
  sendSteps,
  unmask,
  unmaskSteps,
} from './operations.js'
import type { ScanOptions } from './scan_options.js'
import { Scanner } from './scanner.js'
import { type Step, StepThread } from './steps.js'

/** A thread a list. Port 0 is masked from the start and bound to vCPU 0. */
function masked(n: Depth, lists: Operation[][], how: ScanOptions = {}, vcpus = 1): Case {
  const tree = new Tree(n, vcpus)
  const threads = lists.map((list, i) => new StepThread(tree, `thread ${i}`, list))
  const scans = Array.from({ length: vcpus }, (_, vcpu) => new Scanner(tree, vcpu, { filter: vcpus > 1, ...how }))
  return { tree, threads: [...threads, ...scans], prepare: (s) => tree.maskPort(s, 0) }
}

/** NL-scan-6, last sentence: instead of the climb, mask again and let the hypervisor do it. */
const maskAgain = (n: Depth) => [localUnmask(n, 0, 0, ['choose', 'clear mask', 'pending', 'set mask']), unmask(n, 0)]

describe('masking and unmasking', () => {
  const sends = (n: Depth) => [send(n, 0), send(n, 1), send(n, 0)]

  it.each([
    [2, 1],
    [3, 1],
    [4, 1],
  ] as const)(
    'NL-unmask-1: two threads that mask and unmask by hypercall lose nothing (n = %i, over %i states)',
    (n, states) => {
      losesNothing(masked(n, [sends(n), [unmask(n, 0), mask(0), unmask(n, 0)], [mask(0), unmask(n, 0)]]), states)
    },
  )

  it.each([
    [2, 1],
    [3, 1],
    [4, 1],
  ] as const)('NL-scan-5: local unmasks beside one by hypercall lose nothing (n = %i, over %i states)', (n, states) => {
    const local = [localUnmask(n, 0, 0), mask(0), localUnmask(n, 0, 0)]
    losesNothing(masked(n, [sends(n), local, [mask(0), unmask(n, 0)]]), states)
  })

  it.each([
    [2, 1],
    [3, 1],
  ] as const)(
    'NL-scan-5: local unmasks within scans that stop early lose nothing (n = %i, over %i states)',
    (n, states) => {
      const local = [localUnmask(n, 0, 0), mask(0), localUnmask(n, 0, 0)]
      losesNothing(masked(n, [[send(n, 0), send(n, 2)], [send(n, 1)], local], { buffer: 1 }), states)
    },
  )

  it.each([
    [2, 1],
    [3, 1],
  ] as const)(
    'NL-scan-6: to mask again and unmask by hypercall instead of climbing loses nothing (n = %i, over %i states)',
    (n, states) => {
      losesNothing(masked(n, [sends(n), [...maskAgain(n), mask(0), ...maskAgain(n)]]), states)
    },
  )
})

describe('orders that nlevel.md excludes lose an event', () => {
  const depths = [2, 3, 4] as const

  it.each(depths)("NL-set-1: the mask is loaded before the leaf's test-and-set (n = %i)", (n) => {
    losesAnEvent(masked(n, [[send(n, 0, ['mask', 'leaf', ...sendSteps(n).slice(2)])], [unmask(n, 0)]]))
  })

  it.each(depths)('NL-unmask-1: pending is loaded before the mask is cleared (n = %i)', (n) => {
    const steps: Step[] = ['pending', 'clear mask', ...unmaskSteps(n).slice(2)]
    losesAnEvent(masked(n, [[send(n, 0)], [unmask(n, 0, steps)]]))
  })

  it.each(depths)('NL-unmask-1: an unmask does not climb (n = %i)', (n) => {
    losesAnEvent(masked(n, [[send(n, 0)], [unmask(n, 0, ['clear mask'])]]))
  })

  it.each(depths)('NL-scan-5: a local unmask loads pending before it clears the mask (n = %i)', (n) => {
    const steps: Step[] = ['choose', 'pending', 'clear mask', ...localUnmaskSteps(n).slice(3)]
    losesAnEvent(masked(n, [[send(n, 0)], [localUnmask(n, 0, 0, steps)]]))
  })

  it.each(depths)('NL-scan-5: a task moves to another vCPU between its choice and its climb (n = %i)', (n) => {
    losesAnEvent(masked(n, [[send(n, 0)], [localUnmask(n, 0, 1, localUnmaskSteps(n).slice(1))]], {}, 2))
  })

  it.each(depths)('NL-scan-5: the mask is cleared and then unmasked by hypercall (n = %i)', (n) => {
    losesAnEvent(masked(n, [[send(n, 0)], [localUnmask(n, 0, 0, ['clear mask']), unmask(n, 0)]]))
  })

  const silent = (n: Depth) => localUnmask(n, 0, 0, localUnmaskSteps(n).slice(0, -1))

  it.each(depths)('NL-scan-6: a guest sets its own flag and does not scan (n = %i)', (n) => {
    losesAnEvent(masked(n, [[send(n, 0)], [silent(n)]]))
  })

  it.each(depths)('NL-scan-6: a guest that has climbed masks again and unmasks by hypercall (n = %i)', (n) => {
    // Too late: the hypervisor finds the bit of level n-1 set and stops. Instead of the climb it is right, see above.
    losesAnEvent(masked(n, [[send(n, 0)], [silent(n), mask(0), unmask(n, 0)]]))
  })
})
