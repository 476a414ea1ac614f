/**
 * A domain as plain data, to be restored on another host (nlevel.md section 5). Two answers to one question: who makes a
 * guest's channels again after a migration?
 *
 *     cooperative   configuration · RAM                              the guest, as in Xen: it starts with two levels and
 *                                                                    no channels (NL-mig-1, EC-die-8)
 *     transparent   the same · vCPUs · ports · PIRQs · ABI part      the hypervisor: it goes on as though nothing had
 *                                                                    happened (NL-mig-3)
 *
 * Plain data: it survives structured clone and JSON. What an ABI keeps beside the port table is its own part of the state
 * (save_abi.ts). Reading checks every field (NL-mig-4); what the host grants is restore.ts.
 */

import {
  type Bits,
  ECS,
  EVTCHN_FIFO_MAX_QUEUES,
  NR_VIRQS,
  PAGE_SIZE,
  sharedInfo,
  VCPU_INFO_SIZE,
  XEN_LEGACY_MAX_VCPUS,
} from './abi/index.js'
import type { Domain, DomainType } from './domain.js'
import { Errno } from './errno.js'
import { EVTCHNS_PER_BUCKET } from './ports.js'
import { abiPartOf, readAbi, type SavedAbi } from './save_abi.js'
import type { Install } from './save_part.js'
import { type Columns, Fields, RestoreError, SavedStateError, type SavedTable } from './saved_fields.js'
import { type CheckedRun, readRam, type SavedRun, saveRam } from './saved_ram.js'
import type { Vcpu } from './vcpu.js'

/** Version of the format; a reader refuses any other. */
export const SAVE_VERSION = 1
const FORMAT = 'evtchn-domain'

/** Who makes the channels again. */
export type SaveMode = 'cooperative' | 'transparent'
const MODES = ['cooperative', 'transparent'] as const

/** What both modes carry: the configuration and the RAM. */
export interface SavedCommon {
  format: typeof FORMAT
  version: number
  domid: number
  /** Width of shared_info as last latched. */
  bits: Bits
  type: DomainType
  vcpus: number
  frames: number
  sharedInfoGfn: number
  maxEvtchnPort: number
  nrPirqs: number
  ram: SavedRun[]
}

/** A domain whose guest makes its channels again. */
export interface SavedCooperative extends SavedCommon {
  mode: 'cooperative'
}

/** A vCPU as the hypervisor knows it; its flag, mask and level 1 are in RAM. */
export interface SavedVcpu {
  /** Frame of a vcpu_info that the guest registered; -1 = where a vCPU begins (EC-vi-1, EC-vi-2). */
  infoGfn: number
  infoOffset: number
  upcallVector: number
  down: boolean
  blocked: boolean
  /** SCHEDOP_poll: one port, or -1 for any; ns left, null = for ever. */
  poll: { port: number; leftNs: string | null } | null
}

/** A domain whose channels travel with it. */
export interface SavedTransparent extends SavedCommon {
  mode: 'transparent'
  /** Frames that are not of writable type. */
  readOnly: number[]
  shutdownCode: number
  suspendEvtchn: number
  /** HVM parameter 0. */
  callbackVia: string
  /** One for each of `vcpus`. */
  vcpuState: SavedVcpu[]
  /** Number of port objects that exist (EC-port-6). */
  validEvtchns: number
  /** Open ports by state, ascending. `vcpu` is the notify vCPU, `domid` and `remotePort` the other end. */
  ports: Record<PortState, SavedTable>
  /** Ports that Xen itself had: told, never restored (NL-mig-6). */
  xenPorts: number[]
  pirqs: SavedTable
  /** The PIRQ EOI map (EC-irq-3). */
  eoiMap: { gfn: number; autoUnmask: boolean } | null
  /** What FIFO keeps of each port, where it is not as new: it outlives close and reset (EC-fifo-14, EC-expand-7). */
  fifoPorts: SavedTable
  abi: SavedAbi
}

/** A saved domain: plain data that survives structured clone and JSON. */
export type SavedDomain = SavedCooperative | SavedTransparent

/** States that an open port can have in a saved domain. */
export type PortState = 'unbound' | 'interdomain' | 'virq' | 'pirq' | 'ipi'

const INT_MAX = 2 ** 31 - 1
const MOST_VCPUS = 8192
const vcpu = [0, MOST_VCPUS - 1] as const
const anyPort = [1, INT_MAX] as const

/** Columns of the port tables, by state. */
export const PORT_COLUMNS: Readonly<Record<PortState, Columns>> = {
  unbound: { port: anyPort, vcpu, domid: [0, 0xffff] },
  interdomain: { port: anyPort, vcpu, domid: [0, 0x7fef], remotePort: anyPort },
  virq: { port: anyPort, vcpu, virq: [0, NR_VIRQS - 1] },
  pirq: { port: anyPort, vcpu, pirq: [0, 0xffff] },
  ipi: { port: anyPort, vcpu },
}
const PIRQ_COLUMNS: Columns = { pirq: [0, 0xffff], port: [0, INT_MAX], willShare: [0, 1], inFlight: [0, 1] }

const FIFO_COLUMNS: Columns = {
  port: anyPort,
  priority: [0, EVTCHN_FIFO_MAX_QUEUES - 1],
  savedPending: [0, 1],
  lastVcpu: vcpu,
  lastPriority: [0, EVTCHN_FIFO_MAX_QUEUES - 1],
}

// --- saving ----------------------------------------------------------------------------------------------------------

function saveCommon(domain: Domain): Omit<SavedCommon, 'ram'> {
  return {
    format: FORMAT,
    version: SAVE_VERSION,
    domid: domain.domid,
    bits: domain.bits,
    type: domain.type,
    vcpus: domain.vcpus.length,
    frames: domain.memory.frames,
    sharedInfoGfn: domain.sharedInfoGfn,
    maxEvtchnPort: domain.maxEvtchnPort,
    nrPirqs: domain.pirqs.nrPirqs,
  }
}

/** Configuration and RAM of a domain. */
export function saveCooperative(domain: Domain): SavedCooperative {
  return { ...saveCommon(domain), mode: 'cooperative', ram: saveRam(domain.memory) }
}

/**
 * All of a domain. `leftNs` tells how long a vCPU's poll may still last, null = for ever.
 * @throws XenError EOPNOTSUPP for an ABI that has no part in the format.
 */
export function saveTransparent(domain: Domain, leftNs: (vcpu: Vcpu) => bigint | null): SavedTransparent {
  const abi = abiPartOf(domain)
  const { ports, pirqs, memory } = domain
  return {
    ...saveCommon(domain),
    mode: 'transparent',
    readOnly: memory.protectedFrames,
    shutdownCode: domain.shutdownCode,
    suspendEvtchn: domain.suspendEvtchn,
    callbackVia: String(domain.callbackVia),
    vcpuState: domain.vcpus.map((each) => saveVcpu(domain, each, leftNs)),
    validEvtchns: ports.validEvtchns,
    ...savePorts(domain),
    pirqs: {
      columns: Object.keys(PIRQ_COLUMNS),
      rows: [...pirqs.records()].map(([pirq, { port, willShare, inFlight }]) => [
        pirq,
        port,
        Number(willShare),
        Number(inFlight),
      ]),
    },
    eoiMap: pirqs.eoiMapGfn < 0 ? null : { gfn: pirqs.eoiMapGfn, autoUnmask: pirqs.autoUnmask },
    fifoPorts: { columns: Object.keys(FIFO_COLUMNS), rows: [...fifoPorts(domain)] },
    abi: { name: abi.name, ...abi.save(domain) } as SavedAbi,
    ram: saveRam(memory),
  }
}

function saveVcpu(domain: Domain, vcpu: Vcpu, leftNs: (vcpu: Vcpu) => bigint | null): SavedVcpu {
  const { infoGfn } = vcpu
  return {
    infoGfn,
    infoOffset: infoGfn < 0 ? 0 : vcpu.info - (domain.memory.base + infoGfn * PAGE_SIZE),
    upcallVector: vcpu.upcallVector,
    down: vcpu.down,
    blocked: vcpu.blocked,
    poll: vcpu.polling ? { port: vcpu.pollEvtchn, leftNs: leftNs(vcpu)?.toString() ?? null } : null,
  }
}

function savePorts({ ports }: Domain): Pick<SavedTransparent, 'ports' | 'xenPorts'> {
  const table = (state: PortState): SavedTable => ({ columns: Object.keys(PORT_COLUMNS[state]), rows: [] })
  const saved = {
    unbound: table('unbound'),
    interdomain: table('interdomain'),
    virq: table('virq'),
    pirq: table('pirq'),
    ipi: table('ipi'),
  }
  const xenPorts: number[] = []
  for (let port = ports.nextUsed(1); port >= 0; port = ports.nextUsed(port + 1)) {
    const notify = ports.notifyVcpu(port)
    if (ports.consumer(port)) xenPorts.push(port)
    else
      switch (ports.state(port)) {
        case ECS.UNBOUND:
          saved.unbound.rows.push([port, notify, ports.remoteDomid(port)])
          break
        case ECS.INTERDOMAIN:
          saved.interdomain.rows.push([port, notify, ports.remoteDomid(port), ports.remotePort(port)])
          break
        case ECS.VIRQ:
          saved.virq.rows.push([port, notify, ports.irq(port)])
          break
        case ECS.PIRQ:
          saved.pirq.rows.push([port, notify, ports.irq(port)])
          break
        case ECS.IPI:
          saved.ipi.rows.push([port, notify])
          break
      }
  }
  return { ports: saved, xenPorts }
}

function* fifoPorts({ ports }: Domain): Generator<number[], void, void> {
  for (let port = 1; port < ports.validEvtchns; port++) {
    const [priority, saved, last] = [ports.priority(port), ports.savedPending(port), ports.lastQueue(port)]
    if (priority || saved || last) yield [port, priority, Number(saved), last >>> 16, last & 0xff]
  }
}

// --- reading ---------------------------------------------------------------------------------------------------------

/** Both modes after every check, RAM as bytes. */
export interface CheckedCommon extends Omit<SavedCommon, 'ram'> {
  ram: CheckedRun[]
}

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
  fields.oneOf('version', [SAVE_VERSION])
  const mode = fields.oneOf<SaveMode>('mode', MODES)
  fields.only(mode === 'cooperative' ? COMMON : TRANSPARENT)
  const frames = fields.int('frames', 1, 2 ** 20)
  const common = {
    format: FORMAT,
    version: SAVE_VERSION,
    domid: fields.int('domid', 0, 0x7fef),
    bits: fields.oneOf<Bits>('bits', [32, 64]),
    type: fields.oneOf<DomainType>('type', ['pv', 'hvm']),
    vcpus: fields.int('vcpus', 1, MOST_VCPUS),
    frames,
    sharedInfoGfn: fields.int('sharedInfoGfn', 0, frames - 1),
    maxEvtchnPort: fields.int('maxEvtchnPort', 0, INT_MAX),
    nrPirqs: fields.int('nrPirqs', 0, 32768),
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
  const xenPorts = fields.ints('xenPorts', INT_MAX, 1, INT_MAX)
  for (const [i, port] of xenPorts.entries()) takePort(taken, `xenPorts[${i}]`, port)
  const ports = readPorts(fields.object('ports'), shape, taken)
  const highest = [...taken].reduce((most, port) => Math.max(most, port), 0)
  const validEvtchns = fields.int('validEvtchns', EVTCHNS_PER_BUCKET, INT_MAX + 1)
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
      port: poll.int('port', -1, INT_MAX),
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
    for (const [row, values] of fields.table(state, PORT_COLUMNS[state], INT_MAX).entries()) {
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
    return { pirq: pirq!, port: port!, willShare: willShare === 1, inFlight: inFlight === 1 }
  })
  for (const pirq of bound.keys())
    if (!known.has(pirq)) throw new SavedStateError('pirqs', `have no record of PIRQ ${pirq}, which is bound`)
  return records
}

function readFifoPorts(fields: Fields, validEvtchns: number, vcpus: number): number[][] {
  const known = new Set<number>()
  const rows = fields.table('fifoPorts', FIFO_COLUMNS, INT_MAX)
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

// --- RAM -------------------------------------------------------------------------------------------------------------

/** Leaves the shared_info of a domain that starts anew as Xen's restorer does (EC-guest-6). */
export function clearChannels(domain: Domain): void {
  const view = domain.memory.view()
  const at = domain.sharedInfoGfn * PAGE_SIZE
  const { sel, pending, mask, words } = sharedInfo(domain.bits)
  const bitmap = (words * domain.bits) / 8
  view.fill(0, at + pending, at + pending + bitmap)
  view.fill(0xff, at + mask, at + mask + bitmap)
  for (let vcpu = 0; vcpu < XEN_LEGACY_MAX_VCPUS; vcpu++) {
    const word = at + vcpu * VCPU_INFO_SIZE + sel
    view.fill(0, word, word + domain.bits / 8)
  }
}
