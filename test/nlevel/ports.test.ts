/** How many ports there are, which comes next, and what they cost (NL-tree-3, NL-tree-4, NL-port-1). */

import { describe, expect, it } from 'vitest'
import { DOMID_SELF, VIRQ } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { Hypervisor } from '../../src/index.js'
import { random } from '../random.js'
import { seedOr } from '../settings.js'
import { channelsOf, PAGE, plan } from './geometry.js'
import { FIRST_FREE, stateOf, TreeGuest } from './guest.js'

const ENOSPC = -28

describe('port numbers', () => {
  it('NL-tree-3: max_evtchns is W² at two levels, otherwise min(W^n, nr_pages · P)', () => {
    const rows = [
      [64, 3, 1, 32768],
      [64, 3, 7, 229376],
      [64, 3, 8, 262144],
      [64, 4, 1, 32768],
      [64, 4, 512, 16777216],
      [32, 3, 1, 32768],
      [32, 4, 31, 1015808],
      [32, 4, 32, 1048576],
      [32, 5, 1024, 33554432],
      [32, 5, 33, 1081344],
    ] as const
    for (const [bits, levels, nrPages, expected] of rows) {
      const guest = TreeGuest.on({ maxLeafPages: 1024 }, { bits, frames: 2200 })
      expect(inside(guest.domain).maxEvtchns).toBe(bits === 64 ? 4096 : 1024)
      guest.register(plan(bits, levels, nrPages, 1, FIRST_FREE))
      expect([inside(guest.domain).maxEvtchns, channelsOf(bits, levels, nrPages)]).toEqual([expected, expected])
    }
  })

  it('NL-port-1: the lowest free port comes next, wherever it is, up to max_evtchns - 1', () => {
    const guest = TreeGuest.on({}, { bits: 32 })
    guest.register(plan(32, 3, 1, 1, FIRST_FREE))
    guest.openIpi(32767)
    expect(guest.op('bind_ipi', { vcpu: 0 })).toBe(ENOSPC)
    const holes = [32767, 1, 63, 64, 31, 32, 1023, 1024, 1025, 20_000, 32736, 2048]
    for (const port of holes) guest.must(guest.op('close', { port }))
    for (const port of holes.sort((a, b) => a - b)) {
      guest.must(guest.op('bind_ipi', { vcpu: 0 }))
      expect(guest.out.port).toBe(port)
    }
    expect(guest.op('alloc_unbound', { dom: DOMID_SELF, remote_dom: 0 })).toBe(ENOSPC)
    expect(inside(guest.domain).ports.activeEvtchns).toBe(32767)
  })

  it('NL-port-1: beyond max_evtchn_port it is ENOSPC, and no port object is made for it', () => {
    const guest = TreeGuest.on({}, { maxEvtchnPort: 5000 })
    guest.register(plan(64, 3, 1, 1, FIRST_FREE))
    guest.openIpi(5000)
    const before = stateOf(guest)
    for (let i = 0; i < 3; i++) expect(guest.op('bind_ipi', { vcpu: 0 })).toBe(ENOSPC)
    expect(stateOf(guest)).toEqual(before)
    expect(inside(guest.domain).ports.validEvtchns).toBe(79 * 64)
  })

  it("NL-port-1: Xen's four groups of 32,768 do not bind", () => {
    const xen = Hypervisor.create()
    const guest = new TreeGuest(xen, { domid: 1, maxEvtchnPort: Infinity })
    guest.register(plan(64, 3, 5, 1, FIRST_FREE))
    for (let port = 1; port < 131_100; port++) guest.domain.eventChannelOp('bind_ipi', { vcpu: 0 })
    guest.openIpi(131_100)
    guest.quiet(0)
    guest.setBitAt(guest.leaf('mask', 131_100), 0)
    guest.must(guest.op('send', { port: 131_100 }))
    expect([guest.pending(131_100), guest.path(0, 131_100), guest.flag(0)]).toEqual([1, [1, 1], 1])
    guest.must(guest.op('close', { port: 131_072 }))
    guest.must(guest.op('bind_ipi', { vcpu: 0 }))
    expect(guest.out.port).toBe(131_072)
  })

  it('NL-port-1: memory for ports follows the ports that exist, not the channels that could', () => {
    const guest = TreeGuest.on({ maxLeafPages: 1024 }, { bits: 32, frames: 2200 })
    const { memory } = inside(guest.domain).hostCore
    let before = memory.used
    const taken = () => {
      const bytes = memory.used - before
      before = memory.used
      return bytes
    }
    guest.register(plan(32, 5, 1024, 1, FIRST_FREE))
    // Two addresses for each of 1,024 leaf pages, one for each of 32 selector pages: not one byte per channel.
    expect(taken()).toBeLessThan(32_768)
    guest.openIpi(63)
    expect(taken()).toBe(0)
    // One object more makes one bucket of 64, of at most Xen's page.
    guest.openIpi(64)
    const bucket = taken()
    expect(bucket).toBeGreaterThan(0)
    expect(bucket).toBeLessThanOrEqual(PAGE)
    guest.openIpi(64 * 100)
    expect(taken()).toBeLessThanOrEqual(100 * (PAGE + 64))
  })
})

describe('a guest that never calls the new operations', () => {
  it('NL-tree-4: sees two levels bit for bit, on a host that has them and on one that does not', () => {
    for (const bits of [32, 64] as const) {
      const hosts = [{}, { nlevel: false }].map((host) => {
        const xen = Hypervisor.create(host)
        const guest = new TreeGuest(xen, { domid: 1, bits, vcpus: 2, frames: 16, maxEvtchnPort: Infinity })
        return { guest, peer: new TreeGuest(xen, { domid: 2, frames: 16 }) }
      })
      const next = random(seedOr(12345))
      for (let i = 0; i < 3000; i++) {
        const [what, a, b] = [next(12), next(80), next(3)]
        const rcs = hosts.map(({ guest, peer }) => {
          const out = () => JSON.stringify(guest.out)
          switch (what) {
            case 0:
              return [guest.op('bind_ipi', { vcpu: b }), out()]
            case 1:
              return [guest.op('alloc_unbound', { dom: DOMID_SELF, remote_dom: 2 }), out()]
            case 2:
              return [peer.op('bind_interdomain', { remote_dom: 1, remote_port: a })]
            case 3:
              return [peer.op('send', { port: a })]
            case 4:
              return [guest.op('close', { port: a })]
            case 5:
              return [guest.op('bind_vcpu', { port: a, vcpu: b })]
            case 6:
              return [guest.op('unmask', { port: a })]
            case 7:
              guest.setBitAt(guest.leaf(b ? 'mask' : 'pending', a), b >> 1)
              return []
            case 8:
              guest.quiet(b & 1)
              return []
            case 9:
              return [guest.op('bind_virq', { virq: VIRQ.TIMER, vcpu: b }), out()]
            case 10:
              return [guest.op('status', { dom: DOMID_SELF, port: a }), out()]
            default:
              return [guest.op('send', { port: a })]
          }
        })
        expect(rcs[0]).toEqual(rcs[1])
        if (i % 10 === 0)
          for (const who of ['guest', 'peer'] as const)
            expect(Buffer.compare(hosts[0]![who].bytes, hosts[1]![who].bytes)).toBe(0)
      }
      expect([...hosts[0]!.guest.xen.dump()]).toEqual([...hosts[1]!.guest.xen.dump()])
    }
  })
})
