/** A domain goes to N levels: the switch, and selectors that become active (nlevel.md section 2, NL-reg-4, NL-sel-3). */

import { levelBits, maxEvtchns } from '../abi/nlevel.js'
import { PAGE_BITS } from '../abi/numbers.js'
import { type Bits, sharedInfo } from '../abi/shared_info.js'
import { frameRefs } from '../machine/memory.js'
import type { Domain } from './domain.js'
import { type LevelPortOps, sharedInfoLeaf } from './levels.js'
import type { Selectors, Vcpu } from './vcpu.js'

/** Of exactly this size: an area that was measured at the other width is too small or too large (NL-tree-3). */
export const matches = (selectors: Selectors | null, levels: number, nrPages: number, bits: Bits) =>
  selectors?.levels === levels && selectors.nrPages === nrPages && selectors.bits === bits

/**
 * The switch (NL-reg-4). Senders are outside, shut out by the delivery lock where they have threads of their own, so each
 * send is wholly before or wholly after it (NL-set-3). Bits first, then level 1 to 0, then depth, frames and operations together.
 */
export function switchTo(
  domain: Domain,
  registration: NonNullable<Domain['nlevel']>,
  leaf: { pending: number[]; mask: number[] },
  ops: LevelPortOps,
): void {
  const { bits, levels } = registration
  const old = sharedInfoLeaf(domain.sharedInfoAt, bits)
  const { words, sel } = sharedInfo(bits)
  const words32 = (words * bits) / 32
  for (const gfn of registration.pendingGfns) frameRefs(domain.memory).hold(gfn)
  for (const gfn of registration.maskGfns) frameRefs(domain.memory).hold(gfn)
  const { lock } = domain.hostCore
  lock.exclude()
  domain.core.moveLeaf(old.pending[0]!, old.mask[0]!, leaf.pending[0]!, leaf.mask[0]!, words32)
  for (const vcpu of domain.vcpus) {
    // Selectors recorded for another size than the committed one can never become active.
    if (!matches(vcpu.recorded, levels, registration.nrPages, bits)) vcpu.record(null)
    vcpu.activeDepth = 0
    if (!vcpu.onDummy) domain.core.zeroWords(vcpu.info + sel, bits / 32)
  }
  domain.nlevel = registration
  domain.useOps(ops)
  lock.admit()
}

/**
 * A vCPU's selectors become active (NL-sel-3): publish, then set every selector bit that has channels behind it, level
 * n-1 first and level 1 last, then mark events pending. Nothing that latched before is lost: the guest scans in full.
 */
export function activate(domain: Domain, vcpu: Vcpu): void {
  const { levels, bits, nrPages } = domain.nlevel!
  const { core } = domain
  domain.hostCore.lock.write(() => vcpu.publishSelectors())
  const channels = maxEvtchns(bits, levels, nrPages)
  for (let k = levels - 1; k > 1; k--) {
    const { pages } = vcpu.recorded!.areas[k - 2]!
    const total = levelBits(bits, levels, k, channels)
    pages.forEach((page, i) => {
      core.fillBits(page, Math.min(PAGE_BITS, total - i * PAGE_BITS))
    })
  }
  core.fillBits(vcpu.info + sharedInfo(bits).sel, levelBits(bits, levels, 1, channels))
  core.markPending(vcpu.info)
  // Even if the flag was 1 before: the guest may have read it already.
  domain.kick(vcpu)
}
