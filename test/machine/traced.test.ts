/**
 * The traced core: its accesses come in the order that the rules state, it leaves what the plain build leaves, and a send
 * put in after any access of a scan or an unmask is not lost.
 */

import { describe, expect, it } from 'vitest'
import { type Bits, PAGE_SIZE } from '../../src/abi/index.js'
import { type Domain, GuestKernel, Hypervisor } from '../../src/index.js'
import { type Access, traceMemory } from '../../src/machine/traced.js'
import { random } from '../random.js'

type Form = 2 | 3 | 4 | 5 | 'fifo'
const FORMS: readonly (readonly [Form, Bits])[] = [
  [2, 64],
  [3, 64],
  [4, 64],
  ['fifo', 64],
  [2, 32],
  [3, 32],
  [4, 32],
  [5, 32],
  ['fifo', 32],
]
const FRAMES = 1280
/** A FIFO raise holds its queues here (EC-fifo-4): another sender waits, and comes at the next place. */
const QUEUES_LOCKED = ['fifoRaise', 'fifoSetLink', 'fifoSetHead']

/** A sender without a trace, and a receiver of two vCPUs whose upcalls wait until `scan`. */
class Rig {
  readonly memory = new WebAssembly.Memory({ initial: FRAMES / 16, maximum: FRAMES / 16 })
  readonly accesses: Access[] = []
  readonly handled: number[] = []
  readonly domain: Domain
  readonly #sender: GuestKernel
  readonly #guest: GuestKernel
  readonly #peers = new Map<number, number>()
  /** Called after each access. */
  onAccess: (() => void) | undefined

  constructor(form: Form, bits: Bits, trace = true) {
    if (trace)
      traceMemory(this.memory, (access) => {
        this.accesses.push(access)
        this.onAccess?.()
      })
    const xen = Hypervisor.create({ onUpcall: () => {} })
    this.#sender = GuestKernel.boot(xen.platform(xen.createDomain({ domid: 0 })))
    const { memory } = this
    this.domain = xen.createDomain({ domid: 1, vcpus: 2, bits, maxEvtchnPort: Infinity, memory, frames: FRAMES })
    const options = { levels: form, exact: true, ...(form === 4 || form === 5 ? { nrPages: 4 } : {}) }
    this.#guest = GuestKernel.boot(xen.platform(this.domain), options)
    for (let vcpu = 0; vcpu < 2; vcpu++) this.#guest.upcall(vcpu)
  }

  /** Opens a channel to the receiver's next port. */
  open(vcpu = 0): number {
    const port = this.#guest.allocUnbound(0, { vcpu, handler: (each) => this.handled.push(each) })
    this.#peers.set(port, this.#sender.bindInterdomain(1, port))
    return port
  }

  /** Accesses of `run` as text: kind and word. */
  names(run: () => void): string[] {
    this.accesses.length = 0
    run()
    const words = this.domain.words()
    return this.accesses.map(({ kind, at }) => {
      const word = words.at(at)
      return word ? `${kind} ${word.part}${word.level && word.part === 'selector' ? word.level : ''}` : `${kind} ?`
    })
  }

  send = (port: number) => this.#sender.send(this.#peers.get(port)!)
  scan = (vcpu = 0) => this.#guest.upcall(vcpu)
  mask = (port: number) => this.#guest.mask(port)
  unmask = (port: number) => this.#guest.unmask(port)
  /** Lets every waiting upcall in, until none waits. */
  settle(): void {
    for (let round = 0; round < 100; round++) {
      const due = this.domain.vcpus.filter(({ upcallPending }) => upcallPending)
      if (!due.length) return
      for (const { vcpuId } of due) this.scan(vcpuId)
    }
    throw new Error('the upcall flags do not settle')
  }
}

describe.each(FORMS)('%s at %i bits', (form, bits) => {
  const levels = form === 'fifo' ? 0 : form

  it('NL-set-1, NL-set-2, EC-fifo-7…15: a first send makes its accesses in the order of the rules', () => {
    const rig = new Rig(form, bits)
    const port = rig.open()
    const climb = Array.from({ length: Math.max(0, levels - 1) }, (_, i) => levels - 1 - i)
    expect(rig.names(() => rig.send(port))).toEqual(
      levels
        ? ['or pending', 'read mask', ...climb.flatMap((k) => [`read selector${k}`, `or selector${k}`]), 'or upcall']
        : ['or event', 'read event', 'or event', 'write head', 'or ready', 'or upcall'],
    )
  })

  it('NL-set-1, EC-fifo-7: a second send stops where the first one has been', () => {
    const rig = new Rig(form, bits)
    const port = rig.open()
    rig.send(port)
    expect(rig.names(() => rig.send(port))).toEqual(levels ? ['or pending'] : ['or event', 'read event', 'or event'])
  })

  it('NL-scan-1, EC-fifo-26: a scan clears the flag, then takes the top, then descends', () => {
    const rig = new Rig(form, bits)
    rig.send(rig.open())
    const down = Array.from({ length: Math.max(0, levels - 1) }, (_, i) => `take selector${i + 1}`)
    const first = rig.names(() => rig.scan())
    const expected = levels
      ? ['write upcall', ...down, 'read pending', 'read mask', 'and pending']
      : ['write upcall', 'take ready', 'read head', 'read event', 'compareExchange event', 'and event']
    expect(first.slice(0, expected.length)).toEqual(expected)
    expect(rig.handled).toHaveLength(1)
  })

  it('names every access, and the name leads back to the address', () => {
    const rig = new Rig(form, bits)
    const port = rig.open()
    rig.names(() => {
      rig.send(port)
      rig.scan()
    })
    const words = rig.domain.words()
    for (const { at } of rig.accesses) {
      const word = words.at(at)
      expect(word, `byte ${at}`).toBeDefined()
      expect(words.address(word!)).toBe(at - word!.byte)
    }
  })

  it('leaves the same RAM as the plain build over random programs', () => {
    for (const seed of [1, 2, 3]) {
      const rams = [true, false].map((trace) => {
        const rig = new Rig(form, bits, trace)
        const below = random(seed)
        const ports = Array.from({ length: 80 }, (_, i) => rig.open(i % 2))
        for (let i = 0; i < 1500; i++) {
          const port = ports[below(ports.length)]!
          const what = below(8)
          if (what < 5) rig.send(port)
          else if (what === 5) rig.mask(port)
          else if (what === 6) rig.unmask(port)
          else rig.scan(below(2))
        }
        return { ram: Buffer.from(rig.memory.buffer), handled: rig.handled }
      })
      expect(rams[0]!.handled, `seed ${seed}`).toEqual(rams[1]!.handled)
      expect(rams[0]!.ram.equals(rams[1]!.ram), `seed ${seed}`).toBe(true)
    }
  })

  it.each(['scan', 'unmask'] as const)('NL-set-2, EC-fifo-26: a send after any access of a %s is handled', (act) => {
    for (let place = 1, last = false; !last; place++) {
      const rig = new Rig(form, bits)
      const [port, other] = [rig.open(), rig.open()]
      if (act === 'unmask') rig.mask(port)
      rig.send(port)
      let seen = 0
      let handledBefore = -1
      rig.onAccess = () => {
        if (QUEUES_LOCKED.includes(rig.accesses.at(-1)!.fn) || ++seen !== place) return
        rig.onAccess = undefined
        handledBefore = rig.handled.length
        rig.send(port)
        rig.send(other)
      }
      rig[act](act === 'scan' ? 0 : port)
      last = handledBefore < 0
      rig.onAccess = undefined
      rig.settle()
      const after = rig.handled.slice(Math.max(0, handledBefore))
      expect(after.includes(port) || last, `place ${place}`).toBe(true)
      expect(after.includes(other) || last, `place ${place}`).toBe(true)
    }
  })
})

describe('traceMemory', () => {
  const memory = (shared = false) => new WebAssembly.Memory({ initial: 16, maximum: 16, shared })

  it('refuses a shared memory, what is no memory, and a memory with a core', () => {
    expect(() => traceMemory(memory(true), () => {})).toThrow(/not shared/)
    expect(() => traceMemory({} as WebAssembly.Memory, () => {})).toThrow(/WebAssembly.Memory/)
    const used = memory()
    Hypervisor.create().createDomain({ domid: 1, memory: used, frames: used.buffer.byteLength / PAGE_SIZE })
    expect(() => traceMemory(used, () => {})).toThrow(/no domain was created/)
  })

  it('what the report throws ends the operation there and comes out of the call', () => {
    const rig = new Rig(3, 64)
    const port = rig.open()
    rig.onAccess = () => {
      throw new Error('power cut')
    }
    expect(() => rig.send(port)).toThrow('power cut')
    rig.onAccess = undefined
    expect(rig.domain.isPending(port)).toBe(true)
    expect(rig.domain.vcpu(0).upcallPending).toBe(0)
  })
})
