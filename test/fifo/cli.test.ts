/** `--abi` of the commands, and the page with the comparison. Runs what was built. */

import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))
const evtchn = (...args: string[]) => spawnSync(process.execPath, [MAIN, ...args], { encoding: 'utf8' })

describe('--abi', () => {
  it('EC-dump-7: dump shows queues as Xen does', () => {
    const { stdout, status } = evtchn('dump', '--abi', 'fifo', '--channels', '5', '--domid', '1')
    const lines = stdout.trimEnd().split('\n').slice(4)
    expect(status).toBe(0)
    expect(lines.map((line) => line.slice(0, 24))).toEqual([
      '       1 [1/0/  4   ]: s',
      '       2 [0/0/  -   ]: s',
      '       3 [0/0/  -   ]: s',
      '       4 [1/0/  0   ]: s',
      '       5 [0/0/  -   ]: s',
    ])
  })

  it('demo adds up on FIFO, and its guest ends on a host without', () => {
    const { stdout, stderr, status } = evtchn('demo', '--abi', 'fifo', '--channels', '4500', '--sends', '5000')
    expect([stderr, status]).toEqual(['', 0])
    for (const text of [
      '131,072',
      'FIFO: ok',
      'FIFO: EOPNOTSUPP; 2 levels: ok',
      '4,095 channels re-bound',
      'Everything is consistent',
    ])
      expect(stdout).toContain(text)
  })

  it('bench measures the ABIs that are named', () => {
    const { stdout } = evtchn('bench', '--abi', '2,fifo', '--samples', '3', '--json')
    const { rows } = JSON.parse(stdout).result as { rows: { levels: number | string; flat?: object }[] }
    expect(new Set(rows.map(({ levels }) => levels))).toEqual(new Set([2, 'fifo']))
    expect(rows.filter(({ levels }) => levels === 'fifo').every(({ flat }) => flat === undefined)).toBe(true)
  })

  it.each([
    [['dump', '--abi', '9'], '--abi is "9"; allowed: 2, 3, 4, 5, fifo'],
    [['dump', '--abi', 'fifo', '--channels', '131072'], 'from 0 to 131071'],
    [['demo', '--abi', 'FIFO'], '--abi is "FIFO"'],
    [['demo', '--abi', '2', '--channels', '4096'], 'from 1 to 4094'],
    [['bench', '--abi', '2,5'], '--abi is "5"; allowed: 2, 3, 4, fifo with --bits 64'],
  ])('%j is refused', (args, message) => {
    const { stdout, stderr, status } = evtchn(...args)
    expect(stderr).toContain(message)
    expect([stdout, status]).toEqual(['', 2])
  })
})

describe('docs/abis.md', () => {
  it('has the tables that the bench prints', () => {
    const page = readFileSync(new URL('../../docs/abis.md', import.meta.url), 'utf8')
    const source = readFileSync(new URL('../../bench/abis/bench.ts', import.meta.url), 'utf8')
    for (const title of [
      'Send',
      'Consume',
      'Latency of an urgent event behind k others',
      'Memory per domain, one vCPU',
    ]) {
      expect(page).toContain(`**${title}**`)
      expect(source).toContain(`'${title}'`)
    }
  })
})
