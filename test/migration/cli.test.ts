/** `evtchn migrate` as a user meets it. Runs what was built. */

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))
const SMALL = ['--channels', '1200', '--bits', '32', '--frames', '256']

function migrate(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, 'migrate', ...args], { encoding: 'utf8' })
  return { status, stdout, stderr }
}
const outcomes = (...args: string[]) =>
  (JSON.parse(migrate(...SMALL, ...args, '--json').stdout) as { result: { outcomes: Record<string, unknown>[] } })
    .result.outcomes

describe('evtchn migrate', () => {
  it('NL-mig-5: moves everything to a host that grants as much, and accounts for every event', () => {
    const [cooperative, transparent, same] = outcomes()
    for (const each of [cooperative, transparent, same]) {
      expect(each).toMatchObject({ levels: 3, connected: 1200, lost: 0, missing: 0 })
      expect(each).not.toHaveProperty('refused')
    }
    expect(cooperative).toMatchObject({ rescanned: 1200, attempts: ['3 levels: ok'] })
  })

  it.each([
    [['--older', '--no-fifo'], 'ENOSYS', 2, 1023],
    [['--older'], 'ENOSYS', 'fifo', 1200],
    [['--target-pages', '0', '--no-fifo'], 'ENOSPC', 2, 1023],
    [['--target-max-port', '700'], 'ENOSPC', 3, 700],
  ])('NL-mig-2, NL-mig-3: %j: one falls back, the other is refused and runs on', (args, code, levels, fit) => {
    const [cooperative, transparent, same] = outcomes(...(args as string[]))
    for (const each of [cooperative, same]) expect(each).not.toHaveProperty('refused')
    expect(cooperative).toMatchObject({ levels, connected: fit, lost: 1200 - fit })
    expect((cooperative!.lostNames as string[])[0]).toBe(fit < 1200 ? `vif${fit} (ENOSPC)` : undefined)
    expect(transparent!.refused).toContain(code)
    expect(transparent).toMatchObject({ levels: 3, connected: 1200, missing: 0 })
    expect(same).toMatchObject({ missing: 0, connected: 1200 })
  })

  it('NL-mig-3: a target without memory refuses both', () => {
    const [cooperative, transparent] = outcomes('--target-frames', '255')
    for (const each of [cooperative, transparent]) {
      expect(each!.refused).toContain('frames is 256, and the host has 255 left (ENOMEM)')
      expect(each).toMatchObject({ connected: 1200, missing: 0 })
    }
  })

  it('prints plain lines when piped, and its options with --help', () => {
    const { status, stdout, stderr } = migrate(...SMALL, '--older', '--no-fifo')
    expect(stderr).toBe('')
    expect(status).toBe(0)
    expect(stdout).toContain('cooperative, target: lost vif1023 (ENOSPC) … vif1199 (ENOSPC)')
    expect(stdout).toContain('this host knows two levels only (ENOSYS)')
    expect(stdout.includes('\x1b')).toBe(false)
    const help = migrate('--help')
    expect(help.status).toBe(0)
    for (const option of ['--channels', '--target-levels', '--older', '--json']) expect(help.stdout).toContain(option)
  })

  it.each([
    [['--channels', '0'], '--channels is "0"'],
    [['--abi', '2', '--channels', '5000'], 'allowed: a whole number from 1 to 4095'],
    [['--channels', '10', '--pending', '11'], '--pending is "11"; allowed: a whole number from 0 to 10'],
    [['--frames', '16', '--abi', '4'], '4 levels do not fit in --frames 16'],
    [['--odler'], 'unknown option --odler; did you mean --older?'],
  ])('%j is a mistake: exit code 2, named on standard error', (args, message) => {
    const { status, stdout, stderr } = migrate(...args)
    expect(stderr).toContain(message)
    expect(stderr).not.toContain('    at ')
    expect(stdout).toBe('')
    expect(status).toBe(2)
  })

  it('--abi alone is enough: as many channels as it has, unless fewer are asked for', () => {
    const { status, stdout, stderr } = migrate('--abi', '2', '--bits', '32', '--frames', '64', '--json')
    expect([status, stderr]).toEqual([0, ''])
    const { outcomes: moved } = JSON.parse(stdout).result as { outcomes: { connected: number; missing: number }[] }
    expect(moved.map(({ connected, missing }) => [connected, missing])).toEqual(Array(3).fill([1023, 0]))
  })
})
