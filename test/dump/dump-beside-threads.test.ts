/**
 * The dump of 262,144 ports beside threads: one vCPU sends into the domain that is dumped, another, of that domain itself,
 * opens and closes ports by calls that it forwards. A send waits for no hold, and each forwarded call is served between two.
 */

import { expect, it } from 'vitest'
import { DOMID_SELF } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { GuestKernel, Hypervisor, newDumpStats } from '../../src/index.js'
import { Loop } from '../threads/loops.js'

const SLOTS = 262_144
const clock = { nowNs: () => performance.now() * 1e6, wallclockNs: () => 0n }

it('NL-dump-2, I6, I8: sends are not held up, and each forwarded call is served between two holds', async () => {
  const xen = Hypervisor.create({ threads: 2, warn: () => {}, clock })
  const domain = xen.createDomain({ domid: 7, shared: true, frames: 64, maxEvtchnPort: Infinity })
  expect(GuestKernel.boot(xen.platform(domain), { levels: 3 }).channels).toBe(SLOTS)
  const from = xen.createDomain({ domid: 8, shared: true })
  const { port } = domain.eventChannelOp('alloc_unbound', { dom: DOMID_SELF, remote_dom: 8 })
  const { local_port } = from.eventChannelOp('bind_interdomain', { remote_dom: 7, remote_port: port })
  for (let i = 2; i < SLOTS - 1; i++) domain.eventChannelOp('alloc_unbound', { dom: DOMID_SELF, remote_dom: 7 })
  const sender = new Loop(xen, from, 'send', { ports: [local_port] })
  const binder = new Loop(xen, domain, 'bind')
  await Promise.all([sender.reaches(1), binder.reaches(1)])

  const before = { sends: sender.rounds, binds: binder.rounds }
  const stats = newDumpStats()
  let [channels, served, mostAtOnce] = [0, 0, 0]
  const pause = () => {
    expect(inside(domain).eventLock.held).toBe(false)
    const now = xen.service()
    served += now
    mostAtOnce = Math.max(mostAtOnce, now)
  }
  const start = performance.now()
  for (const item of xen.dumpItems({ domid: 7, stats, pause })) if (item.kind === 'channel') channels++
  const ms = performance.now() - start
  const [sends, binds] = [sender.rounds - before.sends, binder.rounds - before.binds]

  expect(channels).toBeGreaterThanOrEqual(SLOTS - 2)
  // One thread forwards, and waits for its answer: never two calls in one pause.
  expect(mostAtOnce).toBe(1)
  expect(binds).toBeGreaterThan(0)
  expect(served).toBeGreaterThanOrEqual(2 * binds - 2)
  // Nobody but the holds of close and bind, microseconds each, stands in a sender's way.
  expect(sends).toBeGreaterThan(10 * binds)
  console.log(
    `${channels} channels in ${ms.toFixed(0)} ms and ${stats.holds} holds, longest ${(stats.longestHoldNs / 1000).toFixed(0)} µs; ` +
      `meanwhile ${sends} sends, longest ${sender.longestUs} µs; ${binds} ports opened and closed by ${served} forwarded calls, ` +
      `longest pair ${binder.longestUs} µs`,
  )
  await Promise.all([sender.terminate(), binder.terminate()])
})
