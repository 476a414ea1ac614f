/**
 * Debug key 'e': the state of every event channel (spec 5.2, nlevel.md section 6), without the fault of the original,
 * which holds the event lock over a domain's whole table while it prints (EC-dump-10). walk.ts takes and releases the
 * lock; here its rows become records, for programs, or lines, for people.
 */

import { ECS } from '../abi/index.js'
import { integer, object, oneOf } from '../check.js'
import { Turns } from '../turns.js'
import { Lines } from './text.js'
import { checkDumpOptions, type DumpOptions, type DumpWorld, NONE, newDumpStats, Row, walk } from './walk.js'

/** One channel, as copied under the lock. */
export interface ChannelRecord {
  domid: number
  port: number
  pending: boolean
  masked: boolean
  /** Column S: a digit per selector level, n-1 to 1; `?` where the vCPU has no active selectors. FIFO: EC-dump-7. */
  selectors: string
  /** ECS_* */
  state: number
  notifyVcpu: number
  consumer: number
  remoteDomid?: number
  remotePort?: number
  pirq?: number
  virq?: number
}

/** Records of all channels, each domain's begin before them. */
export type DumpItem =
  | { kind: 'domain'; domid: number; polling: string }
  | { kind: 'channel'; record: ChannelRecord }
  | { kind: 'died'; domid: number; at: number }

/** The dump as items, a new object each. Control is with the caller only while no lock is held. */
export function* dumpItems(world: DumpWorld, options: DumpOptions = {}): Generator<DumpItem, void, void> {
  const { stats = newDumpStats() } = checkDumpOptions(options)
  for (const step of walk(world, options, stats)) {
    if (step.kind !== 'hold') {
      yield { ...step }
      continue
    }
    const { domid, rows, count } = step
    // All before the first is handed out: the rows are used again.
    const records = rows.slice(0, count).map((row) => recordOf(domid, row))
    for (const record of records) {
      stats.channels++
      yield { kind: 'channel', record }
    }
  }
}

function recordOf(domid: number, row: Row): ChannelRecord {
  const { port, pending, masked, selectors, state, notifyVcpu, consumer } = row
  const record: ChannelRecord = { domid, port, pending, masked, selectors, state, notifyVcpu, consumer }
  if (row.remoteDomid !== NONE) record.remoteDomid = row.remoteDomid
  if (row.remotePort !== NONE) record.remotePort = row.remotePort
  if (row.irq !== NONE) record[state === ECS.PIRQ ? 'pirq' : 'virq'] = row.irq
  return record
}

/** Writes a line of the port table (EC-dump-3, -4). */
function writeChannel(to: Lines, row: Row): void {
  to.text('    ')
  to.number(row.port, 4)
  to.text(row.pending ? ' [1/' : ' [0/')
  to.text(row.masked ? '1/' : '0/')
  to.text(row.selectors)
  to.text(']: s=')
  to.number(row.state)
  to.text(' n=')
  to.number(row.notifyVcpu)
  to.text(' x=')
  to.number(row.consumer)
  put(to, ' d=', row.remoteDomid)
  put(to, ' p=', row.remotePort)
  if (row.state === ECS.PIRQ) {
    put(to, ' p=', row.irq)
    put(to, ' i=', row.irq)
  } else put(to, ' v=', row.irq)
  to.end()
}

function put(to: Lines, name: string, value: number): void {
  if (value === NONE) return
  to.text(name)
  to.number(value)
}

/** A line of the port table. */
export function formatChannel(record: ChannelRecord): string {
  object('formatChannel', 'record', record, 'a ChannelRecord')
  integer('formatChannel', 'record.port', record.port, 0, 2 ** 31 - 1)
  integer('formatChannel', 'record.state', record.state, 0, 255)
  const row = new Row()
  const { pirq, virq, remoteDomid = NONE, remotePort = NONE, ...others } = record
  Object.assign(row, others, { remoteDomid, remotePort, irq: pirq ?? virq ?? NONE })
  const lines = new Lines()
  writeChannel(lines, row)
  lines.close()
  return lines.line(0)
}

/** First line of the debug key's output. */
export const DUMP_TITLE = "'e' pressed -> dumping event-channel info"

type OtherItem = Exclude<DumpItem, { kind: 'channel' }>

const formatOther = (item: OtherItem): string[] =>
  item.kind === 'domain'
    ? [`Event channel information for domain ${item.domid}:`, `Polling vCPUs: {${item.polling}}`, '    port [p/m/s]']
    : [`    domain ${item.domid} died during the dump, which ends at port ${item.at}`]

/** The text of one item, without line feeds. */
export function formatItem(item: DumpItem): string[] {
  const { kind } = object('formatItem', 'item', item, 'a DumpItem')
  oneOf('formatItem', 'item.kind', kind, ['domain', 'channel', 'died'])
  return item.kind === 'channel' ? [formatChannel(item.record)] : formatOther(item)
}

/** A dump as lines. */
export function* dumpLines(world: DumpWorld, options: DumpOptions = {}): Generator<string, void, void> {
  const { stats = newDumpStats() } = checkDumpOptions(options)
  const lines = new Lines()
  yield DUMP_TITLE
  for (const step of walk(world, options, stats)) {
    if (step.kind !== 'hold') {
      for (const line of formatOther(step)) yield line
      continue
    }
    for (let i = 0; i < step.count; i++) writeChannel(lines, step.rows[i]!)
    const count = lines.close()
    for (let i = 0; i < count; i++) {
      stats.channels++
      yield lines.line(i)
    }
  }
}

/** The same, with a turn of the event loop after every hold; `begin` starts the dump with the pause that it is given. */
export async function* dumpInTurns(
  begin: (pause: () => void) => Iterable<string>,
  pause: () => void,
): AsyncGenerator<string, void, void> {
  const turns = new Turns()
  let paused = false
  const marked = () => {
    pause()
    paused = true
  }
  try {
    for (const line of begin(marked)) {
      if (paused) await turns.next()
      paused = false
      yield line
    }
  } finally {
    turns.close()
  }
}
