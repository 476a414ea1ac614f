/**
 * The chart that --svg writes: ns per event against pending events, both on logarithmic axes, one line a depth; sends
 * above, scans below, a column for each placement. 64-bit words, the build for shared memory.
 */

import { NAMES, OPS } from './contender.js'
import { PENDING } from './plan.js'
import { nsOf, type Results } from './results.js'

interface Point {
  readonly k: number
  readonly ns: number
  readonly levels: string
  readonly op: string
  readonly placement: string
}

const PLACEMENTS = ['spread', 'near', 'clustered']
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
  return results.measured
    .filter((m) => m.bits === 64)
    .flatMap((m) =>
      [2, 3, 4].flatMap((levels) => {
        const ns = nsOf(m, NAMES.core, levels)
        const point = { ns: ns ?? 0, levels: `${levels} levels`, op: m.op, k: m.k }
        // One port is a run as well, and is not measured twice.
        const placements = m.k === 1 && m.placement === 'near' ? ['near', 'clustered'] : [m.placement]
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
      ticks: PENDING,
      tickFormat: (k: number) => k.toLocaleString('en-US'),
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
    fx: { label: null, domain: PLACEMENTS, padding: 0.08 },
    fy: { label: null, domain: OPS, padding: 0.08 },
    color: { domain: DEPTHS.map(({ levels }) => levels), range: DEPTHS.map(({ color }) => color) },
    marks: [
      Plot.frame({ stroke: '#ccc' }),
      Plot.line(points, { ...where, stroke: 'levels', strokeWidth: 2 }),
      Plot.dot(points, { ...where, fill: 'levels', r: 3 }),
      // The legend, where no line goes.
      ...DEPTHS.map(({ levels, color }, i) =>
        Plot.text([{ levels, op: 'send', placement: 'clustered' }], {
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
