/** Rows and buffers of a dump are used again; what it hands out is not. */

import { describe, expect, it } from 'vitest'
import { DUMP_TITLE, formatItem, Hypervisor } from '../../src/index.js'
import { random } from '../random.js'

const CHANNELS = 700

function host(seed: number): Hypervisor {
  const next = random(seed)
  const xen = Hypervisor.create({ onUpcall: () => {} })
  for (const domid of [1, 2]) {
    const domain = xen.createDomain({ domid, bits: 64, frames: 16, vcpus: 12 })
    for (let i = 0; i < CHANNELS; i++) {
      if (next(2)) domain.eventChannelOp('alloc_unbound', { dom: 0x7ff0, remote_dom: next(0x7ff0) })
      else domain.eventChannelOp('bind_ipi', { vcpu: next(12) })
    }
    domain.eventChannelOp('bind_virq', { virq: domid - 1, vcpu: 0 })
  }
  return xen
}

describe('what a dump hands out', () => {
  it('NL-dump-3: items that are kept stay as they were, and say what the lines say', () => {
    const xen = host(1)
    const items = [...xen.dumpItems({ slotsPerHold: 16 })]
    const ports = items.flatMap((item) =>
      item.kind === 'channel' && item.record.domid === 1 ? [item.record.port] : [],
    )
    expect(ports).toEqual(Array.from({ length: CHANNELS + 1 }, (_, i) => i + 1))
    expect([DUMP_TITLE, ...items.flatMap(formatItem)]).toEqual([...xen.dump()])
  })

  it('NL-dump-2: the lines are the same, however many slots a hold covers', () => {
    const xen = host(2)
    const lines = [...xen.dump()]
    for (const slotsPerHold of [1, 63, 4096]) expect([...xen.dump({ slotsPerHold })]).toEqual(lines)
  })

  it('NL-dump-3: two dumps at a time do not mix', () => {
    const xen = host(3)
    const lines = [...xen.dump()]
    const [one, two] = [xen.dump({ slotsPerHold: 5 }), xen.dump({ slotsPerHold: 300 })]
    for (const line of lines) {
      expect(one.next().value).toBe(line)
      expect(two.next().value).toBe(line)
    }
  })
})
