/**
 * Requests per second through the unix socket, ours and the C daemon's with the same client in the same run; and memory
 * per 100,000 nodes. `npm run bench:xenstore`; the C daemon comes with `.ci/xenstore-tools`.
 *
 * Rounds of the two daemons alternate, so that a change of the machine's speed meets both; the median counts.
 */

import { CheckError } from '../../src/cli/errors.js'
import { bytes, count as thousands } from '../../src/cli/format.js'
import { whole } from '../../src/cli/options.js'
import { type Summary, summarize } from '../../src/cli/statistics.js'
import type { Row } from '../../src/cli/table.js'
import { XS } from '../../src/xenstore/index.js'
import { BENCH, benchCommand } from '../options.js'
import { BenchClient, request } from './client.js'
import { type Daemon, startC, startOurs } from './daemons.js'

const ABOUT = `Requests per second through a unix socket, one at a time and 100 at a time, events to 1,000 watchers, and memory for 100,000 nodes. Beside it, with the same client in the same run, Xen's C daemon if .ci/xenstore-tools has brought it; an aim is what our rate is to be of its rate.`

const OPTIONS = {
  samples: BENCH.samples(7, 3),
  time: whole('milliseconds of each load in a round', { min: 1, max: 60_000, value: 'MS', preset: 400 }),
}

/** How long, and how often. */
interface Plan {
  readonly rounds: number
  readonly ms: number
}

const DEPTH = 100
const WATCHERS = 1000
const NODES = 100_000

/** One kind of load: returns how many requests (or events) it made. */
interface Load {
  readonly name: string
  /** What our rate is to be of the C daemon's. */
  readonly aim?: number
  readonly unit: string
  run(client: BenchClient, all: readonly BenchClient[]): Promise<number>
}

const one = (bytes: Uint8Array) => async (client: BenchClient) => {
  for (let i = 0; i < 100; i++) await client.exchange(bytes, 1)
  return 100
}
const many = (bytes: Uint8Array) => {
  const all = Buffer.concat(Array.from({ length: DEPTH }, () => bytes))
  return async (client: BenchClient) => {
    for (let i = 0; i < 10; i++) await client.exchange(all, DEPTH)
    return 10 * DEPTH
  }
}

const read = request(XS.READ, '/bench/key|')
const write = request(XS.WRITE, '/bench/key|some value')
const list = request(XS.DIRECTORY, '/bench/dir|')
/** A list of 4,000 bytes, as much as one reply holds. */
const longList = request(XS.DIRECTORY, '/bench/long|')
const LONG = 1000

/** Start, read, write, commit: as `xs_transaction_start` and so on do, one request at a time. */
async function transaction(client: BenchClient): Promise<number> {
  for (let i = 0; i < 25; i++) {
    await client.exchange(request(XS.TRANSACTION_START, '|'), 1)
    const id = Number(client.last)
    await client.exchange(request(XS.READ, '/bench/key|', id), 1)
    await client.exchange(request(XS.WRITE, `/bench/key|${i}`, id), 1)
    await client.exchange(request(XS.TRANSACTION_END, 'T|', id), 1)
  }
  return 25
}

/** The same without waiting: ids are 1, 2, 3 and so on within a connection. */
async function transactions(client: BenchClient): Promise<number> {
  await client.exchange(request(XS.TRANSACTION_START, '|'), 1)
  const first = Number(client.last)
  await client.exchange(request(XS.TRANSACTION_END, 'F|', first), 1)
  const all: Uint8Array[] = []
  for (let i = 1; i <= 100; i++)
    all.push(
      request(XS.TRANSACTION_START, '|'),
      request(XS.READ, '/bench/key|', first + i),
      request(XS.WRITE, `/bench/key|${i}`, first + i),
      request(XS.TRANSACTION_END, 'T|', first + i),
    )
  await client.exchange(Buffer.concat(all), all.length)
  return 100
}

/** A write that a thousand connections watch. */
async function fanOut(client: BenchClient, watchers: readonly BenchClient[]): Promise<number> {
  const totals = watchers.map(({ replies, events }) => replies + events)
  await client.exchange(request(XS.WRITE, '/watched|v'), 1)
  await Promise.all(watchers.map((watcher, i) => watcher.received(totals[i]! + 1)))
  return watchers.length
}

const LOADS: readonly Load[] = [
  { name: 'read, one at a time', aim: 1, unit: 'requests', run: one(read) },
  { name: 'write, one at a time', aim: 1, unit: 'requests', run: one(write) },
  { name: 'directory (20 names), one at a time', aim: 1, unit: 'requests', run: one(list) },
  { name: `directory (${thousands(LONG)} names), one at a time`, aim: 1, unit: 'requests', run: one(longList) },
  { name: 'transaction (read, write), one at a time', aim: 1, unit: 'commits', run: transaction },
  { name: `read, ${DEPTH} at a time`, aim: 1.5, unit: 'requests', run: many(read) },
  { name: `write, ${DEPTH} at a time`, aim: 1.5, unit: 'requests', run: many(write) },
  { name: `directory, ${DEPTH} at a time`, aim: 1.5, unit: 'requests', run: many(list) },
  { name: 'transaction, 100 at a time', aim: 1, unit: 'commits', run: transactions },
]

async function prepare(client: BenchClient): Promise<void> {
  await client.exchange(write, 1)
  for (let i = 0; i < 20; i++) await client.exchange(request(XS.WRITE, `/bench/dir/child-${i}|x`), 1)
  const names = Array.from({ length: LONG }, (_, i) => i.toString(36).padStart(3, '0'))
  for (const name of names) await client.exchange(request(XS.WRITE, `/bench/long/${name}|x`), 1)
}

/** Per second, for at least `ms`. */
async function rate(load: Load, ms: number, client: BenchClient, all: readonly BenchClient[]): Promise<number> {
  const begin = performance.now()
  let count = 0
  let now = begin
  for (; now - begin < ms; now = performance.now()) count += await load.run(client, all)
  if (client.errors) throw new CheckError(`bench:xenstore: ${load.name}: ${client.errors} errors`)
  return (count * 1000) / (now - begin)
}

/** Rates of all loads, round by round, for each daemon. */
async function measure(daemons: readonly Daemon[], { rounds, ms }: Plan): Promise<Map<string, number[][]>> {
  const clients = await Promise.all(daemons.map(({ socket }) => BenchClient.open(socket)))
  for (const client of clients) await prepare(client)
  const results = new Map<string, number[][]>()
  for (const load of LOADS) {
    const rates: number[][] = daemons.map(() => [])
    for (let round = -1; round < rounds; round++)
      // A, B, B, A: neither daemon always comes second.
      for (const [i, client] of round % 2 ? [...clients.entries()].reverse() : clients.entries()) {
        const value = await rate(load, ms, client, [])
        if (round >= 0) rates[i]!.push(value)
      }
    results.set(load.name, rates)
  }
  for (const client of clients) client.close()
  return results
}

/** One writer and a thousand connections that watch what it writes. */
async function openWatchers({ socket }: Daemon): Promise<{ client: BenchClient; watchers: BenchClient[] }> {
  const client = await BenchClient.open(socket)
  const watchers: BenchClient[] = []
  for (let i = 0; i < WATCHERS; i++) {
    const watcher = await BenchClient.open(socket)
    await watcher.exchange(request(XS.WATCH, '/watched|token|'), 2)
    watchers.push(watcher)
  }
  return { client, watchers }
}

/** Events per second to a thousand connections that watch one node. */
async function measureFanOut(daemons: readonly Daemon[], { rounds, ms }: Plan): Promise<number[][]> {
  const load: Load = { name: 'watch', unit: 'events', run: fanOut }
  const groups: Awaited<ReturnType<typeof openWatchers>>[] = []
  for (const daemon of daemons) groups.push(await openWatchers(daemon))
  const rates: number[][] = daemons.map(() => [])
  for (let round = -1; round < rounds; round++)
    for (const [i, { client, watchers }] of groups.entries()) {
      const value = await rate(load, ms, client, watchers)
      if (round >= 0) rates[i]!.push(value)
    }
  for (const { client, watchers } of groups) for (const each of [client, ...watchers]) each.close()
  return rates
}

/** Bytes of memory for NODES nodes with short values, a hundred in each directory. */
async function measureMemory(daemons: readonly Daemon[]): Promise<number[][]> {
  const grown: number[][] = []
  for (const { socket, memory } of daemons) {
    const client = await BenchClient.open(socket)
    const before = memory()
    for (let i = 0; i < NODES; i += 100) {
      const batch = Array.from({ length: 100 }, (_, j) => request(XS.WRITE, `/nodes/${i / 100}/child-${j}|value ${j}`))
      await client.exchange(Buffer.concat(batch), 100)
    }
    // Let a collector run if there is one.
    for (let i = 0; i < 20_000; i += 100) await client.exchange(Buffer.concat(Array(100).fill(read)), 100)
    grown.push([memory() - before])
    client.close()
  }
  return grown
}

/** One line of the result. Rates are per second, memory is in bytes. */
interface Result {
  readonly name: string
  readonly evtchn: Summary
  readonly c?: Summary
  /** Median of the rounds' ratios, ours to the C daemon's, and its quartiles. */
  readonly ratio?: Summary
  /** What the ratio is to be at least. */
  readonly aim?: number
}

function result(name: string, [ours, c]: readonly number[][], aim?: number): Result {
  return {
    name,
    evtchn: summarize(ours!),
    ...(c && { c: summarize(c), ratio: summarize(ours!.map((rate, round) => rate / c[round]!)) }),
    ...(aim !== undefined && { aim }),
  }
}

async function measureAll(daemons: readonly Daemon[], plan: Plan): Promise<Result[]> {
  const rates = await measure(daemons, plan)
  return [
    ...LOADS.map(({ name, aim }) => result(name, rates.get(name)!, aim)),
    result(`events to ${thousands(WATCHERS)} watchers`, await measureFanOut(daemons, plan)),
    result(MEMORY, await measureMemory(daemons)),
  ]
}

const MEMORY = `memory for ${thousands(NODES)} nodes`

/** Is the aim reached? Undefined: there is none, or nothing to compare with. */
function reached({ ratio, aim }: Result): boolean | undefined {
  return ratio && aim !== undefined ? ratio.median >= aim : undefined
}

function row(each: Result): Row {
  const { name, evtchn, c, ratio, aim } = each
  const amount = ({ median: value }: Summary) => (name === MEMORY ? bytes(value) : thousands(value))
  const met = reached(each)
  return [
    name,
    amount(evtchn),
    c ? amount(c) : 'not run',
    ratio?.median.toFixed(2),
    ratio && ratio.samples > 1 ? `${ratio.low.toFixed(2)} – ${ratio.high.toFixed(2)}` : undefined,
    aim === undefined ? undefined : String(aim),
    met === undefined ? '' : met ? 'met' : 'missed',
  ]
}

await benchCommand('bench:xenstore', ABOUT, OPTIONS, async ({ values, screen }) => {
  const rounds = values.samples ?? (values.quick ? 3 : 7)
  const plan: Plan = { rounds, ms: values.time }
  const ours = await startOurs()
  const c = await startC()
  const daemons = typeof c === 'string' ? [ours] : [ours, c]
  try {
    screen.progress(`${LOADS.length} loads, ${rounds} rounds`)
    const results = await measureAll(daemons, plan)
    const beside = typeof c === 'string' ? `C daemon: not run: ${c}` : `beside it: ${c.name}, over the shim`
    const aimed = results.map(reached).filter((met) => met !== undefined)
    const title = `Per second, medians of ${rounds} rounds; the ratio is the median of the rounds' ratios`
    return {
      about: [beside],
      tables: [{ title, columns: ['load', 'evtchn', 'C', 'ratio', 'quartiles', 'aim', ''], rows: results.map(row) }],
      notes: [
        aimed.length
          ? `${aimed.filter(Boolean).length} of ${aimed.length} aims met`
          : 'no aim can be judged without the C daemon',
      ],
      result: { beside, ...plan, results },
    }
  } finally {
    for (const daemon of daemons) daemon.stop()
  }
})
