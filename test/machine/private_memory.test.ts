/** The host's private memory: its layout, its allocator, and the slots of the guests' cores. */

import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { coreOf, createMemory } from '../../src/machine/core.js'
import { HostCore } from '../../src/machine/host_core.js'
import * as layout from '../../src/machine/host_layout.js'
import { PrivateMemory } from '../../src/machine/private_memory.js'

/** `export const NAME: type = value` of assembly/host/layout.ts. */
function assemblyLayout(): Map<string, number> {
  const text = readFileSync(new URL('../../assembly/host/layout.ts', import.meta.url), 'utf8')
  const found = text.matchAll(/^export const (\w+): \w+ = (-?[\w]+)$/gm)
  return new Map([...found].map(([, name, value]) => [name!, Number(value!.replaceAll('_', ''))]))
}

describe('the layout of the private memory', () => {
  const there = assemblyLayout()

  it('is the same for the core and for TypeScript', () => {
    const { DOMAIN, VCPU, PORT, FIFO, QUEUE } = layout
    // What only TypeScript looks at has no name in the core.
    const own = new Set(['DOWN', 'PIRQ_HEAD', 'PREVIOUS'])
    for (const record of [DOMAIN, VCPU, PORT, FIFO, QUEUE, layout.THREAD])
      for (const [name, offset] of Object.entries(record))
        if (!own.has(name)) expect([name, there.get(name)]).toEqual([name, offset])
    const { DOMAINS, VCPU_SHIFT, QUEUES_SHIFT, SLOW, KICK, POLLED, KICK_VCPU, KICK_DOMID } = layout
    const { DELIVERY_LOCK, BELL, RUNG, THREAD_SHIFT, KNOWN_MEMORIES, WAIT_ON } = layout
    const threads = { DELIVERY_LOCK, BELL, RUNG, THREAD_SHIFT, KNOWN_MEMORIES, WAIT_ON }
    for (const [name, value] of Object.entries(threads)) expect([name, there.get(name)]).toEqual([name, value])
    expect(there.get('HYPERVISOR')).toBe(layout.HYPERVISOR_THREAD << THREAD_SHIFT)
    const values = { DOMAINS, VCPU_SHIFT, QUEUES_SHIFT, SLOW, KICK, POLLED, KICK_VCPU, KICK_DOMID }
    for (const [name, value] of Object.entries(values)) expect([name, there.get(name)]).toEqual([name, value])
    expect(there.get('NONE')! | 0).toBe(layout.NONE)
  })

  it('gives the slots of a guest core the numbers that the host core calls', () => {
    const slots = ['LEAF_SET', 'LEAF_UNMASK', 'BIT_SET', 'BIT_CLEAR', 'BIT_TEST', 'FIFO_RAISE']
    slots.push('FIFO_SET_LINK', 'FIFO_SET_HEAD', 'FIFO_READY')
    const camel = (name: string) => name.toLowerCase().replace(/_(\w)/g, (_, c: string) => c.toUpperCase())
    for (const slot of slots) expect(layout.SLOTS.indexOf(camel(slot) as 'leafSet')).toBe(there.get(slot))
  })

  it('has every record in a block of its size, and no two members of a record in one word', () => {
    const sizes = [
      [layout.DOMAIN, layout.DOMAIN_BYTES],
      [layout.VCPU, 1 << layout.VCPU_SHIFT],
      [layout.PORT, 1 << layout.PORT_SHIFT],
      [layout.FIFO, layout.FIFO_BYTES],
      [layout.QUEUE, 1 << layout.QUEUES_SHIFT],
    ] as const
    for (const [record, bytes] of sizes) {
      const offsets = Object.values(record)
      expect(new Set(offsets).size).toBe(offsets.length)
      for (const offset of offsets) expect(offset % 4 === 0 && offset < bytes).toBe(true)
    }
    expect(layout.VCPU.VIRQS + 24 * 4).toBeLessThanOrEqual(layout.VCPU.BLOCKED)
    expect(layout.FIFO.PAGES + 128 * 4).toBeLessThanOrEqual(layout.FIFO_BYTES)
  })

  it('keeps words that several threads write on lines of their own', () => {
    const line = (offset: number) => offset >> 6
    const { DOMAIN, VCPU } = layout
    const alone = (record: Record<string, number>, ...names: string[]) => {
      for (const [name, offset] of Object.entries(record))
        if (!names.includes(name)) expect(names.map((each) => line(record[each]!))).not.toContain(line(offset))
    }
    alone(DOMAIN, 'POLLERS')
    alone(DOMAIN, 'CALLS')
    alone(VCPU, 'BLOCKED')
    alone(VCPU, 'CONTROL')
    alone(VCPU, 'PARKED', 'KICKED', 'WOKEN')
    alone(VCPU, 'POLLING', 'POLL_PORT')
  })
})

describe('blocks', () => {
  it('are zeroed, aligned, apart from each other, and used again, whatever is taken and given back in whatever order', () => {
    const command = fc.oneof(fc.record({ take: fc.integer({ min: 1, max: 5000 }) }), fc.record({ give: fc.nat() }))
    fc.assert(
      fc.property(fc.array(command, { maxLength: 120 }), fc.boolean(), (commands, shared) => {
        const memory = PrivateMemory.create(layout.HEAP, shared)
        const live: { at: number; bytes: number }[] = []
        const most = new Map<number, number>()
        for (const each of commands) {
          if ('take' in each) {
            const at = memory.take(each.take)
            const size = 2 ** Math.ceil(Math.log2(Math.max(each.take, 64)))
            expect(at % 64).toBe(0)
            expect(at).toBeGreaterThanOrEqual(layout.HEAP)
            expect(at + size).toBeLessThanOrEqual(memory.words.byteLength)
            for (const other of live) expect(at + each.take <= other.at || other.at + other.bytes <= at).toBe(true)
            const words = memory.words.subarray(at >> 2, (at + size) >> 2)
            expect(words.every((word) => word === 0)).toBe(true)
            words.fill(-1)
            live.push({ at, bytes: each.take })
            const now = live.filter(({ bytes }) => 2 ** Math.ceil(Math.log2(Math.max(bytes, 64))) === size).length
            most.set(size, Math.max(most.get(size) ?? 0, now))
          } else if (live.length) {
            const [block] = live.splice(each.give % live.length, 1)
            memory.give(block!.at, block!.bytes)
          }
        }
        // No more of a size than there ever were at once.
        const needed = [...most].reduce((sum, [size, count]) => sum + size * count, 0)
        expect(memory.used - layout.HEAP).toBe(needed)
      }),
      { numRuns: 60 },
    )
  })

  it('keep what is in them while the memory grows', () => {
    const memory = PrivateMemory.create(layout.HEAP, false)
    const at = memory.take(64)
    memory.words[at >> 2] = 7
    const before = memory.words
    memory.take(1 << 20)
    expect(memory.words === before).toBe(false)
    expect(memory.words[at >> 2]).toBe(7)
  })

  it('cannot be taken where the memory ends', () => {
    expect(() => PrivateMemory.plain(new Int32Array(16)).take(64)).toThrow(RangeError)
  })
})

describe('the cores of guests', () => {
  const core = () => coreOf(createMemory(16, false))

  it('have slots of their own, shared by the domains of one memory', () => {
    const host = HostCore.create(false)
    const [a, b] = [core(), core()]
    const { first } = host.enter(a)
    expect(host.enter(a).first).toBe(first)
    expect(Math.abs(host.enter(b).first - first)).toBeGreaterThanOrEqual(layout.SLOTS.length)
  })

  it('leave with their last domain, and their slots are used again', () => {
    const host = HostCore.create(false)
    const [a, b] = [core(), core()]
    const { first } = host.enter(a)
    host.enter(a)
    host.leave(a)
    expect(host.enter(b).first).not.toBe(first)
    host.leave(a)
    expect(host.enter(core()).first).toBe(first)
  })
})
