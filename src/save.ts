/**
 * A domain as plain data, to be restored on another host (nlevel.md section 5). The cooperative mode is Xen's: what
 * travels is the configuration and the RAM. The domain starts with two levels and no channels, and its guest makes
 * again what it needs (NL-mig-1, EC-die-8).
 *
 * RAM is kept without its zero frames: runs of other frames, each with its first frame number and base64 of its bytes.
 */

import { type Bits, PAGE_SIZE, sharedInfo, VCPU_INFO_SIZE, XEN_LEGACY_MAX_VCPUS } from './abi/index.js'
import { fromBase64, toBase64 } from './base64.js'
import type { Domain, DomainType } from './domain.js'
import type { GuestMemory } from './memory.js'

/** Version of the format; a reader refuses any other. */
export const SAVE_VERSION = 1
const FORMAT = 'evtchn-domain'

/** Frames that are not zero, next to each other. */
export interface SavedRun {
  gfn: number
  base64: string
}

/** A saved domain: plain data that survives structured clone and JSON. */
export interface SavedDomain {
  format: typeof FORMAT
  version: number
  mode: 'cooperative'
  domid: number
  bits: Bits
  type: DomainType
  vcpus: number
  frames: number
  sharedInfoGfn: number
  maxEvtchnPort: number
  nrPirqs: number
  ram: SavedRun[]
}

/** A saved state that cannot be used: says which field and why. Nothing has changed. */
export class SavedStateError extends Error {
  readonly field: string

  constructor(field: string, problem: string) {
    super(`saved domain: ${field}: ${problem}`)
    this.name = 'SavedStateError'
    this.field = field
  }
}

/** Configuration and RAM of a domain. */
export function saveCooperative(domain: Domain): SavedDomain {
  return {
    format: FORMAT,
    version: SAVE_VERSION,
    mode: 'cooperative',
    domid: domain.domid,
    bits: domain.bits,
    type: domain.type,
    vcpus: domain.vcpus.length,
    frames: domain.memory.frames,
    sharedInfoGfn: domain.sharedInfoGfn,
    maxEvtchnPort: domain.maxEvtchnPort,
    nrPirqs: domain.pirqs.nrPirqs,
    ram: saveRam(domain.memory),
  }
}

function saveRam(memory: GuestMemory): SavedRun[] {
  const bytes = memory.view()
  const words = new Int32Array(memory.memory.buffer, memory.base, memory.bytes / 4)
  const isZero = (gfn: number) => {
    const end = ((gfn + 1) * PAGE_SIZE) / 4
    for (let i = (gfn * PAGE_SIZE) / 4; i < end; i++) if (words[i]) return false
    return true
  }
  const runs: SavedRun[] = []
  for (let gfn = 0; gfn < memory.frames; gfn++) {
    if (isZero(gfn)) continue
    const first = gfn
    while (gfn + 1 < memory.frames && !isZero(gfn + 1)) gfn++
    runs.push({ gfn: first, base64: toBase64(bytes.slice(first * PAGE_SIZE, (gfn + 1) * PAGE_SIZE)) })
  }
  return runs
}

/** A state after every check, its RAM as bytes. */
export interface CheckedDomain extends Omit<SavedDomain, 'ram'> {
  ram: { gfn: number; bytes: Uint8Array }[]
}

/** Checks a state field by field (NL-mig-4). @throws SavedStateError */
export function checkSaved(state: unknown): CheckedDomain {
  if (typeof state !== 'object' || state === null || Array.isArray(state))
    throw new SavedStateError(
      'state',
      `is ${state === null ? 'null' : Array.isArray(state) ? 'an array' : typeof state}`,
    )
  const s = state as Record<string, unknown>
  if (s.format !== FORMAT) throw new SavedStateError('format', `is ${JSON.stringify(s.format)}, not "${FORMAT}"`)
  if (s.version !== SAVE_VERSION)
    throw new SavedStateError('version', `is ${JSON.stringify(s.version)}; this library reads ${SAVE_VERSION}`)
  const int = (field: string, min: number, max: number): number => {
    const value = s[field]
    if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max)
      throw new SavedStateError(field, `is ${JSON.stringify(value)}, not an integer from ${min} to ${max}`)
    return value
  }
  const one = <T>(field: string, allowed: readonly T[]): T => {
    if (!allowed.includes(s[field] as T))
      throw new SavedStateError(field, `is ${JSON.stringify(s[field])}, not one of ${allowed.join(', ')}`)
    return s[field] as T
  }
  const frames = int('frames', 1, 2 ** 20)
  return {
    format: FORMAT,
    version: SAVE_VERSION,
    mode: one('mode', ['cooperative'] as const),
    domid: int('domid', 0, 0x7fef),
    bits: one<Bits>('bits', [32, 64]),
    type: one<DomainType>('type', ['pv', 'hvm']),
    vcpus: int('vcpus', 1, 8192),
    frames,
    sharedInfoGfn: int('sharedInfoGfn', 0, frames - 1),
    maxEvtchnPort: int('maxEvtchnPort', 0, 2 ** 31 - 1),
    nrPirqs: int('nrPirqs', 0, 32768),
    ram: checkRam(s.ram, frames),
  }
}

function checkRam(ram: unknown, frames: number): CheckedDomain['ram'] {
  if (!Array.isArray(ram)) throw new SavedStateError('ram', 'is not an array')
  let end = 0
  return ram.map((run: unknown, i) => {
    const field = `ram[${i}]`
    const { gfn, base64 } = (typeof run === 'object' && run !== null ? run : {}) as Partial<SavedRun>
    if (typeof gfn !== 'number' || !Number.isInteger(gfn) || gfn < end || gfn >= frames)
      throw new SavedStateError(`${field}.gfn`, `is ${JSON.stringify(gfn)}, not a frame from ${end} to ${frames - 1}`)
    const bytes = typeof base64 === 'string' ? fromBase64(base64) : null
    if (!bytes?.length || bytes.length % PAGE_SIZE)
      throw new SavedStateError(`${field}.base64`, 'is not base64 of whole frames of 4096 bytes')
    end = gfn + bytes.length / PAGE_SIZE
    if (end > frames) throw new SavedStateError(field, `reaches frame ${end - 1} of a domain with ${frames}`)
    return { gfn, bytes }
  })
}

/** Fills a new domain's RAM, and leaves its shared_info as Xen's restorer does (EC-guest-6). */
export function restoreRam(domain: Domain, state: CheckedDomain): void {
  const view = domain.memory.view()
  view.fill(0)
  for (const { gfn, bytes } of state.ram) view.set(bytes, gfn * PAGE_SIZE)
  const at = domain.sharedInfoGfn * PAGE_SIZE
  const { sel, pending, mask, words } = sharedInfo(state.bits)
  const bitmap = (words * state.bits) / 8
  view.fill(0, at + pending, at + pending + bitmap)
  view.fill(0xff, at + mask, at + mask + bitmap)
  for (let vcpu = 0; vcpu < XEN_LEGACY_MAX_VCPUS; vcpu++) {
    const word = at + vcpu * VCPU_INFO_SIZE + sel
    view.fill(0, word, word + state.bits / 8)
  }
}
