/**
 * `evtchn demo`: the whole of it on real numbers. Five acts on one host, then two more hosts; every figure is counted or
 * timed here, and an inconsistent one ends the demo with exit code 1. The acts return facts; screens.ts prints them.
 */

import { ABIS, type Abi, formOf, mostChannels } from '../abi.js'
import { command } from '../command.js'
import { type CostRow, measureCost } from '../cost/measure.js'
import { duration } from '../format.js'
import { COMMON, choice, whole, within } from '../options.js'
import { seeded } from '../random.js'
import type { Screen } from '../screen.js'
import { type DumpFacts, dumpBusy, TickingClock } from './dumps.js'
import { type Exchange, exchange } from './events.js'
import { abiFor, boot, connect, HeldUpcalls, makeHost } from './host.js'
import { type Migration, migrateTwice } from './migrations.js'
import { showBoot, showChannels, showCost, showDumps, showEvents, showMigrations } from './screens.js'

/** Channels of the 32-bit guest. */
const SMALL_CHANNELS = 5000
/** Channels unless told otherwise, and most of all. */
const CHANNELS = 100_000
const MOST_CHANNELS = 250_000

/** The ABIs, for headings. */
const NAMES: Readonly<Record<Abi, string>> = {
  '2': 'Two levels',
  '3': 'Three levels',
  '4': 'Four levels',
  '5': 'Five levels, four for 64-bit guests',
  fifo: 'FIFO queues',
}

/** What is done. */
interface Workload {
  readonly abi: Abi
  readonly channels: number
  readonly sends: number
  readonly seed: number
}

/** Everything that the demo found out. */
interface Results {
  readonly connectNs: number
  readonly exchange: Exchange
  readonly small: Exchange
  readonly cost: readonly CostRow[]
  readonly dumps: readonly DumpFacts[]
  readonly migrations: readonly Omit<Migration, 'report' | 'domain'>[]
}

function perform(screen: Screen, { abi, channels, sends, seed }: Workload): Results {
  const random = seeded(seed)
  const clock = new TickingClock()
  const upcalls = new HeldUpcalls()
  const xen = makeHost(upcalls, { clock })

  screen.progress('booting')
  const machines = boot(xen, upcalls, abi)
  const { dom0, guest64, guest32 } = machines
  showBoot(screen, NAMES[abi], machines)

  const start = performance.now()
  const big = connect(dom0, guest64, channels, (done) => screen.steps('connecting', done, channels))
  const connectNs = (performance.now() - start) * 1e6
  // On two levels dom0's table is full of the first guest's channels: what is left of it.
  const room = Math.min(dom0.kernel.channels - 1 - channels, mostChannels(abiFor(abi, 32), 32))
  const few = connect(dom0, guest32, Math.min(channels, SMALL_CHANNELS, room))
  showChannels(screen, channels, few.local.length, connectNs)

  screen.progress('sending')
  const exchanged = exchange(dom0, big, upcalls, sends, random)
  const small = exchange(dom0, few, upcalls, Math.ceil(sends / 10), random)
  showEvents(screen, exchanged, small)

  const cost = measure(screen, abi, seed)
  showCost(screen, cost)

  screen.progress('dumping')
  const host = { xen, clock, random }
  const dumps = [64, 2 ** 25].map((slots) => dumpBusy(host, dom0, guest64, big, slots))
  showDumps(screen, channels, dumps)

  screen.progress('migrating')
  const ram = guest64.domain.memory.bytes
  const migrations = migrateTwice(xen, upcalls, guest64, channels, formOf(abiFor(abi, 64)))
  showMigrations(screen, ram, migrations)
  const moved = migrations.map(({ report: _, domain: __, ...rest }) => rest)
  return { connectNs, exchange: exchanged, small, cost, dumps, migrations: moved }
}

/** Act 4: what a level costs. */
const measure = (screen: Screen, abi: Abi, seed: number): CostRow[] =>
  measureCost({
    bits: 64,
    pending: [1, 16, 256, 4096],
    abis: abi === 'fifo' ? ['2', '3', '4', 'fifo'] : ['2', '3', '4'],
    samples: 51,
    seed,
    threads: false,
    progress: (done, of) => screen.steps('measuring, sample', done, of),
  })

/** The subcommand. */
export const demo = command({
  name: 'demo',
  summary: 'the whole of it on real numbers, in under half a minute',
  about:
    'Boots dom0, a 64-bit and a 32-bit guest with the ABI that is named, connects and uses their channels, measures what a level costs, dumps the channels while sends and softirqs continue, and migrates the guest to a host that grants the ABI and to one that knows two levels only. Takes under half a minute.',
  options: {
    channels: whole('channels between dom0 and the 64-bit guest', {
      min: 1,
      max: MOST_CHANNELS,
      shown: `${CHANNELS}, or all that the ABI has`,
    }),
    sends: whole('sends to random ones of them', { min: 1, max: 10_000_000, preset: 300_000 }),
    abi: choice('levels of the guests and dom0, or FIFO queues', { of: ABIS, preset: '3' }),
    seed: COMMON.seed('for the choice of ports'),
    json: COMMON.json,
  },
  run({ program, values, screen }) {
    const { abi, sends, seed } = values
    // While it is dumped the guest binds and closes one more.
    const most = Math.min(mostChannels(abiFor(abi, 64), 64) - 1, MOST_CHANNELS)
    const channels =
      values.channels === undefined ? Math.min(CHANNELS, most) : within(program, 'channels', values.channels, 1, most)
    const start = performance.now()
    const result = perform(screen, { abi, channels, sends, seed })
    screen.line()
    screen.line(`Everything is consistent. ${duration((performance.now() - start) * 1e6)}`)
    return { result }
  },
})
