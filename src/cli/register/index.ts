/** `evtchn register`: a guest goes over to N levels or FIFO, step by step, with every refusal and what it falls back to. */

import { type Bits, MAX_LEAF_PAGES } from '../../abi/index.js'
import { ABIS, abiName, formOf, hasAbi } from '../abi.js'
import { command } from '../command.js'
import { bytes, count } from '../format.js'
import { COMMON, choice, flag, notAllowed, type Values, whole } from '../options.js'
import type { Screen } from '../screen.js'
import { bytesOf, type Call, type Registration, register as registerAs, type Wish, wishName } from './run.js'
import { draw, wayOfLast } from './tree.js'

const OPTIONS = {
  abi: choice('levels that the guest asks for, or FIFO queues', { of: ABIS, preset: '3' }),
  bits: choice('word width of the guest', { of: ['32', '64'], preset: '64' }),
  pages: whole('leaf pages per bitmap; the full tree takes 8 of 3 levels', {
    min: 1,
    max: MAX_LEAF_PAGES,
    shown: 'as many as the tree takes',
  }),
  vcpus: whole('vCPUs of the guest', { min: 1, max: 128, preset: 2 }),
  'late-vcpu': flag('the last vCPU comes up after the channels were registered'),
  'max-abi': whole('deepest tree that the host grants', { min: 2, max: 5, value: '2|3|4|5' }),
  'max-pages': whole('leaf pages that the host grants', { min: 0, max: MAX_LEAF_PAGES, preset: MAX_LEAF_PAGES }),
  'max-port': whole('highest port number that the domain may open', { min: 0, max: 2 ** 31 - 1 }),
  old: flag('the host has never heard of N levels'),
  'no-fifo': flag('the host has no FIFO event channels'),
  'not-allowed': flag('the host does not allow the guest more than two levels'),
  json: COMMON.json,
}

function readWish(program: string, values: Values<typeof OPTIONS>): Wish {
  const bits = Number(values.bits) as Bits
  if (!hasAbi(values.abi, bits)) throw notAllowed(program, 'abi', values.abi, '2, 3, 4, fifo with --bits 64')
  if (values['late-vcpu'] && values.vcpus < 2)
    throw notAllowed(program, 'vcpus', values.vcpus, '2 or more with --late-vcpu')
  const maxLevels = values['max-abi']
  if (maxLevels === 5 && bits === 64) throw notAllowed(program, 'max-abi', 5, '2, 3, 4 with --bits 64')
  return {
    bits,
    form: formOf(values.abi),
    pages: values.pages,
    vcpus: values.vcpus,
    late: values['late-vcpu'],
    host: {
      nlevel: !values.old,
      fifo: !values['no-fifo'],
      maxLeafPages: values['max-pages'],
      ...(maxLevels !== undefined && { maxLevels }),
    },
    domain: {
      maxEvtchnPort: values['max-port'] ?? Number.POSITIVE_INFINITY,
      nlevelAllowed: !values['not-allowed'],
    },
  }
}

/** Calls of the same operation that follow each other: the first two, how many more, and each that was refused. */
function shortened(calls: readonly Call[]): string[] {
  const lines: string[] = []
  const asked = new Set<string>()
  let same = 0
  let hidden = 0
  const tell = () => {
    if (hidden) lines.push(`… ${count(hidden)} more`)
    hidden = 0
  }
  calls.forEach(({ call, result, line }, i) => {
    // The driver's parts ask for themselves: a question with the same answer is shown once.
    if (/query/.test(call) && asked.has(line)) return
    asked.add(line)
    same = call === calls[i - 1]?.call ? same + 1 : 0
    if (same >= 2 && result >= 0) {
      hidden++
      return
    }
    tell()
    lines.push(line)
  })
  tell()
  return lines
}

function show(screen: Screen, wish: Wish, done: Registration): void {
  const { granted, calls, attempts, levels, channels, nrPages, frames, tree, lateVcpu } = done
  screen.line(`A guest of ${count(wish.vcpus)} ${wish.vcpus === 1 ? 'vCPU' : 'vCPUs'} asks for ${wishName(wish)}.`)
  screen.heading('What the host grants')
  screen.block([
    granted
      ? `${abiName(granted.max_levels)}, ${count(granted.max_pages)} leaf pages, ${count(granted.nr_channels)} channels`
      : 'this host does not know the operation: two levels, perhaps FIFO',
  ])
  screen.heading('What the guest did')
  screen.block(shortened(calls))
  screen.heading('What came of it')
  screen.table(
    ['asked for', 'leaf pages', 'result'],
    attempts.map((each) => [
      abiName(each.levels),
      each.nrPages && Number.isFinite(each.nrPages) ? count(each.nrPages) : undefined,
      each.answer === 'ok' ? screen.paint('good', 'registered') : screen.paint('bad', each.answer),
    ]),
  )
  screen.line()
  const more = `${count(frames)} frames more than on two levels (${bytes(bytesOf(frames))})`
  const none = levels === 2 ? 'no frame for them' : 'no frame more than on two levels: its array grows with its ports'
  const held = frames === 0 ? none : `${more}${nrPages ? `, ${count(2 * nrPages)} of them the leaf's` : ''}`
  screen.line(`${abiName(levels)}: ${count(channels)} channels. The guest holds ${held}.`)
  if (lateVcpu)
    screen.line(
      `vCPU ${lateVcpu.vcpu} came up late: an event that was sent before waited for it, and was handled once.`,
    )
  if (!tree.length) return
  screen.heading('The tree')
  screen.block(draw(tree, screen.width - 2))
  screen.line()
  screen.line(`The last port: ${wayOfLast(tree)}.`)
}

/** The subcommand. */
export const register = command({
  name: 'register',
  summary: 'one guest registers levels: calls, refusals, fall-back, tree',
  about:
    "Boots a guest that asks for a number of levels, and prints what the host would grant, each hypercall of the registration with its result and reason, what the guest fell back to, the frames that it holds, and its tree. The host's limits are options, so each refusal can be seen.",
  options: OPTIONS,
  run({ program, values, screen }) {
    const wish = readWish(program, values)
    const done = registerAs(wish)
    show(screen, wish, done)
    return { result: done }
  },
})
