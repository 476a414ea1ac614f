/**
 * The operations that run beside the scans, in the orders of nlevel.md: a send, an unmask, a rebind, a switch of depth, each
 * as a list of steps (steps.ts). A test that wants another order passes another list.
 */

import { type Depth, selectorLevels } from './model.js'
import type { Step } from './steps.js'

/** One operation of a thread. */
export interface Operation {
  /** Its name in schedules. */
  readonly what: string
  readonly steps: readonly Step[]
  readonly port?: number
  /** The vCPU that it is about, if it does not load one: the new one of a rebind, the own one of a local unmask. */
  readonly vcpu?: number
  /** Guest code on this vCPU, upcalls held off: between two steps of a scan there, but no such step between its own. */
  readonly on?: number
  /** How the switch is kept out from the first step to the last: the delivery lock, or a mark that the switch awaits. */
  readonly under?: 'lock' | 'mark'
}

/** NL-set-1, second half, with the loads of NL-set-2. */
export const climb = (n: Depth): Step[] => [
  ...selectorLevels(n).flatMap((k): Step[] => [`load ${k}`, `set ${k}`]),
  'flag',
  'kick',
]

/** NL-set-1. */
export const sendSteps = (n: Depth): Step[] => ['leaf', 'mask', 'vcpu', 'active', ...climb(n)]
export const send = (n: Depth, port: number, steps: readonly Step[] = sendSteps(n)): Operation => ({
  what: `send ${port}`,
  port,
  steps,
})

/** NL-unmask-1, in the hypervisor. */
export const unmaskSteps = (n: Depth): Step[] => ['clear mask', 'pending', 'vcpu', 'active', ...climb(n)]
export const unmask = (n: Depth, port: number, steps: readonly Step[] = unmaskSteps(n)): Operation => ({
  what: `unmask ${port}`,
  port,
  steps,
})

/** The guest masks a port by itself. */
export const mask = (port: number): Operation => ({ what: `mask ${port}`, port, steps: ['set mask'] })

/** NL-scan-5, in the guest on `vcpu`: the same climb, but the own flag is only stored and the scan scheduled. */
export const localUnmaskSteps = (n: Depth): Step[] => [
  'choose',
  'clear mask',
  'pending',
  ...climb(n).slice(0, -2),
  'own flag',
  'kick',
]
export const localUnmask = (n: Depth, port: number, vcpu: number, steps = localUnmaskSteps(n)): Operation => ({
  what: `local unmask ${port}`,
  port,
  vcpu,
  on: vcpu,
  steps,
})

/** NL-vcpu-1, in two operations: the guest updates both filters, then calls bind_vcpu. */
export const refilter = (port: number, vcpu: number): Operation => ({
  what: `filters of ${port} for vCPU ${vcpu}`,
  port,
  vcpu,
  steps: ['filter in', 'filter out'],
})
export const bindVcpuSteps = (n: Depth): Step[] => ['notify', 'pending', 'mask', 'active', ...climb(n)]
export const bindVcpu = (n: Depth, port: number, vcpu: number, steps = bindVcpuSteps(n)): Operation => ({
  what: `bind_vcpu ${port} to ${vcpu}`,
  port,
  vcpu,
  steps,
})

/** NL-sel-3: publish, fill the levels from n-1 to 1, mark events pending and notify whatever the flag was. */
export const activateSteps = (n: Depth): Step[] => [
  'publish',
  ...selectorLevels(n).map((k): Step => `fill ${k}`),
  'own flag',
  'kick',
]
export const activate = (n: Depth, vcpu: number, steps: readonly Step[] = activateSteps(n)): Operation => ({
  what: `activate vCPU ${vcpu}`,
  vcpu,
  steps,
})

/** NL-reg-4: moves the first W² ports from shared_info into the leaf. */
export const moveSteps: readonly Step[] = ([0, 1] as const).flatMap((w): Step[] => [
  `take old ${w}`,
  `or leaf ${w}`,
  `load old mask ${w}`,
  `store mask ${w}`,
])
