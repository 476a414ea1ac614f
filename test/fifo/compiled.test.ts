/** What the explorers run is what ships: the compiled host core and its source, step by step, do the same to any state. */

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ECS } from '../../src/abi/index.js'
import { FifoState } from '../../src/domain/fifo.js'
import { PortTable } from '../../src/domain/port_table.js'
import { coreOf, createMemory } from '../../src/machine/core.js'
import { HostCore } from '../../src/machine/host_core.js'
import { ABI_QUEUES, DOMAIN, DOMAIN_BYTES, SLOTS, VCPU, VCPU_SHIFT } from '../../src/machine/host_layout.js'
import { GuestMemory } from '../../src/machine/memory.js'
import { seedOr } from '../settings.js'
import { BUSY, LINKED, MASKED, PENDING } from './event_word.js'
import { runThrough, SteppedMemory, shipped } from './steps.js'

const seed = seedOr(Date.now() % 2 ** 31)
const PORTS = 8
const VCPUS = 2
const BLOCKS = 4096
const FLAGS = 8192
const GUEST_BYTES = 12288

/** A domain's records in a host core, with the addresses that the guest's words would have. */
function machine(shared: boolean) {
  const core = coreOf(createMemory(16, shared))
  const host = HostCore.create(shared)
  const { memory } = host
  const record = memory.take(DOMAIN_BYTES)
  const table = new PortTable(memory, record)
  const state = new FifoState(memory, VCPUS)
  const vcpus = memory.take(VCPUS << VCPU_SHIFT)
  const nowhere = new GuestMemory({ frames: 1 })
  state.addPage(nowhere, 0, 0)
  const put = (at: number, value: number) => {
    memory.words[at >> 2] = value
  }
  const functions = host.enter(core).first
  put(record + DOMAIN.DOMID, 5)
  put(record + DOMAIN.ABI, ABI_QUEUES)
  put(record + DOMAIN.FIFO, state.at)
  put(record + DOMAIN.VCPUS, vcpus)
  put(record + DOMAIN.NR_VCPUS, VCPUS)
  put(record + DOMAIN.FUNCTIONS, functions)
  put(record + DOMAIN.POLLERS, 1)
  for (let vcpu = 0; vcpu < VCPUS; vcpu++) {
    put(vcpus + (vcpu << VCPU_SHIFT) + VCPU.INFO, FLAGS + vcpu * 64)
    state.mapBlock(nowhere, vcpu, { gfn: 1, offset: vcpu * 128 }, BLOCKS + vcpu * 128)
  }
  for (let port = 1; port < PORTS; port++) {
    table.take(port)
    table.setState(port, ECS.IPI)
  }
  return { core, host, record, table, state }
}

const word = fc.oneof(
  fc.integer(),
  fc.constantFrom(0, LINKED, MASKED, PENDING | LINKED | 2, PENDING | MASKED, BUSY | LINKED),
)
const below = (n: number) => fc.nat(n - 1)
const port = fc.record({ word, notify: below(VCPUS), priority: below(16), last: fc.tuple(below(VCPUS), below(16)) })

/** Index of the first word that is not the same. */
const difference = (mine: Int32Array, theirs: Int32Array) => mine.findIndex((value, i) => value !== theirs[i])

describe(`the host core (SEED=${seed})`, () => {
  it.each([false, true])('raises, unmasks, clears and looks as its source does, threads %s', (shared) => {
    const { core, host, record, table, state } = machine(shared)
    const real = new Int32Array(core.memory.buffer, 0, GUEST_BYTES / 4)
    const property = fc.property(
      fc.array(port, { minLength: PORTS, maxLength: PORTS }),
      fc.array(below(PORTS), { minLength: 32, maxLength: 32 }),
      fc.array(fc.tuple(fc.constantFrom('raise', 'send', 'unmask', 'clear', 'bits'), below(PORTS)), { maxLength: 6 }),
      (ports, tails, calls) => {
        real.fill(0)
        ports.forEach((each, i) => {
          real[i] = each.word
          table.setNotifyVcpu(i, each.notify)
          table.setPriority(i, each.priority)
          table.setLastQueue(i, (each.last[0] << 16) | each.last[1])
        })
        tails.forEach((tail, i) => {
          state.setTail(i >> 4, i & 15, tail)
        })
        const guest = new SteppedMemory(GUEST_BYTES)
        guest.words.set(real)
        const own = new SteppedMemory(host.memory.used)
        own.words.set(host.memory.words.subarray(0, own.words.length))
        // Slots are numbered from 0 there.
        const slots = own.words[(record + DOMAIN.FUNCTIONS) >> 2]!
        own.words[(record + DOMAIN.FUNCTIONS) >> 2] = SLOTS.indexOf('leafSet')
        shipped.machine = { guest, private: own, held: new Set() }
        for (const [call, on] of calls)
          expect(runThrough(shipped.host[call](record, on))).toBe(host.calls[call](record, on))
        expect(difference(guest.words, real)).toBe(-1)
        own.words[(record + DOMAIN.FUNCTIONS) >> 2] = slots
        expect(difference(own.words, host.memory.words)).toBe(-1)
      },
    )
    fc.assert(property, { seed, numRuns: 200 })
  })
})
