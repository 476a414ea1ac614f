/**
 * The library against Xen itself: each trace in test/golden was recorded from Xen's own code, and what it recorded, the
 * library must do, from the first line to the last.
 */

import { readdirSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { readTrace, replay } from './golden/replay.js'

const all = readdirSync(new URL('golden/', import.meta.url))
  .filter((file) => file.endsWith('.jsonl'))
  .map((file) => file.replace('.jsonl', ''))
  .sort()

describe('traces recorded from Xen', () => {
  it('are there, for both ABIs and for domains that change between them', () => {
    expect(all.length).toBeGreaterThanOrEqual(43)
    const abis = new Set(all.map((name) => readTrace(`${name}.jsonl`).header.abi))
    expect([...abis].sort()).toEqual(['2l', 'fifo', 'mixed'])
    for (const name of all) expect(readTrace(`${name}.jsonl`).header.name).toBe(name)
  })

  it.each(all)('%s is what the library does', (name) => {
    expect(replay(`${name}.jsonl`)).toBe(readTrace(`${name}.jsonl`).lines.length - 1)
  })
})
