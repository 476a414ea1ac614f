/**
 * The library against Xen itself: each trace in test/golden was recorded from Xen's own code, and what it recorded, the
 * library must do. The traces that turn FIFO on wait until the library has it.
 */

import { readdirSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { readTrace, replay } from './golden/replay.js'

/** What a trace's header says it is about: these are replayed from the first line to the last. */
const REPLAYED_ABIS: readonly string[] = ['2l']

/** Traces that turn FIFO on near their end, and the line that does it: everything before is replayed. */
const REPLAYED_UNTIL_FIFO: Readonly<Record<string, number>> = { 's20-teardown': 43, 's21-dispatcher': 19 }

/** Traces that are not replayed to their end because the library has no FIFO. */
const AWAITING_FIFO: readonly string[] = [
  'r-fifo-1',
  'r-fifo-2',
  'r-fifo-3',
  'r-fifo-4',
  'r-mixed-1',
  'r-mixed-2',
  's20-teardown',
  's21-dispatcher',
  's30-fifo-init',
  's31-fifo-expand',
  's32-fifo-priority',
  's33-fifo-order',
  's34-fifo-busy',
  's35-fifo-hostile',
  's36-fifo-saved-pending',
  's37-fifo-reset',
  's38-fifo-reset-preempt',
]

const all = readdirSync(new URL('golden/', import.meta.url))
  .filter((file) => file.endsWith('.jsonl'))
  .map((file) => file.replace('.jsonl', ''))
  .sort()
const replayed = all.filter(
  (name) => REPLAYED_ABIS.includes(readTrace(`${name}.jsonl`).header.abi) && !AWAITING_FIFO.includes(name),
)

describe('traces recorded from Xen', () => {
  it('are all replayed or named as awaiting FIFO', () => {
    expect([...replayed, ...AWAITING_FIFO].sort()).toEqual(all)
    for (const name of all) expect(readTrace(`${name}.jsonl`).header.name).toBe(name)
  })

  it('await FIFO only if they turn it on', () => {
    for (const name of AWAITING_FIFO) {
      const { lines } = readTrace(`${name}.jsonl`)
      expect(turnsFifoOn(lines), name).toBeGreaterThan(0)
      if (name in REPLAYED_UNTIL_FIFO) expect(turnsFifoOn(lines), name).toBe(REPLAYED_UNTIL_FIFO[name])
    }
  })

  it.each(replayed)('%s is what the library does', (name) => {
    expect(replay(`${name}.jsonl`)).toBe(readTrace(`${name}.jsonl`).lines.length - 1)
  })

  it.each(Object.entries(REPLAYED_UNTIL_FIFO))('%s is what the library does before line %i', (name, line) => {
    expect(replay(`${name}.jsonl`, line)).toBe(line - 2)
  })
})

/** The first line, 1-based, whose init_control was carried out, be it that its copy-out failed afterwards. 0 = none. */
function turnsFifoOn(lines: readonly Record<string, unknown>[]): number {
  const done = ({ op, rc, args }: Record<string, unknown>) =>
    op === 'init_control' && (rc === 0 || (args as { fault?: string }).fault === 'out')
  return lines.findIndex(done) + 1
}
