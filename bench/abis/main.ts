/**
 * `npm run bench:abis`: two levels, three levels and FIFO in one run. Times are of the library's own path: a raise is the
 * port operation that a send ends in, a drain is the guest driver's upcall with handlers that count. Samples of all ABIs
 * interleave; medians. A sample in which an event is missing or invented ends the bench with exit code 1.
 */

import { writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { bytes, count } from '../../src/cli/format.js'
import { seeded } from '../../src/cli/random.js'
import { table } from '../../src/cli/table.js'
import { ABIS, type Abi, Machine, mostChannels, nameOf, type Shape } from './machine.js'

const HELP = `usage: npm run bench:abis -- [options]

  --bits 32|64    word width of the guest (default 64)
  --samples N     samples of each cell (default 41)
  --seed N        for the choice of ports (default 1)
  --single        the build without atomics
  --markdown      tables as Markdown
  --json FILE     write all figures to a file as well
  --help          this text
`

/** A contender of a table: an ABI, or an ABI driven in another way. */
interface Contender {
  name: string
  abi: Abi
  batch?: number
}
const SENDERS: readonly Contender[] = ABIS.map((abi) => ({ name: nameOf(abi), abi }))
const CONSUMERS: readonly Contender[] = [...SENDERS, { name: 'FIFO, batches', abi: 'fifo', batch: 1024 }]

/** Figures of one table: rows by label, a figure per contender; null = the ABI has not so many channels. */
interface Figures {
  title: string
  unit: string
  corner: string
  columns: string[]
  rows: { label: string; cells: (number | null)[] }[]
}

const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1]!
const ms = () => performance.now()

class Bench {
  readonly #bits: 32 | 64
  readonly #threads: boolean
  readonly #samples: number
  readonly #random: (n: number) => number
  readonly #machines = new Map<string, Machine>()
  readonly #clockNs: number

  constructor(options: { bits: 32 | 64; threads: boolean; samples: number; seed: number }) {
    this.#bits = options.bits
    this.#threads = options.threads
    this.#samples = options.samples
    this.#random = seeded(options.seed)
    this.#clockNs = median(Array.from({ length: 1001 }, () => -ms() + ms())) * 1e6
  }

  #machine({ abi, batch }: Contender, channels: number): Machine | null {
    if (channels > mostChannels(abi, this.#bits)) return null
    const key = `${abi} ${batch} ${channels}`
    let machine = this.#machines.get(key)
    if (!machine) {
      const shape: Shape = { abi, channels, bits: this.#bits, threads: this.#threads, ...(batch && { batch }) }
      machine = new Machine(shape)
      this.#machines.set(key, machine)
      for (let i = 0; i < 30; i++) this.#sample(machine, 256)
    }
    return machine
  }

  /** k random channels raised and drained; ns a raise and ns a handled event. @throws Error if the count is off. */
  #sample(machine: Machine, k: number): [sendNs: number, consumeNs: number] {
    const { ports } = machine
    const chosen = new Set<number>()
    while (chosen.size < Math.min(k, ports.length)) chosen.add(ports[this.#random(ports.length)]!)
    const list = [...chosen]
    machine.handled = 0
    const t0 = ms()
    machine.raise(list)
    const t1 = ms()
    machine.drain()
    const t2 = ms()
    if (machine.handled !== list.length)
      throw new Error(`${nameOf(machine.shape.abi)}: ${list.length} events were raised and ${machine.handled} handled`)
    const perEvent = (time: number) => Math.max(0, time * 1e6 - this.#clockNs) / list.length
    return [perEvent(t1 - t0), perEvent(t2 - t1)]
  }

  /** Send and consume for each (channels, pending). One event at a time is sampled in runs of 64, so that the clock counts for little. */
  sendAndConsume(sizes: readonly (readonly [channels: number, pending: number])[]): [Figures, Figures] {
    const send: Figures = {
      title: 'Send',
      unit: 'ns per event',
      corner: 'channels, pending',
      columns: SENDERS.map((c) => c.name),
      rows: [],
    }
    const consume: Figures = { ...send, title: 'Consume', columns: CONSUMERS.map((c) => c.name), rows: [] }
    for (const [channels, pending] of sizes) {
      const machines = CONSUMERS.map((contender) => this.#machine(contender, channels))
      const times = machines.map(() => ({ send: [] as number[], consume: [] as number[] }))
      for (let i = 0; i < this.#samples; i++)
        machines.forEach((machine, which) => {
          if (!machine) return
          const [s, c] = pending === 1 ? this.#ones(machine) : this.#sample(machine, pending)
          times[which]!.send.push(s)
          times[which]!.consume.push(c)
        })
      const label = `${count(channels)}, ${count(pending)}`
      const cells = (what: 'send' | 'consume') => times.map((time, i) => (machines[i] ? median(time[what]) : null))
      send.rows.push({ label, cells: cells('send').slice(0, SENDERS.length) })
      consume.rows.push({ label, cells: cells('consume') })
    }
    return [send, consume]
  }

  /** 64 times one event, raised and drained; the drains are what is left of the whole. */
  #ones(machine: Machine): [number, number] {
    const { ports } = machine
    const list = Array.from({ length: 64 }, () => ports[this.#random(ports.length)]!)
    machine.handled = 0
    let sendMs = 0
    const t0 = ms()
    for (const port of list) {
      const t = ms()
      machine.raise([port])
      sendMs += ms() - t
      machine.drain()
    }
    const all = ms() - t0
    if (machine.handled !== list.length)
      throw new Error(`${machine.handled} of ${list.length} single events were handled`)
    const sendNs = Math.max(0, (sendMs * 1e6) / list.length - this.#clockNs)
    return [sendNs, Math.max(0, (all * 1e6) / list.length - sendNs - 2 * this.#clockNs)]
  }

  /** From the upcall to the handler of an urgent event that was raised last and has the highest port number. */
  latency(behind: readonly number[]): Figures {
    const figures: Figures = {
      title: 'Latency of an urgent event behind k others',
      unit: 'µs',
      corner: 'k',
      columns: CONSUMERS.map((c) => c.name),
      rows: [],
    }
    for (const k of behind) {
      const machines = CONSUMERS.map((contender) => this.#machine(contender, k + 1))
      const times = machines.map(() => [] as number[])
      for (let i = 0; i < this.#samples; i++)
        machines.forEach((machine, which) => {
          if (!machine) return
          // The urgent one alone first: a tree's scan goes on behind the last port that it served, so it comes last now.
          machine.raise(machine.ports.subarray(k))
          machine.drain()
          machine.handled = 0
          machine.raise(machine.ports)
          let at = 0
          machine.onUrgent = () => {
            at = ms()
          }
          const t0 = ms()
          machine.drain()
          machine.onUrgent = () => {}
          if (machine.handled !== k + 1) throw new Error(`${machine.handled} of ${k + 1} events were handled`)
          times[which]!.push(at - t0)
        })
      figures.rows.push({ label: count(k), cells: times.map((time, i) => (machines[i] ? median(time) * 1e3 : null)) })
    }
    return figures
  }

  /** Bytes of a domain with n channels: what the guest gives, and what the hypervisor keeps beside its port table. */
  memory(sizes: readonly number[]): Figures {
    const figures: Figures = {
      title: 'Memory per domain, one vCPU',
      unit: 'bytes',
      corner: 'channels',
      columns: ABIS.flatMap((abi) => [`${nameOf(abi)}: guest`, 'hypervisor']),
      rows: [],
    }
    for (const channels of sizes)
      figures.rows.push({
        label: count(channels),
        cells: SENDERS.flatMap((contender) => {
          const machine = this.#machine(contender, channels)
          return machine ? [machine.guestBytes, machine.privateBytes] : [null, null]
        }),
      })
    return figures
  }
}

const cellText = (value: number | null, unit: string): string => {
  if (value === null) return '–'
  if (unit === 'bytes') return bytes(value)
  return value < 100 ? value.toFixed(1) : count(value)
}

function print(figures: Figures, markdown: boolean): string[] {
  const header = [figures.corner, ...figures.columns]
  const rows = figures.rows.map(({ label, cells }) => [label, ...cells.map((cell) => cellText(cell, figures.unit))])
  const unit = figures.unit === 'bytes' ? '' : `, ${figures.unit}`
  if (!markdown) return ['', `${figures.title}${unit}`, ...table(header, rows).map((line) => `  ${line}`)]
  const line = (row: string[]) => `| ${row.join(' | ')} |`
  return [
    '',
    `**${figures.title}**${unit}`,
    '',
    line(header),
    line(header.map((_, i) => (i ? '---:' : '---'))),
    ...rows.map(line),
  ]
}

function main(): void {
  const { values } = parseArgs({
    options: {
      bits: { type: 'string', default: '64' },
      samples: { type: 'string', default: '41' },
      seed: { type: 'string', default: '1' },
      single: { type: 'boolean', default: false },
      markdown: { type: 'boolean', default: false },
      json: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) {
    process.stdout.write(HELP)
    return
  }
  const bits = values.bits === '32' ? 32 : 64
  const threads = !values.single
  const bench = new Bench({
    bits,
    threads,
    samples: Math.max(3, Number(values.samples) || 41),
    seed: Number(values.seed) || 1,
  })
  const many = 100_000
  const pairs = (
    [
      [1000, 1],
      [1000, 16],
      [1000, 256],
      [1000, 1000],
      [4000, 4000],
      [many, 1],
      [many, 256],
      [many, 4096],
      [many, 65_536],
    ] as const
  ).filter(([channels]) => bits === 64 || channels < many)
  const [send, consume] = bench.sendAndConsume(pairs)
  const latency = bench.latency([1, 16, 256, bits === 64 ? 4000 : 1000, ...(bits === 64 ? [65_536] : [30_000])])
  const memory = bench.memory([10, 1000, many])
  const machine = `${cpus()[0]?.model ?? 'unknown processor'}, Node ${process.version}, ${bits}-bit guest, ${threads ? 'with' : 'without'} atomics, seed ${values.seed}, medians of ${values.samples} samples`
  const lines = [machine, ...[send, consume, latency, memory].flatMap((figures) => print(figures, values.markdown))]
  process.stdout.write(`${lines.join('\n')}\n`)
  if (values.json)
    writeFileSync(values.json, `${JSON.stringify({ machine, send, consume, latency, memory }, null, 2)}\n`)
}

try {
  main()
} catch (error) {
  process.stderr.write(`bench:abis: ${(error as Error).message}\n`)
  process.exitCode = 1
}
