/**
 * I7: the traces that were recorded from Xen's own code, with every hypercall made on a thread of the vCPU's own. Results, OUT
 * members, states and dumps are the same as on one thread. Upcalls are not compared: a vCPU on a thread looks for its own.
 */

import { readdirSync } from 'node:fs'
import { afterEach, describe, expect, it } from 'vitest'
import { readTrace, replay } from '../../golden/replay.js'
import { Relay } from '../../threads/relay.js'

const all = readdirSync(new URL('../../golden/', import.meta.url))
  .filter((file) => file.endsWith('.jsonl'))
  .sort()

describe('a trace through VcpuThreads', () => {
  let relay: Relay | undefined

  afterEach(() => relay?.end())

  it.each(all)('I7: %s is what the library does', (file) => {
    const lines = replay(file, Number.POSITIVE_INFINITY, (xen, walk) => {
      relay = new Relay(xen, walk)
      return relay
    })
    expect(lines).toBe(readTrace(file).lines.length - 1)
  })
})
