/**
 * The same tests over the other build of the host core: the one with atomics and queue locks, on a memory that threads
 * can share. A host takes it when its vCPUs run on threads; here all run on one.
 */

import { expect, it, vi } from 'vitest'

vi.mock('../src/machine/host_build.js', () => ({ SHARED_HOST: true }))

const { Hypervisor } = await import('../src/index.js')
const { inside } = await import('../src/domain/handles.js')

it('a host made here has the build for threads', () => {
  const { hostCore } = inside(Hypervisor.create().createDomain({ domid: 1 }))
  expect(hostCore.memory.shared).toBe(true)
})

await import('./golden.test.js')
await import('./model/model.test.js')
await import('./delivery/poll.test.js')
await import('./delivery/virqs.test.js')
await import('./fifo/rules.test.js')
await import('./nlevel/vcpus.test.js')
