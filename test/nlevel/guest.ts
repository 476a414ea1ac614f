/**
 * A guest without a driver: raw hypercalls with structs in guest memory, and its words as bits. What the library's own
 * driver does for itself is done here by hand, so that every step can be done wrongly on purpose.
 *
 *     gfn 1 shared_info · 2 arguments · 3, 4 pending_gfns[] · 5, 6 mask_gfns[] · 7 areas and their gfns[] · 8 … free
 */

import { type Args, type EvtchnOpName, sharedInfo } from '../../src/abi/index.js'
import { inside } from '../../src/domain/handles.js'
import { type DomainOptions, Hypervisor, type HypervisorOptions } from '../../src/index.js'
import { frameRefs } from '../../src/machine/memory.js'
import { RawGuest, SHARED_INFO } from '../raw_guest.js'
import { type Area, bitAt, PAGE, type Plan } from './geometry.js'

export const ARGUMENT = 2 * PAGE
export const PENDING_GFNS = 3 * PAGE
export const MASK_GFNS = 5 * PAGE
export const AREAS = 7 * PAGE
export const FIRST_FREE = 8

/** A domain and the raw view of it that its guest has. */
export class TreeGuest extends RawGuest {
  /** The registered tree; null = two levels, in shared_info. */
  tree: Plan | null = null
  static on(host: HypervisorOptions, options: Partial<DomainOptions> = {}): TreeGuest {
    return new TreeGuest(Hypervisor.create(host), { domid: 1, frames: 128, maxEvtchnPort: Infinity, ...options })
  }

  viewAt(gpa = 0, length = this.domain.memory.bytes - gpa): DataView {
    return new DataView(this.domain.memory.memory.buffer, this.domain.memory.base + gpa, length)
  }

  /** An event channel operation: its struct is encoded at `gpa`, returns -errno or what the hypercall returns. */
  op(name: EvtchnOpName, args: Readonly<Args>, vcpu = 0, gpa = ARGUMENT): number {
    return this.issue(name, args, vcpu, gpa)
  }

  // --- registration --------------------------------------------------------------------------------------------------

  /** Writes an array of u64 frame numbers. */
  writeGfns(gpa: number, gfns: readonly (number | bigint)[]): void {
    const view = this.viewAt(gpa)
    for (const [i, gfn] of gfns.entries()) view.setBigUint64(i * 8, BigInt(gfn), true)
  }

  /** Writes selector_area[] at AREAS, its arrays behind it. */
  writeAreas(areas: readonly Area[]): void {
    let at = AREAS + areas.length * 16
    const view = this.viewAt()
    for (const [i, { gfns, offset }] of areas.entries()) {
      view.setBigUint64(AREAS + i * 16, BigInt(at), true)
      view.setUint32(AREAS + i * 16 + 8, gfns.length, true)
      view.setUint32(AREAS + i * 16 + 12, offset, true)
      this.writeGfns(at, gfns)
      at += gfns.length * 8
    }
  }

  /** Zeroes pending frames and selectors and masks all (NL-reg-3). */
  clean(tree: Plan): void {
    const fill = (gfn: number, byte: number) => this.bytes.fill(byte, gfn * PAGE, (gfn + 1) * PAGE)
    for (const gfn of tree.pending) fill(gfn, 0)
    for (const gfn of tree.mask) fill(gfn, 0xff)
    for (const area of tree.selectors.flat()) for (const gfn of area.gfns) fill(gfn, 0)
  }

  setSelectors(tree: Plan, vcpu: number, over: Args = {}): number {
    this.writeAreas(tree.selectors[vcpu] ?? tree.selectors[0]!)
    return this.op('set_nlevel_selectors', {
      vcpu,
      levels: tree.levels,
      nr_pages: tree.nrPages,
      pad: 0,
      areas: AREAS,
      ...over,
    })
  }

  /** The commit alone. */
  commit(tree: Plan, over: Args = {}, vcpu = 0): number {
    this.writeGfns(PENDING_GFNS, tree.pending)
    this.writeGfns(MASK_GFNS, tree.mask)
    const args = {
      levels: tree.levels,
      nr_pages: tree.nrPages,
      pending_gfns: PENDING_GFNS,
      mask_gfns: MASK_GFNS,
      pad: 0,
    }
    const rc = this.op('register_nlevel', { ...args, ...over }, vcpu)
    if (rc === 0) this.tree = tree
    return rc
  }

  /** Selectors of these vCPUs, then the commit. Throws if anything is refused. */
  register(tree: Plan, vcpus: readonly number[] = tree.selectors.map((_, v) => v)): void {
    this.clean(tree)
    for (const vcpu of vcpus) this.must(this.setSelectors(tree, vcpu))
    this.must(this.commit(tree))
  }

  must(rc: number): void {
    if (rc < 0) throw new Error(`refused with ${rc}`)
  }

  // --- words ---------------------------------------------------------------------------------------------------------

  /** Guest-physical address of bit 0 of the page of a bitmap that holds `port`, and the bit within. */
  leaf(which: 'pending' | 'mask', port: number): [gpa: number, bit: number] {
    if (this.tree) return [this.tree[which][port >> 15]! * PAGE, port & 32767]
    return [SHARED_INFO + sharedInfo(this.domain.bits)[which], port]
  }
  pending(port: number): number {
    return this.bitAt(this.leaf('pending', port))
  }
  masked(port: number): number {
    return this.bitAt(this.leaf('mask', port))
  }
  /** Guest-physical address of evtchn_pending_sel. */
  level1(vcpu: number): number {
    return this.infoGpa[vcpu]! + ((this.tree?.bits ?? this.domain.bits) === 64 ? 8 : 4)
  }
  /** Where the bit of a port in selector level k of a vCPU is. */
  selector(vcpu: number, k: number, port: number): [gpa: number, bit: number] {
    const { bits, levels, selectors } = this.tree ?? { bits: this.domain.bits, levels: 2, selectors: [] as Area[][] }
    const bit = bitAt(bits, levels, k, port)
    if (k === 1) return [this.level1(vcpu), bit]
    const { gfns, offset } = selectors[vcpu]![k - 2]!
    return [gfns[bit >> 15]! * PAGE + offset, bit & 32767]
  }
  /** Selector bits of a port on a vCPU, level n-1 first: what the dump's column S shows. */
  path(vcpu: number, port: number): number[] {
    const levels = this.tree?.levels ?? 2
    return Array.from({ length: levels - 1 }, (_, i) => this.bitAt(this.selector(vcpu, levels - 1 - i, port)))
  }
  /** All selector words and the upcall flag of a vCPU become 0, as after a scan that found nothing to serve. */
  quiet(vcpu: number): void {
    const bits = this.tree?.bits ?? this.domain.bits
    this.bytes.fill(0, this.level1(vcpu), this.level1(vcpu) + bits / 8)
    this.setFlag(0, vcpu)
    for (const { gfns } of this.tree?.selectors[vcpu] ?? [])
      for (const gfn of gfns) this.bytes.fill(0, gfn * PAGE, (gfn + 1) * PAGE)
  }

  /** Opens channels until `port` is open, the last one as an IPI of `vcpu`. */
  openIpi(port: number, vcpu = 0): void {
    for (;;) {
      this.must(this.op('bind_ipi', { vcpu }))
      if (this.out.port === port) return
      if (this.out.port! > port) throw new Error(`port ${port} was open`)
    }
  }
}

/** Everything that a refused operation must leave alone: RAM, references, and what the hypervisor has noted. */
export function stateOf(guest: TreeGuest): unknown {
  const { domain } = guest
  return {
    levels: inside(domain).levels,
    nlevel: inside(domain).nlevel,
    maxEvtchns: inside(domain).maxEvtchns,
    held: Array.from({ length: domain.memory.frames }, (_, gfn) => frameRefs(domain.memory).references(gfn)),
    vcpus: domain.vcpus.map((vcpu) => [
      inside(vcpu).activeDepth,
      inside(vcpu).recorded,
      inside(vcpu).info,
      vcpu.blocked,
      vcpu.polling,
    ]),
    ports: [
      inside(domain).ports.activeEvtchns,
      inside(domain).ports.validEvtchns,
      inside(domain).ports.xenEvtchns,
      inside(domain).nextEvtchn,
    ],
    dump: [...guest.xen.dump()],
  }
}
