/**
 * Xen's error numbers (xen/include/public/errno.h), three that the /dev/xen/evtchn handle adds (EBADF, EFBIG, ENOTCONN),
 * and the errors that typed calls throw.
 */

export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  ENXIO: 6,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  EINVAL: 22,
  EFBIG: 27,
  ENOSPC: 28,
  ENOSYS: 38,
  ERESTART: 85,
  EOPNOTSUPP: 95,
  ENOTCONN: 107,
} as const

/** Name of an error number, such as `EINVAL`. */
export type ErrnoName = keyof typeof Errno

const names = new Map<number, ErrnoName>(Object.entries(Errno).map(([name, value]) => [value, name as ErrnoName]))

/** Name of an error number; `errno N` for one that Xen does not use here. Takes either sign. */
export function errnoName(errno: number): string {
  return names.get(Math.abs(errno)) ?? `errno ${Math.abs(errno)}`
}

/** An operation that Xen refused. `message`: operation, what was found, errno. */
export class XenError extends Error {
  /** Positive error number. */
  readonly errno: number
  /** Its name, such as `EINVAL`. */
  readonly code: string
  /** The operation, such as `EVTCHNOP_send`. */
  readonly op: string
  /** What was found. */
  readonly found: string

  constructor(op: string, errno: number, found: string) {
    const code = errnoName(errno)
    super(`${op}: ${found || 'refused'} (${code})`)
    this.name = 'XenError'
    this.errno = Math.abs(errno)
    this.code = code
    this.op = op
    this.found = found
  }
}

/** A programmer's mistake: names the call, the parameter, what was given and what is allowed. */
export class ParameterError extends TypeError {
  constructor(call: string, parameter: string, given: unknown, allowed: string) {
    super(`${call}: ${parameter} is ${show(given)}; allowed: ${allowed}`)
    this.name = 'ParameterError'
  }
}

function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value)
  if (typeof value === 'bigint') return `${value}n`
  if (typeof value === 'function') return 'a function'
  if (typeof value === 'object' && value !== null) return `an object (${value.constructor?.name ?? 'no prototype'})`
  return String(value)
}

/** Returns `value` if it is an integer within the bounds, else throws a ParameterError. */
export function integer(call: string, parameter: string, value: unknown, min: number, max: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max)
    throw new ParameterError(call, parameter, value, `an integer from ${min} to ${max}`)
  return value
}

/** Returns `value` if it is undefined or has the type that `typeof` names, else throws a ParameterError. */
export function optional<T>(call: string, parameter: string, value: T, type: 'function' | 'object'): T {
  if (value !== undefined && (typeof value !== type || value === null || Array.isArray(value)))
    throw new ParameterError(call, parameter, value, type === 'function' ? 'a function' : 'an object')
  return value
}

/** Returns `value` if it is an object, else throws a ParameterError. Members are for the caller to check. */
export function object<T>(call: string, parameter: string, value: T, allowed = 'an object'): T {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new ParameterError(call, parameter, value, allowed)
  return value
}

/** Returns `value` if it is a list of integers within the bounds, else throws a ParameterError. */
export function integers(call: string, parameter: string, value: unknown, min: number, max: number): readonly number[] {
  if (!Array.isArray(value))
    throw new ParameterError(call, parameter, value, `a list of integers from ${min} to ${max}`)
  for (const [i, each] of value.entries()) integer(call, `${parameter}[${i}]`, each, min, max)
  return value
}

/** Returns `value` if it is one of `allowed`, else throws a ParameterError. */
export function oneOf<T>(call: string, parameter: string, value: unknown, allowed: readonly T[]): T {
  if (!allowed.includes(value as T)) throw new ParameterError(call, parameter, value, allowed.map(show).join(', '))
  return value as T
}

/** What `make` makes; null where the engine has no memory for it, which a hypercall answers with ENOMEM. */
export function ifMemory<T>(make: () => T): T | null {
  try {
    return make()
  } catch (error) {
    if (error instanceof RangeError) return null
    throw error
  }
}
