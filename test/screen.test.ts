/**
 * What a terminal gets that a pipe does not: a width, colours, one progress line, replaced and at last removed; and tables
 * that fit.
 */

import { describe, expect, it } from 'vitest'
import { Screen } from '../src/cli/screen.js'
import { lowerQuartile, median, summarize, upperQuartile } from '../src/cli/statistics.js'
import { markdownTable, table, wrap } from '../src/cli/table.js'

/** A stream that keeps what is written; `columns` wide if it is a terminal. */
function stream(columns?: number) {
  const written: string[] = []
  const write = (text: string) => written.push(text)
  return { written, to: { isTTY: columns !== undefined, columns, write } as unknown as NodeJS.WriteStream }
}

/** A screen on two streams, its environment empty unless given. */
function screenOn(out: number | undefined, err: number | undefined, env: NodeJS.ProcessEnv = {}, quiet = false) {
  const [stdout, stderr] = [stream(out), stream(err)]
  const clock = { ns: 0 }
  const screen = new Screen({ quiet, out: stdout.to, err: stderr.to, env, nowNs: () => clock.ns })
  return { screen, out: stdout.written, err: stderr.written, clock }
}

/** What stands on the last line of a terminal after all that was written to it. */
const lastLine = (written: readonly string[]) =>
  written.join('').split('\n').at(-1)!.split('\x1b[K').at(-1)!.replace(/^.*\r/, '')

describe('the progress line', () => {
  it('is on standard error, one line, cut to the width of the terminal', () => {
    const { screen, out, err } = screenOn(20, 20)
    screen.progress('binding 1 of 100,000 channels')
    expect(lastLine(err)).toBe('binding 1 of 100,00')
    screen.progress('short')
    expect([lastLine(err), out]).toEqual(['short', []])
    expect(err.join('')).not.toContain('\n')
  })

  it('is gone before a line of the result, and at the end', () => {
    const { screen, out, err } = screenOn(80, 80)
    screen.progress('sending')
    screen.line('a result')
    expect([lastLine(err), out]).toEqual(['', ['a result\n']])
    screen.progress('sending')
    screen.done()
    expect(lastLine(err)).toBe('')
  })

  it('is nowhere when standard error is piped, though results go to a terminal', () => {
    const { screen, out, err } = screenOn(80, undefined)
    screen.progress('sending')
    screen.line('a result')
    screen.done()
    expect([err, out]).toEqual([[], ['a result\n']])
  })

  it('says how far it is and how long it will take', () => {
    const { screen, err, clock } = screenOn(80, 80)
    screen.steps('connecting', 0, 100_000)
    expect(lastLine(err)).toBe('connecting 0 of 100,000')
    clock.ns = 2e9
    screen.steps('connecting', 50_000, 100_000)
    expect(lastLine(err)).toBe('connecting 50,000 of 100,000, 2.00 s left')
    screen.steps('connecting', 100_000, 100_000, 'd1')
    expect(lastLine(err)).toBe('connecting 100,000 of 100,000, 0.0 ns left: d1')
  })
})

describe('results', () => {
  it('have bold headings on a terminal, and plain ones in a pipe and with NO_COLOR', () => {
    for (const [columns, env, heading] of [
      [80, {}, '\x1b[1m1. Boot\x1b[0m\n'],
      [undefined, {}, '1. Boot\n'],
      [80, { NO_COLOR: '1' }, '1. Boot\n'],
    ] as const) {
      const { screen, out } = screenOn(columns, undefined, env)
      screen.heading('1. Boot')
      expect(out.at(-1)).toBe(heading)
    }
  })

  it('are silent with --json, where standard output is the JSON’s', () => {
    const { screen, out, err } = screenOn(80, 80, {}, true)
    screen.heading('1. Boot')
    screen.block(['a row'])
    screen.progress('sending')
    screen.done()
    expect([out, lastLine(err)]).toEqual([[], ''])
  })

  it('wrap at the terminal’s width, or that of COLUMNS, and nowhere in a pipe', () => {
    const text = `  ${'word '.repeat(30)}`.trimEnd()
    for (const [columns, env, most] of [
      [60, {}, 60],
      [undefined, { COLUMNS: '70' }, 70],
      [undefined, {}, text.length],
    ] as const) {
      const { screen, out } = screenOn(columns, undefined, env)
      screen.line(text)
      const lines = out.map((line) => line.trimEnd())
      expect(Math.max(...lines.map(({ length }) => length))).toBeLessThanOrEqual(most)
      expect(lines.join(' ').replace(/\s+/g, ' ')).toBe(text.replace(/\s+/g, ' '))
      for (const line of lines.slice(1)) expect(line).toMatch(/^ {4}word/)
    }
  })
})

describe('a table', () => {
  const COLUMNS = ['to', 'time per send', 'longest delay of all', 'merged']
  const ROWS = [
    ['d1', '12 µs', '1.0 ms', '100'],
    ['d2', '9 µs', undefined, '7'],
  ]

  it('stands as it is where there is room; a missing cell is a dash', () => {
    expect(table(COLUMNS, ROWS, 80)).toEqual([
      'to  time per send  longest delay of all  merged',
      '──  ─────────────  ────────────────────  ──────',
      'd1          12 µs                1.0 ms     100',
      'd2           9 µs                     –       7',
    ])
  })

  it('breaks its heads at spaces where there is less', () => {
    expect(table(COLUMNS, ROWS, 40)).toEqual([
      '     time  longest',
      '      per    delay',
      'to   send   of all  merged',
      '──  ─────  ───────  ──────',
      'd1  12 µs   1.0 ms     100',
      'd2   9 µs        –       7',
    ])
  })

  it('stands in parts where there is not enough, each with what says which row it is', () => {
    const lines = table(COLUMNS, ROWS, 20)
    expect(lines.filter((line) => line.startsWith('d1'))).toEqual(['d1  12 µs   1.0 ms', 'd1     100'])
    for (const { length } of lines) expect(length).toBeLessThanOrEqual(20)
  })

  it('is aligned by what is seen: colours take no room', () => {
    const rows = [
      ['a', '\x1b[31mno\x1b[0m'],
      ['b', 'done'],
    ]
    expect(table(['', 'end'], rows).slice(2)).toEqual(['a    \x1b[31mno\x1b[0m', 'b  done'])
  })

  it('is Markdown too', () => {
    expect(markdownTable(['to', { head: ['time', 'ns'], left: true }], [['d1', undefined]])).toEqual([
      '| to | time ns |',
      '| --- | --- |',
      '| d1 | – |',
    ])
  })
})

describe('wrap', () => {
  it('keeps what a line begins with, and a word that is too long', () => {
    expect(wrap('  one two', 5, '    ')).toEqual(['  one', '    two'])
    expect(wrap('x libxl_device.c:1080:device_backend', 10)).toEqual(['x', 'libxl_device.c:1080:device_backend'])
    expect(wrap('', 10)).toEqual([''])
  })
})

describe('statistics', () => {
  it('change nothing in what they are given', () => {
    const values = [3, 1, 2]
    expect([median(values), lowerQuartile(values), upperQuartile(values)]).toEqual([2, 1.5, 2.5])
    expect(values).toEqual([3, 1, 2])
  })

  it('take the mean of the middle two, and NaN of none', () => {
    expect(median([4, 1, 2, 3])).toBe(2.5)
    expect(median([])).toBeNaN()
    expect(summarize([5])).toEqual({ median: 5, low: 5, high: 5, samples: 1 })
  })
})
