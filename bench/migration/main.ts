/**
 * What a migration costs: time and bytes to save and to restore a domain, by channels and by RAM in use.
 *
 *     npm run bench:migration                    tables
 *     npm run bench:migration -- --markdown      the same for docs/migration.md
 *     npm run bench:migration -- --json          every sample's median as data
 *
 * Each figure is the median of several moves of the same domain; what was restored is compared with what was saved
 * before a time counts. The frozen time of a move is the sum of save, text, parse and restore.
 */

import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { seeded } from '../../src/cli/random.js'
import { type Domain, GuestKernel, Hypervisor, PAGE_SIZE, type SavedDomain } from '../../src/index.js'

/** A domain to move. */
interface Shape {
  channels: number
  /** Frames that are not zero. */
  usedFrames: number
}

/** Medians of one shape, times in ms. */
interface Row extends Shape {
  mode: 'cooperative' | 'transparent'
  ramMiB: number
  totalMiB: number
  stateBytes: number
  saveMs: number
  textMs: number
  parseMs: number
  /** On a host that has none of the peers. */
  restoreMs: number
  /** In the place of the source, every channel connected; transparent mode only. */
  replaceMs: number | null
}

const SAMPLES = 5
/** 64 MiB, and twice what is in use where that is more. */
const ramFrames = ({ usedFrames }: Shape) => Math.max(2 ** 14, 2 * usedFrames)

function build(shape: Shape): { xen: Hypervisor; guest: Domain } {
  const { channels, usedFrames } = shape
  const frames = ramFrames(shape)
  const xen = Hypervisor.create()
  const dom0 = xen.createDomain({ domid: 0, frames: 512 })
  const guest = xen.createDomain({ domid: 1, frames, maxEvtchnPort: -1 })
  for (const domain of [dom0, guest]) GuestKernel.boot(xen.platform(domain), { levels: 3 })
  for (let i = 0; i < channels; i++) {
    const { port } = guest.eventChannelOp('alloc_unbound', { dom: 1, remote_dom: 0 })
    dom0.eventChannelOp('bind_interdomain', { remote_dom: 1, remote_port: port! })
  }
  // Pages with content, as text and heap have: no two words alike.
  const words = new Uint32Array(guest.memory.memory.buffer)
  const first = frames - usedFrames
  const random = seeded(1)
  for (let i = (first * PAGE_SIZE) / 4; i < (frames * PAGE_SIZE) / 4; i++) {
    words[i] = random(2 ** 32)
  }
  return { xen, guest }
}

const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1]!

/** Runs `body` and notes its ms in `into`. */
function timed<T>(into: number[], body: () => T): T {
  const start = performance.now()
  const result = body()
  into.push(performance.now() - start)
  return result
}

function check(holds: boolean, problem: string): asserts holds {
  if (!holds) throw new Error(`this does not add up: ${problem}`)
}

function measure(shape: Shape, mode: Row['mode'], samples: number): Row {
  const { xen } = build(shape)
  const times = { save: [], text: [], parse: [], restore: [], replace: [] } as Record<string, number[]>
  let stateBytes = 0
  for (let i = 0; i < samples; i++) {
    const move = timed(times.save!, () => xen.beginMigration(1, { mode }))
    const text = timed(times.text!, () => JSON.stringify(move.state))
    stateBytes = text.length
    const state = timed(times.parse!, () => JSON.parse(text) as SavedDomain)
    const other = Hypervisor.create()
    const there = timed(times.restore!, () => other.restoreDomain(state))
    check(
      there.ports.activeEvtchns === (mode === 'transparent' ? shape.channels : 0),
      `${there.ports.activeEvtchns} ports of ${shape.channels}`,
    )
    check(
      Buffer.compare(
        there.memory.view().subarray((ramFrames(shape) - shape.usedFrames) * PAGE_SIZE),
        xen
          .domain(1)!
          .memory.view()
          .subarray((ramFrames(shape) - shape.usedFrames) * PAGE_SIZE),
      ) === 0,
      'RAM differs',
    )
    if (mode === 'cooperative') move.abort()
    else {
      const restored = timed(times.replace!, () => xen.restoreDomain(state, { replaces: move }))
      check(restored.restored!.connected.length === shape.channels, 'channels were lost')
      xen.startDomain(1)
    }
  }
  return {
    ...shape,
    mode,
    ramMiB: (shape.usedFrames * PAGE_SIZE) / 2 ** 20,
    totalMiB: (ramFrames(shape) * PAGE_SIZE) / 2 ** 20,
    stateBytes,
    saveMs: median(times.save!),
    textMs: median(times.text!),
    parseMs: median(times.parse!),
    restoreMs: median(times.restore!),
    replaceMs: times.replace!.length ? median(times.replace!) : null,
  }
}

const bytes = (n: number) => (n < 2 ** 20 ? `${(n / 1024).toFixed(0)} KiB` : `${(n / 2 ** 20).toFixed(1)} MiB`)
const ms = (value: number | null) => (value === null ? '–' : value < 10 ? value.toFixed(1) : value.toFixed(0))

const HEADER = ['channels', 'RAM in use', 'of', 'mode', 'state', 'save', 'to text', 'from text', 'restore', 'replace']
const cells = (row: Row): string[] => [
  row.channels.toLocaleString('en-US'),
  `${row.ramMiB} MiB`,
  `${row.totalMiB} MiB`,
  row.mode,
  bytes(row.stateBytes),
  ms(row.saveMs),
  ms(row.textMs),
  ms(row.parseMs),
  ms(row.restoreMs),
  ms(row.replaceMs),
]

function plain(rows: readonly string[][]): string[] {
  const widths = HEADER.map((_, i) => Math.max(...[HEADER, ...rows].map((row) => row[i]!.length)))
  return [HEADER, ...rows].map((row) => row.map((cell, i) => cell.padStart(widths[i]!)).join('  '))
}

const markdown = (rows: readonly string[][]): string[] =>
  [HEADER, HEADER.map(() => '---:'), ...rows].map((row) => `| ${row.join(' | ')} |`)

function main(): void {
  const { values } = parseArgs({
    options: {
      json: { type: 'boolean' },
      markdown: { type: 'boolean' },
      samples: { type: 'string', default: String(SAMPLES) },
      quick: { type: 'boolean' },
    },
  })
  const samples = Number(values.samples)
  if (!Number.isInteger(samples) || samples < 1) throw new Error(`--samples is ${values.samples}; allowed: 1 or more`)
  const shapes: Shape[] = values.quick
    ? [{ channels: 1000, usedFrames: 256 }]
    : [
        ...[0, 1000, 10_000, 100_000, 200_000].map((channels) => ({ channels, usedFrames: 1024 })),
        ...[4096, 16_384, 32_768].map((usedFrames) => ({ channels: 100_000, usedFrames })),
      ]
  const rows: Row[] = []
  for (const shape of shapes)
    for (const mode of ['cooperative', 'transparent'] as const) rows.push(measure(shape, mode, samples))
  const machine = { cpu: cpus()[0]?.model ?? 'unknown', node: process.version, samples }
  if (values.json) console.log(JSON.stringify({ ...machine, rows }, null, 2))
  else {
    console.log(`ms, medians of ${samples}; ${machine.cpu}, Node ${machine.node}\n`)
    for (const line of (values.markdown ? markdown : plain)(rows.map(cells))) console.log(line)
  }
}

main()
