/** Domains that come and go under a dump (NL-dump-3), and its other forms (NL-dump-1, NL-dump-5). */

import { describe, expect, it } from 'vitest'
import { DOMID_SELF } from '../../src/abi/index.js'
import { type Domain, GuestKernel, Hypervisor } from '../../src/index.js'

function withPorts(xen: Hypervisor, domid: number, ports: number): Domain {
  const domain = xen.createDomain({ domid, maxEvtchnPort: Infinity })
  for (let i = 0; i < ports; i++) domain.eventChannelOp('alloc_unbound', { dom: DOMID_SELF, remote_dom: 0 })
  return domain
}

describe('a dump and the lives of domains', () => {
  it('NL-dump-3: a domain that dies meanwhile ends its part with a line that says so', () => {
    const xen = Hypervisor.create()
    withPorts(xen, 1, 200)
    withPorts(xen, 2, 1)
    const lines: string[] = []
    for (const line of xen.dump()) {
      lines.push(line)
      if (line.startsWith('      10 ')) xen.destroyDomain(xen.domain(1)!)
    }
    expect(lines.filter((line) => line.includes('died'))).toEqual([
      '    domain 1 died during the dump, which ends at port 65',
    ])
    expect(lines.at(-1)).toBe('       1 [0/0/0]: s=2 n=0 x=0 d=0')
  })

  it('NL-dump-3: a new domain under the same id is not continued into', () => {
    const xen = Hypervisor.create()
    withPorts(xen, 1, 200)
    let reused = false
    const ports: number[] = []
    for (const item of xen.dumpItems()) {
      if (item.kind !== 'channel') continue
      ports.push(item.record.port)
      if (!reused) {
        reused = true
        xen.destroyDomain(xen.domain(1)!)
        withPorts(xen, 1, 4000)
      }
    }
    expect(ports.length).toBe(64)
  })

  it('EC-dump-1: a dead domain that can still be looked up is dumped as it is, with nothing to say', () => {
    const xen = Hypervisor.create()
    withPorts(xen, 1, 3)
    xen.killDomain(xen.domain(1)!)
    expect([...xen.dump()]).toEqual([
      "'e' pressed -> dumping event-channel info",
      'Event channel information for domain 1:',
      'Polling vCPUs: {}',
      '    port [p/m/s]',
    ])
  })

  it('NL-dump-3: domains are visited by ascending id, those included that appear ahead of the walk', () => {
    const xen = Hypervisor.create()
    withPorts(xen, 3, 1)
    withPorts(xen, 1, 1)
    const seen: number[] = []
    for (const item of xen.dumpItems()) {
      if (item.kind !== 'domain') continue
      seen.push(item.domid)
      if (item.domid === 1) {
        withPorts(xen, 0, 1)
        withPorts(xen, 2, 1)
      }
    }
    expect(seen).toEqual([1, 2, 3])
  })
})

describe('the forms of a dump', () => {
  it('NL-dump-1: column S has a digit per selector level, from level n-1 to level 1', () => {
    for (const levels of [2, 3, 4] as const) {
      const xen = Hypervisor.create()
      const domain = xen.createDomain({ domid: 1, frames: 2048 })
      const kernel = GuestKernel.boot(xen.platform(domain), { levels })
      const port = kernel.bindIpi({ handler: () => {} })
      kernel.send(port)
      expect([...xen.dump()].at(-1)).toBe(`       1 [1/0/${'1'.repeat(levels - 1)}]: s=6 n=0 x=0`)
      kernel.upcall()
      expect([...xen.dump()].at(-1)).toBe(`       1 [0/0/${'0'.repeat(levels - 1)}]: s=6 n=0 x=0`)
    }
  })

  it('NL-dump-1: a vCPU without active selectors shows a question mark for each level', () => {
    const xen = Hypervisor.create()
    const domain = xen.createDomain({ domid: 1, vcpus: 2, frames: 64 })
    // Registered with one vCPU's selectors only: the driver thinks the machine has one.
    GuestKernel.boot({ ...xen.platform(domain), vcpus: 1 }, { levels: 3 })
    domain.eventChannelOp('bind_ipi', { vcpu: 1 })
    expect([...xen.dump()].at(-1)).toBe('       1 [0/1/??]: s=6 n=1 x=0')
  })

  it('NL-dump-5: the asynchronous form gives the event loop a turn after every hold', async () => {
    const xen = Hypervisor.create()
    withPorts(xen, 1, 640)
    let turns = 0
    let counting = true
    const tick = () => {
      turns++
      if (counting) setImmediate(tick)
    }
    setImmediate(tick)
    const lines: string[] = []
    for await (const line of xen.dumpAsync()) lines.push(line)
    counting = false
    expect(lines).toEqual([...xen.dump()])
    expect(turns).toBeGreaterThanOrEqual(5)
  })
})
