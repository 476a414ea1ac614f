/** Records: what an operation reads and writes in a struct's bytes is what the tables say of the struct. */

import { describe, expect, it } from 'vitest'
import { decode, EVTCHN_STRUCTS, type EvtchnOpName, encode, type Struct } from '../../src/abi/index.js'
import { recordClass } from '../../src/abi/record.js'
import { Hypervisor } from '../../src/index.js'
import { random } from '../random.js'

const NAMES = Object.keys(EVTCHN_STRUCTS) as EvtchnOpName[]

/** A record of the struct with random bytes, and the same bytes. */
function filled(layout: Struct, byte: () => number) {
  const record = new (recordClass(layout))()
  record.bytes.set(Array.from(record.bytes, byte))
  return { record, view: new DataView(record.bytes.slice().buffer) }
}

describe('the record of a struct', () => {
  it.each(NAMES)('EC-lay-1: %s: every member reads what is in its place', (name) => {
    const next = random(name.length)
    const layout: Struct = EVTCHN_STRUCTS[name]
    for (let i = 0; i < 50; i++) {
      const { record, view } = filled(layout, () => next(256))
      const expected = { ...decode(layout, view, 'in'), ...decode(layout, view, 'out') }
      for (const [member, value] of Object.entries(expected)) expect(record[member], member).toBe(value)
    }
  })

  it.each(NAMES)('EC-op-3: %s: a member that is stored changes its own bytes and no others', (name) => {
    const next = random(name.length + 1)
    const layout: Struct = EVTCHN_STRUCTS[name]
    for (const [member, { size }] of Object.entries(layout.fields)) {
      const { record, view } = filled(layout, () => next(256))
      const value = next(size === 8 ? 2 ** 32 : 2 ** (8 * size))
      record[member] = value
      encode(layout, view, { [member]: value })
      expect(record.bytes).toEqual(new Uint8Array(view.buffer))
    }
  })

  it('EC-op-2: a hypercall that a policy makes within another has arguments of its own', () => {
    const inner: number[] = []
    const xen = Hypervisor.create({
      onUpcall: () => {},
      xsm: {
        name: 'nested',
        evtchnUnbound: (_caller, _target, remote) => {
          if (remote?.domid === 1 && inner.length === 0) inner.push(allocate(2))
          return 0
        },
        evtchnInterdomain: () => 0,
        evtchnSend: () => 0,
        evtchnStatus: () => 0,
        evtchnReset: () => 0,
      },
    })
    const [zero, other] = [0, 1, 2].map((domid) => xen.createDomain({ domid, bits: 64, frames: 16 }))
    const data = new DataView(zero!.memory.memory.buffer)
    // Each call in a place of its own, as its own guest code would have it.
    function allocate(remote: number): number {
      const gva = 0x3000 + remote * 64
      data.setUint16(gva, 0x7ff0, true)
      data.setUint16(gva + 2, remote, true)
      // The lock is the domain's own, so the nested call is another domain's.
      const by = remote === 2 ? other! : zero!
      if (by !== zero) new Uint8Array(by.memory.memory.buffer).set(new Uint8Array(data.buffer, gva, 8), gva)
      expect(xen.hypercall(by.vcpu(0), 32, [6, gva])).toBe(0)
      return new DataView(by.memory.memory.buffer).getUint32(gva + 4, true)
    }
    // Once without a nested call: from then on there is a record to use again.
    allocate(0)
    const outer = allocate(1)
    // The struct goes back whole: what the inner call had in it must not be in it.
    expect(data.getUint16(0x3000 + 64 + 2, true)).toBe(1)
    expect(zero!.vcpu(0).eventChannelOp('status', { dom: 0x7ff0, port: outer })).toMatchObject({ unbound_dom: 1 })
    expect(other!.vcpu(0).eventChannelOp('status', { dom: 0x7ff0, port: inner[0]! })).toMatchObject({ unbound_dom: 2 })
  })
})
