/** `evtchn register` as a user meets it: what is granted, each refusal with its reason, the fall-back and the tree. */

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import type { Registration } from '../../src/cli/register/run.js'

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))

function register(args: readonly string[], columns = 80) {
  const env = { ...process.env, COLUMNS: String(columns) }
  return spawnSync(process.execPath, [MAIN, 'register', ...args], { encoding: 'utf8', env })
}
const result = (...args: string[]) =>
  (JSON.parse(register([...args, '--json']).stdout) as { result: Registration }).result

describe('evtchn register', () => {
  const rows: [string[], Registration['levels'], number, string][] = [
    [[], 3, 262_144, '3 ok'],
    [['--abi', '5', '--bits', '32'], 5, 33_554_432, '5 ok'],
    [['--abi', '4', '--max-abi', '3'], 3, 262_144, '4 ENOSPC, 3 ok'],
    [['--abi', '4', '--max-pages', '1'], 4, 32_768, '4 ok'],
    [['--old'], 'fifo', 131_072, '3 ENOSYS, fifo ok'],
    [['--old', '--no-fifo'], 2, 4096, '3 ENOSYS, fifo EOPNOTSUPP, 2 ok'],
    [['--not-allowed', '--no-fifo', '--bits', '32'], 2, 1024, '3 EPERM, fifo EOPNOTSUPP, 2 ok'],
    [['--max-port', '999', '--pages', '1'], 3, 1000, '3 ok'],
  ]
  it.each(rows)('NL-reg-1, NL-query-2, NL-form-1: %j', (args, levels, channels, attempts) => {
    const done = result(...args)
    expect(done).toMatchObject({ levels, channels })
    expect(done.attempts.map((each) => `${each.levels} ${each.answer}`).join(', ')).toBe(attempts)
    expect(done.tree).toHaveLength(levels === 'fifo' ? 0 : levels)
    // What refused a form told why.
    for (const { result, reason } of done.calls) expect(reason === undefined).toBe(result >= 0)
  })

  it('NL-reg-3, NL-sel-2: counts the frames that the guest holds', () => {
    // Two bitmaps of eight pages; the selectors of both vCPUs share a frame.
    expect(result().frames).toBe(17)
    expect(result('--abi', '2').frames).toBe(0)
  })

  it('NL-vcpu-2: an event for a vCPU that comes up late waits for it', () => {
    const done = result('--late-vcpu', '--vcpus', '3')
    expect(done.lateVcpu).toEqual({ vcpu: 2, before: 0, after: 1 })
    const named = done.calls.filter(({ call }) => call === 'EVTCHNOP_set_nlevel_selectors').map(({ line }) => line)
    expect(named.map((line) => /vcpu=(\d)/.exec(line)![1])).toEqual(['0', '1', '2'])
    expect(done.calls.at(-1)!.call).toBe('VCPUOP_up')
  })

  it.each([60, 80, 120, 200])('fits %i columns', (columns) => {
    const { stdout, stderr } = register(['--abi', '5', '--bits', '32', '--late-vcpu', '--max-abi', '4'], columns)
    expect(stderr).toBe('')
    const words = stdout.replace(/\s+/g, ' ')
    expect(words).toContain('ENOSPC: 5 levels are asked for, 4 granted')
    expect(words).toContain('The last port: level 1 bit 31')
    for (const line of stdout.split('\n')) expect(line.length).toBeLessThanOrEqual(columns)
  })

  it.each([
    [['--abi', '5'], '--abi is "5"; allowed: 2, 3, 4, fifo with --bits 64'],
    [['--late-vcpu', '--vcpus', '1'], 'allowed: 2 or more with --late-vcpu'],
    [['--max-abi', '5'], '--max-abi is "5"; allowed: 2, 3, 4 with --bits 64'],
    [['--page', '5'], 'did you mean --pages?'],
  ])('%j is a mistake: exit code 2', (args, message) => {
    const { status, stdout, stderr } = register(args)
    expect([status, stdout]).toEqual([2, ''])
    expect(stderr).toContain(message)
  })
})
