/**
 * Requests per second through the unix socket, ours and the C daemon's with the same client in the same run; and memory
 * per 100,000 nodes. `npm run bench:xenstore`; the C daemon comes with `.ci/xenstore-tools`.
 *
 * Rounds of the two daemons alternate, so that a change of the machine's speed meets both; the median counts.
 */

import { writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { table } from '../../src/cli/table.js'
import { XS } from '../../src/xenstore/index.js'
import { type BenchOption, type BenchValues, benchCommand } from '../options.js'
import { BenchClient, request } from './client.js'
import { type Daemon, startC, startOurs } from './daemons.js'

const ABOUT = `Requests per second through a unix socket, one at a time and 100 at a time, events to 1,000 watchers, and memory for 100,000
nodes. Beside it, with the same client in the same run, Xen's C daemon if .ci/xenstore-tools has brought it; an aim is what
our rate is to be of its rate.`

const OPTIONS: Readonly<Record<string, BenchOption>> = {
  rounds: { short: 'r', value: 'N', default: '7', help: 'rounds, of which medians are taken' },
  time: { short: 't', value: 'MS', default: '400', help: 'milliseconds of each load in a round' },
  json: { short: 'j', help: 'print JSON instead of a table' },
  output: { short: 'o', value: 'FILE', help: 'write the JSON to a file as well' },
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
  { name: 'read, one at a time', aim: 0.9, unit: 'requests', run: one(read) },
  { name: 'write, one at a time', aim: 0.9, unit: 'requests', run: one(write) },
  { name: 'directory (20 names), one at a time', aim: 0.9, unit: 'requests', run: one(list) },
  { name: 'transaction (read, write), one at a time', aim: 1, unit: 'commits', run: transaction },
  { name: `read, ${DEPTH} at a time`, aim: 1.5, unit: 'requests', run: many(read) },
  { name: `write, ${DEPTH} at a time`, aim: 1.5, unit: 'requests', run: many(write) },
  { name: `directory, ${DEPTH} at a time`, aim: 1.5, unit: 'requests', run: many(list) },
  { name: 'transaction, 100 at a time', aim: 1, unit: 'commits', run: transactions },
]

async function prepare(client: BenchClient): Promise<void> {
  await client.exchange(write, 1)
  for (let i = 0; i < 20; i++) await client.exchange(request(XS.WRITE, `/bench/dir/child-${i}|x`), 1)
}

/** Per second, for at least `ms`. */
async function rate(load: Load, ms: number, client: BenchClient, all: readonly BenchClient[]): Promise<number> {
  const begin = performance.now()
  let count = 0
  let now = begin
  for (; now - begin < ms; now = performance.now()) count += await load.run(client, all)
  if (client.errors) throw new Error(`${load.name}: ${client.errors} errors`)
  return (count * 1000) / (now - begin)
}

const median = (values: number[]) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!

/** Medians of all loads for each daemon. */
async function measure(daemons: readonly Daemon[], { rounds, ms }: Plan): Promise<Map<string, number[]>> {
  const clients = await Promise.all(daemons.map(({ socket }) => BenchClient.open(socket)))
  for (const client of clients) await prepare(client)
  const results = new Map<string, number[]>()
  for (const load of LOADS) {
    const rates: number[][] = daemons.map(() => [])
    for (let round = -1; round < rounds; round++)
      for (const [i, client] of clients.entries()) {
        const value = await rate(load, ms, client, [])
        if (round >= 0) rates[i]!.push(value)
      }
    results.set(load.name, rates.map(median))
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
async function measureFanOut(daemons: readonly Daemon[], { rounds, ms }: Plan): Promise<number[]> {
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
  return rates.map(median)
}

/** Bytes of memory for NODES nodes with short values, a hundred in each directory. */
async function measureMemory(daemons: readonly Daemon[]): Promise<number[]> {
  const grown: number[] = []
  for (const { socket, memory } of daemons) {
    const client = await BenchClient.open(socket)
    const before = memory()
    for (let i = 0; i < NODES; i += 100) {
      const batch = Array.from({ length: 100 }, (_, j) => request(XS.WRITE, `/nodes/${i / 100}/child-${j}|value ${j}`))
      await client.exchange(Buffer.concat(batch), 100)
    }
    // Let a collector run if there is one.
    for (let i = 0; i < 20_000; i += 100) await client.exchange(Buffer.concat(Array(100).fill(read)), 100)
    grown.push(memory() - before)
    client.close()
  }
  return grown
}

/** One line of the result. Rates are per second, memory is in bytes. */
interface Result {
  readonly name: string
  readonly evtchn: number
  readonly c: number | null
  readonly ratio: number | null
  /** What the ratio is to be at least. */
  readonly aim: number | null
}

function result(name: string, [evtchn, c]: readonly number[], aim: number | null = null): Result {
  return { name, evtchn: evtchn!, c: c ?? null, ratio: c === undefined ? null : evtchn! / c, aim }
}

async function measureAll(daemons: readonly Daemon[], plan: Plan): Promise<Result[]> {
  const rates = await measure(daemons, plan)
  return [
    ...LOADS.map(({ name, aim }) => result(name, rates.get(name)!, aim ?? null)),
    result(`events to ${thousands(WATCHERS)} watchers`, await measureFanOut(daemons, plan)),
    result(MEMORY, await measureMemory(daemons)),
  ]
}

const thousands = (value: number) => Math.round(value).toLocaleString('en')
const MEMORY = `memory for ${thousands(NODES)} nodes`

/** Is the aim reached? Null: there is none, or nothing to compare with. */
function reached({ ratio, aim }: Result): boolean | null {
  return ratio === null || aim === null ? null : ratio >= aim
}

function shown(results: readonly Result[], { rounds }: Plan): string[] {
  const lines = table(
    [`per second, median of ${rounds} rounds`, 'evtchn', 'C', 'ratio', 'aim', ''],
    results.map((each) => {
      const { name, evtchn, c, ratio, aim } = each
      const amount = (value: number) => (name === MEMORY ? `${(value / 2 ** 20).toFixed(1)} MiB` : thousands(value))
      const met = reached(each)
      return [
        name,
        amount(evtchn),
        c === null ? 'not run' : amount(c),
        ratio === null ? '–' : ratio.toFixed(2),
        aim === null ? '–' : String(aim),
        met === null ? '' : met ? 'met' : 'missed',
      ]
    }),
  )
  const aimed = results.map(reached).filter((met) => met !== null)
  if (!aimed.length) return [...lines, '', 'no aim can be judged without the C daemon']
  return [...lines, '', `${aimed.filter(Boolean).length} of ${aimed.length} aims met`]
}

async function main(values: BenchValues): Promise<void> {
  const plan: Plan = { rounds: values.number('rounds', 1, 1000), ms: values.number('time', 1, 60_000) }
  const output = values.text('output')
  const ours = await startOurs()
  const c = await startC()
  const daemons = typeof c === 'string' ? [ours] : [ours, c]
  try {
    const results = await measureAll(daemons, plan)
    const beside = typeof c === 'string' ? `C daemon: not run: ${c}` : `beside it: ${c.name}, over the shim`
    const machine = `${cpus()[0]?.model ?? 'unknown processor'}, ${cpus().length} processors, Node ${process.version}`
    const json = JSON.stringify({ machine, beside, ...plan, results }, null, 2)
    if (output) writeFileSync(output, `${json}\n`)
    if (values.is('json')) process.stdout.write(`${json}\n`)
    else process.stdout.write(`${[machine, beside, '', ...shown(results, plan)].join('\n')}\n`)
  } finally {
    for (const daemon of daemons) daemon.stop()
  }
}

await benchCommand('bench:xenstore', ABOUT, OPTIONS, main)
