/**
 * `npm run bench:migration`: time and bytes to save and to restore a domain, by channels and by RAM in use.
 *
 * Each figure is the median of several moves of the same domain; what was restored is compared with what was saved
 * before a time counts. The frozen time of a move is the sum of save, of its way (a structured clone, or to text and from
 * text) and of restore. *copy* is the least that a save can cost: one copy of the RAM in use into new memory.
 */

import { MAX_FRAMES, PAGE_SIZE } from '../../src/abi/index.js'
import { CheckError } from '../../src/cli/errors.js'
import { bytes, count } from '../../src/cli/format.js'
import { seeded } from '../../src/cli/random.js'
import { type Summary, summarize } from '../../src/cli/statistics.js'
import { inside } from '../../src/domain/handles.js'
import { type Domain, GuestKernel, Hypervisor, type SavedDomain } from '../../src/index.js'
import { BENCH, benchCommand } from '../options.js'

/** A domain to move. */
interface Shape {
  readonly channels: number
  /** Frames that are not zero. */
  readonly usedFrames: number
}

/** Figures of one shape, times in ms. */
interface Row extends Shape {
  mode: 'cooperative' | 'transparent'
  ramMiB: number
  totalMiB: number
  /** Characters of the text; none beyond what a text can hold. */
  textBytes: number | undefined
  copyMs: Summary
  saveMs: Summary
  cloneMs: Summary
  textMs?: Summary
  parseMs?: Summary
  /** On a host that has none of the peers. */
  restoreMs: Summary
  /** In the place of the source, every channel connected; transparent mode only. */
  replaceMs?: Summary
}

/** 64 MiB, and twice what is in use where that is more. */
const ramFrames = ({ usedFrames }: Shape) => Math.max(2 ** 14, 2 * usedFrames)

function build(shape: Shape): { xen: Hypervisor; guest: Domain } {
  const { channels, usedFrames } = shape
  const frames = ramFrames(shape)
  // Nobody takes upcalls: what is measured is the move, not the guest.
  const xen = Hypervisor.create({ onUpcall: () => {} })
  const dom0 = xen.createDomain({ domid: 0, frames: 512 })
  const guest = xen.createDomain({ domid: 1, frames, maxEvtchnPort: Infinity })
  for (const domain of [dom0, guest]) GuestKernel.boot(xen.platform(domain), { levels: 3 })
  for (let i = 0; i < channels; i++) {
    const { port } = guest.eventChannelOp('alloc_unbound', { dom: 1, remote_dom: 0 })
    dom0.eventChannelOp('bind_interdomain', { remote_dom: 1, remote_port: port })
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

/** Runs `body` and notes its ms in `into`. */
function timed<T>(into: number[], body: () => T): T {
  const start = performance.now()
  const result = body()
  into.push(performance.now() - start)
  return result
}

function check(holds: boolean, problem: string): asserts holds {
  if (!holds) throw new CheckError(`bench:migration: inconsistent: ${problem}`)
}

/** ms of each step. */
type Times = Record<'copy' | 'save' | 'clone' | 'text' | 'parse' | 'restore' | 'replace', number[]>

/** 256 MiB: base64 of twice as much has no room in a string. */
const TEXT_FRAMES = 2 ** 16

function measure(shape: Shape, mode: Row['mode'], samples: number): Row {
  const { xen } = build(shape)
  const times = { copy: [], save: [], clone: [], text: [], parse: [], restore: [], replace: [] } as Times
  let textBytes: number | undefined
  for (let i = 0; i < samples; i++) {
    const ram = xen.domain(1)!.memory.view()
    timed(times.copy, () => ram.slice((ramFrames(shape) - shape.usedFrames) * PAGE_SIZE))
    const move = timed(times.save, () => xen.beginMigration(xen.domain(1)!, { mode }))
    const state = timed(times.clone, () => structuredClone(move.state) as SavedDomain)
    if (shape.usedFrames <= TEXT_FRAMES) {
      const text = timed(times.text, () => JSON.stringify(move.state))
      textBytes = text.length
      timed(times.parse, () => JSON.parse(text) as SavedDomain)
    }
    const other = Hypervisor.create({ onUpcall: () => {} })
    const there = timed(times.restore, () =>
      other.restoreDomain(state, { maxEvtchnPort: Infinity, maxFrames: MAX_FRAMES }),
    )
    check(
      inside(there).ports.activeEvtchns === (mode === 'transparent' ? shape.channels : 0),
      `${inside(there).ports.activeEvtchns} ports of ${shape.channels}`,
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
      const restored = timed(times.replace, () => xen.restoreDomain(state, { replaces: move }))
      check(restored.restored!.connected.length === shape.channels, 'channels were lost')
      xen.startDomain(xen.domain(1)!)
    }
  }
  return {
    ...shape,
    mode,
    ramMiB: (shape.usedFrames * PAGE_SIZE) / 2 ** 20,
    totalMiB: (ramFrames(shape) * PAGE_SIZE) / 2 ** 20,
    textBytes,
    copyMs: summarize(times.copy),
    saveMs: summarize(times.save),
    cloneMs: summarize(times.clone),
    ...(times.text.length && { textMs: summarize(times.text), parseMs: summarize(times.parse) }),
    restoreMs: summarize(times.restore),
    ...(times.replace.length && { replaceMs: summarize(times.replace) }),
  }
}

const ms = (value: Summary | undefined): string | undefined =>
  value && (value.median < 10 ? value.median.toFixed(1) : value.median.toFixed(0))

const COLUMNS = [
  'channels',
  'RAM in use',
  'of',
  'mode',
  'copy',
  'save',
  'clone',
  'restore',
  'replace',
  'text',
  'to text',
  'from text',
]
const cells = (row: Row) => [
  count(row.channels),
  `${row.ramMiB} MiB`,
  `${row.totalMiB} MiB`,
  row.mode,
  ms(row.copyMs),
  ms(row.saveMs),
  ms(row.cloneMs),
  ms(row.restoreMs),
  ms(row.replaceMs),
  row.textBytes === undefined ? undefined : bytes(row.textBytes),
  ms(row.textMs),
  ms(row.parseMs),
]

/** Pages in use beside many channels, and the other way round. */
const SHAPES: readonly Shape[] = [
  ...[0, 1000, 10_000, 100_000, 200_000].map((channels) => ({ channels, usedFrames: 1024 })),
  ...[4096, 16_384, 32_768].map((usedFrames) => ({ channels: 100_000, usedFrames })),
  { channels: 1000, usedFrames: 2 ** 18 },
]
const QUICK: readonly Shape[] = [{ channels: 1000, usedFrames: 256 }]

const ABOUT = `Moves a domain in both modes and times each step: save, structured clone, state to text, text to state, restore on another host, and restore in the place of the source; beside them one plain copy of the RAM in use.`

await benchCommand('bench:migration', ABOUT, { samples: BENCH.samples(5, 5) }, ({ values, screen }) => {
  const samples = values.samples ?? 5
  const moves = (values.quick ? QUICK : SHAPES).flatMap((shape) =>
    (['cooperative', 'transparent'] as const).map((mode) => ({ shape, mode })),
  )
  const rows = moves.map(({ shape, mode }, i) => {
    screen.steps('move', i, moves.length)
    return measure(shape, mode, samples)
  })
  const table = { title: 'Migration', unit: `ms, medians of ${samples}`, columns: COLUMNS, rows: rows.map(cells) }
  return { tables: [table], result: { unit: 'ms', rows } }
})
