/** RAM in a saved state: bytes, base64 in JSON, or none; and what an older version of the format wrote. */

import { describe, expect, it } from 'vitest'
import { PAGE_SIZE } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import {
  Errno,
  GuestKernel,
  Hypervisor,
  ParameterError,
  RestoreError,
  type SavedDomain,
  SavedStateError,
} from '../../src/index.js'
import { expectSame, hostText, ramOf, throughJson } from './facts.js'
import { Host, machine } from './machines.js'
import { transparent } from './refusing.js'

const MODES = ['cooperative', 'transparent'] as const

/** What a restore throws; the host is as it was. */
function refusal(xen: Hypervisor, restore: () => unknown): unknown {
  const before = hostText(xen)
  try {
    restore()
  } catch (error) {
    expectSame(xen, before, 'the host is as it was')
    return error
  }
  return expect.unreachable('it is refused')
}

describe.each(MODES)('RAM of a %s state', (mode) => {
  const made = () => {
    const { host, domain } = machine({ channels: 4 })
    domain.memory.view().fill(0x5a, 100 * PAGE_SIZE, 103 * PAGE_SIZE + 8)
    return { domain, state: host.xen.saveDomain(domain, { mode, freeze: false }), ram: ramOf(domain) }
  }
  const restored = (state: unknown) => {
    const domain = new Host().xen.restoreDomain(state, { maxEvtchnPort: Infinity })
    return { domain, ram: ramOf(domain) }
  }
  /** Without shared_info, which a cooperative restore clears. */
  const rest = (ram: Uint8Array) => Buffer.from(ram.subarray(2 * PAGE_SIZE)).toString('latin1')

  it('NL-mig-7: is bytes, which a structured clone keeps', () => {
    const { state, ram } = made()
    const clone = structuredClone(state)
    expect(clone.ram!.every(({ bytes }) => bytes instanceof Uint8Array)).toBe(true)
    expect(rest(restored(clone).ram)).toBe(rest(ram))
  })

  it('NL-mig-7: is base64 in JSON', () => {
    const { state, ram } = made()
    const text = JSON.parse(JSON.stringify(state)) as { ram: { gfn: number; base64: string }[] }
    for (const [i, { gfn, base64 }] of text.ram.entries())
      expect([gfn, base64]).toEqual([state.ram![i]!.gfn, Buffer.from(state.ram![i]!.bytes).toString('base64')])
    expect(rest(restored(text).ram)).toBe(rest(ram))
  })

  it('NL-mig-7: is a copy: what the guest writes later does not change the state', () => {
    const { domain, state, ram } = made()
    domain.memory.view().fill(0xff, 100 * PAGE_SIZE, 104 * PAGE_SIZE)
    expect(rest(restored(state).ram)).toBe(rest(ram))
  })

  it('NL-mig-7: of a shared memory is a copy in a buffer that is not shared', () => {
    const xen = Hypervisor.create({ onUpcall: () => {} })
    const domain = xen.createDomain({ domid: 1, frames: 16, shared: true })
    const { ram } = xen.saveDomain(domain, { mode, freeze: false })
    expect(ram!.map(({ bytes }) => bytes.buffer instanceof ArrayBuffer)).toEqual([true])
  })

  it('NL-mig-4: JSON of a clone has indexes instead of bytes, and is refused by name', () => {
    const { state } = made()
    const lost = JSON.parse(JSON.stringify(structuredClone(state)))
    const { xen } = new Host()
    const error = refusal(xen, () => xen.restoreDomain(lost))
    expect(error).toBeInstanceOf(SavedStateError)
    expect(error).toMatchObject({ field: 'ram[0].bytes' })
  })

  it.each([
    ['of half a frame', (bytes: Uint8Array) => bytes.slice(0, 2048)],
    ['of no frame', (bytes: Uint8Array) => bytes.slice(0, 0)],
    ['beyond the end', () => new Uint8Array(128 * PAGE_SIZE)],
    ['of another kind', (bytes: Uint8Array) => new Uint16Array(bytes.buffer)],
  ])('NL-mig-4: bytes %s are refused by name', (_, spoil) => {
    const { state } = made()
    const bad = structuredClone(state) as { ram: { gfn: number; bytes: unknown }[] }
    bad.ram[0]!.bytes = spoil(state.ram![0]!.bytes)
    const { xen } = new Host()
    expect(refusal(xen, () => xen.restoreDomain(bad))).toMatchObject({ name: 'SavedStateError', field: 'ram[0].bytes' })
  })

  it('NL-mig-4: version 1, whose RAM is base64, is read', () => {
    const { state, ram } = made()
    const old = { ...throughJson(state as SavedDomain), version: 1 }
    expect(rest(restored(old).ram)).toBe(rest(ram))
  })
})

describe('RAM that the embedder carries', () => {
  const memoryOf = (frames: number) => new WebAssembly.Memory({ initial: frames / 16, maximum: frames / 16 })

  it('NL-mig-8: with ram: false the state has none, and is not restored without a memory that has it', () => {
    const { host } = machine({ channels: 4 })
    const { state } = host.xen.beginMigration(host.xen.domain(1)!, { mode: 'transparent', ram: false })
    expect(state.ram).toBeNull()
    const { xen } = new Host()
    expect(refusal(xen, () => xen.restoreDomain(state))).toBeInstanceOf(RestoreError)
    expect(refusal(xen, () => xen.restoreDomain(state))).toMatchObject({ field: 'ram', errno: Errno.EINVAL })
    expect(refusal(xen, () => xen.restoreDomain(state, { ram: 'keep' }))).toBeInstanceOf(ParameterError)
  })

  it.each(MODES)('NL-mig-8: a %s restore with ram: keep writes only what a restore itself writes', (mode) => {
    const { host, domain } = machine({ channels: 4, frames: 128 })
    const move = host.xen.beginMigration(domain, { mode, ram: false })
    const memory = memoryOf(128)
    new Uint8Array(memory.buffer).set(domain.memory.view())
    const kept = new Host().xen.restoreDomain(move.state, { memory, ram: 'keep', maxEvtchnPort: Infinity })
    expect(Buffer.compare(ramOf(kept).subarray(2 * PAGE_SIZE), ramOf(domain).subarray(2 * PAGE_SIZE))).toBe(0)
  })

  it('NL-mig-8: a state with RAM leaves a kept memory alone, too', () => {
    const { host } = machine({ channels: 1, frames: 128 })
    const move = transparent(host)
    const memory = memoryOf(128)
    new Uint8Array(memory.buffer).fill(0xee, 100 * PAGE_SIZE)
    const kept = new Host().xen.restoreDomain(move.state, { memory, ram: 'keep', maxEvtchnPort: Infinity })
    expect(
      kept.memory
        .view()
        .subarray(100 * PAGE_SIZE)
        .every((byte) => byte === 0xee),
    ).toBe(true)
  })

  it('NL-mig-8: no event is lost when the RAM goes along after the save, on another host', () => {
    const each = machine({ channels: 4, levels: 3, frames: 128 })
    const { host, domain, kernel, dom0, ports, ran } = each
    const move = host.xen.beginMigration(domain, { mode: 'transparent', ram: false })
    dom0.send(ports[2]!.dom0)
    const memory = memoryOf(128)
    new Uint8Array(memory.buffer).set(domain.memory.view())
    const target = new Host()
    target.dom0()
    const there = target.xen.restoreDomain(move.state, { memory, ram: 'keep', maxEvtchnPort: Infinity })
    target.attach(kernel, there).moveTo(target.xen.platform(there))
    target.xen.startDomain(there, move.commit())
    expect(ran.get('ring 2')).toBe(1)
  })

  it.each([3, 'fifo'] as const)(
    'NL-mig-8: on its own host and in its own window (%s), events of the frozen time arrive in order',
    (levels) => {
      const memory = memoryOf(256)
      const kernels = new Map<number, GuestKernel>()
      const xen = Hypervisor.create({ onUpcall: ({ domid, vcpuId }) => void kernels.get(domid)?.upcall(vcpuId) })
      const dom0 = xen.createDomain({ domid: 0 })
      const domain = xen.createDomain({ domid: 1, frames: 128, memory, base: 16 * PAGE_SIZE })
      const kernel = GuestKernel.boot(xen.platform(domain), { levels })
      kernels.set(1, kernel)
      const order: number[] = []
      const ends = Array.from({ length: 6 }, (_, i) => {
        const remote_port = kernel.allocUnbound(0, { handler: () => void order.push(i) })
        return dom0.eventChannelOp('bind_interdomain', { remote_dom: 1, remote_port }).local_port
      })
      order.length = 0
      const send = (i: number) => dom0.eventChannelOp('send', { port: ends[i]! })
      inside(domain).vcpus[0]!.setUpcallMask(1)
      send(0)
      send(1)
      const replaces = xen.beginMigration(domain, { mode: 'transparent', ram: false })
      send(2)
      send(3)
      const again = xen.restoreDomain(replaces.state, { replaces, memory, base: 16 * PAGE_SIZE, ram: 'keep' })
      kernel.moveTo(xen.platform(again))
      xen.startDomain(again)
      send(4)
      inside(again).vcpus[0]!.setUpcallMask(0)
      kernel.upcall(0)
      // Every channel that is connected again gets one event to be safe (NL-mig-6), and the sent ones come first.
      if (levels === 'fifo') expect(order.slice(0, 4)).toEqual([0, 1, 2, 3])
      expect([...new Set(order)].sort()).toEqual([0, 1, 2, 3, 4, 5])
    },
  )
})
