/**
 * Bitmap ABIs of any depth as port operations: two levels are depth two, with the words in shared_info instead of frames
 * that the guest registered.
 *
 * Base addresses are resolved once, here: per leaf page one absolute address for the pending and one for the mask word.
 */

import { maxEvtchns } from '../abi/nlevel.js'
import { type Bits, sharedInfo } from '../abi/shared_info.js'
import { sharedInts } from '../machine/buffers.js'
import { type Climb, type Core, climbOf } from '../machine/core.js'
import type { Delivery, PortOps } from './port_ops.js'
import type { Vcpu } from './vcpu.js'

/** Where the leaf's bitmaps are. */
export interface Leaf {
  /** Absolute address of each page's words. */
  readonly pending: readonly number[]
  readonly mask: readonly number[]
}

/** The leaf of plain two-level delivery: in shared_info (spec 1.4). */
export function sharedInfoLeaf(sharedInfoAt: number, bits: Bits): Leaf {
  const layout = sharedInfo(bits)
  return { pending: [sharedInfoAt + layout.pending], mask: [sharedInfoAt + layout.mask] }
}

/** Bitmap ABI of any depth. */
export class LevelPortOps implements PortOps {
  readonly abi: number
  readonly levels: number
  readonly bits: Bits
  readonly maxEvtchns: number
  readonly #to: Delivery
  readonly #core: Core
  readonly #climb: Climb
  readonly #pending: Int32Array
  readonly #mask: Int32Array
  /** Bits below level n-1, and the offset of evtchn_pending_sel in vcpu_info. */
  readonly #b: number
  readonly #sel: number

  constructor(to: Delivery, levels: number, bits: Bits, leaf: Leaf) {
    this.#to = to
    this.#core = to.core
    this.abi = levels
    this.levels = levels
    this.bits = bits
    this.maxEvtchns = maxEvtchns(bits, levels, leaf.pending.length)
    this.#climb = climbOf(to.core, levels, bits)
    this.#pending = sharedInts(leaf.pending.length)
    this.#pending.set(leaf.pending)
    this.#mask = sharedInts(leaf.mask.length)
    this.#mask.set(leaf.mask)
    this.#b = bits === 64 ? 6 : 5
    this.#sel = sharedInfo(bits).sel
  }

  /** Raises an event: Xen's evtchn_2l_set_pending, for any number of levels (NL-set-1). */
  setPending(port: number): void {
    if (port >= this.maxEvtchns) return
    const page = port >> 15
    const found = this.#core.leafSet(this.#pending[page]!, this.#mask[page]!, port)
    if (found === 0) return
    if (found === 2) this.#raise(port)
    this.#to.checkPollers(port)
  }

  /** Clears the bit in the leaf only (NL-clear-1). */
  clearPending(port: number): void {
    if (port < this.maxEvtchns) this.#core.bitClear(this.#pending[port >> 15]!, port)
  }

  /** Unmasks (NL-unmask-1). Pollers are not woken (EC-2l-8). */
  unmask(port: number): void {
    if (port >= this.maxEvtchns) return
    const page = port >> 15
    if (this.#core.leafUnmask(this.#pending[page]!, this.#mask[page]!, port)) this.#raise(port)
  }

  isPending(port: number): boolean {
    return port < this.maxEvtchns && this.#core.bitTest(this.#pending[port >> 15]!, port) === 1
  }

  isMasked(port: number): boolean {
    return port >= this.maxEvtchns || this.#core.bitTest(this.#mask[port >> 15]!, port) === 1
  }

  moved(port: number): void {
    if (this.levels > 2 && this.isPending(port) && !this.isMasked(port)) this.#raise(port)
  }

  /** Climbs on the notify vCPU, which is read here: after the leaf's test-and-set, as is "active?" (NL-set-1, NL-sel-4). */
  #raise(port: number): void {
    const vcpu = this.#to.vcpus[this.#to.ports.notifyVcpu(port)]!
    if (vcpu.activeDepth !== this.levels) return
    const info = vcpu.info
    const n = this.levels
    let l2 = 0
    let l3 = 0
    let l4 = 0
    if (n > 2) {
      const last = vcpu.lastPage(port >> (this.#b + 15))
      if (n === 3) l2 = last
      else {
        l2 = vcpu.levelBase(2)
        if (n === 4) l3 = last
        else {
          l3 = vcpu.levelBase(3)
          l4 = last
        }
      }
    }
    if (this.#climb(port, info, info + this.#sel, l2, l3, l4)) this.#to.kick(vcpu)
  }

  selectorDigits(port: number): string {
    const vcpu = this.#to.vcpus[this.#to.ports.notifyVcpu(port)]!
    if (vcpu.activeDepth !== this.levels || port >= this.maxEvtchns) return '?'.repeat(this.levels - 1)
    let digits = ''
    for (let k = this.levels - 1; k > 0; k--) digits += this.#core.bitTest(...this.#selector(vcpu, k, port))
    return digits
  }

  /** Page and bit number of a port in selector level k. */
  #selector(vcpu: Vcpu, k: number, port: number): [page: number, bit: number] {
    const bit = port >>> (this.#b * (this.levels - k))
    if (k === 1) return [vcpu.info + this.#sel, bit]
    return [k === this.levels - 1 ? vcpu.lastPage(bit >> 15) : vcpu.levelBase(k), bit]
  }
}
