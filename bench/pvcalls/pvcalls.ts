/**
 * `npm run bench:pvcalls`: MB/s through pvcalls by ring order, and by number of sockets under both policies, each against
 * plain sockets on the same loopback in the same run. In each round every contender runs once, in an order that turns, so
 * that what the machine does meanwhile touches all; a ratio is taken within a round, and the median round is shown.
 */

import { writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { table } from '../../src/cli/table.js'
import { IO_POLICIES, type IoPolicyName } from '../../src/dom0/index.js'
import { TcpHost } from '../../src/node/tcp_host.js'
import { type BenchOption, type BenchValues, benchCommand } from '../options.js'
import { Peers, plain, through, type Way } from './streams.js'

/** What runs in a round. */
interface Contender {
  readonly name: string
  run(): Promise<number>
}

/** Median MB/s, and median of the ratios to the round's own plain run. */
interface Figure {
  readonly mbPerSecond: number
  readonly ratio: number
}

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!

/** Runs rounds; the first contender is what the others are compared with. One more round before warms up. */
async function rounds(contenders: readonly Contender[], count: number, progress: string): Promise<Map<string, Figure>> {
  const rates = new Map(contenders.map(({ name }) => [name, [] as number[]]))
  for (let round = -1; round < count; round++) {
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${progress}: round ${round + 1} of ${count}`)
    for (let i = 0; i < contenders.length; i++) {
      const { name, run } = contenders[(i + round + 1) % contenders.length]!
      const rate = await run()
      if (round >= 0) rates.get(name)!.push(rate)
    }
  }
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K')
  const base = rates.get(contenders[0]!.name)!
  return new Map(
    [...rates].map(([name, each]) => [
      name,
      { mbPerSecond: median(each), ratio: median(each.map((rate, i) => rate / base[i]!)) },
    ]),
  )
}

const ABOUT = `MB/s through pvcalls over TCP on loopback, by ring order and by number of sockets, beside plain sockets.`
const OPTIONS: Readonly<Record<string, BenchOption>> = {
  quick: { short: 'q', help: '3 rounds of 8 MiB, and fewer sockets, unless told otherwise' },
  rounds: { short: 'r', value: 'N', help: 'rounds of all contenders (default 11)' },
  mib: { short: 'm', value: 'N', help: 'MiB of a run (default 64)' },
  json: { short: 'j', help: 'print JSON instead of tables' },
  output: { short: 'o', value: 'FILE', help: 'write the JSON to a file as well' },
}
const ORDERS = [1, 2, 3, 4, 5, 6, 7, 8, 9]
const WAYS: readonly Way[] = ['to the guest', 'from the guest']
/** Ring order of the runs with many sockets. */
const MANY_ORDER = 4
const CPUS = 8

/** What was measured by ring order. */
interface OrderRow {
  readonly order: number
  readonly bytesPerDirection: number
  readonly toGuest: Figure
  readonly fromGuest: Figure
}

/** What was measured with so many sockets, which share the bytes. */
interface SocketsRow {
  readonly sockets: number
  readonly plain: number
  readonly policies: Readonly<Record<IoPolicyName, Readonly<Record<Way, Figure>>>>
}

const hostOf = (policy: IoPolicyName): TcpHost => new TcpHost({ policy, frames: 8192, cpus: CPUS })

async function main(values: BenchValues): Promise<void> {
  const quick = values.is('quick')
  const count = values.text('rounds') === undefined ? (quick ? 3 : 11) : values.number('rounds', 1, 1000)
  const mib = values.text('mib') === undefined ? (quick ? 8 : 64) : values.number('mib', 1, 4096)
  const bytes = mib * 2 ** 20
  const output = values.text('output')
  const peers = await Peers.listen()
  const { plainMbPerSecond, orders } = await byOrder(peers, count, bytes)
  const many = await bySockets(peers, count, bytes, quick ? [1, 16] : [1, 4, 16, 64, 256])
  peers.close()
  const about = { cpu: cpus()[0]?.model ?? 'unknown', node: process.version, rounds: count, bytes, cpusOfDom0: CPUS }
  const json = JSON.stringify({ ...about, plainMbPerSecond, orders, manyOrder: MANY_ORDER, many }, null, 2)
  if (output) writeFileSync(output, `${json}\n`)
  if (values.is('json')) process.stdout.write(`${json}\n`)
  else {
    const text = `${about.cpu}, Node ${about.node}; medians of ${count} rounds of ${mib} MiB; MB per second of processor time`
    const second = `ring order ${MANY_ORDER}, ${CPUS} CPUs`
    const lines = [text, '', ...orderTable(plainMbPerSecond, orders), '', second, ...socketsTable(many)]
    process.stdout.write(`${lines.join('\n')}\n`)
  }
}

async function byOrder(peers: Peers, count: number, bytes: number) {
  const host = hostOf('bounded')
  const figures = await rounds(
    [
      { name: 'plain', run: () => plain(peers, 1, bytes) },
      ...WAYS.flatMap((way) =>
        ORDERS.map((order) => ({ name: `${way} ${order}`, run: () => through(host, peers, way, 1, bytes, order) })),
      ),
    ],
    count,
    'ring orders',
  )
  host.close()
  const orders: OrderRow[] = ORDERS.map((order) => ({
    order,
    bytesPerDirection: (2 ** order * 4096) / 2,
    toGuest: figures.get(`to the guest ${order}`)!,
    fromGuest: figures.get(`from the guest ${order}`)!,
  }))
  return { plainMbPerSecond: figures.get('plain')!.mbPerSecond, orders }
}

async function bySockets(peers: Peers, count: number, bytes: number, sizes: readonly number[]): Promise<SocketsRow[]> {
  const hosts = IO_POLICIES.map((policy) => ({ policy, host: hostOf(policy) }))
  const rows: SocketsRow[] = []
  for (const sockets of sizes) {
    const each = Math.floor(bytes / sockets)
    const contenders = hosts.flatMap(({ policy, host }) =>
      WAYS.map((way) => ({
        name: `${policy} ${way}`,
        run: () => through(host, peers, way, sockets, each, MANY_ORDER),
      })),
    )
    const all = [{ name: 'plain', run: () => plain(peers, sockets, each) }, ...contenders]
    const figures = await rounds(all, count, `${sockets} sockets`)
    const of = (policy: IoPolicyName): Record<Way, Figure> => ({
      'to the guest': figures.get(`${policy} to the guest`)!,
      'from the guest': figures.get(`${policy} from the guest`)!,
    })
    const policies = { bounded: of('bounded'), 'per-socket': of('per-socket') }
    rows.push({ sockets, plain: figures.get('plain')!.mbPerSecond, policies })
  }
  for (const { host } of hosts) host.close()
  return rows
}

const rate = (value: number): string => value.toFixed(0)
const cells = ({ mbPerSecond, ratio }: Figure): string[] => [rate(mbPerSecond), ratio.toFixed(2)]

function orderTable(base: number, orders: readonly OrderRow[]): string[] {
  return table(
    ['ring order', 'KiB a direction', 'to the guest', 'of plain', 'from the guest', 'of plain'],
    [
      ['plain', '–', rate(base), '1.00', '', ''],
      ...orders.map(({ order, bytesPerDirection, toGuest, fromGuest }) => [
        String(order),
        String(bytesPerDirection / 1024),
        ...cells(toGuest),
        ...cells(fromGuest),
      ]),
    ],
  )
}

function socketsTable(many: readonly SocketsRow[]): string[] {
  const columns = IO_POLICIES.flatMap((policy) => WAYS.map((way) => ({ policy, way })))
  return table(
    ['sockets', 'plain', ...columns.flatMap(({ policy, way }) => [`${policy}, ${way}`, 'of plain'])],
    many.map(({ sockets, plain: base, policies }) => [
      String(sockets),
      rate(base),
      ...columns.flatMap(({ policy, way }) => cells(policies[policy][way])),
    ]),
  )
}

await benchCommand('bench:pvcalls', ABOUT, OPTIONS, main)
