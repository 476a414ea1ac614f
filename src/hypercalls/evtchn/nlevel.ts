/**
 * The N-level operations (nlevel.md section 2): ask, record the selectors of each vCPU, commit.
 *
 *     set_nlevel_selectors(vcpu 0) … (vcpu v)   only recorded, nothing changes
 *     register_nlevel(pending, mask)            all checks, then the switch: bits move from shared_info to the leaf,
 *                                               depth and frames are published, the recorded selectors activated
 *
 * A failure half way costs nothing. Guest arrays are copied and frames resolved before the event lock is taken; one
 * thread needs no second look at the state under it (NL-reg-7), but takes it as Xen would.
 */

import {
  type Bits,
  DOMID_SELF,
  fullTreePages,
  getField,
  levelBytes,
  maxDepth,
  maxEvtchns,
  type OpArgs,
  PAGE_SIZE,
  SELECTOR_AREA,
} from '../../abi/index.js'
import type { Caller, Domain } from '../../domain/domain.js'
import { LevelPortOps } from '../../domain/levels.js'
import { activate, matches, switchTo } from '../../domain/nlevel.js'
import type { SelectorArea, Vcpu } from '../../domain/vcpu.js'
import { Errno, type Outcome, Refusal, refuse } from '../../errno.js'
import type { OwnTree } from '../../host/own_abi.js'
import type { World } from '../../host/world.js'
import { ifMemory } from '../../machine/buffers.js'
import { domainByAnyId, hasLevels, noDomain, noVcpu, onOwnWords } from '../parts.js'

const { EPERM, ENOMEM, EFAULT, EBUSY, EINVAL, ENOSPC } = Errno

/** Deepest tree that host and domain grant a width; 2 = none beyond Xen's. */
export function grantedLevels(world: World, domain: Domain): number {
  const limits = domain.nlevelLimits
  if (!limits.nlevelAllowed || grantedPages(world, domain) < 1) return 2
  const bits = domain.eventBits
  const levels = Math.min(world.limits.maxLevels[bits], limits.maxLevels, maxDepth(bits))
  return levels < 3 ? 2 : levels
}

export const grantedPages = (world: World, domain: Domain) =>
  Math.min(world.limits.maxLeafPages, domain.nlevelLimits.maxLeafPages)

/** EVTCHNOP_query_nlevel (64): what register_nlevel would accept (NL-query-1). Changes nothing. */
export function queryNlevel(world: World, { domain: caller }: Caller, args: OpArgs<'query_nlevel'>): Outcome {
  const domain = domainByAnyId(world, caller, args.dom)
  if (!domain) return noDomain(args.dom)
  if (args.dom !== DOMID_SELF && domain !== caller && !caller.privileged)
    return refuse(EPERM, () => `d${caller.domid} may not ask about d${domain.domid}`)
  const levels = grantedLevels(world, domain)
  args.max_levels = levels
  args.max_pages = levels === 2 ? 0 : Math.min(grantedPages(world, domain), fullTreePages(domain.eventBits, levels))
  args.abi = domain.portOps.abi
  return 0
}

/** EVTCHNOP_query_nlevel2 (67): the same, and how many channels there would be (NL-query-2). */
export function queryNlevel2(world: World, caller: Caller, args: OpArgs<'query_nlevel2'>): Outcome {
  const refused = queryNlevel(world, caller, args)
  if (refused) return refused
  if (args.pad) return padNotZero(args.pad)
  const domain = domainByAnyId(world, caller.domain, args.dom)!
  const stays = domain.fifo || args.max_levels === 2
  const most = stays ? domain.maxEvtchns : maxEvtchns(domain.eventBits, args.max_levels!, args.max_pages!)
  args.nr_channels = usable(domain, most)
  return 0
}

/** Port numbers below `most` that the domain may open, 0 included (NL-reg-6). */
const usable = (domain: Domain, most: number) => Math.min(most, domain.maxEvtchnPort + 1)

const padNotZero = (pad: number) => refuse(EINVAL, () => `pad is ${pad}, not 0`)

/** The checks that both registering operations share, up to the page count. */
function checkSize(world: World, domain: Domain, levels: number, nrPages: number): Outcome {
  const bits = domain.eventBits
  if (levels < 3 || levels > maxDepth(bits))
    return refuse(EINVAL, () => `a ${bits}-bit guest has 3 to ${maxDepth(bits)} levels to register, not ${levels}`)
  const granted = grantedLevels(world, domain)
  if (levels > granted) return refuse(ENOSPC, () => `${levels} levels are asked for, ${granted} granted`)
  if (nrPages > grantedPages(world, domain))
    return refuse(ENOSPC, () => `${nrPages} leaf pages are asked for, ${grantedPages(world, domain)} granted`)
  const most = fullTreePages(bits, levels)
  if (nrPages === 0 || nrPages > most)
    return refuse(EINVAL, () => `${levels} levels take 1 to ${most} leaf pages, not ${nrPages}`)
  return 0
}

function checkAllowed(domain: Domain): Outcome {
  return domain.nlevelLimits.nlevelAllowed
    ? 0
    : refuse(EPERM, () => `d${domain.domid} may not have more than two levels`)
}

/** Does this host grant a tree of this size? ENOSYS, EPERM, EINVAL or ENOSPC if not. */
export function mayRegister(world: World, domain: Domain, levels: number, nrPages: number): Outcome {
  if (!world.limits.nlevel) return refuse(Errno.ENOSYS, 'this host knows two levels only')
  return checkAllowed(domain) || checkSize(world, domain, levels, nrPages)
}

const fifoActive = (domain: Domain) => refuse(EBUSY, () => `d${domain.domid} is on the FIFO ABI; a reset leads back`)

const resetInProgress = ({ domid, nextEvtchn }: Domain) =>
  refuse(EBUSY, () => `a reset of d${domid} is in progress at port ${nextEvtchn}`)

/** EVTCHNOP_set_nlevel_selectors (65), checks as NL-sel-1. */
export function setNlevelSelectors(world: World, caller: Caller, args: OpArgs<'set_nlevel_selectors'>): Outcome {
  const { domain } = caller
  const vcpu = domain.vcpus[args.vcpu]
  if (!vcpu) return noVcpu(domain, args.vcpu)
  const refused = checkAllowed(domain)
  if (refused) return refused
  if (domain.fifo) return fifoActive(domain)
  const own = onOwnWords(domain)
  if (own) return own
  if (domain.nextEvtchn) return resetInProgress(domain)
  if (args.pad) return padNotZero(args.pad)
  const levels = args.levels
  if (levels === 0 && !domain.nlevel) {
    domain.eventLock.write(() => vcpu.record(null))
    return 0
  }
  const bad = checkSize(world, domain, levels, args.nr_pages) || checkAgainstActive(domain, vcpu, args)
  if (bad) return bad
  const bits = domain.eventBits
  const areas = readAreas(caller, bits, levels, args.nr_pages, args.areas)
  if (areas instanceof Refusal) return areas
  const selectors = { levels, nrPages: args.nr_pages, bits, areas }
  if (!ifMemory(() => domain.eventLock.write(() => vcpu.record(selectors))))
    return refuse(ENOMEM, () => `there is no memory for the selectors of d${domain.domid}v${vcpu.vcpuId}`)
  if (domain.nlevel && !vcpu.onDummy) activate(domain, vcpu)
  return 0
}

/** An N-level domain takes selectors of its own size only, once per vCPU. */
function checkAgainstActive(domain: Domain, vcpu: Vcpu, args: OpArgs<'set_nlevel_selectors'>): Outcome {
  const active = domain.nlevel
  if (!active) return 0
  if (args.levels !== active.levels || args.nr_pages !== active.nrPages)
    return refuse(EINVAL, () => `d${domain.domid} has ${active.levels} levels with ${active.nrPages} leaf pages`)
  return vcpu.recorded ? refuse(EBUSY, () => `d${domain.domid}v${vcpu.vcpuId} has its selectors`) : 0
}

/** Do `nrPages` frames from `offset` hold level k? (NL-sel-2) */
export function areaFits(
  bits: Bits,
  levels: number,
  k: number,
  channels: number,
  nrPages: number,
  offset: number,
): boolean {
  const size = levelBytes(bits, levels, k, channels)
  if (nrPages !== Math.ceil(size / PAGE_SIZE)) return false
  return size <= PAGE_SIZE ? offset % 8 === 0 && offset + size <= PAGE_SIZE : offset === 0
}

/** Copies and checks the areas of levels 2 … n-1: all arrays first (EFAULT), then their fit, then the frames (EINVAL). */
function readAreas(caller: Caller, bits: Bits, levels: number, nrPages: number, gva: number): SelectorArea[] | Refusal {
  const bytes = new Uint8Array((levels - 2) * SELECTOR_AREA.size)
  if (!copyArray(caller, gva, bytes)) return refuse(EFAULT, () => `areas at ${hex(gva)} cannot be read`)
  const view = new DataView(bytes.buffer)
  const { domain } = caller
  const channels = maxEvtchns(bits, levels, nrPages)
  const wanted = []
  for (let k = 2; k < levels; k++) {
    const at = (k - 2) * SELECTOR_AREA.size
    const size = levelBytes(bits, levels, k, channels)
    const need = Math.ceil(size / PAGE_SIZE)
    const given = getField(view, SELECTOR_AREA.fields.nr_pages, at)
    // No more than what is needed is ever copied: the guest's count is not trusted with our memory.
    const gfns = readGfns(caller, getField(view, SELECTOR_AREA.fields.gfns, at), Math.min(given, need))
    if (!gfns) return refuse(EFAULT, () => `frames of level ${k} cannot be read`)
    wanted.push({ k, size, given, offset: getField(view, SELECTOR_AREA.fields.offset, at), gfns })
  }
  for (const { k, size, given, offset } of wanted) {
    if (!areaFits(bits, levels, k, channels, given, offset))
      return refuse(EINVAL, () => `level ${k} has ${size} bytes: ${given} pages from offset ${offset} do not fit it`)
  }
  const areas: SelectorArea[] = []
  for (const { k, offset, gfns } of wanted) {
    const pages = frames(domain, gfns)
    if (!pages) return refuse(EINVAL, () => `a frame of level ${k} is not writable RAM of d${domain.domid}`)
    areas.push({ gfns, offset, pages: pages.map((page) => page + offset) })
  }
  return areas
}

const hex = (gva: number) => `0x${gva.toString(16)}`

/** Copies what a u64 of a struct points to; a 32-bit guest has no addresses above 2³²-1. False is EFAULT. */
const copyArray = ({ domain: { bits, memory }, vcpu }: Caller, gva: number, bytes: Uint8Array): boolean =>
  (bits === 64 || gva + bytes.length <= 2 ** 32) && memory.copyIn(vcpu.vcpuId, gva, bytes, bytes.length)

/** An array of u64 frame numbers, or null for EFAULT. */
function readGfns(caller: Caller, gva: number, count: number): number[] | null {
  const bytes = new Uint8Array(count * 8)
  if (!copyArray(caller, gva, bytes)) return null
  const view = new DataView(bytes.buffer)
  return Array.from({ length: count }, (_, i) => getField(view, { offset: 0, size: 8, dir: 'in' }, i * 8))
}

/** Absolute addresses of frames, or null if one is not writable RAM (NL-frame-1). */
function frames(domain: Domain, gfns: readonly number[]): number[] | null {
  const pages = gfns.map((gfn) => domain.memory.frame(gfn))
  return pages.includes(-1) ? null : pages
}

/**
 * Puts a domain on a tree whose frames an own ABI has named, all at once: the checks of NL-sel-1 and NL-reg-1 that are not of
 * their structs, then the switch. Nothing has changed after a refusal.
 */
export function registerTree(world: World, domain: Domain, tree: OwnTree): Outcome {
  const { levels, pendingGfns, maskGfns, selectors } = tree
  const { bits } = domain
  const nrPages = pendingGfns.length
  if (domain.nlevel) return hasLevels(domain, domain.nlevel.levels)
  if (domain.portOps.levels !== 2)
    return refuse(EBUSY, () => `d${domain.domid} has left two levels; a reset leads back`)
  if (domain.nextEvtchn) return resetInProgress(domain)
  const bad = checkAllowed(domain) || checkSize(world, domain, levels, nrPages)
  if (bad) return bad
  if (maskGfns.length !== nrPages)
    return refuse(EINVAL, () => `${nrPages} pages of pending, ${maskGfns.length} of mask`)
  const pending = frames(domain, pendingGfns)
  const mask = frames(domain, maskGfns)
  if (!pending || !mask) return refuse(EINVAL, () => `a leaf frame is not writable RAM of d${domain.domid}`)
  const areas = ownAreas(domain, levels, nrPages, selectors)
  if (areas instanceof Refusal) return areas
  const ops = ifMemory(() => {
    for (const [i, each] of areas.entries()) domain.vcpus[i]!.record({ levels, nrPages, bits, areas: each })
    return new LevelPortOps(domain, levels, bits, { pending, mask })
  })
  if (!ops) {
    for (const vcpu of domain.vcpus) vcpu.record(null)
    return refuse(ENOMEM, () => `there is no memory for ${nrPages} leaf pages of d${domain.domid}`)
  }
  const registration = { levels, nrPages, bits, pendingGfns: [...pendingGfns], maskGfns: [...maskGfns] }
  domain.eventLock.write(() => switchTo(domain, registration, { pending, mask }, ops))
  for (const each of domain.vcpus) if (!each.onDummy && each.recorded) activate(domain, each)
  return 0
}

/** The areas of each vCPU that an own ABI has named (NL-sel-2). */
function ownAreas(
  domain: Domain,
  levels: number,
  nrPages: number,
  all: OwnTree['selectors'],
): SelectorArea[][] | Refusal {
  const { bits } = domain
  const channels = maxEvtchns(bits, levels, nrPages)
  if (all.length > domain.vcpus.length) return noVcpu(domain, all.length - 1)
  const areas: SelectorArea[][] = []
  for (const [vcpu, selectors] of all.entries()) {
    if (selectors.length !== levels - 2)
      return refuse(EINVAL, () => `vCPU ${vcpu} has ${selectors.length} selector levels, not ${levels - 2}`)
    const own: SelectorArea[] = []
    for (const [i, { gfns, offset }] of selectors.entries()) {
      const level = i + 2
      if (!areaFits(bits, levels, level, channels, gfns.length, offset))
        return refuse(EINVAL, () => `level ${level} of vCPU ${vcpu}: ${gfns.length} pages from ${offset} do not fit it`)
      const pages = frames(domain, gfns)
      if (!pages) return refuse(EINVAL, () => `a frame of level ${level} is not writable RAM of d${domain.domid}`)
      own.push({ gfns: [...gfns], offset, pages: pages.map((page) => page + offset) })
    }
    areas.push(own)
  }
  return areas
}

/** What an operation that passed its checks will do, and what is given back if it may not. */
export interface Effects {
  commit(): void
  cancel(): void
}

/**
 * EVTCHNOP_register_nlevel (66), checks as NL-reg-1. Returns the commit: a guest that cannot be told how many channels it
 * has stays on two levels.
 */
export function registerNlevel(world: World, caller: Caller, args: OpArgs<'register_nlevel'>): Effects | Refusal {
  const { domain, vcpu } = caller
  const refused = checkAllowed(domain)
  if (refused) return refused
  if (domain.nlevel) return hasLevels(domain, domain.nlevel.levels)
  if (domain.fifo) return fifoActive(domain)
  const own = onOwnWords(domain)
  if (own) return own
  if (domain.nextEvtchn) return resetInProgress(domain)
  if (args.pad) return padNotZero(args.pad)
  const levels = args.levels
  const nrPages = args.nr_pages
  const bad = checkSize(world, domain, levels, nrPages)
  if (bad) return bad
  if (!matches(vcpu.recorded, levels, nrPages, domain.bits))
    return refuse(
      EINVAL,
      () => `the calling vCPU ${vcpu.vcpuId} has no selectors for ${levels} levels, ${nrPages} pages`,
    )
  const pendingGfns = readGfns(caller, args.pending_gfns, nrPages)
  const maskGfns = readGfns(caller, args.mask_gfns, nrPages)
  if (!pendingGfns || !maskGfns) return refuse(EFAULT, 'the leaf frames cannot be read')
  const pending = frames(domain, pendingGfns)
  const mask = frames(domain, maskGfns)
  if (!pending || !mask) return refuse(EINVAL, () => `a leaf frame is not writable RAM of d${domain.domid}`)
  const ops = ifMemory(() => new LevelPortOps(domain, levels, domain.bits, { pending, mask }))
  if (!ops) return refuse(ENOMEM, () => `there is no memory for ${nrPages} leaf pages of d${domain.domid}`)
  const channels = maxEvtchns(domain.bits, levels, nrPages)
  args.nr_channels = usable(domain, channels)
  const registration = { levels, nrPages, bits: domain.bits, pendingGfns, maskGfns }
  return {
    commit() {
      domain.eventLock.write(() => switchTo(domain, registration, { pending, mask }, ops))
      for (const each of domain.vcpus) if (!each.onDummy && each.recorded) activate(domain, each)
    },
    cancel: () => ops.leave(),
  }
}
