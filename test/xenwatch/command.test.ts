/** `evtchn xenwatch` as a user meets it. Runs what was built. */

import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { ALL, KINDS, stackOf } from './lab.js'

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))

function xenwatch(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, 'xenwatch', ...args], { encoding: 'utf8' })
  return { status, stdout, stderr }
}

describe('evtchn xenwatch', () => {
  it.each(KINDS)('reproduces the report of April 2018 with one guest and a stall in %s', (kind) => {
    const { status, stdout } = xenwatch('--domains', '1', '--scenario', kind)
    expect(status).toBe(0)
    for (const text of [
      'libxl_device.c:1080:device_backend_callback: Domain 2:unable to add device with path /local/domain/0/backend/vbd/2/51712',
      'libxl_create.c:1278:domcreate_launch_dm: Domain 2:unable to add disk devices',
      'libxl_domain.c:886:domain_destroy_cb: Domain 2:Destruction of domain failed',
      '(null)',
      '[xenwatch]',
      ...stackOf(kind, 'xenwatch_thread'),
    ])
      expect(stdout).toContain(text)
    expect(stdout).toMatch(/xenwatch \[\d+\] +[o·]*D{20,}/)
  })

  it('--design all shows one table, in which only the one thread fails others', () => {
    const { status, stdout } = xenwatch('--design', 'all', '--seed', '5')
    expect(status).toBe(0)
    const rows = stdout.split('\n').filter((line) => /^ +(single|rfc|talk|on-demand) /.test(line))
    expect(rows.map((row) => /FAILED/.test(row))).toEqual([true, false, false, false])
    expect(rows[0]).toMatch(/single +xenwatch +FAILED, \+19\.90 s +FAILED, \+9\.95 s +not until release/)
    // What its columns mean.
    for (const word of ['delays against the same run', 'dropped on arrival', 'left waiting: then'])
      expect(stdout).toContain(word)
    for (const row of rows.slice(1)) expect(row).toMatch(/xen-mtwatch-1 +done, \+0\.00 s +done, \+0\.00 s/)
  })

  it('--json gives the same as data, and the same for the same seed', () => {
    const run = () => xenwatch('--design', 'rfc', '--json', '--domains', '2', '--seed', '9')
    const { stdout } = run()
    const [result] = JSON.parse(stdout).result
    expect(result).toMatchObject({ design: 'rfc', kind: 'netback', domains: 2, leftovers: [], reports: [] })
    expect(result.stalled[0].stack).toEqual(stackOf('netback', 'mtwatch_thread'))
    expect(result.operations.map(({ what, ok }: { what: string; ok: boolean }) => [what, ok])).toEqual([
      ['xl destroy', false],
      ['xl create', true],
      ['xl destroy', true],
    ])
    expect(run().stdout).toBe(stdout)
  })

  it.each([
    [['--design', 'double'], '--design is "double"; allowed: single, rfc, talk, on-demand, all'],
    [['--scenario', 'fire'], '--scenario is "fire"; allowed: netback, blkback, grant, hotplug,'],
    [['--domains', '0'], '--domains is "0"'],
    [['--seed', 'x'], '--seed is "x"'],
  ])('%j is refused, exit code 2', (args, message) => {
    const { status, stdout, stderr } = xenwatch(...args)
    expect([status, stdout]).toEqual([2, ''])
    expect(stderr).toContain(message)
  })

  it('--help tells its options', () => {
    const { status, stdout } = xenwatch('--help')
    expect(status).toBe(0)
    for (const word of [
      '--design',
      '--scenario',
      '--domains',
      '--seed',
      '--json',
      ...ALL.map((design) => `\n  ${design} `),
    ])
      expect(stdout).toContain(word)
  })
})

describe('evtchn xenwatch, the matrix', () => {
  it('--scenario with a further story shows what was tried, and --json the same as data', () => {
    const args = ['--design', 'on-demand', '--scenario', 'slow-probe']
    expect(xenwatch(...args).stdout).toMatch(/slow-probe +create another +FAILED, \+19\.90 s/)
    const [told] = JSON.parse(xenwatch(...args, '--json').stdout).result
    expect(told).toMatchObject({ story: 'slow-probe', design: 'on-demand', stalled: { stalled: ['xenwatch'] } })
  })
})

describe('docs/xenwatch.md', () => {
  const text = readFileSync(fileURLToPath(new URL('../../docs/xenwatch.md', import.meta.url)), 'utf8')

  it.each(KINDS)('has the table that the command prints for %s', (kind) => {
    const { stdout } = xenwatch('--design', 'all', '--scenario', kind)
    const rows = stdout.split('\n').filter((line) => /^ +(single|rfc|talk|on-demand) /.test(line))
    expect(rows).toHaveLength(4)
    for (const row of rows) expect(text).toContain(row)
  })

  it('has the matrix that the command prints', () => {
    const { status, stdout } = xenwatch('--design', 'all', '--scenario', 'all')
    expect(status).toBe(0)
    const [matrix] = stdout.split('in D: threads')
    expect(matrix!.split('\n').length).toBeGreaterThan(28)
    for (const row of matrix!.trimEnd().split('\n').slice(2)) expect(text).toContain(row)
  })
})

describe('--design FILE', () => {
  it('XW-own-1: runs a design of the user beside the story of another, by its own name', () => {
    const { status, stdout, stderr } = xenwatch('--design', 'examples/own-design.mjs', '--scenario', 'default-blocked')
    expect(stderr).toBe('')
    expect(status).toBe(0)
    expect(stdout).toMatch(/what was tried +buckets/)
    expect(stdout).toMatch(/destroy 2 +FAILED/)
  })

  it('XW-own-3: a file that is not there is told in one line', () => {
    const { status, stderr } = xenwatch('--design', './none.mjs')
    expect(status).toBe(1)
    expect(stderr).toContain('--design ./none.mjs cannot be loaded')
  })
})
