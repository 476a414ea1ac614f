/**
 * Hostile guests beside honest ones. Four hostile domains (both widths, PV and HVM) make random hypercalls with random
 * registers, while all of their RAM, shared_info and leaf frames included, is rewritten: before each call, in the middle
 * of each by their page tables, and from their upcalls, which make calls of their own. Meanwhile two honest domains
 * signal each other and count, and a third one offers channels to the hostile ones.
 *
 *     |gap| A |gap| H1 |gap| B |gap| H2 |gap| C |gap| H3 |gap| H4 |gap|      one memory, shared or not
 *
 * What must hold: no call throws or goes on for ever; no byte of A, B, the gaps, nor of C but for the bits of the offered
 * channels, ever changes by it; what the hypervisor has noted of them stays; no event of A and B is lost or invented.
 */

import {
  type Bits,
  DOMID_SELF,
  type Domain,
  type DomainType,
  EVTCHN_STRUCTS,
  EVTCHNOP,
  type EvtchnOpName,
  GuestKernel,
  HYPERVISOR,
  Hypervisor,
  PAGE_SIZE,
  type Register,
  SHUTDOWN,
  sharedInfo,
  VCPUOP,
  type Vcpu,
  type WantedLevels,
} from '../../src/index.js'
import { plan } from '../nlevel/geometry.js'
import { FIRST_FREE, RawGuest } from '../nlevel/guest.js'

/** How a soak went: what was answered, by operation and errno. */
export interface SoakReport {
  calls: number
  nested: number
  events: number
  /** Answers of event channel operations by name, `ok` or -errno. */
  answers: Record<string, Record<string, number>>
  registrations: number
}

const HONEST_FRAMES = 48
const HOSTILE_FRAMES = 64
const GAP_FRAMES = 1
const CHANNELS = 24

interface Hostile {
  guest: RawGuest
  domain: Domain
  bits: Bits
}

/** A place in the memory that is watched: its bytes as they must be. */
interface Region {
  name: string
  bytes: Uint8Array
  image: Uint8Array
}

export class Soak {
  readonly report: SoakReport = { calls: 0, nested: 0, events: 0, answers: {}, registrations: 0 }
  readonly #xen: Hypervisor
  readonly #memory: WebAssembly.Memory
  readonly #hostile: Hostile[] = []
  readonly #regions: Region[] = []
  readonly #honest: { a: GuestKernel; b: GuestKernel; ports: [a: number, b: number][]; sent: number[]; got: number[] }
  readonly #offering: RawGuest
  readonly #dumps: string
  #x: number
  #base = 0
  #nesting = 0
  #scribbling: Hostile | null = null

  constructor(seed: number, shared: boolean) {
    this.#x = seed | 1
    const frames = 3 * HONEST_FRAMES + 4 * HOSTILE_FRAMES + 8 * GAP_FRAMES
    const pages = Math.ceil(frames / 16)
    this.#memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared })
    const all = new Uint32Array(this.#memory.buffer)
    for (let i = 0; i < all.length; i++) all[i] = this.#random()
    const kernels = new Map<number, GuestKernel>()
    this.#xen = Hypervisor.create({
      preempt: () => this.#below(64) === 0,
      onUpcall: (vcpu) => {
        const kernel = kernels.get(vcpu.domid)
        if (kernel) kernel.upcall(vcpu.vcpuId)
        else this.#hostileUpcall(vcpu)
      },
    })
    this.#xen.createDomain({ domid: 0, frames: 4 })
    const a = this.#honestDomain(kernels, 1, 64, 3)
    this.#hostileDomain(4, 64, 'pv', 3, -1)
    const b = this.#honestDomain(kernels, 2, 32, 4)
    this.#hostileDomain(5, 32, 'pv', 2, 1023)
    this.#offering = new RawGuest(this.#xen, { domid: 3, frames: HONEST_FRAMES, ...this.#window(HONEST_FRAMES) })
    this.#hostileDomain(6, 64, 'hvm', 34, 300)
    this.#hostileDomain(7, 32, 'hvm', 2, -1)
    this.#gap()

    this.#honest = { a, b, ports: [], sent: Array(2 * CHANNELS).fill(0), got: Array(2 * CHANNELS).fill(0) }
    this.#connect(a, b)
    for (let domid = 4; domid <= 7; domid++)
      for (let i = 0; i < 3; i++)
        this.#offering.domain.eventChannelOp('alloc_unbound', { dom: DOMID_SELF, remote_dom: domid })
    for (const [name, domain] of [
      ['A', this.#xen.domain(1)!],
      ['B', this.#xen.domain(2)!],
      ['C', this.#offering.domain],
    ] as const)
      this.#watch(name, domain.memory.base, domain.memory.bytes)
    this.#pauseHonest(true)
    this.#dumps = this.#dump()
  }

  // --- the machine ---------------------------------------------------------------------------------------------------

  #gap(): void {
    this.#watch(`the gap at frame ${this.#base / PAGE_SIZE}`, this.#base, GAP_FRAMES * PAGE_SIZE)
    this.#base += GAP_FRAMES * PAGE_SIZE
  }
  #window(frames: number): { memory: WebAssembly.Memory; base: number } {
    this.#gap()
    const base = this.#base
    this.#base += frames * PAGE_SIZE
    return { memory: this.#memory, base }
  }
  #watch(name: string, base: number, length: number): void {
    const bytes = new Uint8Array(this.#memory.buffer, base, length)
    this.#regions.push({ name, bytes, image: bytes.slice() })
  }

  #honestDomain(kernels: Map<number, GuestKernel>, domid: number, bits: Bits, levels: WantedLevels): GuestKernel {
    const domain = this.#xen.createDomain({
      domid,
      bits,
      vcpus: 2,
      frames: HONEST_FRAMES,
      ...this.#window(HONEST_FRAMES),
    })
    domain.memory.view().fill(0, PAGE_SIZE, 2 * PAGE_SIZE)
    const kernel = GuestKernel.boot(this.#xen.platform(domain), { levels, nrPages: 1, batch: domid })
    if (kernel.levels !== levels)
      throw new Error(`d${domid} has ${kernel.levels} levels: ${JSON.stringify(kernel.attempts)}`)
    kernels.set(domid, kernel)
    return kernel
  }

  #hostileDomain(domid: number, bits: Bits, type: DomainType, vcpus: number, maxEvtchnPort: number): void {
    const options = { domid, bits, type, vcpus, maxEvtchnPort, frames: HOSTILE_FRAMES, ...this.#window(HOSTILE_FRAMES) }
    const guest = new RawGuest(this.#xen, { ...options, translate: (gva) => this.#translate(gva) })
    this.#hostile.push({ guest, domain: guest.domain, bits })
  }

  #connect(a: GuestKernel, b: GuestKernel): void {
    const { ports, got } = this.#honest
    for (let i = 0; i < CHANNELS; i++) {
      const offered = a.allocUnbound(2, { vcpu: i % 2, handler: () => void got[2 * i]!++ })
      ports.push([
        offered,
        b.bindInterdomain(1, offered, { vcpu: (i >> 1) % 2, handler: () => void got[2 * i + 1]!++ }),
      ])
    }
    // The binder's first event does not count (EC-inter-8).
    got.fill(0)
  }

  /** Numbers as the hypervisor has them: ports of the honest domains without what the offered channels may become. */
  #dump(): string {
    const lines: string[] = []
    for (const domid of [1, 2]) {
      const { memory, ports, levels, nlevel } = this.#xen.domain(domid)!
      const rows = []
      for (let port = 0; port < ports.validEvtchns; port++)
        rows.push(
          [
            ports.state(port),
            ports.notifyVcpu(port),
            ports.consumer(port),
            ports.remoteDomid(port),
            ports.remotePort(port),
          ].join(),
        )
      lines.push(`${levels} ${JSON.stringify(nlevel)} ${memory.heldFrames} ${ports.activeEvtchns} ${rows.join(' ')}`)
    }
    return lines.join('\n')
  }

  // --- randomness ----------------------------------------------------------------------------------------------------

  #random(): number {
    let x = this.#x
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    this.#x = x
    return x >>> 0
  }
  #below(n: number): number {
    return this.#random() % n
  }

  /** What stands in a struct: mostly small, for then it gets far. */
  #value(): number {
    switch (this.#below(8)) {
      case 0:
        return this.#random()
      case 1:
        return [0x7ff0, 0x7ff1, 0x7fff, 0xffff_ffff, 0x8000_0000, 32768, 4096, 1024, 4095, 1023, 64, 32][
          this.#below(12)
        ]!
      case 2:
      case 3:
        return this.#below(80)
      default:
        return this.#below(9)
    }
  }

  /** A frame number: often the last one, or the first that is not there. */
  #frame(): number {
    const which = this.#below(8)
    if (which < 3) return HOSTILE_FRAMES - 1
    return which < 7 ? this.#below(HOSTILE_FRAMES) : HOSTILE_FRAMES + this.#below(2)
  }
  /** Of words in a frame: often where they just fit, or just do not. */
  #offset(): number {
    switch (this.#below(5)) {
      case 0:
        return PAGE_SIZE - (this.#below(18) << 2)
      case 1:
        return PAGE_SIZE - (this.#below(80) << 3)
      case 2:
        return PAGE_SIZE - (this.#below(1100) << 2)
      case 3:
        return this.#below(64) << 3
      default:
        return 0
    }
  }

  /** A register: what a guest's 64 bits, or a careless embedder, can hand over. */
  #register(): Register {
    switch (this.#below(6)) {
      case 0:
        return BigInt(this.#random()) << BigInt(this.#below(80))
      case 1:
        return -BigInt(this.#random()) << BigInt(this.#below(40))
      case 2:
        return this.#random() | 0
      case 3:
        return [
          Number.NaN,
          Number.POSITIVE_INFINITY,
          Number.NEGATIVE_INFINITY,
          -0,
          1.5,
          2 ** 31,
          2 ** 32,
          2 ** 53,
          1e300,
          -1,
          2 ** 52 + 4096,
        ][this.#below(11)]!
      default:
        return this.#value()
    }
  }

  /** The hostile guest's other vCPUs: a few words anywhere in its RAM, often where it hurts. */
  #scribble({ guest, bits }: Hostile, words: number): void {
    const view = guest.view()
    for (let i = 0; i < words; i++) {
      const where = this.#below(4)
      const at =
        where === 0
          ? PAGE_SIZE + (this.#below(sharedInfo(bits).size) & ~3)
          : where === 1 && guest.domain.nlevel
            ? this.#leafWord(guest.domain)
            : this.#below(HOSTILE_FRAMES * 1024) * 4
      view.setUint32(at, this.#below(3) ? this.#random() : this.#below(2) ? 0 : 0xffff_ffff, true)
    }
  }
  #leafWord({ nlevel }: Domain): number {
    const { pendingGfns, maskGfns } = nlevel!
    const gfns = this.#below(2) ? pendingGfns : maskGfns
    return gfns[this.#below(gfns.length)]! * PAGE_SIZE + this.#below(1024) * 4
  }

  /** Its page tables: mostly identity, and whenever the hypervisor looks something up, RAM may have changed. */
  #translate(gva: number): number {
    const hostile = this.#scribbling
    if (hostile && this.#below(8) === 0) this.#scribble(hostile, 1)
    switch (this.#below(64)) {
      case 0:
        return -1
      case 1:
        return this.#below(HOSTILE_FRAMES * PAGE_SIZE)
      case 2:
        return (HOSTILE_FRAMES - 1 + this.#below(3)) * PAGE_SIZE + this.#below(PAGE_SIZE)
      case 3:
        return this.#random() * 2 ** this.#below(21)
      default:
        return gva
    }
  }

  // --- calls ---------------------------------------------------------------------------------------------------------

  static readonly #NUMBERS = Object.values(HYPERVISOR)
  /** Every operation; resets seldom, or nothing would ever be there to go wrong. */
  static readonly #OPS = (Object.keys(EVTCHNOP) as EvtchnOpName[]).flatMap((name) =>
    Array<EvtchnOpName>(
      name.startsWith('reset') ? 1 : ['send', 'unmask', 'bind_vcpu', 'status'].includes(name) ? 40 : 15,
    ).fill(name),
  )

  /** One random hypercall of a hostile guest. */
  #call(hostile: Hostile): void {
    const { guest, domain } = hostile
    this.#scribbling = hostile
    const vcpu = domain.vcpus[this.#below(domain.vcpus.length)]!
    const gpa = this.#below(8)
      ? (2 + this.#below(4)) * PAGE_SIZE + (this.#below(512) & ~3)
      : this.#below(HOSTILE_FRAMES * PAGE_SIZE)
    this.#scribble(hostile, 1 + this.#below(3))
    const choice = this.#below(16)
    if (choice < 11) {
      const name = Soak.#OPS[this.#below(Soak.#OPS.length)]!
      this.#fillStruct(guest, name, gpa)
      const pointer = this.#below(16) ? gpa : this.#register()
      const known = this.#below(32) > 0
      const rc = this.#hypercall(vcpu, HYPERVISOR.event_channel_op, [
        known ? EVTCHNOP[name] : this.#register(),
        pointer,
      ])
      if (known) this.#count(name, rc >= 0 ? 'ok' : String(rc))
      return
    }
    const at = Math.min(gpa, HOSTILE_FRAMES * PAGE_SIZE - 64)
    const view = guest.view(at, 64)
    for (let i = 0; i < 64; i += 4) view.setUint32(i, this.#value(), true)
    if (choice === 12) {
      // A place for vcpu_info, which a vCPU can choose once.
      view.setUint32(0, this.#frame(), true)
      view.setUint32(4, 0, true)
      view.setUint32(8, this.#offset(), true)
      this.#hypercall(vcpu, HYPERVISOR.vcpu_op, [VCPUOP.register_vcpu_info, this.#below(domain.vcpus.length), at])
      return
    }
    if (choice === 11) {
      // Small batches of calls that mean something, and now and then a count and a place that mean nothing.
      const wide = hostile.bits === 64
      view.setUint32(0, Soak.#NUMBERS[this.#below(Soak.#NUMBERS.length)]!, true)
      if (wide) {
        view.setUint32(4, 0, true)
        view.setUint32(20, 0, true)
        view.setUint32(16, this.#below(15), true)
        view.setUint32(24, at, true)
        view.setUint32(28, 0, true)
      } else {
        view.setUint32(8, this.#below(15), true)
        view.setUint32(12, at, true)
      }
      const wild = this.#below(100) === 0
      this.#hypercall(vcpu, HYPERVISOR.multicall, [
        wild ? this.#register() : at,
        wild ? this.#register() : this.#below(4),
      ])
      return
    }
    const nr = this.#below(8) ? Soak.#NUMBERS[this.#below(Soak.#NUMBERS.length)]! : this.#register()
    // A multicall of any length costs as many calls as its RAM has entries.
    if (nr === HYPERVISOR.multicall) return
    const registers: Register[] = []
    for (let i = this.#below(7); i > 0; i--)
      registers.push(this.#below(3) ? [at, this.#below(32), at + 16][this.#below(3)]! : this.#register())
    if (registers.length && this.#below(4)) registers[0] = this.#below(30)
    if (nr === HYPERVISOR.event_channel_op_compat && this.#below(4)) registers[0] = at
    this.#hypercall(vcpu, nr, registers)
  }

  #count(name: string, answer: string): void {
    const { answers } = this.report
    answers[name] ??= {}
    answers[name][answer] = (answers[name][answer] ?? 0) + 1
  }

  /** Random members, with arrays and frames that often are there. */
  #fillStruct(guest: RawGuest, name: EvtchnOpName, gpa: number): void {
    const { size, fields } = EVTCHN_STRUCTS[name]
    if (gpa + size > HOSTILE_FRAMES * PAGE_SIZE) return
    const view = guest.view(gpa, size)
    for (let i = 0; i + 4 <= size; i += 4) view.setUint32(i, this.#value(), true)
    const dom = fields.dom ?? fields.remote_dom
    if (dom && this.#below(2)) view.setUint16(dom.offset, this.#below(2) ? DOMID_SELF : 3 + this.#below(5), true)
    if (fields.vcpu && this.#below(2)) view.setUint32(fields.vcpu.offset, this.#below(3), true)
    if (fields.pad && this.#below(8)) view.setUint32(fields.pad.offset, 0, true)
    for (const field of Object.values(fields)) {
      if (field.size !== 8 || this.#below(8) === 0) continue
      const array = 40 * PAGE_SIZE + this.#below(256) * 8
      view.setUint32(field.offset, array, true)
      view.setUint32(field.offset + 4, 0, true)
      // What it points to: areas or frame numbers, small.
      const to = guest.view(array, 64)
      for (let i = 0; i < 64; i += 8) {
        to.setUint32(i, this.#frame(), true)
        to.setUint32(i + 4, 0, true)
      }
      if (name === 'set_nlevel_selectors')
        for (let i = 0; i < 48; i += 16) {
          to.setUint32(i, array + 48, true)
          to.setUint32(i + 8, this.#below(4) ? 1 : this.#value(), true)
          to.setUint32(i + 12, this.#offset(), true)
        }
    }
    if (name === 'set_nlevel_selectors' || name === 'register_nlevel') {
      const at = name === 'register_nlevel' ? 0 : 4
      if (this.#below(4)) view.setUint32(at, 3 + this.#below(3), true)
      if (this.#below(4)) view.setUint32(at + 4, 1 + this.#below(3), true)
    }
  }

  #hypercall(vcpu: Vcpu, nr: Register, registers: readonly Register[]): number {
    this.report.calls++
    const rc = this.#xen.hypercall(vcpu, nr, registers)
    if (!Number.isInteger(rc)) throw new Error(`hypercall ${nr} answered ${rc}`)
    for (const { domain } of this.#hostile)
      if (domain.eventLock.held) throw new Error(`hypercall ${nr} left d${domain.domid}'s lock held`)
    return rc
  }

  /** A hostile guest's upcall handler does as it likes, too. */
  #hostileUpcall(vcpu: Vcpu): void {
    const hostile = this.#hostile.find(({ domain }) => domain.domid === vcpu.domid)
    if (!hostile) return
    this.#scribble(hostile, 1)
    if (this.#nesting > 2 || this.#below(4)) return
    this.#nesting++
    this.report.nested++
    this.#call(hostile)
    this.#nesting--
  }

  /** A hostile guest that behaves for a moment: an N-level tree registered by the book, a reset, or a soft reset. */
  #behave({ guest, bits, domain }: Hostile): void {
    const what = this.#below(4)
    // It has shut itself down, as some random call will: it runs again.
    if (domain.shutdownCode >= 0) this.#xen.resumeDomain(domain.domid)
    if (what === 0) {
      domain.shutdownCode = SHUTDOWN.soft_reset
      this.#xen.softReset(domain.domid)
      return
    }
    if (what === 1) {
      guest.op('reset', { dom: DOMID_SELF })
      return
    }
    const levels = 3 + this.#below(bits === 64 ? 2 : 3)
    const pages = levels === 3 && bits === 32 ? 1 : 1 + this.#below(3)
    const tree = plan(bits, levels, pages, Math.min(3, domain.vcpus.length), FIRST_FREE + 4)
    for (const v of tree.selectors.keys()) guest.setSelectors(tree, v)
    if (guest.commit(tree) === 0) this.report.registrations++
  }

  /** While the hostile run the honest are paused: but for permissions, others could reset them (EC-reset-4). */
  #pauseHonest(pause: boolean): void {
    for (const domid of [1, 2, 3]) {
      if (pause) this.#xen.pauseDomain(domid)
      else this.#xen.unpauseDomain(domid)
    }
  }

  // --- what must hold ------------------------------------------------------------------------------------------------

  /** Some events between the honest two, each counted at the other end; what they change in their RAM is theirs. */
  #exchange(): void {
    const { a, b, ports, sent, got } = this.#honest
    for (let i = this.#below(4); i >= 0; i--) {
      const channel = this.#below(CHANNELS)
      const toB = this.#below(2)
      const [from, port] = toB ? ([a, ports[channel]![0]] as const) : ([b, ports[channel]![1]] as const)
      const to = toB ? b : a
      const heldBack = this.#below(8) === 0
      if (heldBack) to.mask(ports[channel]![toB]!)
      from.send(port)
      sent[2 * channel + toB]!++
      this.report.events++
      if (heldBack) to.unmask(ports[channel]![toB]!)
    }
    for (let i = 0; i < got.length; i++)
      if (got[i] !== sent[i])
        throw new Error(`channel ${i >> 1} to ${i & 1 ? 'B' : 'A'}: ${sent[i]} events were sent, ${got[i]} came`)
    for (const { name, bytes, image } of this.#regions) if (name === 'A' || name === 'B') image.set(bytes)
  }

  /** No byte of others has changed. Of C the bits of the offered channels may: ports 1 to 12, their selector, the flag. */
  #check(): void {
    for (const { name, bytes, image } of this.#regions) {
      if (name === 'C') {
        const { pending, sel } = sharedInfo(64)
        for (const [at, mask] of [
          [PAGE_SIZE, 1],
          [PAGE_SIZE + sel, 1],
          [PAGE_SIZE + pending, 0xfe],
          [PAGE_SIZE + pending + 1, 0x1f],
        ] as const)
          image[at] = (image[at]! & ~mask) | (bytes[at]! & mask)
      }
      if (Buffer.compare(bytes, image) === 0) continue
      const at = bytes.findIndex((byte, i) => byte !== image[i])
      throw new Error(`${name}: byte ${at} changed from ${image[at]} to ${bytes[at]}`)
    }
  }

  /** Makes `calls` hypercalls. @throws Error that says what did not hold, and after how many calls. */
  run(calls: number): SoakReport {
    try {
      while (this.report.calls < calls) {
        const round = this.report.calls + 32
        while (this.report.calls < round) this.#call(this.#hostile[this.#below(4)]!)
        this.#check()
        this.#pauseHonest(false)
        this.#exchange()
        this.#pauseHonest(true)
        if (this.#below(32) === 0) this.#behave(this.#hostile[this.#below(4)]!)
        if (this.#below(64) === 0 && this.#dump() !== this.#dumps)
          throw new Error('what the hypervisor has noted of A and B changed')
      }
    } catch (cause) {
      throw new Error(`after ${this.report.calls} calls: ${cause}`, { cause })
    }
    return this.report
  }
}
