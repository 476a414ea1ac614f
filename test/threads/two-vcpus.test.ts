/** A TypeScript guest with two vCPUs on two threads: one driver boots it, the other joins it, and each serves its own ports. */

import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { describe, expect, it } from 'vitest'
import { GuestKernel, Hypervisor, ParameterError } from '../../src/index.js'
import { turn } from './loops.js'

const ROUNDS = 100
const PORTS = 20

describe('a guest with two vCPUs on two threads', () => {
  it.each([
    [2, 64],
    [3, 64],
    [3, 32],
  ] as const)(
    'NL-scan-4, I4: each vCPU serves the ports that it bound, and no event is lost (levels: %d, %d bits)',
    async (levels, bits) => {
      const xen = Hypervisor.create({ threads: 2 })
      const domain = xen.createDomain({ domid: 1, shared: true, vcpus: 2, bits, frames: 600 })
      const peer = xen.boot({ domid: 2, levels: 2 })
      const worker = async (vcpu: number, shared?: unknown) => {
        const received = new Map<number, number>()
        const ports = Array.from({ length: PORTS }, () =>
          peer.allocUnbound(1, (port) => void received.set(port, (received.get(port) ?? 0) + 1)),
        )
        const handle = xen.attach([domain.vcpu(vcpu)])
        const workerData = { handle, shared, levels, rounds: ROUNDS, ports }
        const thread = new Worker(new URL('two_vcpus_worker.mjs', import.meta.url), { workerData })
        const [ready] = await once(thread, 'message')
        return { thread, ports, received, ready, done: once(thread, 'message') }
      }
      const first = await worker(0)
      const second = await worker(1, first.ready.shared)
      const all = [first, second]
      for (const [vcpu, { ready }] of all.entries())
        for (const port of ready.locals) expect(domain.eventChannelOp('status', { dom: 1, port }).vcpu).toBe(vcpu)

      // An event is sent on a port when the answer to the last has come, on all ports of both vCPUs at once.
      let finished = 0
      for (const { done } of all) void done.then(() => finished++)
      const sent = new Map<number, number>()
      while (finished < 2) {
        xen.service()
        for (const { ports, received } of all)
          for (const port of ports)
            if ((received.get(port) ?? 0) >= (sent.get(port) ?? 0)) {
              peer.send(port)
              sent.set(port, (received.get(port) ?? 0) + 1)
            }
        await turn()
      }
      for (const { done } of all)
        for (const count of (await done)[0].counts) expect(count).toBeGreaterThanOrEqual(ROUNDS)
      await Promise.all(all.map(({ thread }) => thread.terminate()))
    },
  )

  it('shares only what can be shared', () => {
    const xen = Hypervisor.create()
    const boot = (domid: number, levels: 3 | 'fifo', upVcpus: number[]) =>
      xen.boot({ domid, vcpus: 2, frames: 600, levels: [levels], upVcpus })
    expect(() => boot(1, 'fifo', [0, 1]).share(1)).toThrow('fifo is served by one thread (EOPNOTSUPP)')
    expect(() => boot(2, 3, [0]).share(1)).toThrow('vCPU 1 takes no part: boot({ upVcpus }) (EINVAL)')
    expect(() => boot(3, 3, [0, 1]).share(1, 5000)).toThrow('the guest has no 5000 frames in a row (ENOMEM)')
    const domain = xen.createDomain({ domid: 4 })
    expect(() => GuestKernel.join(xen.platform(domain), {} as never)).toThrow(ParameterError)
  })
})
