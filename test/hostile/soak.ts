/**
 * Hostile guests beside honest ones. Four hostile domains (both widths, PV and HVM) make random hypercalls with random
 * registers, while all of their RAM, shared_info and leaf frames included, is rewritten: before each call, in the middle
 * of each by their page tables, and from their upcalls, which make calls of their own. Meanwhile two honest domains
 * signal each other and count, and a third one offers channels to the hostile ones.
 *
 *     |gap| A |gap| H4 |gap| B |gap| H5 |gap| C |gap| H6 |gap| H7 |gap|      one memory, shared or not
 *
 * What must hold: no call throws or goes on for ever; no byte of A, B, the gaps, nor of C but for the bits of the offered
 * channels, ever changes by it; what the hypervisor has noted of them stays; no event of A and B is lost or invented.
 */

import { type Bits, DOMID_SELF, PAGE_SIZE, sharedInfo } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import {
  type DomainType,
  GuestKernel,
  Hypervisor,
  type Register,
  type Vcpu,
  type WantedLevels,
} from '../../src/index.js'
import { TreeGuest } from '../nlevel/guest.js'
import { HOSTILE_FRAMES, HostileGuest } from './guest.js'
import { Random } from './random.js'

/** How a soak went. */
export interface SoakReport {
  calls: number
  /** Those of them that upcall handlers made. */
  nested: number
  /** Events between the honest two. */
  events: number
  /** Trees that were registered by the book. */
  registrations: number
  /** Answers of event channel operations by name: `ok` or -errno. */
  answers: Record<string, Record<string, number>>
}

const HONEST_FRAMES = 48
const CHANNELS = 24
/** Hypercalls between two looks at everybody else. */
const ROUND = 32

/** A place in the memory that is watched, and its bytes as they must be. */
interface Region {
  name: string
  bytes: Uint8Array
  image: Uint8Array
}

export class Soak {
  readonly #report = { calls: 0, nested: 0, events: 0 }
  readonly #answers: SoakReport['answers'] = {}
  readonly #random: Random
  readonly #xen: Hypervisor
  readonly #memory: WebAssembly.Memory
  readonly #hostile = new Map<number, HostileGuest>()
  readonly #kernels = new Map<number, GuestKernel>()
  readonly #regions: Region[] = []
  readonly #ports: [a: number, b: number][] = []
  /** By channel and direction: to A at 2 · channel, to B after it. */
  readonly #sent: number[] = Array(2 * CHANNELS).fill(0)
  readonly #got: number[] = Array(2 * CHANNELS).fill(0)
  readonly #noted: string
  #base = 0
  #nesting = 0

  constructor(seed: number, shared: boolean) {
    this.#random = new Random(seed)
    const pages = Math.ceil((3 * HONEST_FRAMES + 4 * HOSTILE_FRAMES + 8) / 16)
    this.#memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared })
    const words = new Uint32Array(this.#memory.buffer)
    for (let i = 0; i < words.length; i++) words[i] = this.#random.word()
    this.#xen = Hypervisor.create({
      preempt: () => this.#random.below(64) === 0,
      onUpcall: (vcpu) => void (this.#kernels.get(vcpu.domid)?.upcall(vcpu.vcpuId) ?? this.#hostileUpcall(vcpu)),
    })
    this.#xen.createDomain({ domid: 0, frames: 4 })
    this.#addHonest(1, 64, 3)
    this.#addHostile(4, 64, 'pv', 3, Infinity)
    this.#addHonest(2, 32, 4)
    this.#addHostile(5, 32, 'pv', 2, 1023)
    const offering = new TreeGuest(this.#xen, { domid: 3, ...this.#window(HONEST_FRAMES) })
    this.#addHostile(6, 64, 'hvm', 34, 300)
    this.#addHostile(7, 32, 'hvm', 2, Infinity)
    this.#gap()

    this.#connect()
    for (const domid of this.#hostile.keys())
      for (let i = 0; i < 3; i++)
        offering.domain.eventChannelOp('alloc_unbound', { dom: DOMID_SELF, remote_dom: domid })
    for (const [domid, name] of [...'_ABC'].entries()) {
      if (!domid) continue
      const { base, bytes } = this.#xen.domain(domid)!.memory
      this.#watch(name, base, bytes)
    }
    this.#pauseHonest(true)
    this.#noted = this.#note()
  }

  // --- the machine ---------------------------------------------------------------------------------------------------

  #watch(name: string, base: number, length: number): void {
    const bytes = new Uint8Array(this.#memory.buffer, base, length)
    this.#regions.push({ name, bytes, image: bytes.slice() })
  }
  #gap(): void {
    this.#watch(`the gap at ${this.#base}`, this.#base, PAGE_SIZE)
    this.#base += PAGE_SIZE
  }
  #window(frames: number): { memory: WebAssembly.Memory; base: number; frames: number } {
    this.#gap()
    const base = this.#base
    this.#base += frames * PAGE_SIZE
    return { memory: this.#memory, base, frames }
  }

  #addHonest(domid: number, bits: Bits, levels: WantedLevels): void {
    const domain = this.#xen.createDomain({ domid, bits, vcpus: 2, ...this.#window(HONEST_FRAMES) })
    domain.memory.view().fill(0, PAGE_SIZE, 2 * PAGE_SIZE)
    const kernel = GuestKernel.boot(this.#xen.platform(domain), { levels, nrPages: 1, batch: domid })
    if (kernel.levels !== levels) throw new Error(`d${domid}: ${JSON.stringify(kernel.attempts)}`)
    this.#kernels.set(domid, kernel)
  }

  #addHostile(domid: number, bits: Bits, type: DomainType, vcpus: number, maxEvtchnPort: number): void {
    const options = { domid, bits, type, vcpus, maxEvtchnPort, ...this.#window(HOSTILE_FRAMES) }
    const hypercall = (vcpu: Vcpu, nr: Register, registers: readonly Register[]) => this.#call(vcpu, nr, registers)
    const by = { random: this.#random, hypercall, answers: this.#answers }
    this.#hostile.set(domid, new HostileGuest(this.#xen, options, by))
  }

  #connect(): void {
    const [a, b] = [this.#kernels.get(1)!, this.#kernels.get(2)!]
    for (let i = 0; i < CHANNELS; i++) {
      const count = (to: number) => () => void this.#got[2 * i + to]!++
      const offered = a.allocUnbound(2, { vcpu: i % 2, handler: count(0) })
      this.#ports.push([offered, b.bindInterdomain(1, offered, { vcpu: (i >> 1) % 2, handler: count(1) })])
    }
    // The binder's first event does not count (EC-inter-8).
    this.#got.fill(0)
  }

  /** While the hostile run the honest are paused: but for permissions, others could reset them (EC-reset-4). */
  #pauseHonest(pause: boolean): void {
    for (const domid of [1, 2, 3]) {
      if (pause) this.#xen.pauseDomain(this.#xen.domain(domid)!)
      else this.#xen.unpauseDomain(this.#xen.domain(domid)!)
    }
  }

  /** A hostile guest's upcall handler does as it likes, too. */
  #hostileUpcall(vcpu: Vcpu): void {
    const hostile = this.#hostile.get(vcpu.domid)
    if (!hostile) return
    hostile.scribble(1)
    if (this.#nesting > 2 || this.#random.below(4)) return
    this.#nesting++
    this.#report.nested++
    hostile.call()
    this.#nesting--
  }

  // --- what must hold ------------------------------------------------------------------------------------------------

  #call(vcpu: Vcpu, nr: Register, registers: readonly Register[]): number {
    this.#report.calls++
    const rc = this.#xen.hypercall(vcpu, nr, registers)
    if (!Number.isInteger(rc)) throw new Error(`hypercall ${nr} answered ${rc}`)
    for (const { domain } of this.#hostile.values())
      if (inside(domain).eventLock.held) throw new Error(`hypercall ${nr} left the event lock of d${domain.domid} held`)
    return rc
  }

  /** What the hypervisor has noted of A and B. */
  #note(): string {
    return JSON.stringify(
      [1, 2].map((domid) => {
        const { memory, ports, levels, nlevel } = inside(this.#xen.domain(domid)!)
        const rows = Array.from({ length: ports.validEvtchns }, (_, port) => [
          ports.state(port),
          ports.notifyVcpu(port),
          ports.consumer(port),
          ports.remoteDomid(port),
          ports.remotePort(port),
        ])
        return [levels, nlevel, memory.heldFrames, ports.activeEvtchns, rows]
      }),
    )
  }

  /** No byte of others has changed. Of C the bits of the offered channels may: ports 1 to 12, their selector, the flag. */
  #check(): void {
    for (const { name, bytes, image } of this.#regions) {
      if (name === 'C') {
        const { pending, sel } = sharedInfo(64)
        const may: [offset: number, mask: number][] = [
          [0, 1],
          [sel, 1],
          [pending, 0xfe],
          [pending + 1, 0x1f],
        ]
        for (const [offset, mask] of may) {
          const at = PAGE_SIZE + offset
          image[at] = (image[at]! & ~mask) | (bytes[at]! & mask)
        }
      }
      if (Buffer.compare(bytes, image) === 0) continue
      const at = bytes.findIndex((byte, i) => byte !== image[i])
      throw new Error(`${name}: byte ${at} changed from ${image[at]} to ${bytes[at]}`)
    }
  }

  /** Some events between the honest two, each counted at the other end; what they change in their RAM is theirs. */
  #exchange(): void {
    const random = this.#random
    for (let i = random.below(4); i >= 0; i--) {
      const channel = random.below(CHANNELS)
      const to = random.below(2)
      const sender = this.#kernels.get(to ? 1 : 2)!
      const receiver = this.#kernels.get(to ? 2 : 1)!
      const port = this.#ports[channel]![to]!
      const heldBack = random.below(8) === 0
      if (heldBack) receiver.mask(port)
      sender.send(this.#ports[channel]![1 - to]!)
      this.#sent[2 * channel + to]!++
      this.#report.events++
      if (heldBack) receiver.unmask(port)
    }
    for (const [i, sent] of this.#sent.entries())
      if (this.#got[i] !== sent)
        throw new Error(`channel ${i >> 1} to ${'AB'[i & 1]}: ${sent} events were sent, ${this.#got[i]} came`)
    for (const { name, bytes, image } of this.#regions) if (name === 'A' || name === 'B') image.set(bytes)
  }

  /** Makes `calls` hypercalls. @throws Error that says what did not hold, and after how many calls. */
  run(calls: number): SoakReport {
    const random = this.#random
    const hostile = [...this.#hostile.values()]
    try {
      while (this.#report.calls < calls) {
        for (const end = this.#report.calls + ROUND; this.#report.calls < end; ) random.pick(hostile).call()
        this.#check()
        this.#pauseHonest(false)
        this.#exchange()
        this.#pauseHonest(true)
        if (random.below(32) === 0) random.pick(hostile).behave(this.#xen)
        if (random.below(64) === 0 && this.#note() !== this.#noted) throw new Error('A or B is noted otherwise')
      }
    } catch (cause) {
      throw new Error(`after ${this.#report.calls} calls: ${cause}`, { cause })
    }
    const registrations = hostile.reduce((sum, each) => sum + each.registrations, 0)
    return { ...this.#report, registrations, answers: this.#answers }
  }
}
