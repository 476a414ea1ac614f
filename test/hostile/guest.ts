/**
 * One hostile guest: rewrites all of its RAM, has page tables that lie and change, and makes random hypercalls. Structs
 * are filled so that many calls get past their first checks; now and then it behaves, to have something to break.
 */

import {
  type Bits,
  CONTROL_BLOCK,
  DOMID_SELF,
  EVTCHN_STRUCTS,
  EVTCHNOP,
  type EvtchnOpName,
  HYPERVISOR,
  PAGE_SIZE,
  SHUTDOWN,
  sharedInfo,
  VCPUOP,
} from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import type { Domain, DomainOptions, Hypervisor, Register, Vcpu } from '../../src/index.js'
import { plan } from '../nlevel/geometry.js'
import { FIRST_FREE, TreeGuest } from '../nlevel/guest.js'
import type { Random } from './random.js'

export const HOSTILE_FRAMES = 64
const ARRAYS = 40 * PAGE_SIZE

const NUMBERS = Object.values(HYPERVISOR)
const OFTEN: readonly EvtchnOpName[] = ['send', 'unmask', 'bind_vcpu', 'status']
/** Every operation; resets and the switch to FIFO seldom, or nothing would ever be there to go wrong. */
const OPS = (Object.keys(EVTCHNOP) as EvtchnOpName[]).flatMap((name) =>
  Array<EvtchnOpName>(name.startsWith('reset') || name === 'init_control' ? 1 : OFTEN.includes(name) ? 40 : 15).fill(
    name,
  ),
)

/** Makes a hypercall and looks at what it did. */
export type Hypercall = (vcpu: Vcpu, nr: Register, registers: readonly Register[]) => number

export class HostileGuest {
  readonly domain: Domain
  /** Trees that it registered by the book. */
  registrations = 0
  /** Answers of event channel operations by name: `ok` or -errno. */
  readonly answers: Record<string, Record<string, number>>
  readonly #guest: TreeGuest
  readonly #bits: Bits
  readonly #random: Random
  readonly #hypercall: Hypercall

  constructor(
    xen: Hypervisor,
    options: DomainOptions & { bits: Bits },
    by: { random: Random; hypercall: Hypercall; answers: HostileGuest['answers'] },
  ) {
    this.#random = by.random
    this.#hypercall = by.hypercall
    this.answers = by.answers
    this.#bits = options.bits
    const translate = (_vcpu: unknown, gva: number) => this.#translate(gva)
    this.#guest = new TreeGuest(xen, { ...options, frames: HOSTILE_FRAMES, translate })
    this.domain = this.#guest.domain
  }

  /** What its other vCPUs do: a few words anywhere in its RAM, often where it hurts. */
  scribble(words: number): void {
    const random = this.#random
    const view = this.#guest.viewAt()
    for (let i = 0; i < words; i++)
      view.setUint32(this.#somewhere(), random.below(3) ? random.word() : random.below(2) ? 0 : 0xffff_ffff, true)
  }
  #somewhere(): number {
    const random = this.#random
    const { nlevel, fifo } = inside(this.domain)
    const where = random.below(4)
    if (where === 0) return PAGE_SIZE + (random.below(sharedInfo(this.#bits).size) & ~3)
    if (where === 1 && fifo) return this.#fifoWord()
    if (where > 1 || !nlevel) return random.below(HOSTILE_FRAMES * 1024) * 4
    return random.pick(random.below(2) ? nlevel.pendingGfns : nlevel.maskGfns) * PAGE_SIZE + random.below(1024) * 4
  }

  /** An event word, or a word of a control block. */
  #fifoWord(): number {
    const random = this.#random
    const { pageGfns } = inside(this.domain).fifo!
    const block = inside(this.domain).fifo!.controlBlock(random.below(this.domain.vcpus.length))
    if (block && (random.below(2) || !pageGfns.length))
      return block.gfn * PAGE_SIZE + block.offset + 4 * random.below(CONTROL_BLOCK.size / 4)
    return pageGfns.length ? random.pick(pageGfns) * PAGE_SIZE + 4 * random.below(128) : PAGE_SIZE
  }

  /** Its page tables: mostly identity, and whenever the hypervisor looks something up, RAM may have changed. */
  #translate(gva: number): number {
    const random = this.#random
    if (this.domain && random.below(8) === 0) this.scribble(1)
    switch (random.below(64)) {
      case 0:
        return -1
      case 1:
        return random.below(HOSTILE_FRAMES * PAGE_SIZE)
      case 2:
        return (HOSTILE_FRAMES - 1 + random.below(3)) * PAGE_SIZE + random.below(PAGE_SIZE)
      case 3:
        return random.word() * 2 ** random.below(21)
      default:
        return gva
    }
  }

  /** One random hypercall. */
  call(): void {
    const random = this.#random
    const vcpu = random.pick(this.domain.vcpus)
    const gpa = random.below(8)
      ? (2 + random.below(4)) * PAGE_SIZE + (random.below(512) & ~3)
      : random.below(HOSTILE_FRAMES * PAGE_SIZE)
    this.scribble(1 + random.below(3))
    const choice = random.below(16)
    if (choice < 11) this.#eventChannelOp(vcpu, gpa)
    else {
      const at = Math.min(gpa, HOSTILE_FRAMES * PAGE_SIZE - 64)
      const view = this.#guest.viewAt(at, 64)
      for (let i = 0; i < 64; i += 4) view.setUint32(i, random.value(), true)
      if (choice === 11) this.#multicall(vcpu, at)
      else if (choice === 12) this.#moveVcpuInfo(vcpu, at)
      else this.#anything(vcpu, at)
    }
  }

  #eventChannelOp(vcpu: Vcpu, gpa: number): void {
    const random = this.#random
    const name = random.pick(OPS)
    this.#fillStruct(name, gpa)
    const known = random.below(32) > 0
    const cmd = known ? EVTCHNOP[name] : random.register()
    const rc = this.#hypercall(vcpu, HYPERVISOR.event_channel_op, [cmd, random.below(16) ? gpa : random.register()])
    if (!known) return
    const answer = rc >= 0 ? 'ok' : String(rc)
    this.answers[name] ??= {}
    this.answers[name][answer] = (this.answers[name][answer] ?? 0) + 1
  }

  /** Small batches of calls that mean something, and now and then a count and a place that mean nothing. */
  #multicall(vcpu: Vcpu, at: number): void {
    const random = this.#random
    const view = this.#guest.viewAt(at, 64)
    view.setUint32(0, random.pick(NUMBERS), true)
    if (this.#bits === 64) {
      for (const high of [4, 20, 28]) view.setUint32(high, 0, true)
      view.setUint32(16, random.below(15), true)
      view.setUint32(24, at, true)
    } else {
      view.setUint32(8, random.below(15), true)
      view.setUint32(12, at, true)
    }
    const wild = random.below(100) === 0
    const registers = wild ? [random.register(), random.register()] : [at, random.below(4)]
    this.#hypercall(vcpu, HYPERVISOR.multicall, registers)
  }

  /** A place for vcpu_info, which a vCPU can choose once. */
  #moveVcpuInfo(vcpu: Vcpu, at: number): void {
    const random = this.#random
    const view = this.#guest.viewAt(at, 16)
    view.setUint32(0, random.frame(HOSTILE_FRAMES), true)
    view.setUint32(4, 0, true)
    view.setUint32(8, random.offset(), true)
    const which = random.below(this.domain.vcpus.length)
    this.#hypercall(vcpu, HYPERVISOR.vcpu_op, [VCPUOP.register_vcpu_info, which, at])
  }

  /** Any number, known or not, with any registers, or none. */
  #anything(vcpu: Vcpu, at: number): void {
    const random = this.#random
    const nr = random.below(8) ? random.pick(NUMBERS) : random.register()
    // A multicall of any length costs as many calls as its RAM has entries: see #multicall.
    if (nr === HYPERVISOR.multicall) return
    const registers: Register[] = []
    for (let i = random.below(7); i > 0; i--)
      registers.push(random.below(3) ? random.pick([at, random.below(32), at + 16]) : random.register())
    if (registers.length && random.below(4)) registers[0] = random.below(30)
    if (nr === HYPERVISOR.event_channel_op_compat && random.below(4)) registers[0] = at
    this.#hypercall(vcpu, nr, registers)
  }

  /** Random members, with arrays and frames that often are there. */
  #fillStruct(name: EvtchnOpName, gpa: number): void {
    const random = this.#random
    const { size, fields } = EVTCHN_STRUCTS[name] as (typeof EVTCHN_STRUCTS)['status'] & {
      fields: Record<string, { offset: number; size: number }>
    }
    if (gpa + size > HOSTILE_FRAMES * PAGE_SIZE) return
    const view = this.#guest.viewAt(gpa, size)
    for (let i = 0; i + 4 <= size; i += 4) view.setUint32(i, random.value(), true)
    if (size < 4) view.setUint16(0, random.below(3) ? DOMID_SELF : random.value(), true)
    const dom = fields.dom ?? fields.remote_dom
    if (dom && random.below(2)) view.setUint16(dom.offset, random.below(2) ? DOMID_SELF : 3 + random.below(5), true)
    if (fields.vcpu && random.below(2)) view.setUint32(fields.vcpu.offset, random.below(3), true)
    if (fields.pad && random.below(8)) view.setUint32(fields.pad.offset, 0, true)
    if (fields.levels && random.below(4)) view.setUint32(fields.levels.offset, 3 + random.below(3), true)
    if (fields.nr_pages && random.below(4)) view.setUint32(fields.nr_pages.offset, 1 + random.below(3), true)
    for (const field of Object.values(fields)) {
      if (field.size !== 8 || random.below(8) === 0) continue
      if (name === 'init_control' || name === 'expand_array') {
        view.setUint32(field.offset, random.frame(HOSTILE_FRAMES), true)
        view.setUint32(field.offset + 4, 0, true)
        if (fields.offset && random.below(4)) view.setUint32(fields.offset.offset, random.below(504) * 8, true)
        continue
      }
      const array = ARRAYS + random.below(256) * 8
      view.setUint32(field.offset, array, true)
      view.setUint32(field.offset + 4, 0, true)
      this.#fillArray(array, name === 'set_nlevel_selectors')
    }
  }

  /** Frame numbers, or selector areas with frame numbers behind them. */
  #fillArray(gpa: number, areas: boolean): void {
    const random = this.#random
    const view = this.#guest.viewAt(gpa, 64)
    for (let i = 0; i < 64; i += 8) {
      view.setUint32(i, random.frame(HOSTILE_FRAMES), true)
      view.setUint32(i + 4, 0, true)
    }
    for (let i = 0; areas && i < 48; i += 16) {
      view.setUint32(i, gpa + 48, true)
      view.setUint32(i + 8, random.below(4) ? 1 : random.value(), true)
      view.setUint32(i + 12, random.offset(), true)
    }
  }

  /** For a moment it behaves: an N-level tree registered by the book, a reset, or a soft reset by the toolstack. */
  behave(xen: Hypervisor): void {
    const random = this.#random
    const { domain } = this
    // It has shut itself down, as some random call will: it runs again.
    if (inside(domain).shutdownCode >= 0) xen.resumeDomain(domain)
    switch (random.below(4)) {
      case 0:
        inside(domain).shutdownCode = SHUTDOWN.soft_reset
        xen.softReset(domain)
        break
      case 1:
        this.#guest.op('reset', { dom: DOMID_SELF })
        break
      default:
        this.#register()
    }
  }
  #register(): void {
    const random = this.#random
    const levels = 3 + random.below(this.#bits === 64 ? 2 : 3)
    const pages = levels === 3 && this.#bits === 32 ? 1 : 1 + random.below(3)
    const tree = plan(this.#bits, levels, pages, Math.min(3, this.domain.vcpus.length), FIRST_FREE + 4)
    for (const v of tree.selectors.keys()) this.#guest.setSelectors(tree, v)
    if (this.#guest.commit(tree) === 0) this.registrations++
  }
}
