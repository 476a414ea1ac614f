/**
 * `npm run bench:scale`: what a domain, a port and a vCPU cost in time and memory, from few to as many as there can be.
 * Every size runs in a process of its own, so that none finds the heap of another.
 */

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { CheckError } from '../../src/cli/errors.js'
import { bytes, count } from '../../src/cli/format.js'
import { wholes } from '../../src/cli/options.js'
import { type BenchTable, benchCommand } from '../options.js'
import { type Figures, type Kind, MOST } from './measure.js'

const ABOUT = `Creates domains, ports and vCPUs in growing numbers and prints what each costs: time, JavaScript heap, private records of the hypervisor, and what became resident.`

const sizes = (kind: Kind, what: string, preset: readonly number[]) =>
  wholes(what, { min: kind === 'channels' ? 16 : 1, max: MOST[kind], preset })

const OPTIONS = {
  domains: sizes('domains', 'numbers of domains', [10, 100, 1000, 10_000, 25_000, 100_000]),
  memories: sizes('memories', 'numbers of domains with a memory of their own', [100, 1000, 32_000]),
  ports: sizes('ports', 'numbers of open ports', [1000, 10_000, 100_000, 1_000_000, 16_777_215]),
  vcpus: sizes('vcpus', 'numbers of vCPUs', [1, 64, 1024, 8192]),
  channels: sizes('channels', 'numbers of domains with ten channels', [1024, 8192]),
}

/** Sizes of --quick. */
const QUICK: Readonly<Record<Kind, readonly number[]>> = {
  domains: [10, 100],
  memories: [10],
  ports: [1000],
  vcpus: [1, 64],
  channels: [64],
}

const TITLES: Readonly<Record<Kind, string>> = {
  domains: 'Domains, windows of 8 frames, 25,000 a host: each',
  memories: 'Domains with a memory of their own, as many as the engine has: each',
  ports: 'Open ports of one domain, four levels: each',
  vcpus: 'vCPUs of one domain: each',
  channels: 'Domains with ten channels, four levels and the driver: each',
}

/** What the names of the times mean. */
const TIMES: Readonly<Record<string, string>> = {
  create: 'create',
  createLast: 'create, last tenth',
  dump: 'dump',
  taken: 'take as changed',
  destroy: 'destroy',
  open: 'open',
  send: 'send',
  close: 'close',
  bind: 'bind an IPI',
  boot: 'create and boot',
}

const CHILD = fileURLToPath(new URL('child.js', import.meta.url))

function measure(kind: Kind, size: number): Figures {
  const options = ['--expose-gc', '--max-old-space-size=8192', CHILD, kind, String(size)]
  const { status, stdout, stderr } = spawnSync(process.execPath, options, { encoding: 'utf8' })
  if (status !== 0) throw new CheckError(`${count(size)} ${kind}: ${stderr}`)
  return JSON.parse(stdout)
}

const time = (ns: number) => (ns < 1000 ? `${Math.round(ns)} ns` : `${(ns / 1000).toFixed(1)} µs`)

function table(kind: Kind, rows: readonly (readonly [size: number, figures: Figures])[]): BenchTable {
  const names = Object.keys(rows[0]![1])
  const times = names.filter((name) => name in TIMES)
  return {
    title: TITLES[kind],
    columns: ['number', ...times.map((name) => TIMES[name]!), 'heap', 'records', 'resident'],
    rows: rows.map(([size, figures]) => [
      count(figures.made ?? size),
      ...times.map((name) => time(figures[name]!)),
      ...['heapBytes', 'recordBytes', 'residentBytes'].map((name) => bytes(Math.max(0, Math.round(figures[name]!)))),
    ]),
  }
}

await benchCommand('bench:scale', ABOUT, OPTIONS, ({ values, screen }) => {
  const result: Partial<Record<Kind, { size: number; figures: Figures }[]>> = {}
  const tables = (Object.keys(TITLES) as Kind[]).map((kind) => {
    const rows = (values.quick ? QUICK[kind] : values[kind]).map((size) => {
      screen.progress(`${count(size)} ${kind}`)
      return [size, measure(kind, size)] as const
    })
    result[kind] = rows.map(([size, figures]) => ({ size, figures }))
    return table(kind, rows)
  })
  const about = ['each size in a process of its own, averages of processor time over all of it']
  return { about, tables, result }
})
