/**
 * `npm run mutate`: how good the tests are. Changes one token of the library, or of its AssemblyScript, and asks whether a
 * test notices; then the next. Prints those that no test noticed, and the share that one did.
 */

import { parseArgs } from 'node:util'
import { mutantsOf, tell } from './mutants.mjs'
import { testsOf } from './rooms.mjs'
import { makeTree, put, Runner, read, sources, takeOut } from './tree.mjs'

const HELP = `usage: npm run mutate -- [options] [FILE...]

Puts one small fault at a time into a copy of the library and looks whether a
test notices. FILEs are of src/ or assembly/, or folders; default: all.

options:
  --sample N     so many mutants, drawn from all (default: every one)
  --seed S       which ones are drawn (default: 1)
  --minutes M    draws no further one after so long (default: no limit)
  --at-least P   ends with 1 if a smaller share is found, in % (default: 92)
  --list         prints the mutants and runs nothing
  --help, -h     this text
`
/** A test file that takes longer than this is not asked: the others are many. */
const SLOW_MS = 2_000
/** Test files that are asked whatever they take: they are nearest to the mutant. */
const NEAREST = 10
/** Test files that are asked at most. */
const MOST_TESTS = 60
const UNKNOWN_MS = 500
const LEAST_LIMIT_MS = 120_000

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    sample: { type: 'string' },
    seed: { type: 'string', default: '1' },
    minutes: { type: 'string', default: '1000000' },
    'at-least': { type: 'string', default: '92' },
    list: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
})

function fail(text) {
  process.stderr.write(`mutate: ${text}\n`)
  process.exit(2)
}

function whole(name, text) {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 0) fail(`--${name} is ${JSON.stringify(text)}; allowed: a whole number`)
  return value
}

/** Shuffles by a seed (mulberry32). */
function shuffled(list, seed) {
  let state = seed >>> 0
  const below = (most) => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) % most
  }
  for (let i = list.length - 1; i > 0; i--) {
    const j = below(i + 1)
    ;[list[i], list[j]] = [list[j], list[i]]
  }
  return list
}

/** The mutants that were asked for, in the order in which they are tried. */
function chosen() {
  const all = sources()
  const files = positionals.flatMap((name) => {
    const found = all.filter((file) => file === name || file.startsWith(`${name.replace(/\/$/, '')}/`))
    return found.length ? found : fail(`${name} is no file of src/ or assembly/`)
  })
  const mutants = (positionals.length ? files : all).flatMap((file) => mutantsOf(file, read(file)))
  return values.sample === undefined ? mutants : shuffled(mutants, whole('seed', values.seed))
}

if (values.help) {
  process.stdout.write(HELP)
  process.exit(0)
}
const mutants = chosen()
const wanted = Math.min(mutants.length, values.sample === undefined ? mutants.length : whole('sample', values.sample))
const until = performance.now() + whole('minutes', values.minutes) * 60_000
const atLeast = whole('at-least', values['at-least'])
if (values.list) {
  for (const mutant of mutants.slice(0, wanted)) process.stdout.write(`${tell(mutant)}\n`)
  process.exit(0)
}

makeTree()
const runner = new Runner()
await runner.start()
/** How long a test file took. */
const times = new Map()
/** Test files that pass without a mutant, and those that do not: they are asked no more. */
const sound = new Set()
const broken = new Set()
const note = (test, ms) => times.set(test, Math.min(ms, times.get(test) ?? Infinity))

/** Tests for a file: the nearest, then the quick ones of the others. */
function askable(file) {
  const tests = testsOf(file, runner.all).filter((test) => !broken.has(test) && !(times.get(test) > SLOW_MS))
  const rest = tests.slice(NEAREST).sort((a, b) => (times.get(a) ?? UNKNOWN_MS) - (times.get(b) ?? UNKNOWN_MS))
  return [...tests.slice(0, NEAREST), ...rest].slice(0, MOST_TESTS)
}

/** The test that notices a mutant, or null. One that fails without the mutant too has noticed nothing. */
async function noticed(mutant, changed) {
  for (;;) {
    const tests = askable(mutant.file)
    const failed = await runner.run(changed, tests, limitOf, note)
    const test = failed?.split(' ')[0]
    if (!failed || sound.has(test)) return failed
    const back = takeOut(mutant)
    const alone = tests.includes(test) ? await runner.run(back, [test], limitOf, note) : null
    if (!alone) {
      sound.add(test)
      return failed
    }
    process.stdout.write(`not asked any more, it fails without a mutant: ${test}\n`)
    broken.add(test)
    put(mutant)
  }
}

const limitOf = (test) => Math.max(LEAST_LIMIT_MS, (times.get(test) ?? 0) * 10)

const survivors = []
let tried = 0
for (const mutant of mutants) {
  if (tried >= wanted || performance.now() > until) break
  const changed = put(mutant)
  if (changed) {
    tried++
    const failed = await noticed(mutant, changed)
    if (!failed) survivors.push(mutant)
    process.stdout.write(
      `${tried}/${wanted} ${failed ? 'found' : 'NOT FOUND'}: ${tell(mutant)}${failed ? `  [${failed}]` : ''}\n`,
    )
  }
  // Nothing is asked between: what was changed back is read anew with the next.
  await runner.run(takeOut(mutant), [], () => LEAST_LIMIT_MS)
}
runner.stop()
const found = tried - survivors.length
const share = (100 * found) / (tried || 1)
process.stdout.write(`\n${found} of ${tried} mutants were found (${share.toFixed(1)} %)\n`)
for (const mutant of survivors) process.stdout.write(`not found: ${tell(mutant)}\n`)
process.exit(share >= atLeast ? 0 : 1)
