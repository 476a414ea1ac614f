/**
 * `evtchn pvcalls`: the two answers to "how many ioworkers?" side by side, in simulated time; and, with `--tcp`, a stream
 * through real TCP on loopback, hash checked.
 */

import { IO_POLICIES, type IoPolicyName, PLACEMENTS, type Placement } from '../dom0/backends/pvcalls/index.js'
import { framesFor, PvcallsScenario, type PvcallsScenarioResult, type Spread } from '../scenarios/pvcalls_scenario.js'
import { CheckError, choice, helpText, type OptionSpecs, parse, UsageError, whole } from './options.js'
import { type Streamed, streamBoth } from './pvcalls_stream.js'
import { seeded } from './random.js'
import { bytes, count, duration, Screen, table } from './screen.js'

const SPECS: OptionSpecs = {
  policy: { type: 'string', value: 'NAME', help: `${IO_POLICIES.join(', ')} or all`, default: 'all' },
  cpus: { type: 'string', value: 'N', help: 'CPUs of domain 0', default: '8' },
  sockets: { type: 'string', value: 'N', help: 'sockets that are connected at a time', default: '100' },
  bytes: { type: 'string', value: 'N', help: 'bytes that each socket sends and gets back', default: '262144' },
  'max-ioworkers': { type: 'string', value: 'N', help: 'most workers of the policy bounded', default: '64' },
  order: { type: 'string', value: 'N', help: 'order of the data rings, 1 to 9', default: '1' },
  placement: {
    type: 'string',
    value: 'NAME',
    help: 'where a worker wakes up that is bound to no CPU: spread, on the least loaded; last, where it was if that is as good',
    default: 'spread',
  },
  flips: { type: 'string', value: 'N', help: 'times that a CPU goes offline or comes back meanwhile', default: '0' },
  seed: { type: 'string', value: 'N', help: 'for the order in which threads run', default: '1' },
  tcp: {
    type: 'string',
    value: 'MIB',
    help: 'instead: so many MiB each way through real TCP on loopback, hash checked',
  },
  json: { type: 'boolean', help: 'print the results as JSON instead' },
}
const ABOUT = `Runs a host in simulated time: a guest connects sockets to an echo server, sends on all of them, checks every byte
that comes back, closes the sockets of every other worker, connects as many again, and closes all. Under the policy bounded
a worker serves many sockets on one CPU; under per-socket each socket has a worker on any CPU.
With --tcp a guest sends to, and receives from, a server of this process over real TCP; 1024 is a gigabyte. Of the other
options only --policy, --order and --json count then.`
const COMMAND = 'pvcalls'
/** Most frames of the guest: a gigabyte. */
const MAX_FRAMES = 262_144

/** The subcommand. */
export const pvcalls = {
  summary: 'socket calls of guests: bounded workers against a worker for each socket',
  async run(argv: string[]): Promise<number> {
    const values = parse(COMMAND, SPECS, argv)
    if (values.help) {
      process.stdout.write(helpText(COMMAND, ABOUT, SPECS))
      return 0
    }
    const policy = choice<IoPolicyName | 'all'>(COMMAND, values, 'policy', [...IO_POLICIES, 'all'])
    const policies = policy === 'all' ? IO_POLICIES : [policy]
    const cpus = whole(COMMAND, values, 'cpus', 1, 4096)
    const sockets = whole(COMMAND, values, 'sockets', 1, 16_384)
    const perSocket = whole(COMMAND, values, 'bytes', 0, 2 ** 30)
    const maxIoworkers = whole(COMMAND, values, 'max-ioworkers', 1, 4096)
    const ringOrder = whole(COMMAND, values, 'order', 1, 9)
    const placement = choice<Placement>(COMMAND, values, 'placement', PLACEMENTS)
    const flips = whole(COMMAND, values, 'flips', 0, 1_000_000)
    const seed = whole(COMMAND, values, 'seed', 0, 2 ** 32 - 1)
    const mib = values.tcp === undefined ? 0 : whole(COMMAND, values, 'tcp', 1, 1 << 20)
    const screen = new Screen(values.json === true)
    if (mib) return await tcp(screen, mib, ringOrder, policies, values.json === true)
    if (framesFor(sockets, ringOrder) > MAX_FRAMES)
      throw new UsageError(
        `evtchn pvcalls: --sockets ${sockets} with --order ${ringOrder} needs more than 1 GiB of rings.`,
      )
    const results = policies.map((each) => {
      screen.progress(`${each}: ${count(sockets)} sockets on ${count(cpus)} CPUs`)
      const random = seeded(seed)
      return new PvcallsScenario({
        policy: each,
        cpus,
        sockets,
        bytes: perSocket,
        maxIoworkers,
        ringOrder,
        placement,
        flips,
        random,
      }).run()
    })
    show(screen, results, values)
    if (values.json) process.stdout.write(`${JSON.stringify(results, null, 2)}\n`)
    screen.done()
    for (const { policy: which, problems } of results)
      if (problems.length)
        throw new CheckError(`evtchn pvcalls: this does not add up (${which}): ${problems.join('; ')}`)
    return 0
  },
}

const range = ({ min, max }: Spread): string => (min === max ? count(min) : `${count(min)} to ${count(max)}`)

function show(screen: Screen, results: readonly PvcallsScenarioResult[], values: Record<string, unknown>): void {
  const { cpus, sockets } = results[0]!
  screen.heading(`${count(sockets)} sockets on ${count(cpus)} CPUs (seed ${values.seed}, order ${values.order})`)
  const names = results.map(({ policy }) => policy)
  const row = (name: string, cell: (result: PvcallsScenarioResult) => string) => [name, ...results.map(cell)]
  screen.block(
    table(
      ['', ...names],
      [
        row('workers before the first socket', (r) => count(r.workersAtStart)),
        row('workers after the connects', (r) => count(r.afterConnect.workers)),
        row('  sockets of each', (r) => range(r.afterConnect)),
        row('bytes to and from the network', (r) => bytes(r.traffic.bytesIn + r.traffic.bytesOut)),
        row('wake-ups of sockets', (r) => count(r.traffic.wakeups)),
        row('wake-ups of workers', (r) => count(r.traffic.workerWakeups)),
        row('turns', (r) => count(r.traffic.turns)),
        row('  that found nothing', (r) => count(r.traffic.spurious)),
        row('copies', (r) => count(r.traffic.copies)),
        row("  on the socket's own CPU", (r) => `${(100 * r.ownCpuShare).toFixed(1)} %`),
        row('CPUs offline or back meanwhile', (r) => count(r.flips)),
        row('sockets moved off a CPU', (r) => count(r.traffic.moves)),
        row('workers after an uneven close', (r) => count(r.afterUnevenClose.workers)),
        row('  sockets of each', (r) => range(r.afterUnevenClose)),
        row('workers after as many connects', (r) => count(r.afterReconnect.workers)),
        row('  sockets of each', (r) => range(r.afterReconnect)),
        row('workers made in all', (r) => count(r.workersMade)),
        row('workers after the last close', (r) => count(r.workersAtEnd)),
      ],
    ),
  )
}

// --- real TCP --------------------------------------------------------------------------------------------------------

async function tcp(
  screen: Screen,
  mib: number,
  ringOrder: number,
  policies: readonly IoPolicyName[],
  json: boolean,
): Promise<number> {
  const results: (Streamed & { policy: IoPolicyName })[] = []
  for (const policy of policies) {
    const onProgress = (way: string, moved: number, total: number) =>
      screen.progress(`${policy}, ${way}: ${bytes(moved)} of ${bytes(total)} (${Math.floor((100 * moved) / total)} %)`)
    results.push({ policy, ...(await streamBoth({ bytes: mib * 2 ** 20, ringOrder, policy, onProgress })) })
  }
  screen.heading(`${count(mib)} MiB each way through real TCP on loopback, ring order ${ringOrder}`)
  screen.block(
    table(
      ['policy', 'to the guest', 'MB/s', 'from the guest', 'MB/s', 'SHA-256 to', 'SHA-256 from'],
      results.map(({ policy, toGuest, fromGuest }) => [
        policy,
        duration(toGuest.ns),
        (toGuest.bytes / (toGuest.ns / 1e3)).toFixed(0),
        duration(fromGuest.ns),
        (fromGuest.bytes / (fromGuest.ns / 1e3)).toFixed(0),
        toGuest.intact ? 'as sent' : 'DIFFERS',
        fromGuest.intact ? 'as sent' : 'DIFFERS',
      ]),
    ),
  )
  if (json) process.stdout.write(`${JSON.stringify(results, null, 2)}\n`)
  screen.done()
  for (const { policy, toGuest, fromGuest } of results)
    if (!toGuest.intact || !fromGuest.intact)
      throw new CheckError(`evtchn pvcalls: this does not add up (${policy}): a stream did not arrive as it was sent`)
  return 0
}
