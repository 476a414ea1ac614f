/**
 * What an ABI keeps beside the port table, as its own part of a saved domain: `abi: { name, … }`. A part knows how to
 * save itself and how to read itself back; reading returns a function that sets up a domain that is not on the host yet,
 * so nothing has to be undone when the host refuses. An ABI that has no part here cannot be saved in transparent mode.
 *
 *     levels   two levels or N: the registration, and the selectors that the guest recorded for each vCPU
 *     fifo     the event array, control blocks and tails (fifo_part.ts)
 */

import { type Bits, MAX_LEAF_PAGES, maxDepth, maxEvtchns, PAGE_SIZE } from '../abi/index.js'
import type { NlevelRegistration } from '../domain/config.js'
import type { Domain } from '../domain/domain.js'
import { LevelPortOps } from '../domain/levels.js'
import type { SelectorArea } from '../domain/vcpu.js'
import { Errno, XenError } from '../errno.js'
import type { World } from '../host/world.js'
import { areaFits, mayRegister } from '../hypercalls/evtchn/nlevel.js'
import { frameRefs } from '../machine/memory.js'
import type { AbiPart, AbiShape, Install } from './abi_part.js'
import { Fields, RestoreError, SavedStateError } from './fields.js'
import { fifoPart, type SavedFifo } from './fifo_part.js'

/** Selectors as the guest named them. */
export interface SavedSelectors {
  levels: number
  nrPages: number
  /** The width that their sizes were computed for. */
  bits: Bits
  areas: { gfns: number[]; offset: number }[]
}

/** The part of the bitmap ABIs. */
export interface SavedLevels {
  name: 'levels'
  /** null = two levels. */
  registration: { levels: number; nrPages: number; bits: Bits; pendingGfns: number[]; maskGfns: number[] } | null
  /** One for each vCPU; null = none recorded. */
  selectors: (SavedSelectors | null)[]
}

/** The ABI's part of a saved domain. */
export type SavedAbi = SavedLevels | SavedFifo

const levelsPart: AbiPart<SavedLevels> = {
  name: 'levels',
  inForce: (domain) => domain.portOps instanceof LevelPortOps,
  save: ({ nlevel, vcpus }) => ({
    registration: nlevel && {
      levels: nlevel.levels,
      nrPages: nlevel.nrPages,
      bits: nlevel.bits,
      pendingGfns: [...nlevel.pendingGfns],
      maskGfns: [...nlevel.maskGfns],
    },
    selectors: vcpus.map(
      ({ recorded }) =>
        recorded && {
          levels: recorded.levels,
          nrPages: recorded.nrPages,
          bits: recorded.bits,
          areas: recorded.areas.map(({ gfns, offset }) => ({ gfns: [...gfns], offset })),
        },
    ),
  }),
  read: readLevels,
}

const PARTS = [levelsPart, fifoPart] as const

/** The part of the ABI that a domain is on. @throws XenError EOPNOTSUPP if it has none. */
export function abiPartOf(domain: Domain): {
  readonly name: SavedAbi['name']
  save(domain: Domain): Omit<SavedLevels, 'name'> | Omit<SavedFifo, 'name'>
} {
  const part = PARTS.find((each) => each.inForce(domain))
  if (!part)
    throw new XenError(
      'saveDomain',
      Errno.EOPNOTSUPP,
      `d${domain.domid} is on an ABI that a transparent state cannot carry; a cooperative one leaves it to the guest`,
    )
  return part
}

/** Reads the part of a saved domain. @throws SavedStateError */
export function readAbi(fields: Fields, shape: AbiShape): Install {
  const name = fields.oneOf(
    'name',
    PARTS.map((part) => part.name),
  )
  return PARTS.find((part) => part.name === name)!.read(fields, shape)
}

// --- bitmaps ---------------------------------------------------------------------------------------------------------

/** Levels of the deepest tree of any width. */
const MOST_LEVELS = Math.max(maxDepth(32), maxDepth(64))

function readLevels(fields: Fields, shape: AbiShape): Install {
  fields.only(['name', 'registration', 'selectors'])
  const given = fields.maybe('registration')
  const registration = given && readRegistration(given, shape)
  const path = fields.path('selectors')
  const selectors = Array.from(fields.array('selectors', shape.vcpus), (each, i) =>
    each === null ? null : readSelectors(new Fields(each, `${path}[${i}]`), shape.frames),
  )
  if (selectors.length !== shape.vcpus)
    throw new SavedStateError(path, `has ${selectors.length} elements for ${shape.vcpus} vCPUs`)
  if (registration)
    for (const [i, each] of selectors.entries())
      if (each && (['levels', 'nrPages', 'bits'] as const).some((name) => each[name] !== registration[name]))
        throw new SavedStateError(`${path}[${i}]`, 'are of another size than the registration')
  return (world, domain) => installLevels(world, domain, fields, registration, selectors)
}

function readRegistration(fields: Fields, { bits, frames }: AbiShape): NlevelRegistration {
  fields.only(['levels', 'nrPages', 'bits', 'pendingGfns', 'maskGfns'])
  const nrPages = fields.int('nrPages', 1, MAX_LEAF_PAGES)
  const gfns = (name: string) => {
    const list = fields.ints(name, nrPages, 0, frames - 1)
    if (list.length !== nrPages)
      throw new SavedStateError(fields.path(name), `has ${list.length} frames for ${nrPages} pages`)
    return list
  }
  return {
    levels: fields.int('levels', 3, MOST_LEVELS),
    nrPages,
    // The width in force at registration; shared_info may have been latched to the other since (NL-tree-3).
    bits: fields.oneOf<Bits>('bits', [bits, bits === 64 ? 32 : 64]),
    pendingGfns: gfns('pendingGfns'),
    maskGfns: gfns('maskGfns'),
  }
}

function readSelectors(fields: Fields, frames: number): SavedSelectors {
  fields.only(['levels', 'nrPages', 'bits', 'areas'])
  const bits = fields.oneOf<Bits>('bits', [32, 64])
  const levels = fields.int('levels', 3, MOST_LEVELS)
  const nrPages = fields.int('nrPages', 1, MAX_LEAF_PAGES)
  const areas = fields.objects('areas', levels - 2).map((area) => {
    area.only(['gfns', 'offset'])
    return { gfns: area.ints('gfns', MAX_LEAF_PAGES, 0, frames - 1), offset: area.int('offset', 0, PAGE_SIZE - 1) }
  })
  if (areas.length !== levels - 2)
    throw new SavedStateError(fields.path('areas'), `has ${areas.length} elements for levels 2 to ${levels - 1}`)
  const channels = maxEvtchns(bits, levels, nrPages)
  for (const [i, { gfns, offset }] of areas.entries())
    if (!areaFits(bits, levels, i + 2, channels, gfns.length, offset))
      throw new SavedStateError(
        `${fields.path('areas')}[${i}]`,
        `${gfns.length} frames from offset ${offset} do not fit level ${i + 2}`,
      )
  return { levels, nrPages, bits, areas }
}

function installLevels(
  world: World,
  domain: Domain,
  fields: Fields,
  registration: NlevelRegistration | null,
  selectors: readonly (SavedSelectors | null)[],
): void {
  // Limits are asked for by width, and the width of the bitmaps is the one that was registered.
  domain.nlevel = registration
  const granted = (field: string, { levels, nrPages }: { levels: number; nrPages: number }) => {
    const refused = mayRegister(world, domain, levels, nrPages)
    if (refused) throw RestoreError.at(field, refused)
  }
  const address = (gfn: number) => domain.memory.base + gfn * PAGE_SIZE
  if (registration) {
    granted(fields.path('registration'), registration)
    for (const gfn of [...registration.pendingGfns, ...registration.maskGfns]) frameRefs(domain.memory).hold(gfn)
    const leaf = { pending: registration.pendingGfns.map(address), mask: registration.maskGfns.map(address) }
    domain.useOps(new LevelPortOps(domain, registration.levels, registration.bits, leaf))
    for (const vcpu of domain.vcpus) vcpu.activeDepth = 0
  }
  for (const [i, each] of selectors.entries()) {
    if (!each) continue
    // Measured at another width than the domain has now, they can never be committed.
    if (each.bits === domain.eventBits) granted(`${fields.path('selectors')}[${i}]`, each)
    const areas = each.areas.map(
      ({ gfns, offset }): SelectorArea => ({ gfns, offset, pages: gfns.map((gfn) => address(gfn) + offset) }),
    )
    const vcpu = domain.vcpus[i]!
    vcpu.record({ ...each, areas })
    // Recorded ones of a registered domain are active, unless the vCPU has no level 1 yet (NL-sel-4).
    if (registration && !vcpu.onDummy) vcpu.publishSelectors()
  }
}
