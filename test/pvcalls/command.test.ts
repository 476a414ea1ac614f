/** `evtchn pvcalls` as a user meets it. Runs what was built. */

import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))

function pvcalls(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, 'pvcalls', ...args], { encoding: 'utf8' })
  return { status, stdout, stderr }
}

const SMALL = ['--sockets', '40', '--bytes', '20000']

describe('evtchn pvcalls', () => {
  it('compares both policies in one table', () => {
    const { status, stdout } = pvcalls(...SMALL, '--cpus', '4')
    expect(status).toBe(0)
    const row = (name: string) =>
      stdout
        .split('\n')
        .find((line) => line.trim().startsWith(name))!
        .trim()
        .slice(name.length)
        .trim()
        .split(/ {2,}/)
    expect(row('workers before the first socket')).toEqual(['0', '0'])
    expect(row('workers after the connects')).toEqual(['4', '40'])
    expect(row('sockets of each')).toEqual(['10', '1'])
    expect(row('bytes to and from the network')).toEqual(['1.5 MiB', '1.5 MiB'])
    expect(row('on the socket')).toEqual(["'s own CPU", '100.0 %', expect.stringMatching(/^\d/)])
    expect(row('workers after as many connects')).toEqual(['4', '40'])
    expect(row('workers after the last close')).toEqual(['0', '0'])
  })

  it('CPUs that come and go are part of the story, and the same for the same seed', () => {
    const run = () => pvcalls(...SMALL, '--cpus', '4', '--flips', '30', '--seed', '7', '--json').stdout
    const first = run()
    const { result: results } = JSON.parse(first)
    expect(results.map(({ policy }: { policy: string }) => policy)).toEqual(['bounded', 'per-socket'])
    expect(results[0].flips).toBeGreaterThan(10)
    expect(results[0].traffic.moves).toBeGreaterThan(10)
    expect(run()).toBe(first)
  })

  it('--tcp moves megabytes through real TCP and compares the hashes', () => {
    const { status, stdout } = pvcalls('--tcp', '8', '--order', '4')
    expect(status).toBe(0)
    expect(stdout.match(/as sent/g)).toHaveLength(4)
    const [bounded] = JSON.parse(pvcalls('--tcp', '1', '--policy', 'bounded', '--json').stdout).result
    expect(bounded).toMatchObject({
      toGuest: { bytes: 1 << 20, intact: true },
      fromGuest: { bytes: 1 << 20, intact: true },
    })
    expect(bounded.toGuest.sha256).toMatch(/^[0-9a-f]{64}$/)
  })

  it.each([
    [['--policy', 'both'], '--policy is "both"; allowed: bounded, per-socket, all'],
    [['--max-ioworkers', '0'], '--max-ioworkers is "0"; allowed: a whole number from 1 to 4096'],
    [['--order', '10'], '--order is "10"; allowed: a whole number from 1 to 9'],
    [['--cpus', '0'], '--cpus is "0"'],
    [['--tcp', 'x'], '--tcp is "x"'],
    [['--placement', 'here'], '--placement is "here"; allowed: spread, last'],
    [['--order', '9', '--sockets', '2000'], 'needs more than 1 GiB of rings'],
  ])('%j is refused, exit code 2', (args, message) => {
    const { status, stdout, stderr } = pvcalls(...args)
    expect([status, stdout]).toEqual([2, ''])
    expect(stderr).toContain(message)
  })

  it('--help tells its options', () => {
    const { status, stdout } = pvcalls('--help')
    expect(status).toBe(0)
    for (const word of ['--policy', '--cpus', '--sockets', '--bytes', '--max-ioworkers', '--order', '--tcp', '--json'])
      expect(stdout).toContain(word)
  })
})

describe('docs/pvcalls.md', () => {
  const text = readFileSync(fileURLToPath(new URL('../../docs/pvcalls.md', import.meta.url)), 'utf8')
  const commands = [...text.matchAll(/`evtchn (pvcalls [^`]*--bytes [^`]*|pvcalls [^`]*--flips [^`]*)`/g)].map(
    (match) => match[1]!,
  )

  it('shows tables of the command', () => {
    expect(commands).toHaveLength(3)
  })

  it.each(commands)('has the table that `evtchn %s` prints', (command) => {
    const { stdout } = pvcalls(...command.split(' ').slice(1))
    expect(stdout.split('\n').length).toBeGreaterThan(15)
    expect(text).toContain(stdout.trim())
  })
})
