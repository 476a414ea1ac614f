/** Reading a saved domain: every field checked, before anything is made of it (NL-mig-4). */

import {
  type Bits,
  MAX_DOMID,
  MAX_FRAMES,
  MAX_PIRQS,
  MAX_PORT,
  MAX_VCPUS,
  PAGE_SIZE,
  VCPU_INFO_SIZE,
} from '../abi/index.js'
import type { DomainType } from '../domain/config.js'
import { EVTCHNS_PER_BUCKET } from '../domain/port_table.js'
import { Errno } from '../errno.js'
import type { Install } from './abi_part.js'
import { readAbi } from './abi_parts.js'
import { Fields, RestoreError, SavedStateError } from './fields.js'
import {
  FIFO_COLUMNS,
  FORMAT,
  MODES,
  PIRQ_COLUMNS,
  PORT_COLUMNS,
  type PortState,
  READ_VERSIONS,
  SAVE_VERSION,
  type SavedCommon,
  type SavedTransparent,
  type SavedVcpu,
  type SaveMode,
} from './format.js'
import { readRam } from './ram.js'

/** Both modes after every check, RAM as bytes. */
export type CheckedCommon = SavedCommon

/** A cooperative state after every check. */
export interface CheckedCooperative extends CheckedCommon {
  mode: 'cooperative'
}

/** An open port as read: the table it was in, its row, and the row's numbers in the order of the columns. */
export interface CheckedPort {
  state: PortState
  row: number
  values: readonly number[]
}

/** A PIRQ record as read. */
export interface CheckedPirq {
  pirq: number
  port: number
  willShare: boolean
  inFlight: boolean
}

/** A transparent state after every check that needs no host. */
export interface CheckedTransparent
  extends CheckedCommon,
    Pick<SavedTransparent, 'readOnly' | 'shutdownCode' | 'suspendEvtchn' | 'xenPorts' | 'eoiMap' | 'validEvtchns'> {
  mode: 'transparent'
  callbackVia: bigint
  vcpuState: (Omit<SavedVcpu, 'poll'> & { poll: { port: number; leftNs: bigint | null } | null })[]
  ports: CheckedPort[]
  pirqs: CheckedPirq[]
  /** Rows as the columns of `fifoPorts`. */
  fifoPorts: readonly (readonly number[])[]
  installAbi: Install
}

const COMMON = [
  'format',
  'version',
  'mode',
  'domid',
  'bits',
  'type',
  'vcpus',
  'frames',
  'sharedInfoGfn',
  'maxEvtchnPort',
  'nrPirqs',
  'ram',
]
const TRANSPARENT = [
  ...COMMON,
  'readOnly',
  'shutdownCode',
  'suspendEvtchn',
  'callbackVia',
  'vcpuState',
  'validEvtchns',
  'ports',
  'xenPorts',
  'pirqs',
  'eoiMap',
  'fifoPorts',
  'abi',
]

/** Checks a state field by field (NL-mig-4). @throws SavedStateError */
export function checkSaved(state: unknown): CheckedCooperative | CheckedTransparent {
  const fields = new Fields(state)
  fields.oneOf('format', [FORMAT])
  fields.oneOf<number>('version', READ_VERSIONS)
  const mode = fields.oneOf<SaveMode>('mode', MODES)
  fields.only(mode === 'cooperative' ? COMMON : TRANSPARENT)
  const frames = fields.int('frames', 1, MAX_FRAMES)
  const common = {
    format: FORMAT,
    version: SAVE_VERSION,
    domid: fields.int('domid', 0, MAX_DOMID),
    bits: fields.oneOf<Bits>('bits', [32, 64]),
    type: fields.oneOf<DomainType>('type', ['pv', 'hvm']),
    vcpus: fields.int('vcpus', 1, MAX_VCPUS),
    frames,
    sharedInfoGfn: fields.int('sharedInfoGfn', 0, frames - 1),
    maxEvtchnPort: fields.int('maxEvtchnPort', 0, MAX_PORT),
    nrPirqs: fields.int('nrPirqs', 0, MAX_PIRQS),
  } as const
  if (mode === 'cooperative') return { ...common, mode, ram: readRam(fields, frames) }
  return { ...common, mode, ...readTransparent(fields, common), ram: readRam(fields, frames) }
}

/** Size of a state, for checking its parts. */
export type Shape = Pick<SavedCommon, 'bits' | 'vcpus' | 'frames' | 'nrPirqs' | 'type' | 'maxEvtchnPort'>

type TransparentPart = Omit<CheckedTransparent, keyof CheckedCommon | 'mode'>

function readTransparent(fields: Fields, shape: Shape): TransparentPart {
  const { frames, vcpus } = shape
  const vcpuState = fields.objects('vcpuState', vcpus).map((each) => readVcpu(each, frames))
  if (vcpuState.length !== vcpus)
    throw new SavedStateError('vcpuState', `has ${vcpuState.length} elements for ${vcpus} vCPUs`)
  const eoi = fields.maybe('eoiMap')
  eoi?.only(['gfn', 'autoUnmask'])
  const taken = new Set<number>()
  const xenPorts = fields.ints('xenPorts', MAX_PORT, 1, MAX_PORT)
  for (const [i, port] of xenPorts.entries()) takePort(taken, `xenPorts[${i}]`, port)
  const ports = readPorts(fields.object('ports'), shape, taken)
  const highest = [...taken].reduce((most, port) => Math.max(most, port), 0)
  const validEvtchns = fields.int('validEvtchns', EVTCHNS_PER_BUCKET, MAX_PORT + 1)
  if (validEvtchns % EVTCHNS_PER_BUCKET || validEvtchns <= highest)
    throw new SavedStateError('validEvtchns', `is ${validEvtchns}, not a multiple of 64 above ${highest}`)
  return {
    readOnly: fields.ints('readOnly', frames, 0, frames - 1),
    shutdownCode: fields.int('shutdownCode', -1, 255),
    suspendEvtchn: fields.int('suspendEvtchn', 0, 2 ** 32 - 1),
    callbackVia: fields.u64('callbackVia'),
    vcpuState,
    validEvtchns,
    ports,
    xenPorts,
    pirqs: readPirqs(fields, shape, ports),
    eoiMap: eoi && { gfn: eoi.int('gfn', 0, frames - 1), autoUnmask: eoi.bool('autoUnmask') },
    fifoPorts: readFifoPorts(fields, validEvtchns, vcpus),
    installAbi: readAbi(fields.object('abi'), shape),
  }
}

function readVcpu(fields: Fields, frames: number): CheckedTransparent['vcpuState'][number] {
  fields.only(['infoGfn', 'infoOffset', 'upcallVector', 'down', 'blocked', 'poll'])
  const poll = fields.maybe('poll')
  poll?.only(['port', 'leftNs'])
  const blocked = fields.bool('blocked')
  if (poll && !blocked) throw new SavedStateError(fields.path('poll'), 'is that of a vCPU that is not blocked')
  const infoOffset = fields.int('infoOffset', 0, PAGE_SIZE - VCPU_INFO_SIZE)
  // At either width: an area that a guest registered at 32 bits stays where it is when it latches to 64.
  if (infoOffset % 4) throw new SavedStateError(fields.path('infoOffset'), `is ${infoOffset}, not a multiple of 4`)
  return {
    infoGfn: fields.int('infoGfn', -1, frames - 1),
    infoOffset,
    upcallVector: fields.int('upcallVector', 0, 255),
    down: fields.bool('down'),
    blocked,
    poll: poll && {
      port: poll.int('port', -1, MAX_PORT),
      leftNs: poll.raw('leftNs') === null ? null : poll.u64('leftNs'),
    },
  }
}

function takePort(taken: Set<number>, field: string, port: number): void {
  if (taken.has(port)) throw new SavedStateError(field, `port ${port} is there twice`)
  taken.add(port)
}

function readPorts(fields: Fields, { vcpus }: Shape, taken: Set<number>): CheckedPort[] {
  const states = Object.keys(PORT_COLUMNS) as PortState[]
  fields.only(states)
  const all: CheckedPort[] = []
  const ends = new Map<number, Set<number>>()
  for (const state of states)
    for (const [row, values] of fields.table(state, PORT_COLUMNS[state], MAX_PORT).entries()) {
      takePort(taken, `${fields.path(state)}[${row}].port`, values[0]!)
      if (values[1]! >= vcpus)
        throw new SavedStateError(
          `${fields.path(state)}[${row}].vcpu`,
          `is ${values[1]}, and the vCPUs are 0 to ${vcpus - 1}`,
        )
      if (state === 'interdomain') {
        const [, , domid, remotePort] = values as [number, number, number, number]
        const of = ends.get(domid) ?? new Set()
        if (of.has(remotePort))
          throw new SavedStateError(
            `${fields.path(state)}[${row}].remotePort`,
            `port ${remotePort} of d${domid} is the other end of two ports`,
          )
        ends.set(domid, of.add(remotePort))
      }
      all.push({ state, row, values })
    }
  return all
}

/** Records and ports tell the same. */
function readPirqs(fields: Fields, { nrPirqs }: Shape, ports: readonly CheckedPort[]): CheckedPirq[] {
  const bound = new Map<number, number>()
  for (const { state, row, values } of ports) {
    if (state !== 'pirq') continue
    if (bound.has(values[2]!))
      throw new RestoreError(
        `ports.pirq[${row}].pirq`,
        Errno.EEXIST,
        `PIRQ ${values[2]} is bound to port ${bound.get(values[2]!)}`,
      )
    bound.set(values[2]!, values[0]!)
  }
  const known = new Set<number>()
  const records = fields.table('pirqs', PIRQ_COLUMNS, nrPirqs).map(([pirq, port, willShare, inFlight], i) => {
    const field = `pirqs[${i}]`
    if (pirq! >= nrPirqs) throw new SavedStateError(`${field}.pirq`, `is ${pirq}, and there are ${nrPirqs}`)
    if (known.has(pirq!)) throw new SavedStateError(`${field}.pirq`, `PIRQ ${pirq} is there twice`)
    known.add(pirq!)
    if (port !== (bound.get(pirq!) ?? 0))
      throw new SavedStateError(`${field}.port`, `is ${port}, and ports.pirq has ${bound.get(pirq!) ?? 'none'}`)
    return { pirq: pirq!, port: port, willShare: willShare === 1, inFlight: inFlight === 1 }
  })
  for (const pirq of bound.keys())
    if (!known.has(pirq)) throw new SavedStateError('pirqs', `have no record of PIRQ ${pirq}, which is bound`)
  return records
}

function readFifoPorts(fields: Fields, validEvtchns: number, vcpus: number): number[][] {
  const known = new Set<number>()
  const rows = fields.table('fifoPorts', FIFO_COLUMNS, MAX_PORT)
  for (const [i, [port, , , lastVcpu]] of rows.entries()) {
    const field = `fifoPorts[${i}]`
    takePort(known, `${field}.port`, port!)
    if (port! >= validEvtchns)
      throw new SavedStateError(`${field}.port`, `is ${port}, and there are ${validEvtchns} port objects`)
    if (lastVcpu! >= vcpus)
      throw new SavedStateError(`${field}.lastVcpu`, `is ${lastVcpu}, and the vCPUs are 0 to ${vcpus - 1}`)
  }
  return rows
}
