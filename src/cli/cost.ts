/**
 * What a level costs: send and scan for depths 2, 3 and 4 beside a flat scan of the same bitmap, measured on the core
 * itself, called from JavaScript as the library calls it. `npm run bench` in the repository goes further, with peers
 * and a C program; this is the short of it, for any machine that has the package.
 *
 * Each sample: k ports are raised (timed), the guest's round takes them (timed), and the ports are compared with those
 * sent before a time counts. Samples of all depths interleave; medians, less the cost of reading the clock.
 */

import {
  type Bits,
  EVTCHN_FIFO_MAX_PAGES,
  EVTCHN_FIFO_NR_CHANNELS,
  EVTCHN_FIFO_PRIORITY_DEFAULT,
  fullTreePages,
  levelBits,
  maxEvtchns,
  PAGE_SIZE,
} from '../abi/index.js'
import { FifoPortOps, FifoState } from '../domain/fifo.js'
import type { PortTable } from '../domain/port_table.js'
import type { Vcpu } from '../domain/vcpu.js'
import {
  type Climb,
  type Core,
  climbOf,
  coreOf,
  createMemory,
  hasSharedMemory,
  type Scan,
  scanOf,
} from '../machine/core.js'
import { GuestMemory } from '../machine/memory.js'
import { type Abi, CheckError, type Form, formOf } from './options.js'
import { seeded } from './random.js'

/** One line of the cost table; ns per event. */
export interface CostRow {
  bits: Bits
  levels: Form
  channels: number
  pending: number
  sendNs: number
  scanNs: number
  /** Null on FIFO, which has no bitmap to scan. */
  flatNs: number | null
}

/** One ABI in a memory of its own, as the measurement sees it. */
interface Bare {
  /** Lowest port that can be used: FIFO links no port 0. */
  readonly first: number
  readonly channels: number
  send(ports: Uint32Array): void
  scan(max: number): number
  taken(count: number): Uint32Array
  flatScan?(out: Uint32Array): number
  clearSelectors(): void
}

/** A tree in a memory of its own, without a hypervisor around it: addresses resolved, nothing masked. */
class BareTree implements Bare {
  readonly first = 0
  readonly channels: number
  readonly #core: Core
  readonly #climb: Climb
  readonly #scan: Scan
  readonly #levels: number
  readonly #b: number
  readonly #pending: number
  readonly #mask: number
  readonly #selectors: number[] = []
  readonly #descriptor: number
  readonly #out: number
  readonly #words: Int32Array
  #top = 0

  constructor(bits: Bits, levels: number, shared: boolean) {
    const pages = levels === 2 ? 1 : fullTreePages(bits, levels)
    this.channels = maxEvtchns(bits, levels, pages)
    this.#levels = levels
    this.#b = bits === 64 ? 6 : 5
    const outPages = 65536 / 1024
    this.#core = coreOf(createMemory(4 * pages + outPages + 64, shared))
    const take = (count: number) => {
      this.#top += count * PAGE_SIZE
      return this.#top - count * PAGE_SIZE
    }
    const info = take(1)
    this.#pending = take(pages)
    this.#mask = take(pages)
    for (let k = 2; k < levels; k++)
      this.#selectors[k] = take(Math.ceil(levelBits(bits, levels, k, this.channels) / (8 * PAGE_SIZE)))
    this.#descriptor = take(1)
    this.#out = take(outPages)
    const words = new Int32Array(this.#core.memory.buffer)
    this.#words = words
    const tableOf = (first: number, count: number) => {
      const at = take(Math.ceil((count * 4) / PAGE_SIZE))
      for (let i = 0; i < count; i++) words[at / 4 + i] = first + i * PAGE_SIZE
      return at
    }
    const last = levels > 2 ? tableOf(this.#selectors[levels - 1]!, Math.ceil(pages / bits)) : 0
    const d = this.#descriptor / 4
    const inner = levels > 3 ? this.#selectors[2]! : 0
    const leaf =
      levels === 2 ? [this.#pending, this.#mask] : [tableOf(this.#pending, pages), tableOf(this.#mask, pages)]
    words.set([info, info + 8, inner, 0, last, leaf[0]!, leaf[1]!, 0, this.channels, 0], d)
    this.#climb = climbOf(this.#core, levels, bits)
    this.#scan = scanOf(this.#core, levels, bits)
  }

  send(ports: Uint32Array): void {
    const core = this.#core
    const climb = this.#climb
    const n = this.#levels
    for (const port of ports) {
      const page = (port >> 15) * PAGE_SIZE
      if (core.leafSet(this.#pending + page, this.#mask + page, port) !== 2) continue
      const last = n > 2 ? this.#selectors[n - 1]! + (port >> (this.#b + 15)) * PAGE_SIZE : 0
      climb(port, 0, 8, n === 3 ? last : (this.#selectors[2] ?? 0), n === 4 ? last : 0, 0)
    }
  }

  scan(max: number): number {
    return this.#scan(this.#descriptor, this.#out, max)
  }

  taken(count: number): Uint32Array {
    return new Uint32Array(this.#core.memory.buffer, this.#out, count)
  }

  /** Reads the whole leaf, pending and not masked, and clears what it finds; into `out`. */
  flatScan(out: Uint32Array): number {
    const words = this.#words
    const pending = this.#pending / 4
    const mask = this.#mask / 4
    const end = this.channels / 32
    let found = 0
    for (let i = 0; i < end; i++) {
      let due = words[pending + i]! & ~words[mask + i]!
      if (!due) continue
      words[pending + i]! &= ~due
      for (; due; due &= due - 1) out[found++] = i * 32 + 31 - Math.clz32(due & -due)
    }
    return found
  }

  /** Clears the selectors and the flag: what a flat scan leaves behind. */
  clearSelectors(): void {
    this.scan(65536)
  }
}

/** FIFO queues in the same way: one queue, all words unmasked, and the private state that the hypervisor keeps for it. */
class BareQueues implements Bare {
  readonly first = 1
  readonly channels = EVTCHN_FIFO_NR_CHANNELS
  readonly #core: Core
  readonly #ops: FifoPortOps
  readonly #descriptor: number
  readonly #out: number

  constructor(bits: Bits, shared: boolean) {
    const pages = EVTCHN_FIFO_MAX_PAGES
    const frames = pages + 64 + 8
    const memory = new GuestMemory({ frames, memory: createMemory(frames, shared) })
    this.#core = memory.core
    const [info, block, table, descriptor] = [0, 1, 2, 3].map((frame) => (pages + frame) * PAGE_SIZE) as [
      number,
      number,
      number,
      number,
    ]
    this.#descriptor = descriptor
    this.#out = (pages + 4) * PAGE_SIZE
    const state = new FifoState(1)
    state.mapBlock(memory, 0, { gfn: pages + 1, offset: 0 }, block)
    const words = new Int32Array(memory.memory.buffer)
    for (let page = 0; page < pages; page++) {
      state.addPage(memory, page, page * PAGE_SIZE)
      words[table / 4 + page] = page * PAGE_SIZE
    }
    words.set([info, block, table, this.channels], descriptor / 4)
    // As the trees are measured without a port table, so are queues: what a port has of its own is in a plain array.
    const lastQueue = new Int32Array(this.channels)
    const ports = {
      notifyVcpu: () => 0,
      priority: () => EVTCHN_FIFO_PRIORITY_DEFAULT,
      lastQueue: (port: number) => lastQueue[port]!,
      setLastQueue: (port: number, queue: number) => {
        lastQueue[port] = queue
      },
    } as unknown as PortTable
    const vcpus = [{ vcpuId: 0, onDummy: false, info }] as unknown as Vcpu[]
    const to = { core: this.#core, ports, vcpus, checkPollers: () => {}, kick: () => {} }
    this.#ops = new FifoPortOps(to, bits, state)
  }

  send(ports: Uint32Array): void {
    for (const port of ports) this.#ops.setPending(port)
  }
  scan(max: number): number {
    return this.#core.fifoScan(this.#descriptor, this.#out, max)
  }
  taken(count: number): Uint32Array {
    return new Uint32Array(this.#core.memory.buffer, this.#out, count)
  }
  clearSelectors(): void {}
}

const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1]!

/** Distinct random ports. */
function pick({ first, channels }: Bare, count: number, random: (n: number) => number): Uint32Array {
  const chosen = new Set<number>()
  while (chosen.size < count) chosen.add(first + random(channels - first))
  return Uint32Array.from(chosen)
}

function compare(what: string, sent: Uint32Array, taken: Uint32Array): void {
  const a = Uint32Array.from(sent).sort()
  const b = Uint32Array.from(taken).sort()
  if (a.length !== b.length || a.some((port, i) => port !== b[i]))
    throw new CheckError(`cost: ${what}: ${a.length} ports were sent and ${b.length} delivered, or other ones`)
}

/** Options of a measurement. */
export interface CostOptions {
  bits: Bits
  pending: readonly number[]
  samples: number
  seed: number
  /** Measure the build with atomics, on shared memory. */
  threads: boolean
  /** Default 2, 3 and 4 levels. */
  abis?: readonly Abi[]
  progress?: (text: string) => void
}

/** Measures every depth and every k that fits. @throws CheckError if a port is lost or invented. */
export function measureCost(options: CostOptions): CostRow[] {
  const { bits, samples } = options
  const shared = options.threads && hasSharedMemory()
  const trees = (options.abis ?? ['2', '3', '4']).map((abi): { levels: Form; tree: Bare } => {
    const levels = formOf(abi)
    return { levels, tree: levels === 'fifo' ? new BareQueues(bits, shared) : new BareTree(bits, levels, shared) }
  })
  const random = seeded(options.seed)
  const out = new Uint32Array(65536)
  const clock = median(Array.from({ length: 1001 }, () => -performance.now() + performance.now())) * 1e6
  const rows: CostRow[] = []
  // Not the engine's first steps: every form has run before it is timed.
  for (let round = 0; round < 20; round++)
    for (const { tree } of trees) {
      tree.send(pick(tree, 1000, random))
      tree.scan(65536)
    }
  for (const k of options.pending) {
    const fitting = trees.filter(({ tree }) => k <= tree.channels - tree.first)
    const times = fitting.map(() => ({ send: [] as number[], scan: [] as number[], flat: [] as number[] }))
    options.progress?.(`cost of ${k} pending events, ${bits}-bit`)
    for (let sample = 0; sample < samples; sample++) {
      fitting.forEach(({ levels, tree }, i) => {
        const ports = pick(tree, k, random)
        const t0 = performance.now()
        tree.send(ports)
        const t1 = performance.now()
        const served = tree.scan(65536)
        const t2 = performance.now()
        compare(`${levels} levels, scan`, ports, tree.taken(served))
        times[i]!.send.push(t1 - t0)
        times[i]!.scan.push(t2 - t1)
        if (!tree.flatScan) return
        tree.send(ports)
        const t3 = performance.now()
        const found = tree.flatScan(out)
        const t4 = performance.now()
        compare(`${levels} levels, flat scan`, ports, out.subarray(0, found))
        tree.clearSelectors()
        times[i]!.flat.push(t4 - t3)
      })
    }
    const perEvent = (ms: number[]) => Math.max(0, median(ms) * 1e6 - clock) / k
    fitting.forEach(({ levels, tree }, i) => {
      const { send, scan, flat } = times[i]!
      const row = { sendNs: perEvent(send), scanNs: perEvent(scan), flatNs: flat.length ? perEvent(flat) : null }
      rows.push({ bits, levels, channels: tree.channels, pending: k, ...row })
    })
  }
  return rows
}
