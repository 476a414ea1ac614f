/**
 * The environment variables of the tests, in one place. A test takes its default here, so that a misspelt name or a value
 * that is no number ends the run instead of being ignored. test/README.md describes each.
 */

const KNOWN = [
  'EVTCHN_SEED',
  'EVTCHN_RUNS',
  'EVTCHN_SHOW',
  'EVTCHN_REQUIRE_TOOLS',
  'EVTCHN_UPDATE_LAYOUTS',
  'EVTCHN_XEN_UTILS',
] as const
type Name = (typeof KNOWN)[number]

for (const name of Object.keys(process.env))
  if (name.startsWith('EVTCHN_') && !(KNOWN as readonly string[]).includes(name))
    throw new Error(`${name} is not a variable of the tests; allowed: ${KNOWN.join(', ')}`)

/** Returns the whole number that a variable holds, or undefined where it is not set. */
function number(name: Name): number | undefined {
  const text = process.env[name]
  if (text === undefined) return undefined
  const value = Number(text)
  if (!text || !Number.isSafeInteger(value) || value < 0)
    throw new Error(`${name} is ${JSON.stringify(text)}; allowed: a whole number`)
  return value
}

/** The seed that was asked for, or undefined. */
export const givenSeed = number('EVTCHN_SEED')

/** Returns the seed of a random test: the one that was asked for, else `fallback`. */
export const seedOr = (fallback: number): number => givenSeed ?? fallback

/** Returns how often a random test runs: as was asked, else `fallback`. */
export const runsOr = (fallback: number): number => number('EVTCHN_RUNS') ?? fallback

/** Are tests whose programs are missing to fail? Otherwise they do not run, and the end of the run names them. */
export const requireTools = process.env.EVTCHN_REQUIRE_TOOLS === '1'

/** Are the recorded layouts to be written anew from the C compiler? */
export const updateLayouts = process.env.EVTCHN_UPDATE_LAYOUTS === '1'

/** Is this to be printed: `states` (how many an exploration saw) or `schedules` (the orders that lose an event)? */
export const show = (what: 'states' | 'schedules'): boolean => (process.env.EVTCHN_SHOW ?? '').split(',').includes(what)

/** Where Xen's own programs were unpacked, or undefined for the usual place. */
export const xenUtils = process.env.EVTCHN_XEN_UTILS
