/** The evtchn command as a user meets it: help, exit codes, what goes to which stream, nonsense. Runs what was built. */

import { spawnSync } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it, vi } from 'vitest'
import { run } from '../src/cli/run.js'

const MAIN = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url))

/** Runs the command in this process: what it printed, and its exit code. */
async function here(...args: string[]) {
  const out = vi.spyOn(process.stdout, 'write').mockReturnValue(true)
  const err = vi.spyOn(process.stderr, 'write').mockReturnValue(true)
  const text = ({ mock }: typeof out) => mock.calls.map(([each]) => each).join('')
  try {
    const status = await run(args)
    return { status, stdout: text(out), stderr: text(err) }
  } finally {
    vi.restoreAllMocks()
  }
}

function evtchn(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args], { encoding: 'utf8' })
  return { status, stdout, stderr }
}

describe('evtchn', () => {
  it('--help names every command and the exit codes', () => {
    const { status, stdout, stderr } = evtchn('--help')
    for (const line of stdout.split('\n')) expect(line.length, line).toBeLessThanOrEqual(80)
    expect(status).toBe(0)
    for (const word of ['demo', 'bench', 'dump', 'migrate', 'xenstored', 'xenwatch', 'Exit codes'])
      expect(stdout).toContain(word)
    expect(stderr).toBe('')
  })

  it('without a command says how to use it, on standard error, and exits with 2', () => {
    const { status, stdout, stderr } = evtchn()
    expect(status).toBe(2)
    expect(stdout).toBe('')
    expect(stderr).toContain('usage: evtchn COMMAND')
  })

  it.each([
    [['frobnicate'], 'unknown command "frobnicate"; commands: demo, '],
    [['dmup'], 'unknown command "dmup"; did you mean dump?'],
    [['demo', '--channels', 'many'], '--channels is "many"; allowed: a whole number from 1 to 250000.'],
    [['demo', '--channels', '0'], '--channels is "0"'],
    [['demo', '--sends', '-5'], '--sends is "-5"; allowed: a whole number from 1 to 10000000'],
    [['migrate', '--target-pages', '-1'], '--target-pages is "-1"; allowed: a whole number from 0'],
    [['migrate', '--abi', '2', '--channels', '4096'], '--channels is "4096"; allowed: a whole number from 1 to 4095'],
    [['bench', '--abi', '2,9'], '--abi is "9"; allowed: 2, 3, 4, 5, fifo.'],
    [['demo', '--channels'], 'evtchn demo: --channels needs a value: N. See evtchn demo --help.'],
    [['demo', '--channels', '--json'], '--channels needs a value: N'],
    [['dump', '--json='], '--json is ""; allowed: the name of a file'],
    [['dump', '--json', 'a'], 'unexpected argument "a"; did you mean --json=a?'],
    [['bench', '--single=1'], '--single takes no value'],
    [['bench', '--bits', '48'], '--bits is "48"; allowed: 32, 64'],
    [['bench', '--samples', '1e3'], '--samples is "1e3"'],
    [['dump', '--abi', '9'], '--abi is "9"; allowed: 2, 3, 4, 5, fifo.'],
    [['dump', '--abi', '5'], '--abi is "5"; allowed: 2, 3, 4, fifo with --bits 64'],
    [['dump', '--levels', '3'], 'unknown option --levels.'],
    [['dump', '--abi', '2', '--channels', '4096'], '--channels is "4096"; allowed: a whole number from 0 to 4095'],
    [['dump', '--chanels', '3'], 'evtchn dump: unknown option --chanels; did you mean --channels?'],
    [['dump', 'extra'], 'unexpected argument "extra"'],
    [['dump', '-x'], 'unknown option -x'],
    [['dump', '--abi', '-5'], 'evtchn dump: --abi is "-5"; allowed: 2, 3, 4, 5, fifo.\n'],
  ])('%j is refused with a message that names the mistake, exit code 2', async (args, message) => {
    const { status, stdout, stderr } = await here(...args)
    expect(stderr).toContain(message)
    expect(stderr).not.toContain('    at ')
    expect(stdout).toBe('')
    expect(status).toBe(2)
  })

  it.each(['demo', 'bench', 'dump', 'migrate', 'xenwatch'])(
    '%s --help tells its options, and so does -h',
    async (command) => {
      const { status, stdout } = await here(command, '--help')
      expect(status).toBe(0)
      expect(stdout).toContain(`usage: evtchn ${command}`)
      expect(stdout).toContain('--json')
      expect(stdout).toContain('--help, -h')
      expect(await here(command, '-h')).toEqual({ status: 0, stdout, stderr: '' })
    },
  )

  it.each(['demo', 'bench', 'dump', 'migrate', 'pvcalls', 'xenstored', 'xenwatch'])(
    'help %s prints what --help prints, no line wider than 80 columns',
    async (command) => {
      const help = await here('help', command)
      expect(help).toEqual(await here(command, '--help'))
      expect(help.status).toBe(0)
      for (const line of help.stdout.split('\n')) expect(line.length, line).toBeLessThanOrEqual(80)
    },
  )

  it('--version prints that of the package', async () => {
    const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))
    expect(await here('--version')).toEqual({ status: 0, stdout: `evtchn ${version}\n`, stderr: '' })
  })

  it('five levels are for 32-bit guests', async () => {
    const { status, stdout } = await here('dump', '--abi', '5', '--bits', '32', '--channels', '3', '--domid', '1')
    expect(status).toBe(0)
    expect(stdout).toMatch(/1 \[1\/1\/0000\]: s=3/)
  })

  it('bench measures five levels of 32-bit words too', async () => {
    const args = ['--abi', '2,5,fifo', '--bits', '32', '--pending', '1,300', '--samples', '3', '--json']
    const { rows } = JSON.parse((await here('bench', ...args)).stdout).result
    expect(rows.map((row: { levels: number; pending: number }) => [row.levels, row.pending])).toEqual(
      [1, 300].flatMap((k) => [2, 5, 'fifo'].map((levels) => [levels, k])),
    )
    for (const { send, scan } of rows)
      for (const { median, low, high, samples } of [send, scan]) {
        expect(samples).toBe(3)
        expect(low <= median && median <= high).toBe(true)
      }
  })

  it('dump prints what debug key e prints, and its figures on standard error', () => {
    const { status, stdout, stderr } = evtchn('dump', '--channels', '70', '--abi', '3', '--domid', '1')
    const lines = stdout.trimEnd().split('\n')
    expect(lines.slice(0, 4)).toEqual([
      "'e' pressed -> dumping event-channel info",
      'Event channel information for domain 1:',
      'Polling vCPUs: {}',
      '    port [p/m/s]',
    ])
    expect(lines.length).toBe(74)
    for (const line of lines.slice(4))
      expect(line).toMatch(/^ {4} *\d+ \[[01]\/[01]\/[01]{2}\]: s=3 n=0 x=0 d=0 p=\d+$/)
    expect(stderr).toMatch(/70 channels, 2 holds of the event lock, at most 64 slots/)
    expect(status).toBe(0)
  })

  it('dump --json prints a record a channel', () => {
    const { result } = JSON.parse(evtchn('dump', '--channels', '3', '--json').stdout)
    expect(result.channels.map(({ port }: { port: number }) => port)).toEqual([1, 2, 3, 1, 2, 3])
  })

  it('demo is consistent at a small size, in plain lines when piped', () => {
    const { status, stdout, stderr } = evtchn('demo', '--channels', '5000', '--sends', '20000')
    expect(stderr).toBe('')
    expect(status).toBe(0)
    expect(stdout).toContain('262,144')
    expect(stdout).toContain('32,768')
    expect(stdout).toContain('4,095 channels re-bound, 905 no longer fit')
    expect(stdout).toContain('lost: vif4095 (ENOSPC)')
    expect(stdout).toContain('Everything is consistent')
    expect(stdout.includes('\x1b')).toBe(false)
    expect(stdout.includes('\r')).toBe(false)
  })

  it('demo --json is JSON and nothing else', () => {
    const { result, ...about } = JSON.parse(evtchn('demo', '--channels', '100', '--sends', '1000', '--json').stdout)
    expect(about).toMatchObject({ format: 1, command: 'evtchn demo', seed: 1, options: { abi: '3', sends: 1000 } })
    expect(result.exchange.delivered + result.exchange.merged).toBe(1000)
    expect(result.dumps.length).toBe(2)
  })

  it.each(['dump', '--help'])('%s into a full disk ends with a message, exit code 1', (command) => {
    const full = openSync('/dev/full', 'w')
    const { status, stderr } = spawnSync(process.execPath, [MAIN, command], {
      encoding: 'utf8',
      stdio: ['ignore', full, 'pipe'],
    })
    closeSync(full)
    expect(status).toBe(1)
    expect(stderr).toContain('evtchn: standard output: ENOSPC')
    expect(stderr).not.toContain('    at ')
  })

  it('a reader that goes away ends it quietly', () => {
    const script = `"$0" "$1" dump --channels 20000 2>/dev/null | head -1; echo "\${PIPESTATUS[0]}"`
    const { stdout, stderr } = spawnSync('bash', ['-c', script, process.execPath, MAIN], { encoding: 'utf8' })
    expect([stdout, stderr]).toEqual(["'e' pressed -> dumping event-channel info\n0\n", ''])
  })

  it('bench --json=FILE that cannot be written is told at once, exit code 1', () => {
    const { status, stdout, stderr } = evtchn('bench', '--json=/nonexistent/rows.json')
    expect(stderr).toContain('--json="/nonexistent/rows.json" cannot be written')
    expect(stderr).not.toContain('    at ')
    expect([status, stdout]).toEqual([1, ''])
  })

  it('the package offers the command', () => {
    const pkg = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))
    expect(pkg.bin.evtchn).toBe('./dist/cli/main.js')
    expect(readFileSync(MAIN, 'utf8').startsWith('#!/usr/bin/env node')).toBe(true)
  })
})
