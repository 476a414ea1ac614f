/** Command lines of bench:xenstore and bench:xenwatch: help, short options, and mistakes that are named. */

import { describe, expect, it, vi } from 'vitest'
import { type BenchOption, type BenchValues, benchCommand } from '../bench/options.js'

const OPTIONS: Record<string, BenchOption> = {
  rounds: { short: 'r', value: 'N', default: '7', help: 'how often' },
  sizes: { short: 's', value: 'N,N', default: '1,2', help: 'how large' },
  output: { short: 'o', value: 'FILE', help: 'where to' },
  json: { short: 'j', help: 'as data' },
}

/** Runs a command line; what was printed, and what the benchmark was told if it was begun. */
async function command(...args: string[]) {
  const out = vi.spyOn(process.stdout, 'write').mockReturnValue(true)
  const err = vi.spyOn(process.stderr, 'write').mockReturnValue(true)
  let told: unknown
  const run = (values: BenchValues) => {
    const numbers = [values.number('rounds', 1, 100), ...values.numbers('sizes', 1, 9)]
    told = [numbers, values.text('output'), values.is('json')]
  }
  const said = ({ mock }: typeof out) => mock.calls.map(([text]) => text).join('')
  try {
    await benchCommand('bench:it', 'It measures.', OPTIONS, run, args)
    return { out: said(out), err: said(err), code: process.exitCode, told }
  } finally {
    process.exitCode = undefined
    vi.restoreAllMocks()
  }
}

describe('the command line of a benchmark', () => {
  it('long and short options mean the same; what is not given has its default', async () => {
    expect((await command()).told).toEqual([[7, 1, 2], undefined, false])
    const given = [[3, 4], 'file', true]
    expect((await command('--rounds', '3', '--sizes', '4', '--output', 'file', '--json')).told).toEqual(given)
    expect((await command('-r', '3', '-s', '4', '-o', 'file', '-j')).told).toEqual(given)
  })

  it.each(['--help', '-h'])('%s says what it measures, names every option, and measures nothing', async (option) => {
    const { out, err, code, told } = await command(option)
    expect([err, code, told]).toEqual(['', undefined, undefined])
    expect(out).toContain('usage: npm run bench:it -- [options]\n\nIt measures.')
    for (const line of ['--rounds, -r N     how often (default 7)', '--json, -j ', '--help, -h '])
      expect(out).toContain(line)
  })

  it.each([
    [['--nope'], "Unknown option '--nope'"],
    [['extra'], "Unexpected argument 'extra'"],
    [['-r'], "Option '-r, --rounds <value>' argument missing"],
    [['-r', '0'], '--rounds 0: a whole number from 1 to 100 is needed'],
    [['-r', '1,2'], '--rounds takes one number'],
    [['-s', '1,x'], '--sizes x: a whole number from 1 to 9 is needed'],
    [['--output', ''], '--output needs a value'],
  ])('%j is a mistake that is named: exit code 2, and nothing is measured', async (args, message) => {
    const { out, err, code, told } = await command(...args)
    expect(err).toBe(`bench:it: ${message}. See npm run bench:it -- --help.\n`)
    expect([out, code, told]).toEqual(['', 2, undefined])
  })

  it('an error of the benchmark itself is passed on', async () => {
    const fails = () => Promise.reject(new Error('it broke'))
    await expect(benchCommand('bench:it', '', OPTIONS, fails, [])).rejects.toThrow('it broke')
  })
})
