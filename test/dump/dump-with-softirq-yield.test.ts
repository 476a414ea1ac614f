/**
 * The dump at full size: a three-level domain whose table has 262,144 slots and 10,000 open channels, while softirq
 * handlers open and close others, send, and take the event lock (nlevel.md section 6, seed: "make sure it properly allows
 * softirqs to be handled, which in turn requires to not hold the event lock across the whole loop").
 */

import { describe, expect, it } from 'vitest'
import { DOMID_SELF } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { type ChannelRecord, type Domain, GuestKernel, Hypervisor, newDumpStats, SOFTIRQ } from '../../src/index.js'

const SLOTS = 262_144
const OPEN = 10_000

/** A three-level domain with its whole table made, and only every 26th port left open: `open`, ascending. */
function sparseDomain(xen: Hypervisor): { domain: Domain; open: number[] } {
  const domain = xen.createDomain({ domid: 7, frames: 64, maxEvtchnPort: Infinity })
  const kernel = GuestKernel.boot(xen.platform(domain), { levels: 3 })
  expect(kernel.channels).toBe(SLOTS)
  for (let port = 1; port < SLOTS; port++) domain.eventChannelOp('alloc_unbound', { dom: DOMID_SELF, remote_dom: 7 })
  const open: number[] = []
  for (let port = 1; port < SLOTS; port++) {
    if (port % 26 === 3 && open.length < OPEN) open.push(port)
    else domain.eventChannelOp('close', { port })
  }
  expect(open.length).toBe(OPEN)
  return { domain, open }
}

describe('dump with softirq yield', () => {
  const xen = Hypervisor.create()
  const { domain, open } = sparseDomain(xen)

  it('NL-dump-2, NL-dump-3: softirqs run with the event lock free, and every channel that stays open is printed once', () => {
    const kept = new Set(open)
    const victims = open.filter((_, i) => i % 100 === 50)
    const closed = new Set<number>()
    const opened = new Set<number>()
    let served = 0
    xen.softirqs.open(SOFTIRQ.TIMER, () => {
      served++
      expect(inside(domain).eventLock.held).toBe(false)
      // Opens one port (the event lock for writing), closes one that the dump may or may not have passed, and sends.
      const { port } = domain.eventChannelOp('alloc_unbound', { dom: DOMID_SELF, remote_dom: 7 })
      opened.add(port)
      const victim = victims[served % victims.length]!
      if (!closed.has(victim)) {
        domain.eventChannelOp('close', { port: victim })
        closed.add(victim)
        kept.delete(victim)
      }
      domain.eventChannelOp('send', { port: open[0]! })
    })
    const stats = newDumpStats()
    const seen: ChannelRecord[] = []
    // A device interrupts at every line, also while the reader has the control.
    for (const item of xen.dumpItems({ domid: 7, stats })) {
      xen.softirqs.raise(SOFTIRQ.TIMER)
      expect(inside(domain).eventLock.held).toBe(false)
      if (item.kind === 'channel') seen.push(item.record)
    }

    const ports = seen.map(({ port }) => port)
    expect(ports).toEqual([...ports].sort((a, b) => a - b))
    expect(new Set(ports).size).toBe(ports.length)
    const printed = new Set(ports)
    for (const port of kept) expect(printed.has(port), `port ${port} stayed open`).toBe(true)
    for (const port of ports) expect(kept.has(port) || closed.has(port) || opened.has(port)).toBe(true)
    expect(stats.mostSlots).toBeLessThanOrEqual(64)
    expect(stats.holds).toBeGreaterThan(OPEN / 64)
    expect(served).toBeGreaterThan(100)
    expect(xen.softirqs.pending).toBe(false) // the last hold too is followed by its softirqs
  })

  it('NL-dump-2: one hold covers as many slots as asked for and no more', () => {
    for (const slotsPerHold of [1, 7, 64, 1000]) {
      const stats = newDumpStats()
      for (const _ of xen.dumpItems({ domid: 7, slotsPerHold, stats }));
      expect(stats.mostSlots).toBeLessThanOrEqual(slotsPerHold)
      expect(stats.channels).toBe(inside(domain).ports.activeEvtchns)
    }
  })

  it('NL-dump-4: ten channels out of 262,144 cost ten holds at the most, and a last look', () => {
    const ten = new Set(Array.from({ length: 10 }, (_, i) => open[i * 1000]!))
    for (const { port } of [...records(xen, 7)]) if (!ten.has(port)) domain.eventChannelOp('close', { port })
    const stats = newDumpStats()
    expect([...records(xen, 7, stats)].map(({ port }) => port)).toEqual([...ten])
    expect(inside(domain).ports.validEvtchns).toBe(SLOTS)
    expect(stats.holds).toBeLessThanOrEqual(11)
  })

  it('NL-dump-5: the reader can stop anywhere, and the lock is free', () => {
    for (const line of xen.dump({ domid: 7 })) if (line.startsWith('   ')) break
    expect(inside(domain).eventLock.held).toBe(false)
    expect(() => domain.eventChannelOp('close', { port: [...records(xen, 7)][0]!.port })).not.toThrow()
  })
})

function* records(xen: Hypervisor, domid: number, stats = newDumpStats()): Generator<ChannelRecord> {
  for (const item of xen.dumpItems({ domid, stats })) if (item.kind === 'channel') yield item.record
}
