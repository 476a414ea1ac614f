/**
 * Checks of arguments: what a programmer passes by mistake is named with the call, the parameter and what is allowed.
 */

export function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value)
  if (typeof value === 'bigint') return `${value}n`
  if (typeof value === 'function') return 'a function'
  if (typeof value === 'object' && value !== null) return `an object (${value.constructor?.name ?? 'no prototype'})`
  return String(value)
}

/** A programmer's mistake: names the call, the parameter, what was given and what is allowed. */
export class ParameterError extends TypeError {
  constructor(call: string, parameter: string, given: unknown, allowed: string) {
    super(`${call}: ${parameter} is ${show(given)}; allowed: ${allowed}`)
    this.name = 'ParameterError'
  }
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
