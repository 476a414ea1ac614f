/**
 * Checks of what a programmer passes. A mistake ends in a ParameterError that names the call, the parameter, what was given
 * and what is allowed. Options are checked by a table with one row an option:
 *
 *     options('Hypervisor.create', given, { onUpcall: func, maxFrames: within(0, MAX), nlevel: flag })
 *
 * The table is complete by its type: an option without a row does not compile. A name that the table lacks is refused, with
 * the nearest name that it has. Undefined stands for the default; null is a value like any other.
 */

/** Longest text that a message repeats. */
const MOST_SHOWN = 100

/** A value as messages show it. */
function show(value: unknown): string {
  if (typeof value === 'string') return shortened(JSON.stringify(value))
  if (typeof value === 'bigint') return shortened(`${value}n`)
  if (typeof value === 'function') return 'a function'
  if (Array.isArray(value)) return `a list of ${value.length}`
  if (typeof value === 'object' && value !== null) return `an object (${value.constructor?.name ?? 'no prototype'})`
  return String(value)
}

const shortened = (text: string): string => (text.length > MOST_SHOWN ? `${text.slice(0, MOST_SHOWN)}…` : text)

/** A programmer's mistake: names the call, the parameter, what was given and what is allowed. */
export class ParameterError extends TypeError {
  constructor(call: string, parameter: string, given: unknown, allowed: string) {
    super(`${call}: ${parameter} is ${show(given)}; allowed: ${allowed}`)
    this.name = 'ParameterError'
  }
}

/** A ParameterError for an option that does not exist. */
class UnknownOption extends ParameterError {
  constructor(call: string, name: string, given: unknown, names: readonly string[]) {
    super(call, name, given, '')
    const near = nearest(name, names)
    this.message =
      `${call}: ${name} (${show(given)}) is not an option; ${near ? `did you mean ${near}? ` : ''}` +
      `allowed: ${names.join(', ') || 'none'}`
  }
}

// --- values ----------------------------------------------------------------------------------------------------------

/** Returns `value` if it is an integer within the bounds, else throws a ParameterError. */
export function integer(call: string, parameter: string, value: unknown, min: number, max: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max)
    throw new ParameterError(call, parameter, value, `an integer from ${min} to ${max}`)
  return value
}

/** Returns `value` if it is an object, else throws a ParameterError. Members are for the caller to check. */
export function object<T>(call: string, parameter: string, value: T, allowed = 'an object'): T {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new ParameterError(call, parameter, value, allowed)
  return value
}

/** Returns `value` if it is one of `allowed`, else throws a ParameterError. */
export function oneOf<T>(call: string, parameter: string, value: unknown, allowed: readonly T[]): T {
  if (!allowed.includes(value as T)) throw new ParameterError(call, parameter, value, allowed.map(show).join(', '))
  return value as T
}

// --- rows of a table of options ----------------------------------------------------------------------------------------

/** Throws a ParameterError unless `value` is allowed. */
export type Check = (call: string, parameter: string, value: unknown) => unknown

/** `true` or `false`. */
export const flag = (call: string, parameter: string, value: unknown): boolean =>
  oneOf(call, parameter, value, [true, false])

/** A text. */
export function text(call: string, parameter: string, value: unknown): string {
  if (typeof value !== 'string') throw new ParameterError(call, parameter, value, 'a text')
  return value
}

/** Bytes. */
export function byteArray(call: string, parameter: string, value: unknown): Uint8Array {
  // By its tag: one of another realm is one, too.
  if (Object.prototype.toString.call(value) !== '[object Uint8Array]')
    throw new ParameterError(call, parameter, value, 'a Uint8Array')
  return value as Uint8Array
}

/** A function. */
// biome-ignore lint/complexity/noBannedTypes: which parameters a function has cannot be checked
export function func(call: string, parameter: string, value: unknown): Function {
  if (typeof value !== 'function') throw new ParameterError(call, parameter, value, 'a function')
  return value
}

/** Whatever the caller of `options` checks by itself. */
export const anything: Check = () => undefined

/** An integer within the bounds. */
export const within =
  (min: number, max: number) =>
  (call: string, parameter: string, value: unknown): number =>
    integer(call, parameter, value, min, max)

/** A finite number within the bounds, not necessarily an integer: a duration, a share. */
export const between =
  (min: number, max: number) =>
  (call: string, parameter: string, value: unknown): number => {
    if (typeof value !== 'number' || !(value >= min && value <= max) || !Number.isFinite(value))
      throw new ParameterError(
        call,
        parameter,
        value,
        max < Number.MAX_VALUE ? `a number from ${min} to ${max}` : `a finite number from ${min} up`,
      )
    return value
  }

/** A bigint within the bounds: nanoseconds. */
export const bigWithin =
  (min: bigint, max: bigint) =>
  (call: string, parameter: string, value: unknown): bigint => {
    if (typeof value !== 'bigint' || value < min || value > max)
      throw new ParameterError(call, parameter, value, `a bigint from ${min}n to ${max}n`)
    return value
  }

/** One of several values. */
export const among =
  <T>(...allowed: readonly T[]) =>
  (call: string, parameter: string, value: unknown): T =>
    oneOf(call, parameter, value, allowed)

/** A list whose items pass `item`; `what` says what they are. */
export const listOf =
  (item: Check, what: string): Check =>
  (call, parameter, value) => {
    if (!Array.isArray(value)) throw new ParameterError(call, parameter, value, `a list of ${what}`)
    for (const [i, each] of value.entries()) item(call, `${parameter}[${i}]`, each)
  }

/** An object with these methods: an implementation of an interface. */
export const having =
  (...methods: readonly string[]): Check =>
  (call, parameter, value) => {
    const members = object(call, parameter, value, `an object with ${methods.join(', ')}`) as Record<string, unknown>
    for (const method of methods) func(call, `${parameter}.${method}`, members[method])
  }

/** An instance of a class; `what` says what to pass. */
export const instance =
  // biome-ignore lint/suspicious/noExplicitAny: any class, whatever its constructor takes
    (of: abstract new (...args: any[]) => unknown, what: string): Check =>
    (call, parameter, value) => {
      if (!(value instanceof of)) throw new ParameterError(call, parameter, value, what)
    }

/** An object of options that are checked by a table of their own. */
export const nested =
  <T extends object>(table: Table<T>): Check =>
  (call, parameter, value) => {
    const given = object(call, parameter, value) as T
    for (const [name, each] of Object.entries(given)) row(call, `${parameter}.`, name, each, table)
  }

/** A check for each option. */
export type Table<T> = { readonly [K in keyof T]-?: Check }

/**
 * Returns `given` if it is an object whose members all have a row in the table and pass its check.
 * @throws ParameterError
 */
export function options<T extends object>(call: string, given: T, table: Table<T>, what = 'options'): T {
  object(call, what, given)
  for (const [name, value] of Object.entries(given)) row(call, '', name, value, table)
  return given
}

function row(call: string, prefix: string, name: string, value: unknown, table: Readonly<Record<string, Check>>): void {
  if (!Object.hasOwn(table, name))
    throw new UnknownOption(
      call,
      prefix + name,
      value,
      Object.keys(table).map((each) => prefix + each),
    )
  if (value !== undefined) table[name]!(call, prefix + name, value)
}

/** Returns `given` if it is an object without members but `names`, whose values the caller checks. @throws ParameterError */
export function known<T extends object>(
  call: string,
  given: T,
  names: readonly (keyof T & string)[],
  what = 'options',
): T {
  object(call, what, given)
  for (const [name, value] of Object.entries(given))
    if (!(names as readonly string[]).includes(name)) throw new UnknownOption(call, name, value, names)
  return given
}

// --- members of C structs ---------------------------------------------------------------------------------------------

/** The members of a C struct: the bytes of each, and who fills it in ('in' is the caller). */
interface Members {
  readonly [name: string]: { readonly size: number; readonly dir: string }
}

/**
 * Returns the members of a C struct that the caller fills in, each an integer that it can hold. All must be given but
 * `pad` and `flags`, which are 0 then. Members that are not the caller's may be given if `named` has their direction.
 */
export function members(
  call: string,
  fields: Members,
  given: Readonly<Record<string, unknown>>,
  named: readonly string[] = ['in'],
): Record<string, number> {
  object(call, 'args', given)
  for (const name of Object.keys(given)) {
    const field = Object.hasOwn(fields, name) ? fields[name]! : undefined
    if (field && named.includes(field.dir)) continue
    const allowed = Object.keys(fields).filter((each) => named.includes(fields[each]!.dir))
    throw new ParameterError(call, name, given[name], `only ${allowed.join(', ') || 'no members'}`)
  }
  const args: Record<string, number> = {}
  for (const { name, max, needed, missing } of wantedOf(fields)) {
    const value = given[name]
    if (value !== undefined) args[name] = integer(call, name, value, 0, max)
    else if (needed) args[name] = integer(call, name, missing, 0, max)
  }
  return args
}

/** What is wanted of a member: the largest value that it holds, and whether it must be there. */
interface WantedMember {
  readonly name: string
  readonly max: number
  readonly needed: boolean
  /** Its value where the caller gave none. */
  readonly missing: number | undefined
}

const wanted = new WeakMap<Members, readonly WantedMember[]>()

/** The members of a struct in its order, worked out once. */
function wantedOf(fields: Members): readonly WantedMember[] {
  let list = wanted.get(fields)
  if (!list) {
    list = Object.entries(fields).map(([name, { size, dir }]) => ({
      name,
      max: size === 8 ? Number.MAX_SAFE_INTEGER : 2 ** (8 * size) - 1,
      needed: dir === 'in',
      missing: name === 'pad' || name === 'flags' ? 0 : undefined,
    }))
    wanted.set(fields, list)
  }
  return list
}

// --- the nearest name ------------------------------------------------------------------------------------------------

/** The name that was probably meant, if one is near: `onUpCall` for `onUpcall`, `xen_mtwatch` for `xenMtwatch`. */
export function nearest(name: string, names: readonly string[]): string | undefined {
  const plain = (each: string) => each.toLowerCase().replace(/[-_. ]/g, '')
  const wanted = plain(name.slice(0, MOST_SHOWN))
  let best: string | undefined
  let least = Math.max(1, Math.floor(wanted.length / 3)) + 1
  for (const each of names) {
    const other = plain(each)
    // The beginning of a name, or a name with something behind it, is as near as one wrong letter.
    const begins = wanted.length > 2 && (other.startsWith(wanted) || wanted.startsWith(other))
    const distance = begins ? Math.min(1, Math.abs(other.length - wanted.length)) : edits(wanted, other)
    if (distance < least) {
      best = each
      least = distance
    }
  }
  return best
}

/** How many letters must be inserted, removed, replaced or swapped with their neighbour to make one text of the other. */
function edits(from: string, to: string): number {
  const rows: number[][] = [Array.from({ length: to.length + 1 }, (_, j) => j)]
  for (let i = 1; i <= from.length; i++) {
    const line = [i]
    for (let j = 1; j <= to.length; j++) {
      const replaced = rows[i - 1]![j - 1]! + Number(from[i - 1] !== to[j - 1])
      line[j] = Math.min(replaced, rows[i - 1]![j]! + 1, line[j - 1]! + 1)
      if (i > 1 && j > 1 && from[i - 1] === to[j - 2] && from[i - 2] === to[j - 1])
        line[j] = Math.min(line[j]!, rows[i - 2]![j - 2]! + 1)
    }
    rows.push(line)
  }
  return rows[from.length]![to.length]!
}
