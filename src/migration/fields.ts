/**
 * Reading a saved state: data of unknown origin, taken apart field by field. Each reader returns a value of the right
 * kind and range, or throws an error that names the field by its path, `vcpuState[3].infoGfn`. What is read is copied, so
 * that nothing can change between the check and the use. Messages stay short, whatever the field holds.
 */

import { type Refusal, XenError } from '../errno.js'

/** A saved state that cannot be used: says which field and why. Nothing has changed. */
export class SavedStateError extends Error {
  readonly field: string

  constructor(field: string, problem: string) {
    super(`saved domain: ${field}: ${problem}`)
    this.name = 'SavedStateError'
    this.field = field
  }
}

/** A sound state that this host cannot take: the operation that would make the field's content is refused. Nothing has changed. */
export class RestoreError extends XenError {
  readonly field: string

  constructor(field: string, errno: number, found: string) {
    super('restoreDomain', errno, `${field}: ${found}`)
    this.name = 'RestoreError'
    this.field = field
  }

  /** The error for a refusal of what stands at `field`. */
  static at(field: string, refusal: Refusal): RestoreError {
    return new RestoreError(field, refusal.errno, refusal.text)
  }
}

const SHOWN = 40

/** A value in a message: short, and never an exception, whatever it is. */
export function shown(value: unknown): string {
  switch (typeof value) {
    case 'string':
      return value.length > SHOWN ? `${JSON.stringify(value.slice(0, SHOWN))} …` : JSON.stringify(value)
    case 'bigint':
      return 'a bigint'
    case 'function':
    case 'symbol':
      return `a ${typeof value}`
    case 'object':
      return value === null ? 'null' : Array.isArray(value) ? 'an array' : 'an object'
    default:
      return String(value)
  }
}

/** Columns of a table by name: the lowest and highest integer each may hold. */
export type Columns = Readonly<Record<string, readonly [min: number, max: number]>>

/** A table as saved: its columns' names, then rows of integers. */
export interface SavedTable {
  columns: string[]
  rows: number[][]
}

/** The fields of one object of a saved state. */
export class Fields {
  readonly #data: Readonly<Record<string, unknown>>
  readonly #path: string

  /** `path` is empty for the state itself. */
  constructor(data: unknown, path = '') {
    if (typeof data !== 'object' || data === null || Array.isArray(data))
      throw new SavedStateError(path || 'state', `is ${shown(data)}, not an object`)
    this.#data = data as Record<string, unknown>
    this.#path = path
  }

  /** Path of a member. */
  path(name: string): string {
    return this.#path ? `${this.#path}.${name}` : name
  }

  /** The raw value; a missing one is an error of its own. */
  raw(name: string): unknown {
    if (!Object.hasOwn(this.#data, name)) throw new SavedStateError(this.path(name), 'is missing')
    return this.#data[name]
  }

  /** Is the member there? */
  has(name: string): boolean {
    return Object.hasOwn(this.#data, name)
  }

  /** Refuses members that no reader knows: what they say would be dropped in silence. */
  only(names: readonly string[]): void {
    for (const name of Object.keys(this.#data))
      if (!names.includes(name))
        throw new SavedStateError(this.path(name.slice(0, SHOWN)), `is unknown; known: ${names.join(', ')}`)
  }

  int(name: string, min: number, max: number): number {
    return checkInt(this.path(name), this.raw(name), min, max)
  }

  bool(name: string): boolean {
    return this.oneOf(name, [true, false])
  }

  oneOf<T>(name: string, allowed: readonly T[]): T {
    const value = this.raw(name)
    if (!allowed.includes(value as T))
      throw new SavedStateError(this.path(name), `is ${shown(value)}, not one of ${allowed.join(', ')}`)
    return value as T
  }

  /** A u64 as decimal text: JSON has no integers of that size. */
  u64(name: string): bigint {
    const value = this.raw(name)
    if (typeof value !== 'string' || !/^\d{1,20}$/.test(value) || BigInt(value) >= 2n ** 64n)
      throw new SavedStateError(this.path(name), `is ${shown(value)}, not an unsigned 64-bit integer as decimal text`)
    return BigInt(value)
  }

  /** An array of at most `most` elements. */
  array(name: string, most: number): readonly unknown[] {
    const value = this.raw(name)
    if (!Array.isArray(value)) throw new SavedStateError(this.path(name), `is ${shown(value)}, not an array`)
    if (value.length > most)
      throw new SavedStateError(this.path(name), `has ${value.length} elements, and ${most} are the most`)
    return value
  }

  /** An array of integers, in any order. */
  ints(name: string, most: number, min: number, max: number): number[] {
    return Array.from(this.array(name, most), (value, i) => checkInt(`${this.path(name)}[${i}]`, value, min, max))
  }

  object(name: string): Fields {
    return new Fields(this.raw(name), this.path(name))
  }

  /** An object, or null. */
  maybe(name: string): Fields | null {
    return this.raw(name) === null ? null : this.object(name)
  }

  /** The objects of an array. */
  objects(name: string, most: number): Fields[] {
    return Array.from(this.array(name, most), (value, i) => new Fields(value, `${this.path(name)}[${i}]`))
  }

  /** The rows of a table, each as long as its columns. */
  table(name: string, columns: Columns, most: number): number[][] {
    const table = this.object(name)
    table.only(['columns', 'rows'])
    const names = Object.keys(columns)
    const given = table.array('columns', names.length)
    if (given.length !== names.length || names.some((column, i) => given[i] !== column))
      throw new SavedStateError(table.path('columns'), `are not ${names.join(', ')}`)
    const ranges = Object.values(columns)
    return Array.from(table.array('rows', most), (row, i) => {
      if (!Array.isArray(row) || row.length !== names.length)
        throw new SavedStateError(`${this.path(name)}[${i}]`, `is ${shown(row)}, not ${names.length} integers`)
      for (let c = 0; c < names.length; c++)
        if (!isInt(row[c], ranges[c]![0], ranges[c]![1]))
          checkInt(`${this.path(name)}[${i}].${names[c]}`, row[c], ...ranges[c]!)
      return row.slice() as number[]
    })
  }
}

const isInt = (value: unknown, min: number, max: number): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max

function checkInt(field: string, value: unknown, min: number, max: number): number {
  if (!isInt(value, min, max))
    throw new SavedStateError(field, `is ${shown(value)}, not an integer from ${min} to ${max}`)
  return value
}
