/** How large selector areas are, which fit (NL-sel-2), and which of their bits becoming active sets (NL-tree-2). */

import { describe, expect, it } from 'vitest'
import { sharedInfo } from '../../src/abi/index.js'

import { type Area, bitsAt, bytesAt, channelsOf, fullPages, PAGE, plan } from './geometry.js'
import { AREAS, FIRST_FREE, TreeGuest } from './guest.js'

const [EINVAL, ENOSPC] = [-22, -28]

describe('areas', () => {
  const forms = [
    [64, 3, 8],
    [64, 3, 1],
    [64, 4, 512],
    [64, 4, 64],
    [64, 4, 65],
    [64, 4, 1],
    [32, 3, 1],
    [32, 4, 32],
    [32, 4, 3],
    [32, 5, 512],
    [32, 5, 33],
    [32, 5, 1],
  ] as const

  it.each(forms)(
    'NL-sel-2, NL-tree-2: %i bits, %i levels, %i pages: exactly the areas that fit are taken',
    (bits, levels, nrPages) => {
      const guest = TreeGuest.on({}, { bits, frames: 128 })
      const channels = channelsOf(bits, levels, nrPages)
      const good = plan(bits, levels, nrPages, 1, FIRST_FREE).selectors[0]!.map(({ gfns, offset }) => ({
        gfns: gfns.map((_, i) => FIRST_FREE + i),
        offset,
      }))
      const answer = (k: number, other: Partial<Area>) => {
        const areas = good.map((each, i) => (i + 2 === k ? { ...each, ...other } : each))
        guest.writeAreas(areas)
        return guest.op('set_nlevel_selectors', { vcpu: 0, levels, nr_pages: nrPages, pad: 0, areas: AREAS })
      }
      expect(answer(0, {})).toBe(0)
      for (let k = 2; k < levels; k++) {
        const size = bytesAt(bits, levels, k, channels)
        const { gfns } = good[k - 2]!
        if (size <= PAGE) {
          const last = (PAGE - size) & ~7
          for (const offset of [0, last]) expect(answer(k, { offset }), `level ${k} from ${offset}`).toBe(0)
          for (const offset of [last + 8, 4, 1, last - 4, PAGE, 2 * PAGE])
            if (offset !== last) expect(answer(k, { offset }), `level ${k} from ${offset}`).toBe(EINVAL)
        } else for (const offset of [8, 4096]) expect(answer(k, { offset }), `level ${k} from ${offset}`).toBe(EINVAL)
        for (const count of [gfns.length - 1, gfns.length + 1, 0])
          expect(answer(k, { gfns: Array(count).fill(FIRST_FREE) }), `level ${k} with ${count} frames`).toBe(EINVAL)
      }
    },
  )

  it.each([
    [64, 3],
    [64, 4],
    [32, 3],
    [32, 4],
    [32, 5],
  ] as const)('NL-tree-2: %i bits, %i levels: the full tree takes as many pages as the table says', (bits, levels) => {
    const pages = fullPages(bits, levels)
    const guest = TreeGuest.on({ maxLeafPages: 1024 }, { bits, frames: 2200, maxLeafPages: 1024 })
    const areas = plan(bits, levels, pages, 1, FIRST_FREE)
    expect(guest.setSelectors(areas, 0)).toBe(0)
    expect(guest.setSelectors(areas, 0, { nr_pages: pages + 1 })).toBe(pages < 1024 ? EINVAL : ENOSPC)
  })

  it('NL-tree-2: becoming active sets exactly the bits that have channels behind them', () => {
    for (const [bits, levels, nrPages] of [
      [64, 3, 1],
      [64, 3, 5],
      [64, 4, 1],
      [64, 4, 9],
      [64, 4, 65],
      [32, 3, 1],
      [32, 4, 1],
      [32, 4, 3],
      [32, 5, 1],
      [32, 5, 33],
    ] as const) {
      const guest = TreeGuest.on({}, { bits, frames: 320 })
      const tree = plan(bits, levels, nrPages, 1, FIRST_FREE)
      guest.register(tree)
      const channels = channelsOf(bits, levels, nrPages)
      for (let k = 1; k < levels; k++) {
        const size = k === 1 ? bits / 8 : bytesAt(bits, levels, k, channels)
        const want = new Uint8Array(size)
        for (let bit = 0; bit < bitsAt(bits, levels, k, channels); bit++) want[bit >> 3]! |= 1 << (bit & 7)
        const { gfns, offset } = k === 1 ? { gfns: [1], offset: sharedInfo(bits).sel } : tree.selectors[0]![k - 2]!
        const got = gfns.flatMap((gfn) => [...guest.bytes.subarray(gfn * PAGE + offset, (gfn + 1) * PAGE)])
        expect(got.slice(0, size), `level ${k} of ${bits} bits, ${levels} levels, ${nrPages} pages`).toEqual([...want])
        if (k > 1) expect(got.slice(size).some(Boolean), `beyond level ${k}`).toBe(false)
      }
    }
  })
})
