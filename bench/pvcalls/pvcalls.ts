/**
 * `npm run bench:pvcalls`: MB/s through pvcalls by ring order, and by number of sockets under both policies, each against
 * plain sockets on the same loopback in the same run. In each round every contender runs once, in an order that turns, so
 * that what the machine does meanwhile touches all; a ratio is taken within a round, and the median round is shown.
 */

import { whole } from '../../src/cli/options.js'
import type { Screen } from '../../src/cli/screen.js'
import { type Summary, summarize } from '../../src/cli/statistics.js'
import { IO_POLICIES, type IoPolicyName } from '../../src/dom0/index.js'
import { TcpHost } from '../../src/node/tcp_host.js'
import { BENCH, type BenchTable, benchCommand } from '../options.js'
import { Peers, plain, through, type Way } from './streams.js'

/** What runs in a round. */
interface Contender {
  readonly name: string
  run(): Promise<number>
}

/** MB/s, and its ratio to the same round's plain run. */
interface Figure {
  readonly mbPerSecond: Summary
  readonly ratio: Summary
}

/** How much is measured, and where progress is shown. */
interface Effort {
  readonly rounds: number
  readonly bytes: number
  readonly screen: Screen
}

/** Runs rounds; the first contender is what the others are compared with. One more round before warms up. */
async function runRounds(
  contenders: readonly Contender[],
  { rounds, screen }: Effort,
  what: string,
): Promise<Map<string, Figure>> {
  const rates = new Map(contenders.map(({ name }) => [name, [] as number[]]))
  for (let round = -1; round < rounds; round++) {
    screen.steps(`${what}: round`, round + 1, rounds + 1)
    for (let i = 0; i < contenders.length; i++) {
      const { name, run } = contenders[(i + round + 1) % contenders.length]!
      const rate = await run()
      if (round >= 0) rates.get(name)!.push(rate)
    }
  }
  const base = rates.get(contenders[0]!.name)!
  return new Map(
    [...rates].map(([name, each]) => [
      name,
      { mbPerSecond: summarize(each), ratio: summarize(each.map((rate, i) => rate / base[i]!)) },
    ]),
  )
}

const ABOUT = `MB/s through pvcalls over TCP on loopback, by ring order and by number of sockets, beside plain sockets.`
const OPTIONS = {
  samples: BENCH.samples(11, 3),
  mib: whole('MiB of a run', { min: 1, max: 4096, shown: '64; 8 with --quick' }),
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
  readonly plain: Summary
  readonly policies: Readonly<Record<IoPolicyName, Readonly<Record<Way, Figure>>>>
}

const hostOf = (policy: IoPolicyName): TcpHost => new TcpHost({ policy, frames: 8192, cpus: CPUS })

async function byOrder(peers: Peers, effort: Effort) {
  const { bytes } = effort
  const host = hostOf('bounded')
  const figures = await runRounds(
    [
      { name: 'plain', run: () => plain(peers, 1, bytes) },
      ...WAYS.flatMap((way) =>
        ORDERS.map((order) => ({ name: `${way} ${order}`, run: () => through(host, peers, way, 1, bytes, order) })),
      ),
    ],
    effort,
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

async function bySockets(peers: Peers, effort: Effort, sizes: readonly number[]): Promise<SocketsRow[]> {
  const hosts = IO_POLICIES.map((policy) => ({ policy, host: hostOf(policy) }))
  const rows: SocketsRow[] = []
  for (const sockets of sizes) {
    const each = Math.floor(effort.bytes / sockets)
    const contenders = hosts.flatMap(({ policy, host }) =>
      WAYS.map((way) => ({
        name: `${policy} ${way}`,
        run: () => through(host, peers, way, sockets, each, MANY_ORDER),
      })),
    )
    const all = [{ name: 'plain', run: () => plain(peers, sockets, each) }, ...contenders]
    const figures = await runRounds(all, effort, `${sockets} sockets`)
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

const rate = ({ median }: Summary): string => median.toFixed(0)
const cells = ({ mbPerSecond, ratio }: Figure): string[] => [rate(mbPerSecond), ratio.median.toFixed(2)]

const orderTable = (base: Summary, orders: readonly OrderRow[]): BenchTable => ({
  title: 'One socket, by ring order',
  unit: 'MB per second of processor time',
  columns: ['ring order', 'KiB a direction', 'to the guest', 'of plain', 'from the guest', 'of plain'],
  rows: [
    ['plain', undefined, rate(base), '1.00', '', ''],
    ...orders.map(({ order, bytesPerDirection, toGuest, fromGuest }) => [
      String(order),
      String(bytesPerDirection / 1024),
      ...cells(toGuest),
      ...cells(fromGuest),
    ]),
  ],
})

function socketsTable(many: readonly SocketsRow[]): BenchTable {
  const columns = IO_POLICIES.flatMap((policy) => WAYS.map((way) => ({ policy, way })))
  return {
    title: `Many sockets, ring order ${MANY_ORDER}, ${CPUS} CPUs`,
    unit: 'MB per second of processor time',
    columns: ['sockets', 'plain', ...columns.flatMap(({ policy, way }) => [`${policy}, ${way}`, 'of plain'])],
    rows: many.map(({ sockets, plain: base, policies }) => [
      String(sockets),
      rate(base),
      ...columns.flatMap(({ policy, way }) => cells(policies[policy][way])),
    ]),
  }
}

await benchCommand('bench:pvcalls', ABOUT, OPTIONS, async ({ values, screen }) => {
  const { quick } = values
  const rounds = values.samples ?? (quick ? 3 : 11)
  const mib = values.mib ?? (quick ? 8 : 64)
  const effort: Effort = { rounds, bytes: mib * 2 ** 20, screen }
  const peers = await Peers.listen()
  const { plainMbPerSecond, orders } = await byOrder(peers, effort)
  const many = await bySockets(peers, effort, quick ? [1, 16] : [1, 4, 16, 64, 256])
  peers.close()
  return {
    about: [`medians of ${rounds} rounds of ${mib} MiB`],
    tables: [orderTable(plainMbPerSecond, orders), socketsTable(many)],
    result: {
      unit: 'MB/s',
      bytes: effort.bytes,
      cpusOfDom0: CPUS,
      plainMbPerSecond,
      orders,
      manyOrder: MANY_ORDER,
      many,
    },
  }
})
