/**
 * `evtchn demo`: the whole of it on real numbers. Five acts on one host, then two more hosts; every figure is counted or
 * timed here, and whatever does not add up ends the demo with exit code 1.
 */

import { type Bits, fullTree, PAGE_BITS } from '../abi/index.js'
import type { Domain } from '../domain/domain.js'
import type { Vcpu } from '../domain/vcpu.js'
import { newDumpStats } from '../dump/dump.js'
import { GuestKernel, type ResumeReport } from '../guest/index.js'
import { SOFTIRQ } from '../host/softirq.js'
import { Hypervisor } from '../hypervisor.js'
import type { SavedDomain } from '../migration/format.js'
import { nowNs, realClock } from '../node/clock.js'
import { costTable } from './bench.js'
import { type CostRow, measureCost } from './cost.js'
import {
  ABIS,
  type Abi,
  CheckError,
  choice,
  type Form,
  formOf,
  helpText,
  mostChannels,
  type OptionSpecs,
  parse,
  whole,
} from './options.js'
import { seeded } from './random.js'
import { bytes, count, duration, Screen, table } from './screen.js'

const SPECS: OptionSpecs = {
  channels: { type: 'string', value: 'N', help: 'channels between dom0 and the 64-bit guest', default: '100000' },
  sends: { type: 'string', value: 'N', help: 'sends to random ones of them', default: '300000' },
  abi: { type: 'string', value: '2|3|4|fifo', help: 'levels of the guests and dom0, or FIFO queues', default: '3' },
  seed: { type: 'string', value: 'N', help: 'for the choice of ports', default: '1' },
  json: { type: 'boolean', help: 'print the results as JSON instead' },
}
const ABOUT = `Boots dom0, a 64-bit and a 32-bit guest with three levels or the ABI asked for, connects and uses their
channels, measures what a level costs, dumps the channels while sends and softirqs go on, and migrates the guest to a
host that grants the ABI and to one that knows two levels only. Takes under half a minute.`

/** Channels of the 32-bit guest. */
const SMALL_CHANNELS = 5000
/** Sends between two drains: what merges, merges within one of these. */
const SENDS_PER_DRAIN = 1000

/** The ABIs, for headings. */
const NAMES: Readonly<Record<Abi, string>> = {
  '2': 'Two levels',
  '3': 'Three levels',
  '4': 'Four levels',
  fifo: 'FIFO queues',
}

function check(holds: boolean, problem: string): asserts holds {
  if (!holds) throw new CheckError(`evtchn demo: this does not add up: ${problem}`)
}

/** A guest with its driver and what it counted. */
interface Machine {
  domain: Domain
  kernel: GuestKernel
}

/** Runs upcalls only when told to, so that events can pile up as on a busy vCPU. */
class HeldUpcalls {
  readonly #kernels = new Map<number, GuestKernel>()
  readonly #due = new Set<number>()
  hold = false

  attach(domid: number, kernel: GuestKernel): void {
    this.#kernels.set(domid, kernel)
  }

  readonly onUpcall = (vcpu: Vcpu): void => {
    this.#due.add(vcpu.domid)
    if (!this.hold) this.drain()
  }

  drain(): void {
    for (const domid of this.#due) {
      this.#due.delete(domid)
      this.#kernels.get(domid)?.upcall()
    }
  }
}

/** Act 1: three domains boot and register what was asked for. */
function boot(xen: Hypervisor, upcalls: HeldUpcalls, abi: Abi): Record<'dom0' | 'guest64' | 'guest32', Machine> {
  const make = (domid: number, bits: Bits): Machine => {
    const domain = xen.createDomain({ domid, bits, frames: abi === '4' ? 4096 : 512, maxEvtchnPort: -1 })
    const kernel = GuestKernel.boot(xen.platform(domain), { levels: formOf(abi) })
    check(kernel.levels === formOf(abi), `d${domid} got ${kernel.levels} levels: ${JSON.stringify(kernel.attempts)}`)
    check(
      kernel.channels === Math.min(mostChannels(abi, bits) + 1, 512 * PAGE_BITS),
      `d${domid} got ${kernel.channels} channels`,
    )
    upcalls.attach(domid, kernel)
    return { domain, kernel }
  }
  return { dom0: make(0, 64), guest64: make(1, 64), guest32: make(2, 32) }
}

/** Connected channels: dom0's port for each, and what arrived at the guest, by guest port. */
interface Channels {
  local: Uint32Array
  remote: Uint32Array
  delivered: Uint32Array
}

/** Act 2: a guest allocates, dom0 binds; all of it hypercalls with structs in guest memory. */
function connect(dom0: Machine, guest: Machine, n: number, progress: (done: number) => void): Channels {
  const local = new Uint32Array(n)
  const remote = new Uint32Array(n)
  const delivered = new Uint32Array(guest.kernel.channels)
  for (let i = 0; i < n; i++) {
    const port = guest.kernel.allocUnbound(0, { name: `vif${i}`, handler: (p) => void delivered[p]!++ })
    remote[i] = port
    local[i] = dom0.kernel.bindInterdomain(guest.domain.domid, port, { name: `back${i}`, handler: () => {} })
    if (i % 5000 === 0) progress(i)
  }
  return { local, remote, delivered }
}

/** Act 3: sends to random channels, drained now and then; what each port must have got is kept apart and compared. */
function exchange(
  dom0: Machine,
  channels: Channels,
  upcalls: HeldUpcalls,
  sends: number,
  random: (n: number) => number,
): { sends: number; merged: number; delivered: number; drains: number; ns: number } {
  const { local, remote, delivered } = channels
  delivered.fill(0)
  const expected = new Uint32Array(delivered.length)
  const outstanding = new Uint8Array(delivered.length)
  const start = nowNs()
  let merged = 0
  let drains = 0
  upcalls.hold = true
  for (let sent = 0; sent < sends; ) {
    const burst = Math.min(SENDS_PER_DRAIN, sends - sent)
    for (let i = 0; i < burst; i++) {
      const which = random(local.length)
      dom0.kernel.send(local[which]!)
      const port = remote[which]!
      if (outstanding[port]) merged++
      else {
        outstanding[port] = 1
        expected[port]!++
      }
    }
    sent += burst
    upcalls.drain()
    outstanding.fill(0)
    drains++
  }
  upcalls.hold = false
  const ns = nowNs() - start
  let total = 0
  expected.forEach((wanted, port) => {
    check(delivered[port] === wanted, `port ${port} was to get ${wanted} events and got ${delivered[port]}`)
    total += wanted
  })
  check(total + merged === sends, `${sends} sends, ${total} delivered, ${merged} merged`)
  return { sends, merged, delivered: total, drains, ns }
}

/** What a dump did. */
interface DumpFacts {
  slotsPerHold: number
  lines: number
  holds: number
  longestHoldNs: number
  softirqs: number
  longestDelayNs: number
  sends: number
}

const TICK_NS = 200_000

/**
 * The host's clock, which also is its timer: every 200 µs of real time it raises TIMER_SOFTIRQ, lock held or not. One
 * thread notices a tick only when it next looks at the clock, so the raise is dated back to when the tick was due.
 */
class TickingClock {
  #onTick: (() => void) | null = null
  #due = 0
  #ticking = false

  nowNs(): number {
    if (this.#ticking) return this.#due
    const now = nowNs()
    if (this.#onTick && now >= this.#due) {
      this.#ticking = true
      this.#onTick()
      this.#ticking = false
      this.#due += TICK_NS * Math.ceil((now + 1 - this.#due) / TICK_NS)
    }
    return now
  }

  every(onTick: (() => void) | null): void {
    this.#onTick = onTick
    this.#due = nowNs() + TICK_NS
  }
  wallclockNs = realClock.wallclockNs
}

/** Act 4: the guest's channels dumped while a softirq handler sends and opens and closes ports. */
function dumpBusy(
  xen: Hypervisor,
  clock: TickingClock,
  dom0: Machine,
  guest: Machine,
  channels: Channels,
  slotsPerHold: number,
  random: (n: number) => number,
): DumpFacts {
  let sends = 0
  xen.softirqs.open(SOFTIRQ.TIMER, () => {
    // With the event lock free: binding takes it for writing.
    check(!guest.domain.eventLock.held, 'a softirq ran while the event lock was held')
    for (let i = 0; i < 20; i++, sends++) dom0.kernel.send(channels.local[random(channels.local.length)]!)
    const extra = guest.kernel.allocUnbound(0, { handler: () => {} })
    guest.kernel.close(extra)
  })
  Object.assign(xen.softirqs.stats, { served: 0, longestDelayNs: 0 })
  clock.every(() => xen.softirqs.raise(SOFTIRQ.TIMER))
  const stats = newDumpStats()
  const open = guest.domain.ports.activeEvtchns
  let lines = 0
  for (const line of xen.dump({ domid: guest.domain.domid, slotsPerHold, stats })) lines += line.length ? 1 : 0
  clock.every(null)
  xen.softirqs.processPending()
  check(
    stats.channels >= open && stats.channels <= open + 1,
    `${open} channels are open and ${stats.channels} were dumped`,
  )
  const { served, longestDelayNs } = xen.softirqs.stats
  const { holds, longestHoldNs } = stats
  return { slotsPerHold, lines, holds, longestHoldNs, softirqs: served, longestDelayNs, sends }
}

/** One migration and what became of the channels. */
interface Migration {
  host: string
  bytes: number
  ns: number
  report: ResumeReport
}

/** Act 5: the state travels as JSON to another host; the guest's driver registers and binds again. */
function migrate(name: string, to: Hypervisor, state: string, kernel: GuestKernel): Migration {
  const start = nowNs()
  const domain = to.restoreDomain(JSON.parse(state) as SavedDomain, { maxLeafPages: 1024 })
  const report = kernel.resume(to.platform(domain))
  return { host: name, bytes: state.length, ns: nowNs() - start, report }
}

function describeMigration({ host, report, ns }: Migration): string[] {
  const tried = report.attempts
    .map(({ levels, answer }) => `${levels === 'fifo' ? 'FIFO' : `${levels} levels`}: ${answer}`)
    .join('; ')
  const lines = [
    `${host}: ${tried}`,
    `  ${count(report.rebound.length)} channels re-bound, ${count(report.lost.length)} no longer fit, in ${duration(ns)}`,
  ]
  if (report.lost.length) {
    const { name, reason } = report.lost[0]!
    const last = report.lost.at(-1)!
    lines.push(`  lost: ${name} (${reason}) … ${last.name} (${last.reason}); kept: ${keptNames(report)}`)
  }
  return lines
}

const keptNames = ({ rebound }: ResumeReport): string => `${rebound[0]?.name ?? 'none'} … ${rebound.at(-1)?.name ?? ''}`

/** Everything the demo found out. */
interface Results {
  connectNs: number
  exchange: ReturnType<typeof exchange>
  small: ReturnType<typeof exchange>
  cost: CostRow[]
  dumps: DumpFacts[]
  migrations: Omit<Migration, 'report'>[]
}

/** The subcommand. */
export const demo = {
  summary: 'the whole of it on real numbers, in under half a minute',
  run(argv: string[]): number {
    const values = parse('demo', SPECS, argv)
    if (values.help) {
      process.stdout.write(helpText('demo', ABOUT, SPECS))
      return 0
    }
    const abi = choice('demo', values, 'abi', ABIS)
    const most = Math.min(mostChannels(abi, 64) - 1, 250_000)
    const fewer =
      values.channels === SPECS.channels!.default ? { ...values, channels: String(Math.min(100_000, most)) } : values
    const channels = whole('demo', fewer, 'channels', 1, most)
    const sends = whole('demo', values, 'sends', 1, 10_000_000)
    const seed = whole('demo', values, 'seed', 0, 2 ** 32 - 1)
    const screen = new Screen(values.json === true)
    const results = perform(screen, abi, channels, sends, seeded(seed), seed)
    if (values.json) process.stdout.write(`${JSON.stringify(results, null, 2)}\n`)
    return 0
  },
}

function perform(
  screen: Screen,
  abi: Abi,
  channels: number,
  sends: number,
  random: (n: number) => number,
  seed: number,
): Results {
  const began = nowNs()
  const clock = new TickingClock()
  const upcalls = new HeldUpcalls()
  const xen = Hypervisor.create({ clock, onUpcall: upcalls.onUpcall })

  screen.progress('booting')
  const { dom0, guest64, guest32 } = boot(xen, upcalls, abi)
  screen.heading(`1. ${NAMES[abi]}, registered by hypercall`)
  screen.block(
    table(
      ['domain', 'word', 'levels', 'channels', 'frames held'],
      [dom0, guest64, guest32].map(({ domain, kernel }) => [
        `d${domain.domid}`,
        `${domain.bits} bit`,
        String(kernel.levels),
        count(kernel.channels),
        String(domain.memory.heldFrames),
      ]),
    ),
  )

  const start = nowNs()
  const big = connect(dom0, guest64, channels, (done) =>
    screen.progress(`connecting ${count(done)} of ${count(channels)}`),
  )
  const connectNs = nowNs() - start
  // On two levels dom0's table is full of the first guest's channels: what is left of it.
  const room = Math.min(dom0.kernel.channels - 1 - channels, mostChannels(abi, 32))
  const small = connect(dom0, guest32, Math.min(channels, SMALL_CHANNELS, room), () => {})
  screen.heading('2. Channels')
  screen.block([
    `${count(channels)} interdomain channels d0–d1 bound by ${count(2 * channels)} hypercalls in ${duration(connectNs)}, ${duration(connectNs / channels)} each with its handlers`,
    `${count(small.local.length)} more d0–d2`,
  ])

  screen.progress(`sending ${count(sends)}`)
  const exchanged = exchange(dom0, big, upcalls, sends, random)
  const exchangedSmall = exchange(dom0, small, upcalls, Math.ceil(sends / 10), random)
  screen.heading('3. Events')
  screen.block(
    table(
      ['to', 'sends', 'delivered', 'merged', 'drains', 'time per send', 'accounted for'],
      [
        { to: 'd1', ...exchanged },
        { to: 'd2', ...exchangedSmall },
      ].map((row) => [
        row.to,
        count(row.sends),
        count(row.delivered),
        count(row.merged),
        count(row.drains),
        duration(row.ns / row.sends),
        'every port',
      ]),
    ),
  )

  const cost = measureCost({
    bits: 64,
    pending: [1, 16, 256, 4096],
    ...(abi === 'fifo' && { abis: ABIS }),
    samples: 51,
    seed,
    threads: false,
    progress: (text) => screen.progress(text),
  })
  screen.heading('4. What a level costs: ns per event, 64-bit, one thread, beside a flat scan of the same bitmap')
  screen.block(costTable(cost))

  screen.progress('dumping')
  const dumps = [64, 2 ** 25].map((slots) => dumpBusy(xen, clock, dom0, guest64, big, slots, random))
  screen.heading(`5. A dump of ${count(channels)} channels, while a timer softirq every 200 µs sends, binds and closes`)
  screen.block(
    table(
      ['slots per hold', 'lines', 'holds', 'longest hold', 'softirqs', 'longest delay', 'sends meanwhile'],
      dumps.map((facts) => [
        facts.slotsPerHold > 1e6 ? 'all (as Xen)' : String(facts.slotsPerHold),
        count(facts.lines),
        count(facts.holds),
        duration(facts.longestHoldNs),
        count(facts.softirqs),
        duration(facts.longestDelayNs),
        count(facts.sends),
      ]),
    ),
  )

  screen.progress('migrating')
  const migrations = migrateTwice(xen, upcalls, guest64, channels, formOf(abi))
  screen.heading('6. Migration: the guest registers and binds again')
  screen.block([
    `state: ${bytes(migrations[0]!.bytes)} of JSON for ${bytes(guest64.domain.memory.bytes)} of RAM`,
    ...migrations.flatMap(describeMigration),
  ])
  screen.line()
  screen.line(`Everything adds up. ${duration(nowNs() - began)}`)
  const told = migrations.map(({ report: _, ...rest }) => rest)
  return { connectNs, exchange: exchanged, small: exchangedSmall, cost, dumps, migrations: told }
}

/** To a host that grants the same, and from there to one that grants neither levels nor FIFO. */
function migrateTwice(
  xen: Hypervisor,
  upcalls: HeldUpcalls,
  guest: Machine,
  channels: number,
  form: Form,
): Migration[] {
  const state = JSON.stringify(xen.saveDomain(guest.domain.domid))
  xen.destroyDomain(guest.domain.domid)
  const generous = Hypervisor.create({ clock: realClock, onUpcall: upcalls.onUpcall })
  generous.createDomain({ domid: 0 })
  const first = migrate('second host, grants the same', generous, state, guest.kernel)
  check(first.report.levels === form, `the second host granted ${first.report.levels} levels`)
  check(
    first.report.rebound.length === channels,
    `${first.report.rebound.length} of ${channels} channels were re-bound`,
  )

  const again = JSON.stringify(generous.saveDomain(guest.domain.domid))
  const old = Hypervisor.create({ clock: realClock, onUpcall: upcalls.onUpcall, nlevel: false, fifo: false })
  old.createDomain({ domid: 0 })
  const second = migrate('third host, knows two levels only', old, again, guest.kernel)
  const fit = Math.min(channels, fullTree(64, 2) - 1)
  check(second.report.levels === 2, `the third host granted ${second.report.levels} levels`)
  check(second.report.rebound.length === fit, `${second.report.rebound.length} channels fit, not ${fit}`)
  check(second.report.lost.length === channels - fit, `${second.report.lost.length} channels were reported lost`)
  return [first, second]
}
