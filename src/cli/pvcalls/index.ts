/**
 * `evtchn pvcalls`: the two policies for "how many ioworkers?" side by side, in simulated time; and, with `--tcp`, a stream
 * through real TCP on loopback, hash checked.
 */

import { IO_POLICIES, type IoPolicyName, PLACEMENTS } from '../../dom0/backends/pvcalls/index.js'
import { streamBoth } from '../../node/pvcalls_stream.js'
import { framesFor, PvcallsScenario } from '../../scenarios/pvcalls_scenario.js'
import { command, type Report } from '../command.js'
import { UsageError } from '../errors.js'
import { count } from '../format.js'
import { COMMON, choice, whole } from '../options.js'
import { seeded } from '../random.js'
import type { Screen } from '../screen.js'
import { type PolicyStreams, show, showStreams } from './screens.js'

const ABOUT = `Runs a host in simulated time: a guest connects sockets to an echo server, sends on all of them, checks every byte that comes back, closes the sockets of every other worker, connects as many again, and closes all. Under the policy bounded a worker serves many sockets on one CPU; under per-socket each socket has a worker on any CPU.
With --tcp a guest sends to, and receives from, a server of this process over real TCP; 1024 is a gigabyte. Of the other options only --policy, --order and --json matter then.`

/** Most frames of the guest: a gigabyte. */
const MAX_FRAMES = 262_144

/** The subcommand. */
export const pvcalls = command({
  name: 'pvcalls',
  summary: 'socket calls of guests: bounded workers, or one for each socket',
  about: ABOUT,
  options: {
    policy: choice<IoPolicyName | 'all'>('who serves the sockets', { of: [...IO_POLICIES, 'all'], preset: 'all' }),
    cpus: whole('CPUs of domain 0', { min: 1, max: 4096, preset: 8 }),
    sockets: whole('sockets that are connected at a time', { min: 1, max: 16_384, preset: 100 }),
    bytes: whole('bytes that each socket sends and gets back', { min: 0, max: 2 ** 30, preset: 262_144 }),
    'max-ioworkers': whole('most workers of the policy bounded', { min: 1, max: 4096, preset: 64 }),
    order: whole('order of the data rings, 1 to 9', { min: 1, max: 9, preset: 1 }),
    placement: choice(
      'where a worker wakes up that is bound to no CPU: spread, on the least loaded; last, where it was if that is as good',
      { of: PLACEMENTS, preset: 'spread' },
    ),
    flips: whole('times that a CPU goes offline or comes back meanwhile', { min: 0, max: 1_000_000, preset: 0 }),
    seed: COMMON.seed('for the order in which threads run'),
    tcp: whole('instead: so many MiB each way through real TCP on loopback, hash checked', {
      min: 1,
      max: 1 << 20,
      value: 'MIB',
    }),
    json: COMMON.json,
  },
  async run({ program, values, screen }) {
    const { policy, sockets, order: ringOrder, seed, flips, cpus, placement, tcp } = values
    const policies = policy === 'all' ? IO_POLICIES : [policy]
    if (tcp !== undefined) return stream(screen, tcp, ringOrder, policies)
    if (framesFor(sockets, ringOrder) > MAX_FRAMES)
      throw new UsageError(`${program}: --sockets ${sockets} with --order ${ringOrder} needs more than 1 GiB of rings.`)
    const results = policies.map((each, i) => {
      const atHand = `${each}, ${count(sockets)} sockets on ${count(cpus)} CPUs`
      screen.steps('policies done', i, policies.length, atHand)
      return new PvcallsScenario({
        policy: each,
        cpus,
        sockets,
        bytes: values.bytes,
        maxIoworkers: values['max-ioworkers'],
        ringOrder,
        placement,
        flips,
        random: seeded(seed),
      }).run()
    })
    show(screen, results, seed, ringOrder)
    return {
      result: results,
      problems: results.flatMap((each) => each.problems.map((why) => `${each.policy}: ${why}`)),
    }
  },
})

/** A stream through real TCP under each policy. */
async function stream(
  screen: Screen,
  mib: number,
  ringOrder: number,
  policies: readonly IoPolicyName[],
): Promise<Report> {
  const results: PolicyStreams[] = []
  for (const policy of policies) {
    const onProgress = (way: string, moved: number, total: number) =>
      screen.steps(`${policy}, ${way}, KiB`, Math.floor(moved / 1024), Math.ceil(total / 1024))
    results.push({ policy, ...(await streamBoth({ bytes: mib * 2 ** 20, ringOrder, policy, onProgress })) })
  }
  showStreams(screen, mib, ringOrder, results)
  const broken = results.filter(({ toGuest, fromGuest }) => !toGuest.intact || !fromGuest.intact)
  return { result: results, problems: broken.map(({ policy }) => `${policy}: a stream did not arrive as it was sent`) }
}
