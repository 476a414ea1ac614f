/** Small parts by themselves, where a test of the whole would not say which one is wrong. */

import { afterEach, describe, expect, it, vi } from 'vitest'
import { parseState, stateName, XenbusState } from '../../src/dom0/xenbus/index.js'
import { EventLock } from '../../src/domain/lock.js'
import { Summary } from '../../src/domain/summary.js'
import { toRegister } from '../../src/errno.js'
import { IrqLines } from '../../src/host/irq.js'
import { fromBase64, toBase64 } from '../../src/migration/base64.js'
import { Fields, RestoreError, SavedStateError, shown } from '../../src/migration/fields.js'
import { Turns } from '../../src/turns.js'
import { random } from '../random.js'
import { seedOr } from '../settings.js'

afterEach(() => void vi.unstubAllGlobals())

const SEED = seedOr(20260801)

describe('Summary', () => {
  it.each([33, 1024, 1025, 40_000])(`finds members and gaps as a plain set does, below %i (seed ${SEED})`, (size) => {
    const next = random(SEED)
    const summary = new Summary(64)
    summary.grow(size)
    const plain = new Set<number>()
    const model = (from: number, member: boolean) => {
      for (let i = from; i < size; i++) if (plain.has(i) === member) return i
      return -1
    }
    for (let round = 0; round < 300; round++) {
      // Runs, so that whole words and whole summaries fill up.
      const first = next(size)
      const run = Math.min(size - first, [1, 40, 1100][next(3)]!)
      for (let i = first; i < first + run; i++) {
        if (round % 3) {
          summary.add(i)
          plain.add(i)
        } else {
          summary.delete(i)
          plain.delete(i)
        }
      }
      const from = next(size)
      expect(summary.next(from)).toBe(model(from, true))
      const gap = model(from, false)
      // Beyond the size of the set nothing is taken, and the first such number is the size itself.
      expect(summary.gap(from)).toBe(gap < 0 ? size : gap)
      expect(summary.has(from)).toBe(plain.has(from))
    }
  })

  it('keeps its members when it grows by a level', () => {
    const summary = new Summary(32)
    for (let i = 0; i < 32; i++) summary.add(i)
    for (const size of [33, 1025, 32_769, 1_048_577]) {
      summary.grow(size)
      expect([summary.gap(0), summary.next(0), summary.next(32), summary.has(31)]).toEqual([32, 0, -1, true])
    }
    summary.add(1_048_576)
    expect([summary.next(32), summary.gap(1_048_576)]).toEqual([1_048_576, 1_048_577])
  })

  it('has nothing beyond its size', () => {
    const summary = new Summary(64)
    expect([summary.has(64), summary.has(1e9), summary.next(64), summary.gap(64), summary.gap(1e6)]).toEqual([
      false,
      false,
      -1,
      64,
      64,
    ])
  })
})

describe('EventLock', () => {
  it('EC-lock-1: many readers or one writer; what would wait for ever is reported', () => {
    const lock = new EventLock()
    lock.acquireRead()
    lock.acquireRead()
    expect(() => lock.acquireWrite()).toThrow('while held')
    lock.releaseRead()
    expect(lock.held).toBe(true)
    lock.releaseRead()
    expect(lock.held).toBe(false)
    lock.acquireWrite()
    expect(() => lock.acquireRead()).toThrow('held for writing')
    expect(() => lock.acquireWrite()).toThrow('while held')
    lock.releaseWrite()
    expect(lock.held).toBe(false)
  })

  it('EC-XSA-458: a second release is reported', () => {
    const lock = new EventLock()
    expect(() => lock.releaseRead()).toThrow('not held')
    expect(() => lock.releaseWrite()).toThrow('not held')
  })

  it('an exception lets go of it, and comes through', () => {
    const lock = new EventLock()
    for (const way of ['read', 'write'] as const) {
      expect(() =>
        lock[way](() => {
          throw new Error('within')
        }),
      ).toThrow('within')
      expect(lock.held).toBe(false)
    }
  })
})

describe('base64', () => {
  it.each([0, 1, 2, 3, 4, 1023, 1024, 1025, 3000])(
    '%i bytes are what the platform makes of them, and come back',
    (n) => {
      const next = random(n + 1)
      const bytes = Uint8Array.from({ length: n }, () => next(256))
      const text = toBase64(bytes)
      expect(text).toBe(Buffer.from(bytes).toString('base64'))
      expect(fromBase64(text)).toEqual(bytes)
    },
  )

  it('is made without the engine’s encoder as with it', () => {
    const bytes = Uint8Array.from({ length: 5000 }, (_, i) => i * 7)
    Object.defineProperty(bytes, 'toBase64', { value: undefined })
    expect(toBase64(bytes)).toBe(Buffer.from(bytes).toString('base64'))
  })

  it.each(['A', 'AAA', 'AA*A', 'AAA\u0141', 'A===', 'AA=A', '=AAA', 'AAAA\n'])('%j is none', (text) => {
    expect(fromBase64(text)).toBeNull()
  })

  it('more bytes than allowed are refused by their number', () => {
    expect(fromBase64('AAAA', 2)).toBeNull()
    expect(fromBase64('AAA=', 2)).toEqual(new Uint8Array(2))
  })
})

describe('IrqLines', () => {
  it('EC-irq-2: a line is shared if all its guests said so, and is free when the last has gone', () => {
    const lines = new IrqLines()
    expect([lines.bind(9, 1, true), lines.bind(9, 2, false), lines.bind(9, 2, true)].map(toRegister)).toEqual([
      0, -16, 0,
    ])
    expect([lines.guests(9), lines.isShared(9)]).toEqual([[1, 2], true])
    for (const domid of [1, 2]) lines.unbind(9, domid)
    lines.unbind(9, 3)
    expect([lines.guests(9), lines.isShared(9)]).toEqual([[], false])
    expect([lines.bind(9, 3, false), lines.bind(9, 1, true)].map(toRegister)).toEqual([0, -16])
  })

  it('EC-irq-2: who may join if one of its guests leaves, for a guest that is replaced', () => {
    const lines = new IrqLines()
    lines.bind(9, 1, false)
    expect([lines.mayBind(9, false), lines.mayBind(9, false, 1), lines.mayBind(9, false, 2)].map(toRegister)).toEqual([
      -16, 0, -16,
    ])
  })
})

describe('Turns', () => {
  it.each([true, false])('lets what waits for the event loop go first, with setImmediate: %s', async (immediate) => {
    const order: string[] = []
    const real = setImmediate
    if (!immediate) vi.stubGlobal('setImmediate', undefined)
    const turns = new Turns()
    const other = new Promise<void>((resolve) =>
      real(() => {
        order.push('other')
        resolve()
      }),
    )
    await Promise.resolve()
    order.push('before')
    while (order.length < 2) await turns.next()
    order.push('after')
    await other
    turns.close()
    expect(order).toEqual(['before', 'other', 'after'])
  })
})

describe('saved fields', () => {
  const state = new Fields({ n: 5, u: '18446744073709551615', list: [1, 'x'], inner: { flag: 1 }, none: null })
  const field = (body: () => unknown) => {
    try {
      body()
    } catch (error) {
      if (error instanceof SavedStateError) return error.field
      throw error
    }
    return 'ok'
  }

  it('NL-mig-4: an error names the field by its path', () => {
    expect(field(() => state.int('m', 0, 9))).toBe('m')
    expect(field(() => state.int('n', 6, 9))).toBe('n')
    expect(field(() => state.ints('list', 2, 0, 9))).toBe('list[1]')
    expect(field(() => state.object('inner').bool('flag'))).toBe('inner.flag')
    expect(field(() => state.array('list', 1))).toBe('list')
    expect(field(() => state.only(['n', 'u', 'list', 'none']))).toBe('inner')
    expect(field(() => state.object('none'))).toBe('none')
    expect(state.maybe('none')).toBeNull()
  })

  it('NL-mig-4: members of the prototype are not members of the state', () => {
    expect(field(() => new Fields(Object.create({ n: 5 })).int('n', 0, 9))).toBe('n')
    expect(field(() => state.raw('toString'))).toBe('toString')
  })

  it.each(['18446744073709551616', '-1', '1e3', ' 1', '', 5])('NL-mig-4: %j is no u64 as text', (u) => {
    expect(field(() => new Fields({ u }).u64('u'))).toBe('u')
  })

  it('NL-mig-4: the largest u64 is one', () => {
    expect(state.u64('u')).toBe(2n ** 64n - 1n)
  })

  it.each([Number.NaN, 1.5, Number.POSITIVE_INFINITY, '5', true, null, [5]])('NL-mig-4: %j is no integer', (n) => {
    expect(field(() => new Fields({ n }).int('n', 0, 9))).toBe('n')
  })

  it('messages stay short, and showing a value never runs its code', () => {
    expect(shown('x'.repeat(1000)).length).toBeLessThan(60)
    const hostile = {
      toString() {
        throw new Error('ran')
      },
    }
    expect([shown(hostile), shown([hostile]), shown(Symbol('s')), shown(1n), shown(undefined)]).toEqual([
      'an object',
      'an array',
      'a symbol',
      'a bigint',
      'undefined',
    ])
    expect(new RestoreError('f', 22, 'why').field).toBe('f')
  })
})

describe('device states', () => {
  it('XS-tree-3: have the numbers 0 to 8; a node that is missing or makes no sense reads as 0', () => {
    expect(Object.keys(XenbusState)).toEqual([
      'Unknown',
      'Initialising',
      'InitWait',
      'Initialised',
      'Connected',
      'Closing',
      'Closed',
      'Reconfiguring',
      'Reconfigured',
    ])
    expect(Object.values(XenbusState).map(stateName)).toEqual(Object.keys(XenbusState))
    expect(Object.values(XenbusState)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8])
    expect([undefined, '', 'x', '-1', '4 ', '4', '99999'].map(parseState)).toEqual([0, 0, 0, 0, 0, 4, 0])
  })
})
