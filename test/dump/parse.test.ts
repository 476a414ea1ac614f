/** Dumps as text, read back: ours, and of a real host. */

import { expect, it } from 'vitest'
import { DOMID_SELF } from '../../src/abi/index.js'
import { Hypervisor, parseDump } from '../../src/index.js'

/** Parts of what a host printed in a public report (QubesOS/qubes-issues, 7971); its ring buffer began mid-domain. */
const REAL = `(XEN)       21 [0/0/  -   ]: s=3 n=0 x=0 d=7 p=4
(XEN)       22 [0/0/  -   ]: s=2 n=0 x=0 d=0
(XEN) 'e' pressed -> dumping event-channel info
(XEN) Event channel information for domain 0:
(XEN) Polling vCPUs: {}
(XEN)     port [p/m/s]
(XEN)        1 [0/0/  -   ]: s=5 n=0 x=0 v=0
(XEN)        2 [0/1/  -   ]: s=6 n=0 x=0
(XEN)       12 [1/1/  -   ]: s=6 n=1 x=0
`

it('EC-dump-1: a real host’s dump is read, and a part whose begin is lost', () => {
  const [lost, dom0, ...more] = parseDump(REAL)
  expect(more).toEqual([])
  expect([lost!.domid, dom0!.domid, dom0!.polling]).toEqual([undefined, 0, []])
  expect(lost!.channels).toMatchObject([
    { domid: -1, port: 21, state: 3, remoteDomid: 7, remotePort: 4 },
    { port: 22, state: 2, remoteDomid: 0 },
  ])
  expect(lost!.channels[1]).not.toHaveProperty('remotePort')
  expect(dom0!.channels).toEqual([
    {
      domid: 0,
      port: 1,
      pending: false,
      masked: false,
      selectors: '  -   ',
      state: 5,
      notifyVcpu: 0,
      consumer: 0,
      virq: 0,
    },
    { domid: 0, port: 2, pending: false, masked: true, selectors: '  -   ', state: 6, notifyVcpu: 0, consumer: 0 },
    { domid: 0, port: 12, pending: true, masked: true, selectors: '  -   ', state: 6, notifyVcpu: 1, consumer: 0 },
  ])
})

it('EC-dump-3: our own dump reads back as the records that it was made of, under any prefix', () => {
  const xen = Hypervisor.create({ onUpcall: () => {} })
  const [dom0, guest] = [0, 1].map((domid) => xen.createDomain({ domid, vcpus: 2 })) as [
    ReturnType<typeof xen.createDomain>,
    ReturnType<typeof xen.createDomain>,
  ]
  for (let i = 0; i < 5; i++) {
    const { port } = guest.eventChannelOp('alloc_unbound', { dom: DOMID_SELF, remote_dom: 0 })
    if (i < 3) dom0.eventChannelOp('bind_interdomain', { remote_dom: 1, remote_port: port! })
  }
  guest.eventChannelOp('bind_virq', { virq: 0, vcpu: 1 })
  guest.eventChannelOp('bind_ipi', { vcpu: 1 })
  dom0.eventChannelOp('send', { port: 1 })
  const records = [...xen.dumpItems()].flatMap((item) => (item.kind === 'channel' ? [item.record] : []))
  expect(records.length).toBe(10)
  for (const prefix of [
    '',
    '(XEN) ',
    '(XEN) [2024-01-02 03:04:05.678] ',
    'Jan 02 03:04:05 host kernel: (XEN) [  12.5] ',
  ]) {
    const text = [...xen.dump()].map((line) => `${prefix}${line}\r\n(d1) somebody else\n`).join('')
    expect(parseDump(text).flatMap(({ channels }) => channels)).toEqual(records)
  }
})

it('EC-dump-1: polling vCPUs, as ranges', () => {
  const [domain] = parseDump('Event channel information for domain 3:\nPolling vCPUs: {0-2,5}\n')
  expect(domain).toEqual({ domid: 3, polling: [0, 1, 2, 5], channels: [] })
})

it('anything but a text is refused', () => {
  expect(() => parseDump(7 as never)).toThrow('parseDump: text is 7')
})
