/**
 * What a level costs: send and scan beside a flat scan of the same bitmap, measured on the core itself. `npm run bench` in
 * the repository goes further, with peers and a C program; this is the short of it, for any machine that has the package.
 *
 * Each sample: k ports are raised (timed), the guest's round takes them (timed), and the ports are compared with those
 * sent before a time counts. Samples of all ABIs interleave; medians, less the cost of reading the clock.
 */

import type { Bits } from '../../abi/index.js'
import { hasSharedMemory } from '../../machine/core.js'
import { type Abi, abiName, type Form, formOf } from '../abi.js'
import { CheckError } from '../errors.js'
import { type Random, seeded } from '../random.js'
import { median, type Summary, summarize } from '../statistics.js'
import { type Bare, BareQueues, BareTree, MOST_PENDING } from './bare.js'

/** One line of the cost table; ns per event. */
export interface CostRow {
  readonly bits: Bits
  readonly levels: Form
  readonly channels: number
  readonly pending: number
  readonly send: Summary
  readonly scan: Summary
  /** Absent on FIFO, which has no bitmap to scan. */
  readonly flat?: Summary
}

/** Options of a measurement. */
export interface CostOptions {
  readonly bits: Bits
  readonly abis: readonly Abi[]
  readonly pending: readonly number[]
  readonly samples: number
  readonly seed: number
  /** Measure the build with atomics, on shared memory. */
  readonly threads: boolean
  readonly progress?: (done: number, of: number) => void
}

/** An ABI that is measured, and its samples in ms. */
interface Contender {
  readonly levels: Form
  readonly bare: Bare
  send: number[]
  scan: number[]
  flat: number[]
}

/** Rounds before the first that is timed: the engine compiles what it sees to be hot. */
const WARM_ROUNDS = 20

/** Distinct random ports. */
function choose({ first, channels }: Bare, count: number, random: Random): Uint32Array {
  const chosen = new Set<number>()
  while (chosen.size < count) chosen.add(first + random(channels - first))
  return Uint32Array.from(chosen)
}

/** @throws CheckError unless the ports are the same, in any order. */
function compare(what: string, sent: Uint32Array, taken: Uint32Array): void {
  const a = Uint32Array.from(sent).sort()
  const b = Uint32Array.from(taken).sort()
  if (a.length !== b.length || a.some((port, i) => port !== b[i]))
    throw new CheckError(`${what}: ${a.length} ports were sent and ${b.length} delivered, or other ones`)
}

/** Raises and takes `k` ports, and times it. */
function sample(contender: Contender, k: number, random: Random, out: Uint32Array): void {
  const { levels, bare } = contender
  const ports = choose(bare, k, random)
  const t0 = performance.now()
  bare.send(ports)
  const t1 = performance.now()
  const served = bare.scan(MOST_PENDING)
  const t2 = performance.now()
  compare(`${abiName(levels)}, scan`, ports, bare.taken(served))
  contender.send.push(t1 - t0)
  contender.scan.push(t2 - t1)
  if (!bare.flatScan) return
  bare.send(ports)
  const t3 = performance.now()
  const found = bare.flatScan(out)
  const t4 = performance.now()
  compare(`${abiName(levels)}, flat scan`, ports, out.subarray(0, found))
  bare.clearSelectors()
  contender.flat.push(t4 - t3)
}

/** Measures every ABI and every k that fits. @throws CheckError if a port is lost or invented. */
export function measureCost(options: CostOptions): CostRow[] {
  const { bits, samples, pending } = options
  const shared = options.threads && hasSharedMemory()
  const contenders = options.abis.map((abi): Contender => {
    const levels = formOf(abi)
    const bare = levels === 'fifo' ? new BareQueues(shared) : new BareTree(bits, levels, shared)
    return { levels, bare, send: [], scan: [], flat: [] }
  })
  const random = seeded(options.seed)
  const out = new Uint32Array(MOST_PENDING)
  const clockNs = median(Array.from({ length: 1001 }, () => -performance.now() + performance.now())) * 1e6
  for (let round = 0; round < WARM_ROUNDS; round++)
    for (const { bare } of contenders) {
      bare.send(choose(bare, 1000, random))
      bare.scan(MOST_PENDING)
    }
  return pending.flatMap((k, i) => {
    const fitting = contenders.filter(({ bare }) => k <= bare.channels - bare.first)
    for (const each of fitting) Object.assign(each, { send: [], scan: [], flat: [] })
    for (let round = 0; round < samples; round++) {
      options.progress?.(i * samples + round, pending.length * samples)
      for (const each of fitting) sample(each, k, random, out)
    }
    const perEvent = (ms: number[]) => summarize(ms.map((each) => Math.max(0, each * 1e6 - clockNs) / k))
    return fitting.map(({ levels, bare, send, scan, flat }) => ({
      bits,
      levels,
      channels: bare.channels,
      pending: k,
      send: perEvent(send),
      scan: perEvent(scan),
      ...(flat.length && { flat: perEvent(flat) }),
    }))
  })
}
