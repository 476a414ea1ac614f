/**
 * Bitmap ABIs of any depth as port operations: two levels are depth two, with the words in shared_info instead of frames
 * that the guest registered.
 *
 * Base addresses are resolved once, here: per leaf page one absolute address for the pending and one for the mask word.
 */

import { maxEvtchns } from '../abi/nlevel.js'
import { type Bits, sharedInfo } from '../abi/shared_info.js'
import { DOMAIN, SLOTS } from '../machine/host_layout.js'
import { CorePortOps, type Delivery } from './port_ops.js'
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
export class LevelPortOps extends CorePortOps {
  readonly abi: number
  readonly levels: number
  readonly bits: Bits
  readonly maxEvtchns: number
  /** The leaf's pages in the private memory: pairs of addresses. */
  readonly #leaf: { at: number; bytes: number }
  /** Bits below level n-1, and the offset of evtchn_pending_sel in vcpu_info. */
  readonly #b: number
  readonly #sel: number

  /** In force from `Domain.useOps` on; until then `leave` undoes it. @throws RangeError if the engine has no memory. */
  constructor(to: Delivery, levels: number, bits: Bits, leaf: Leaf) {
    super(to)
    this.abi = levels
    this.levels = levels
    this.bits = bits
    this.maxEvtchns = maxEvtchns(bits, levels, leaf.pending.length)
    this.#b = bits === 64 ? 6 : 5
    this.#sel = sharedInfo(bits).sel
    const bytes = leaf.pending.length * 8
    const { memory } = to.hostCore
    const at = memory.take(bytes)
    this.#leaf = { at, bytes }
    for (const [i, pending] of leaf.pending.entries()) memory.words.set([pending, leaf.mask[i]!], (at >>> 2) + 2 * i)
  }

  enter(): void {
    this.publish(DOMAIN.LEAF, this.#leaf.at)
    this.publish(DOMAIN.MAX_EVTCHNS, this.maxEvtchns)
    this.publish(DOMAIN.WORD_SHIFT, this.#b)
    this.publish(DOMAIN.SEL, this.#sel)
    this.publish(DOMAIN.CLIMB, this.to.coreSlots + SLOTS.indexOf(`climb${this.levels}x${this.bits}` as 'climb2x64'))
    this.publish(DOMAIN.ABI, this.levels)
  }

  leave(): void {
    this.to.hostCore.memory.give(this.#leaf.at, this.#leaf.bytes)
  }

  /** A pending, unmasked event climbs on its new vCPU (NL-vcpu-1); at two levels Xen moves nothing (EC-vcpu-6). */
  moved(port: number): void {
    if (this.levels > 2) this.to.finish(this.to.hostCore.calls.climbAgain(this.to.record, port), port)
  }

  selectorDigits(port: number): string {
    const n = this.levels
    const vcpu = this.to.vcpus[this.to.ports.notifyVcpu(port)]!
    if (vcpu.activeDepth !== n || port >= this.maxEvtchns) return UNKNOWN[n]!
    let bits = 0
    for (let k = n - 1; k > 0; k--) {
      const bit = port >>> (this.#b * (n - k))
      bits = (bits << 1) | this.to.core.bitTest(this.#selectorPage(vcpu, k, bit), bit)
    }
    return DIGITS[n]![bits]!
  }

  /** Page of bit `bit` in selector level k. */
  #selectorPage(vcpu: Vcpu, k: number, bit: number): number {
    if (k === 1) return vcpu.info + this.#sel
    return k === this.levels - 1 ? vcpu.lastPage(bit >> 15) : vcpu.levelBase(k)
  }
}

/** The texts that `selectorDigits` returns, by levels and bits: a dump of many channels makes none anew. */
const DIGITS = [2, 3, 4, 5].reduce<string[][]>((all, n) => {
  all[n] = Array.from({ length: 1 << (n - 1) }, (_, bits) => bits.toString(2).padStart(n - 1, '0'))
  return all
}, [])
const UNKNOWN = [0, 1, 2, 3, 4, 5].map((n) => '?'.repeat(Math.max(0, n - 1)))
