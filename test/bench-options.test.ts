/** The command language of the benchmarks: one parser, mistakes that are named, and one way out for what was measured. */

import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import { BENCH, type BenchReport, benchCommand } from '../bench/options.js'
import { summarize } from '../src/cli/statistics.js'

const OPTIONS = {
  abi: BENCH.abi(['2', '3', 'fifo'], ['2', '3']),
  samples: BENCH.samples(7, 3),
  pending: BENCH.pending([1, 2]),
  seed: BENCH.seed('for it'),
  svg: BENCH.svg,
}

const REPORT: BenchReport = {
  about: ['of it'],
  tables: [{ title: 'Send', unit: 'ns', columns: ['pending', { head: ['to,', 'ns'] }], rows: [['1,000', '5'], ['2']] }],
  notes: ['that is all'],
  result: { send: summarize([3, 1, 2]) },
  svg: () => Promise.resolve('<svg/>\n'),
}

/** Runs a command line; what was printed, and what the benchmark was given if it was begun. */
async function command(...args: string[]) {
  const out = vi.spyOn(process.stdout, 'write').mockReturnValue(true)
  const err = vi.spyOn(process.stderr, 'write').mockReturnValue(true)
  let given: unknown
  const text = ({ mock }: typeof out) => mock.calls.map(([each]) => each).join('')
  try {
    await benchCommand(
      'bench:it',
      'It measures.',
      OPTIONS,
      ({ values }) => {
        const { abi, samples, pending, seed, quick } = values
        given = { abi, samples, pending, seed, quick }
        return REPORT
      },
      args,
    )
    return { out: text(out), err: text(err), code: process.exitCode, given }
  } finally {
    process.exitCode = undefined
    vi.restoreAllMocks()
  }
}

describe('the command line of a benchmark', () => {
  it('gives each option by its name, and its default if it was not given', async () => {
    const defaults = { abi: ['2', '3'], samples: undefined, pending: [1, 2], seed: 1, quick: false }
    expect((await command()).given).toEqual(defaults)
    const args = ['--abi', 'fifo,2', '--samples=3', '--pending', '4', '--seed', '9', '--quick']
    expect((await command(...args)).given).toEqual({
      abi: ['fifo', '2'],
      samples: 3,
      pending: [4],
      seed: 9,
      quick: true,
    })
  })

  it.each(['--help', '-h'])('%s says what it measures, names every option, and measures nothing', async (option) => {
    const { out, err, code, given } = await command(option)
    expect([err, code, given]).toEqual(['', undefined, undefined])
    expect(out).toContain('usage: npm run bench:it -- [options]\n\nIt measures.')
    for (const line of [
      '--abi 2|3|fifo,…',
      '--samples N',
      '(default: 7; 3 with --quick)',
      '--json[=FILE]',
      '--help, -h',
    ])
      expect(out).toContain(line)
  })

  it.each([
    [['--rounds', '3'], 'unknown option --rounds'],
    [['--sampels', '3'], 'unknown option --sampels; did you mean --samples?'],
    [['extra'], 'unexpected argument "extra"'],
    [['--json', 'file'], 'unexpected argument "file"; did you mean --json=file?'],
    [['--samples'], '--samples needs a value: N'],
  ])('%j is a mistake that is named: exit code 2, and nothing is measured', async (args, message) => {
    const { out, err, code, given } = await command(...args)
    expect(err).toBe(`bench:it: ${message}${message.endsWith('?') ? '' : '.'} See npm run bench:it -- --help.\n`)
    expect([out, code, given]).toEqual(['', 2, undefined])
  })

  it.each([
    [['--samples', '0'], '--samples is "0"; allowed: a whole number from 1 to 100000.'],
    [['--pending', '1,x'], '--pending is "x"; allowed: a whole number from 1 to 65536.'],
    [['--abi', '2,5'], '--abi is "5"; allowed: 2, 3, fifo.'],
    [['--svg'], '--svg needs a file: --svg=FILE.'],
    [['--json', '--csv'], '--json and --csv: only one can be printed.'],
  ])('%j is refused: exit code 2, and nothing is measured', async (args, message) => {
    const { out, err, code, given } = await command(...args)
    expect(err).toBe(`bench:it: ${message}\n`)
    expect([out, code, given]).toEqual(['', 2, undefined])
  })

  it('an error of the benchmark itself is passed on', async () => {
    const fails = () => Promise.reject(new Error('it broke'))
    await expect(benchCommand('bench:it', '', {}, fails, [])).rejects.toThrow('it broke')
  })
})

describe('what a benchmark found out', () => {
  it('is a table in text, Markdown and CSV', async () => {
    const text = (await command()).out
    for (const line of ['of it', 'Send, ns', '  pending   ns', 'that is all']) expect(text).toContain(line)
    expect((await command('--markdown')).out).toContain(
      '**Send**, ns\n\n| pending | to, ns |\n| --- | ---: |\n| 1,000 | 5 |',
    )
    expect((await command('--csv')).out).toBe('table,pending,"to, ns"\n"Send, ns","1,000",5\n"Send, ns",2,\n')
  })

  it('is JSON in the envelope of all commands, each figure a median with its spread', async () => {
    const { format, command: name, options, seed, machine, result } = JSON.parse((await command('--json')).out)
    expect({ format, name, seed, result }).toEqual({
      format: 1,
      name: 'bench:it',
      seed: 1,
      result: { send: { median: 2, low: 1.5, high: 2.5, samples: 3 } },
    })
    expect(options).toEqual({ abi: ['2', '3'], pending: [1, 2], seed: 1, quick: false })
    expect(Object.keys(machine)).toEqual(['cpu', 'processors', 'system', 'node'])
  })

  it('goes to files beside the text; a file that cannot be written is told before anything is measured', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'bench-'))
    try {
      const file = (name: string) => join(folder, name)
      const { out } = await command(`--json=${file('a')}`, `--csv=${file('b')}`, `--svg=${file('c')}`)
      expect(out).toContain('Send, ns')
      expect(JSON.parse(readFileSync(file('a'), 'utf8')).command).toBe('bench:it')
      expect(readFileSync(file('b'), 'utf8')).toContain('table,pending')
      expect(readFileSync(file('c'), 'utf8')).toBe('<svg/>\n')
      const failed = await command(`--json=${file('none/a')}`)
      expect(failed).toMatchObject({ out: '', code: 1, given: undefined })
      expect(failed.err).toContain('cannot be written')
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})
