/**
 * `npm run bench:pvcalls`: MB/s through pvcalls by ring order, and by number of sockets under both policies, each against
 * plain sockets on the same loopback in the same run. In each round every contender runs once, in an order that turns, so
 * that what the machine does meanwhile touches all; a ratio is taken within a round, and the median round is shown.
 *
 * Options: --quick, --rounds N, --mib N, --json, --output FILE.
 */

import { writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { table } from '../../src/cli/screen.js'
import { TcpHost } from '../../src/cli/tcp_host.js'
import { IO_POLICIES, type IoPolicyName } from '../../src/dom0/index.js'
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

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    mib: { type: 'string' },
    json: { type: 'boolean', default: false },
    output: { type: 'string' },
  },
})
const roundCount = Number(values.rounds ?? (values.quick ? 3 : 11))
const bytes = Number(values.mib ?? (values.quick ? 8 : 64)) * 2 ** 20
const ORDERS = [1, 2, 3, 4, 5, 6, 7, 8, 9]
const SOCKETS = values.quick ? [1, 16] : [1, 4, 16, 64, 256]
const WAYS: readonly Way[] = ['to the guest', 'from the guest']
/** Ring order of the runs with many sockets. */
const MANY_ORDER = 4
const CPUS = 8

const peers = await Peers.listen()
const hostOf = (policy: IoPolicyName): TcpHost => new TcpHost({ policy, frames: 8192, cpus: CPUS })

// By ring order.
const one = hostOf('bounded')
const byOrder = await rounds(
  [
    { name: 'plain', run: () => plain(peers, 1, bytes) },
    ...WAYS.flatMap((way) =>
      ORDERS.map((order) => ({ name: `${way} ${order}`, run: () => through(one, peers, way, 1, bytes, order) })),
    ),
  ],
  roundCount,
  'ring orders',
)
one.close()
const orders = ORDERS.map((order) => ({
  order,
  bytesPerDirection: (2 ** order * 4096) / 2,
  toGuest: byOrder.get(`to the guest ${order}`)!,
  fromGuest: byOrder.get(`from the guest ${order}`)!,
}))

// By number of sockets, which share the bytes.
const hosts = IO_POLICIES.map((policy) => ({ policy, host: hostOf(policy) }))
const many: { sockets: number; plain: number; policies: Record<string, Record<Way, Figure>> }[] = []
for (const sockets of SOCKETS) {
  const each = Math.floor(bytes / sockets)
  const figures = await rounds(
    [
      { name: 'plain', run: () => plain(peers, sockets, each) },
      ...hosts.flatMap(({ policy, host }) =>
        WAYS.map((way) => ({
          name: `${policy} ${way}`,
          run: () => through(host, peers, way, sockets, each, MANY_ORDER),
        })),
      ),
    ],
    roundCount,
    `${sockets} sockets`,
  )
  const policies = Object.fromEntries(
    IO_POLICIES.map((policy) => [
      policy,
      Object.fromEntries(WAYS.map((way) => [way, figures.get(`${policy} ${way}`)!])) as Record<Way, Figure>,
    ]),
  )
  many.push({ sockets, plain: figures.get('plain')!.mbPerSecond, policies })
}
for (const { host } of hosts) host.close()
peers.close()

const about = {
  cpu: cpus()[0]?.model ?? 'unknown',
  node: process.version,
  rounds: roundCount,
  bytes,
  cpusOfDom0: CPUS,
  plainMbPerSecond: byOrder.get('plain')!.mbPerSecond,
}
const json = JSON.stringify({ ...about, orders, manyOrder: MANY_ORDER, many }, null, 2)
if (values.output) writeFileSync(values.output, `${json}\n`)
if (values.json) process.stdout.write(`${json}\n`)
else {
  const rate = (value: number) => value.toFixed(0)
  const cells = ({ mbPerSecond, ratio }: Figure) => [rate(mbPerSecond), ratio.toFixed(2)]
  process.stdout.write(
    `${about.cpu}, Node ${about.node}; medians of ${roundCount} rounds of ${bytes / 2 ** 20} MiB; MB per second of processor time\n\n`,
  )
  const first = table(
    ['ring order', 'KiB a direction', 'to the guest', 'of plain', 'from the guest', 'of plain'],
    [
      ['plain', '–', rate(about.plainMbPerSecond), '1.00', '', ''],
      ...orders.map(({ order, bytesPerDirection, toGuest, fromGuest }) => [
        String(order),
        String(bytesPerDirection / 1024),
        ...cells(toGuest),
        ...cells(fromGuest),
      ]),
    ],
  )
  const second = table(
    ['sockets', 'plain', ...IO_POLICIES.flatMap((policy) => WAYS.flatMap((way) => [`${policy}, ${way}`, 'of plain']))],
    many.map(({ sockets, plain: base, policies }) => [
      String(sockets),
      rate(base),
      ...IO_POLICIES.flatMap((policy) => WAYS.flatMap((way) => cells(policies[policy]![way]))),
    ]),
  )
  process.stdout.write(`${first.join('\n')}\n\nring order ${MANY_ORDER}, ${CPUS} CPUs\n${second.join('\n')}\n`)
}
