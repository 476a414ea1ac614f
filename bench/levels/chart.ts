/**
 * The chart that --svg writes: ns per event against pending events, both on logarithmic axes, one line a depth; sends
 * above, scans below, a column for each placement. The build for shared memory, 64-bit words unless only 32-bit ones were
 * measured. Axes, columns and legend name what was measured and nothing else.
 */

import { count } from '../../src/cli/format.js'
import { NAMES, OPS } from './contender.js'
import { PLACEMENTS } from './plan.js'
import { nsOf, type Results } from './results.js'

interface Point {
  readonly k: number
  readonly ns: number
  readonly levels: string
  readonly op: string
  readonly placement: (typeof PLACEMENTS)[number]
}

const DEPTHS = [
  { levels: '2 levels', color: '#1b6ca8' },
  { levels: '3 levels', color: '#c8372d' },
  { levels: '4 levels', color: '#5b8c3e' },
]

/** What is used of Observable Plot; its own types need the DOM's, which nothing else here does. */
interface Plot {
  plot(options: object): { outerHTML: string; setAttribute(name: string, value: string): void }
  line(data: readonly Point[], options: object): unknown
  dot(data: readonly Point[], options: object): unknown
  text(data: readonly object[], options: object): unknown
  frame(options: object): unknown
}

interface Jsdom {
  JSDOM: new (html: string) => { window: { document: unknown } }
}

/** Loads a package whose types are not wanted. */
const load = async <T>(name: string): Promise<T> => (await import(name)) as T

function pointsOf(results: Results): Point[] {
  const bits = results.measured.some((m) => m.bits === 64) ? 64 : 32
  const runs = results.measured.some((m) => m.placement === 'clustered')
  return results.measured
    .filter((m) => m.bits === bits)
    .flatMap((m) =>
      [2, 3, 4].flatMap((levels) => {
        const ns = nsOf(m, NAMES.core, levels)
        const point = { ns: ns ?? 0, levels: `${levels} levels`, op: m.op, k: m.k }
        // One port is a run as well, and is not measured twice.
        const placements =
          runs && m.k === 1 && m.placement === 'near' ? (['near', 'clustered'] as const) : [m.placement]
        return ns === undefined ? [] : placements.map((placement) => ({ ...point, placement }))
      }),
    )
}

/** Powers of two from just below the least value to just above the greatest. */
function powersAround(values: readonly number[]): number[] {
  const first = Math.floor(Math.log2(Math.min(...values)))
  const last = Math.ceil(Math.log2(Math.max(...values)))
  return Array.from({ length: last - first + 1 }, (_, i) => 2 ** (first + i))
}

/** The chart as an SVG document. */
export async function chart(results: Results): Promise<string> {
  const Plot = await load<Plot>('@observablehq/plot')
  const { JSDOM } = await load<Jsdom>('jsdom')
  const points = pointsOf(results)
  const ticks = powersAround(points.map(({ ns }) => ns))
  const pending = [...new Set(points.map(({ k }) => k))].sort((a, b) => a - b)
  const placements = PLACEMENTS.filter((each) => points.some(({ placement }) => placement === each))
  const depths = DEPTHS.filter(({ levels }) => points.some((point) => point.levels === levels))
  const where = { x: 'k', y: 'ns', fx: 'placement', fy: 'op' }
  const svg = Plot.plot({
    document: new JSDOM('').window.document,
    width: 960,
    height: 540,
    marginLeft: 52,
    marginRight: 48,
    marginBottom: 44,
    style: { background: 'white', fontSize: '12px' },
    x: {
      // Base 2 for both: a logarithmic axis labels powers of its base.
      type: 'log',
      base: 2,
      label: 'pending events',
      // One point has no axis: half an octave around it.
      domain: [pending[0]! / (pending.length > 1 ? 1 : 1.4), pending.at(-1)! * (pending.length > 1 ? 1 : 1.4)],
      ticks: pending,
      tickFormat: count,
      grid: true,
      insetLeft: 8,
      insetRight: 8,
    },
    y: {
      type: 'log',
      base: 2,
      label: 'ns per event',
      domain: [ticks[0], ticks.at(-1)],
      ticks,
      tickFormat: String,
      grid: true,
    },
    fx: { label: null, domain: placements, padding: 0.08 },
    fy: { label: null, domain: OPS, padding: 0.08 },
    color: { domain: depths.map(({ levels }) => levels), range: depths.map(({ color }) => color) },
    marks: [
      Plot.frame({ stroke: '#ccc' }),
      Plot.line(points, { ...where, stroke: 'levels', z: 'levels', strokeWidth: 2 }),
      Plot.dot(points, { ...where, fill: 'levels', r: 3 }),
      // The legend, where no line goes.
      ...depths.map(({ levels, color }, i) =>
        Plot.text([{ levels, op: 'send', placement: placements.at(-1) }], {
          fx: 'placement',
          fy: 'op',
          text: 'levels',
          fill: color,
          frameAnchor: 'top-right',
          dx: -10,
          dy: 12 + 16 * i,
        }),
      ),
    ],
  })
  svg.setAttribute('xmlns', 'http://www.w3.org/2000/svg')
  return `${svg.outerHTML}\n`
}
