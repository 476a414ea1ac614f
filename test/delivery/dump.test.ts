/** The text of debug key 'e' (spec 5.2), line by line as Xen prints it. Its way through the locks is in test/dump. */

import { describe, expect, it } from 'vitest'
import { HYPERVISOR, SCHEDOP, VIRQ } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { type ChannelRecord, formatChannel } from '../../src/index.js'
import { FREE_GFN, Guest, host } from '../ops/raw.js'

const lines = (guest: Guest) => [...guest.xen.dump({ domid: guest.domain.domid })].slice(4)

describe.each([64, 32] as const)('the dump, %i-bit', (bits) => {
  it('EC-dump-1: a title, then three lines a domain, by ascending id', () => {
    const { xen } = host(bits)
    new Guest(xen, { domid: 3, bits })
    const each = [0, 1, 2, 3].flatMap((domid) => [
      `Event channel information for domain ${domid}:`,
      'Polling vCPUs: {}',
      '    port [p/m/s]',
    ])
    expect([...xen.dump()]).toEqual(["'e' pressed -> dumping event-channel info", ...each])
  })

  it('EC-dump-1: polling vCPUs are ranges', () => {
    const { xen, d1 } = host(bits, {}, { vcpus: 12 })
    for (const vcpu of [0, 1, 2, 3, 5, 7, 8, 11]) d1.call(HYPERVISOR.sched_op, [SCHEDOP.poll, FREE_GFN * 4096], vcpu)
    expect([...xen.dump({ domid: 1 })][2]).toBe('Polling vCPUs: {0-3,5,7-8,11}')
  })

  it('EC-dump-2, EC-dump-3, EC-dump-4: every state but free, with what belongs to it', () => {
    const { d0, d2 } = host(bits)
    d0.unbound(0x1234)
    const [ours, theirs] = d0.connect(d2)
    d0.must('bind_pirq', { pirq: 21, flags: 0 })
    d0.virq(VIRQ.XENPMU, 1)
    d0.ipi(1)
    d0.ipi()
    d0.must('close', { port: 6 })
    expect([ours, theirs]).toEqual([2, 1])
    expect(lines(d0)).toEqual([
      '       1 [0/0/0]: s=2 n=0 x=0 d=4660',
      '       2 [0/0/0]: s=3 n=0 x=0 d=2 p=1',
      '       3 [0/0/0]: s=4 n=0 x=0 p=21 i=21',
      '       4 [0/0/0]: s=5 n=1 x=0 v=13',
      '       5 [0/0/0]: s=6 n=1 x=0',
    ])
  })

  it('EC-dump-3: pending and masked are the guest’s bits', () => {
    const { d1 } = host(bits)
    for (let i = 0; i < 4; i++) d1.ipi()
    for (const port of [2, 4]) d1.setBit('pending', port)
    for (const port of [3, 4]) d1.setBit('mask', port)
    expect(lines(d1).map((line) => line.slice(9, 14))).toEqual(['[0/0/', '[1/0/', '[0/1/', '[1/1/'])
  })

  it('EC-dump-5: a Xen-attached port is never pending and always masked, whatever the guest’s bits', () => {
    const { xen, d1 } = host(bits)
    xen.allocXenPort(xen.domain(1)!, { vcpuId: 1, remoteDomid: 2, notify: () => {} })
    d1.setBit('pending', 1)
    expect(lines(d1)).toEqual(['       1 [0/1/0]: s=2 n=1 x=1 d=2'])
  })

  it('EC-dump-6: S is the selector bit of the port’s word on its vCPU', () => {
    const { d1 } = host(bits)
    for (let port = 1; port <= 100; port++) d1.ipi(port % 2)
    d1.must('send', { port: 99 })
    const shown = lines(d1)
    expect([1, 2, 98, 99].map((port) => shown[port - 1]!.slice(0, 17).trim())).toEqual([
      '1 [0/0/0]:',
      '2 [0/0/0]:',
      '98 [0/0/0]:',
      '99 [1/0/1]:',
    ])
    expect(shown.filter((line) => line.includes('/1]')).length).toBe(bits === 64 ? 18 : 2)
  })

  it('EC-dump-2, EC-dump-12: ports up to the last, in order, however the table is cut', () => {
    const { xen, d1 } = host(bits)
    d1.fill()
    for (const slotsPerHold of [1, 7, 64, 1000]) {
      const ports = [...xen.dump({ domid: 1, slotsPerHold })].slice(4).map((line) => Number(line.slice(4, 8)))
      expect(ports).toEqual(Array.from({ length: 100 }, (_, i) => i + 1))
    }
  })

  it('EC-dump-10, EC-dump-12: while a dump waits for its reader, binds, closes and status of the domain go on', () => {
    const { xen, d1 } = host(bits)
    d1.fill()
    const dump = xen.dump({ domid: 1 })
    for (let i = 0; i < 30; i++) dump.next()
    expect(inside(d1.domain).eventLock.held).toBe(false)
    expect(d1.answer('close', { port: 50 })).toBe('ok')
    expect(d1.status(50).status).toBe(0)
    expect(d1.ipi()).toBe(50)
    expect([...dump].length).toBe(4 + 100 - 30)
  })

  it('EC-dump-1: a domain that does not exist has nothing to say', () => {
    expect([...host(bits).xen.dump({ domid: 9 })]).toEqual(["'e' pressed -> dumping event-channel info"])
  })
})

describe('a line', () => {
  const record: ChannelRecord = {
    domid: 1,
    port: 9,
    pending: false,
    masked: true,
    selectors: '0',
    state: 1,
    notifyVcpu: 0,
    consumer: 0,
  }

  it('EC-dump-2, EC-dump-4: a reserved port above 0 is shown, with nothing more to say', () => {
    expect(formatChannel(record)).toBe('       9 [0/1/0]: s=1 n=0 x=0')
  })

  it('EC-dump-3: a number of more than four digits takes the room it needs', () => {
    const wide = { ...record, port: 131071, pending: true, masked: false, state: 2, remoteDomid: 65535 }
    expect(formatChannel({ ...wide, port: 4095 })).toBe('    4095 [1/0/0]: s=2 n=0 x=0 d=65535')
    expect(formatChannel(wide)).toBe('    131071 [1/0/0]: s=2 n=0 x=0 d=65535')
  })
})
