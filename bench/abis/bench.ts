/**
 * Two levels, three levels and FIFO in one run, on the library's own path: a raise is the port operation that a send ends
 * in, a drain is the guest driver's upcall with handlers that count. Samples of all ABIs interleave. A sample in which an
 * event is missing or invented ends the bench.
 */

import { abiName, mostChannels } from '../../src/cli/abi.js'
import { CheckError } from '../../src/cli/errors.js'
import { count } from '../../src/cli/format.js'
import { type Random, seeded } from '../../src/cli/random.js'
import { median, type Summary, summarize } from '../../src/cli/statistics.js'
import { type Abi, Machine, type Shape } from './machine.js'

/** A contender of a table: an ABI, or an ABI driven in another way. */
interface Contender {
  readonly name: string
  readonly abi: Abi
  readonly batch?: number
}

/** Figures of one table: rows by label, a figure per contender; absent: the ABI has not so many channels. */
export interface Figures {
  readonly title: string
  readonly unit: 'ns per event' | 'µs' | 'bytes'
  readonly corner: string
  readonly columns: readonly string[]
  readonly rows: { label: string; cells: (Summary | number | undefined)[] }[]
}

/** What is measured. */
export interface BenchOptions {
  readonly abis: readonly Abi[]
  readonly bits: 32 | 64
  readonly threads: boolean
  readonly samples: number
  readonly seed: number
}

const ms = () => performance.now()
/** Events of a sample in which one event is pending at a time: reading the clock matters less. */
const ONES = 64

/** Machines of every ABI, made when they are needed, and what is measured on them. */
export class Bench {
  readonly #senders: readonly Contender[]
  readonly #consumers: readonly Contender[]
  readonly #bits: 32 | 64
  readonly #threads: boolean
  readonly #samples: number
  readonly #random: Random
  readonly #machines = new Map<string, Machine>()
  readonly #clockNs: number

  constructor(options: BenchOptions) {
    this.#senders = options.abis.map((abi) => ({ name: abiName(abi), abi }))
    const batches = options.abis.includes('fifo') ? [{ name: 'FIFO, batches', abi: 'fifo' as const, batch: 1024 }] : []
    this.#consumers = [...this.#senders, ...batches]
    this.#bits = options.bits
    this.#threads = options.threads
    this.#samples = options.samples
    this.#random = seeded(options.seed)
    this.#clockNs = median(Array.from({ length: 1001 }, () => -ms() + ms())) * 1e6
  }

  #machine({ abi, batch }: Contender, channels: number): Machine | undefined {
    if (channels > mostChannels(abi, this.#bits)) return undefined
    const key = `${abi} ${batch} ${channels}`
    let machine = this.#machines.get(key)
    if (!machine) {
      const shape: Shape = { abi, channels, bits: this.#bits, threads: this.#threads, ...(batch && { batch }) }
      machine = new Machine(shape)
      this.#machines.set(key, machine)
      for (let i = 0; i < 30; i++) this.#sample(machine, 256)
      // One event at a time is another path through the driver, which the engine compiles only when it is taken often.
      for (let i = 0; i < 200; i++) this.#ones(machine)
    }
    return machine
  }

  /** k random channels raised and drained; ns a raise and ns a handled event. @throws CheckError if the count is off. */
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
      throw new CheckError(
        `${abiName(machine.shape.abi)}: ${list.length} events were raised and ${machine.handled} handled`,
      )
    const perEvent = (time: number) => Math.max(0, time * 1e6 - this.#clockNs) / list.length
    return [perEvent(t1 - t0), perEvent(t2 - t1)]
  }

  /** Send and consume for each (channels, pending). One event at a time is sampled in runs of 64, so that the clock matters less. */
  sendAndConsume(sizes: readonly (readonly [channels: number, pending: number])[]): [Figures, Figures] {
    const send: Figures = {
      title: 'Send',
      unit: 'ns per event',
      corner: 'channels, pending',
      columns: this.#senders.map((c) => c.name),
      rows: [],
    }
    const consume: Figures = { ...send, title: 'Consume', columns: this.#consumers.map((c) => c.name), rows: [] }
    for (const [channels, pending] of sizes) {
      const machines = this.#consumers.map((contender) => this.#machine(contender, channels))
      const times = machines.map(() => ({ send: [] as number[], consume: [] as number[] }))
      for (let i = 0; i < this.#samples; i++)
        machines.forEach((machine, which) => {
          if (!machine) return
          const [s, c] = pending === 1 ? this.#ones(machine) : this.#sample(machine, pending)
          times[which]!.send.push(s)
          times[which]!.consume.push(c)
        })
      const label = `${count(channels)}, ${count(pending)}`
      const cells = (what: 'send' | 'consume') => times.map((time, i) => machines[i] && summarize(time[what]))
      send.rows.push({ label, cells: cells('send').slice(0, this.#senders.length) })
      consume.rows.push({ label, cells: cells('consume') })
    }
    return [send, consume]
  }

  /** So many times one event, raised and drained; the drains are what is left of the whole. */
  #ones(machine: Machine): [number, number] {
    const { ports } = machine
    const list = Array.from({ length: ONES }, () => ports[this.#random(ports.length)]!)
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
      throw new CheckError(`${machine.handled} of ${list.length} single events were handled`)
    const sendNs = Math.max(0, (sendMs * 1e6) / list.length - this.#clockNs)
    return [sendNs, Math.max(0, (all * 1e6) / list.length - sendNs - 2 * this.#clockNs)]
  }

  /** From the upcall to the handler of an urgent event that was raised last and has the highest port number. */
  latency(behind: readonly number[]): Figures {
    const figures: Figures = {
      title: 'Latency of an urgent event behind k others',
      unit: 'µs',
      corner: 'k',
      columns: this.#consumers.map((c) => c.name),
      rows: [],
    }
    for (const k of behind) {
      const machines = this.#consumers.map((contender) => this.#machine(contender, k + 1))
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
          if (machine.handled !== k + 1) throw new CheckError(`${machine.handled} of ${k + 1} events were handled`)
          times[which]!.push(at - t0)
        })
      figures.rows.push({
        label: count(k),
        cells: times.map((time, i) => machines[i] && summarize(time.map((each) => each * 1e3))),
      })
    }
    return figures
  }

  /** Bytes of a domain with n channels: what the guest gives, and what the hypervisor keeps beside its port table. */
  memory(sizes: readonly number[]): Figures {
    const figures: Figures = {
      title: 'Memory per domain, one vCPU',
      unit: 'bytes',
      corner: 'channels',
      columns: this.#senders.flatMap(({ name }) => [`${name}: guest`, 'hypervisor']),
      rows: [],
    }
    for (const channels of sizes)
      figures.rows.push({
        label: count(channels),
        cells: this.#senders.flatMap((contender) => {
          const machine = this.#machine(contender, channels)
          return [machine?.guestBytes, machine?.privateBytes]
        }),
      })
    return figures
  }
}
