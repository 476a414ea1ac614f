/**
 * `evtchn migrate`: both modes of migration on one workload: the guest makes its channels again, or they move with it. A guest with channels to dom0 is
 * moved while some of its events are pending and others are raised: cooperatively to the target, transparently to the
 * target, and transparently on its own host. Every event is accounted for, on whichever host the guest ends.
 */

import { type Bits, fullTree, MAX_FRAMES } from '../../abi/index.js'
import { ABIS, hasAbi, mostChannels } from '../abi.js'
import { command } from '../command.js'
import { count } from '../format.js'
import { COMMON, choice, flag, notAllowed, type Values, whole, within } from '../options.js'
import { move } from './move.js'
import { show } from './screens.js'
import { DOM0_FRAMES, type Workload } from './workload.js'

const OPTIONS = {
  channels: whole('channels between dom0 and the guest', {
    min: 1,
    max: fullTree(64, 3) - 1,
    shown: '20000, or all that the ABI has',
  }),
  abi: choice('levels that the guest asks for, or FIFO queues', { of: ABIS, preset: '3' }),
  bits: choice('word width of the guest', { of: ['32', '64'], preset: '64' }),
  frames: whole('RAM of the guest in 4 KiB frames', { min: 16, max: 2 ** 18, preset: 2048 }),
  pending: whole('channels with an event pending when it is saved', { min: 0, max: 2 ** 24, shown: '1000, or all' }),
  raised: whole('channels that are signalled while it is frozen', { min: 0, max: 2 ** 24, shown: '500, or all' }),
  'target-levels': whole('deepest tree that the target grants', { min: 2, max: 5, value: '2|3|4|5' }),
  'target-pages': whole('leaf pages that the target grants', { min: 0, max: 1024 }),
  'target-max-port': whole('highest port number of the guest on the target', { min: 0, max: 2 ** 31 - 1 }),
  'target-frames': whole('RAM that the target has left, in 4 KiB frames', { min: 0, max: 2 ** 30 }),
  older: flag('the target has never heard of N levels'),
  'no-fifo': flag('the target has no FIFO event channels'),
  'not-allowed': flag('the target does not allow the guest more than two levels'),
  seed: COMMON.seed('for the choice of channels'),
  json: COMMON.json,
}

/** The limits of the target. */
function readTarget(values: Values<typeof OPTIONS>): Pick<Workload, 'host' | 'domain'> {
  const maxLevels = values['target-levels']
  const maxLeafPages = values['target-pages']
  const maxFrames = values['target-frames']
  const maxEvtchnPort = values['target-max-port']
  return {
    host: {
      nlevel: !values.older,
      fifo: !values['no-fifo'],
      ...(maxLevels !== undefined && { maxLevels }),
      ...(maxLeafPages !== undefined && { maxLeafPages }),
      ...(maxFrames !== undefined && { maxFrames: maxFrames + DOM0_FRAMES }),
    },
    domain: {
      nlevelAllowed: !values['not-allowed'],
      // The target grants what it is asked for, and not what the state says it had.
      maxEvtchnPort: maxEvtchnPort ?? Infinity,
      maxFrames: MAX_FRAMES,
    },
  }
}

function readWorkload(program: string, values: Values<typeof OPTIONS>): Workload {
  const bits = Number(values.bits) as Bits
  const { abi, frames, seed } = values
  if (!hasAbi(abi, bits)) throw notAllowed(program, 'abi', abi, '2, 3, 4, fifo with --bits 64')
  const most = Math.min(mostChannels(abi, bits), fullTree(64, 3) - 1)
  const channels = within(program, 'channels', values.channels ?? Math.min(20_000, most), 1, most)
  const pending = within(program, 'pending', values.pending ?? Math.min(1000, channels), 0, channels)
  const raised = within(program, 'raised', values.raised ?? Math.min(500, channels), 0, channels)
  return { channels, abi, bits, frames, pending, raised, seed, ...readTarget(values) }
}

const MOVES = [
  ['cooperative', 'target'],
  ['transparent', 'target'],
  ['transparent', 'same host'],
] as const

/** The subcommand. */
export const migrate = command({
  name: 'migrate',
  summary: 'move a guest in both modes: what each saves, loses and refuses',
  about:
    'Moves a guest with its channels to another host in both modes, and to its own host transparently. Says what each saved, lost, re-bound and refused, and where every event went. A refusal is a result, not a failure. Exit code 1: an event of a transparent move is missing, or a channel that was kept does not deliver.',
  options: OPTIONS,
  run({ program, values, screen }) {
    const workload = readWorkload(program, values)
    const outcomes = MOVES.map(([mode, to], i) => {
      const atHand = `${count(workload.channels)} channels, ${mode}, to the ${to}`
      screen.steps('moves done', i, MOVES.length, atHand)
      return move(workload, mode, to)
    })
    show(screen, workload, outcomes)
    return { result: { workload, outcomes } }
  },
})
