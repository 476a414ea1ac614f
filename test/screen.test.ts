/** What a terminal gets that a pipe does not: one progress line, replaced and at last removed; nothing of it in results. */

import { describe, expect, it } from 'vitest'
import { Screen } from '../src/cli/screen.js'

/** A stream that keeps what is written; `columns` wide if it is a terminal. */
function stream(columns?: number) {
  const written: string[] = []
  const write = (text: string) => written.push(text)
  return { written, to: { isTTY: columns !== undefined, columns, write } as unknown as NodeJS.WriteStream }
}

/** What stands on the last line of a terminal after all that was written to it. */
const lastLine = (written: readonly string[]) =>
  written.join('').split('\n').at(-1)!.split('\x1b[K').at(-1)!.replace(/^.*\r/, '')

describe('the progress line', () => {
  it('is on standard error, one line, cut to the width of the terminal', () => {
    const [out, err] = [stream(20), stream(20)]
    const screen = new Screen(false, out.to, err.to)
    screen.progress('binding 1 of 100,000 channels')
    expect(lastLine(err.written)).toBe('binding 1 of 100,00')
    screen.progress('short')
    expect([lastLine(err.written), out.written]).toEqual(['short', []])
    expect(err.written.join('')).not.toContain('\n')
  })

  it('is gone before a line of the result, and at the end', () => {
    const [out, err] = [stream(80), stream(80)]
    const screen = new Screen(false, out.to, err.to)
    screen.progress('sending')
    screen.line('a result')
    expect([lastLine(err.written), out.written]).toEqual(['', ['a result\n']])
    screen.progress('sending')
    screen.done()
    expect(lastLine(err.written)).toBe('')
  })

  it('is nowhere when standard error is piped, though results go to a terminal', () => {
    const [out, err] = [stream(80), stream()]
    const screen = new Screen(false, out.to, err.to)
    screen.progress('sending')
    screen.line('a result')
    screen.done()
    expect([err.written, out.written]).toEqual([[], ['a result\n']])
  })
})

describe('results', () => {
  it('have bold headings on a terminal and plain ones elsewhere', () => {
    for (const [columns, heading] of [
      [80, '\x1b[1m1. Boot\x1b[0m\n'],
      [undefined, '1. Boot\n'],
    ] as const) {
      const out = stream(columns)
      new Screen(false, out.to, stream().to).heading('1. Boot')
      expect(out.written.at(-1)).toBe(heading)
    }
  })

  it('are silent with --json, where standard output is the JSON’s', () => {
    const [out, err] = [stream(80), stream(80)]
    const screen = new Screen(true, out.to, err.to)
    screen.heading('1. Boot')
    screen.block(['a row'])
    screen.progress('sending')
    screen.done()
    expect([out.written, lastLine(err.written)]).toEqual([[], ''])
  })
})
