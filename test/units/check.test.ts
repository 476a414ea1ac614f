/** The one check of options and arguments: what a programmer reads after a mistake. */
import { describe, expect, it } from 'vitest'
import {
  among,
  anything,
  between,
  bigWithin,
  type Check,
  flag,
  func,
  having,
  instance,
  known,
  listOf,
  nearest,
  nested,
  options,
  ParameterError,
  text,
  within,
} from '../../src/check.js'

interface Given {
  onUpcall?: () => void
  maxFrames?: number
  trace?: { upcall?: () => void }
}

const TABLE = { onUpcall: func, maxFrames: within(0, 9), trace: nested<{ upcall?: () => void }>({ upcall: func }) }
const check = (given: unknown) => () => options<Given>('f', given as Given, TABLE)

/** The message of a check that refuses `value`. */
function refused(check: Check, value: unknown): string {
  try {
    check('f', 'x', value)
  } catch (error) {
    expect(error).toBeInstanceOf(ParameterError)
    return (error as Error).message
  }
  throw new Error(`${String(value)} was taken`)
}

describe('options', () => {
  it('returns what was given when every name and value is allowed', () => {
    const given = { maxFrames: 3, onUpcall: undefined }
    expect(check(given)()).toBe(given)
  })

  it('an unknown name is refused with its value, the nearest name and all that are allowed', () => {
    expect(check({ onUpCall() {} })).toThrow(ParameterError)
    expect(check({ onUpCall() {} })).toThrow(
      'f: onUpCall (a function) is not an option; did you mean onUpcall? allowed: onUpcall, maxFrames, trace',
    )
  })

  it('a name without a near one gets the list alone', () => {
    expect(check({ colour: 1 })).toThrow('f: colour (1) is not an option; allowed: onUpcall, maxFrames, trace')
  })

  it('an unknown name is refused even with the value undefined', () => {
    expect(check({ maxFrame: undefined })).toThrow('did you mean maxFrames?')
  })

  it('names of Object.prototype are no options', () => {
    expect(check({ toString: 1 })).toThrow('toString (1) is not an option')
    expect(check(JSON.parse('{"__proto__":1}'))).toThrow('__proto__ (1) is not an option')
  })

  it('a wrong value names the option, and null is a value like any other', () => {
    expect(check({ maxFrames: '3' })).toThrow('f: maxFrames is "3"; allowed: an integer from 0 to 9')
    expect(check({ onUpcall: null })).toThrow('f: onUpcall is null; allowed: a function')
  })

  it('a nested option is named with its path', () => {
    expect(check({ trace: { upcal() {} } })).toThrow(
      'trace.upcal (a function) is not an option; did you mean trace.upcall?',
    )
    expect(check({ trace: { upcall: 1 } })).toThrow('f: trace.upcall is 1; allowed: a function')
  })

  it.each([[null], [5], ['x'], [[]], [() => {}]])('%j is no object of options', (given) => {
    expect(check(given)).toThrow(ParameterError)
  })

  it('known looks at the names alone', () => {
    expect(known('f', { a: 1 }, ['a'])).toEqual({ a: 1 })
    expect(() => known('f', { ab: 1 } as { abc?: number }, ['abc'])).toThrow(
      'ab (1) is not an option; did you mean abc?',
    )
  })
})

describe('checks of one value', () => {
  it.each<[string, Check, unknown, string]>([
    ['flag', flag, 'yes', 'f: x is "yes"; allowed: true, false'],
    ['text', text, 5, 'f: x is 5; allowed: a text'],
    ['func', func, {}, 'f: x is an object (Object); allowed: a function'],
    ['within', within(1, 3), 4, 'f: x is 4; allowed: an integer from 1 to 3'],
    ['between', between(0, 1), Number.NaN, 'f: x is NaN; allowed: a number from 0 to 1'],
    ['between without an end', between(0, Infinity), Infinity, 'f: x is Infinity; allowed: a finite number from 0 up'],
    ['bigWithin', bigWithin(0n, 9n), 3, 'f: x is 3; allowed: a bigint from 0n to 9n'],
    ['among', among('a', 'b'), 'c', 'f: x is "c"; allowed: "a", "b"'],
    ['listOf', listOf(text, 'texts'), 'a', 'f: x is "a"; allowed: a list of texts'],
    ['an item of listOf', listOf(text, 'texts'), ['a', 1], 'f: x[1] is 1; allowed: a text'],
    ['having', having('nowNs'), { nowNs: 1 }, 'f: x.nowNs is 1; allowed: a function'],
    ['instance', instance(Map, 'a Map'), new Set(), 'f: x is an object (Set); allowed: a Map'],
  ])('%s refuses in words', (_, check, value, message) => {
    expect(refused(check, value)).toBe(message)
  })

  it.each<[string, Check, unknown]>([
    ['flag', flag, false],
    ['text', text, ''],
    ['func', func, () => {}],
    ['within', within(1, 3), 3],
    ['between', between(0, 1), 0.5],
    ['bigWithin', bigWithin(0n, 9n), 9n],
    ['among', among('a', 'b'), 'b'],
    ['listOf', listOf(text, 'texts'), ['a']],
    ['having', having('nowNs'), { nowNs() {} }],
    ['instance', instance(Map, 'a Map'), new Map()],
    ['anything', anything, Symbol('x')],
  ])('%s takes what is allowed', (_, check, value) => {
    expect(() => check('f', 'x', value)).not.toThrow()
  })

  it('a long text is cut in messages', () => {
    expect(refused(flag, 'y'.repeat(1e6)).length).toBeLessThan(200)
  })
})

describe('the nearest name', () => {
  const NAMES = ['onUpcall', 'onUnblock', 'vcpus', 'levels', 'maxEvtchnPort', 'maxLevels', 'xenMtwatch', 'shared']
  it.each([
    ['onUpCall', 'onUpcall'],
    ['vcpu', 'vcpus'],
    ['level', 'levels'],
    ['maxEvtchn', 'maxEvtchnPort'],
    ['maxLevel', 'maxLevels'],
    ['xen_mtwatch', 'xenMtwatch'],
    ['sahred', 'shared'],
    ['colour', undefined],
    ['', undefined],
  ])('of %j is %j', (given, near) => {
    expect(nearest(given, NAMES)).toBe(near)
  })
})
