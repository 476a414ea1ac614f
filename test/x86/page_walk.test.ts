/** The page tables of a 32-bit guest, in RAM that is a map of words. */

import { describe, expect, it } from 'vitest'
import { type PageTables, walkPages } from '../../src/x86/page_walk.js'

const PAGING = 0x8000_0000
const WRITE_PROTECT = 0x1_0000
const PAE = 0x20
const LARGE_PAGES = 0x10
const P = 1
const W = 2
const LARGE = 0x80

const tables = (
  words: Record<number, number>,
  cr4: number,
  cr0 = PAGING | WRITE_PROTECT,
  cr3 = 0x1000,
): PageTables => ({
  cr0,
  cr3,
  cr4,
  read32: (gpa) => words[gpa] ?? 0,
})

describe('RG-61: two levels', () => {
  const words = {
    [0x1000 + 0x300 * 4]: 0x2000 | P | W,
    [0x2000 + 5 * 4]: 0x7000 | P | W,
    [0x2000 + 6 * 4]: 0xffff_8000 | P,
    [0x1000 + 0x301 * 4]: 0x8040_0000 | P | W | LARGE,
  }

  it('a page', () => expect(walkPages(tables(words, 0), 0xc000_5123, true)).toBe(0x7123))
  it('a page at the end of 4 GiB is no negative address', () =>
    expect(walkPages(tables(words, 0), 0xc000_6fff, false)).toBe(0xffff_8fff))
  it('a page that is not there', () => expect(walkPages(tables(words, 0), 0xc000_7000, false)).toBe(-1))
  it('a table that is not there', () => expect(walkPages(tables(words, 0), 0x1000, false)).toBe(-1))
  it('a read-only page is read', () => expect(walkPages(tables(words, 0), 0xc000_6000, false)).toBe(0xffff_8000))
  it('and not written', () => expect(walkPages(tables(words, 0), 0xc000_6000, true)).toBe(-1))
  it('unless CR0.WP is off', () => expect(walkPages(tables(words, 0, PAGING), 0xc000_6000, true)).toBe(0xffff_8000))
  it('a large page of 4 MiB', () => expect(walkPages(tables(words, LARGE_PAGES), 0xc043_2100, true)).toBe(0x8043_2100))
  it('without CR4.PSE its bit means nothing', () => expect(walkPages(tables(words, 0), 0xc043_2100, true)).toBe(-1))
})

describe('RG-61: PAE', () => {
  const words = {
    [0x1020 + 3 * 8]: 0x2000 | P,
    [0x2000 + 1 * 8]: 0x3000 | P | W,
    [0x2000 + 2 * 8]: 0x0060_0000 | P | W | LARGE,
    [0x2000 + 3 * 8]: 0x3000 | P,
    [0x3000 + 4 * 8]: 0x9000 | P | W,
    [0x3000 + 4 * 8 + 4]: 0x8000_0000,
    [0x3000 + 5 * 8]: 0xa000 | P | W,
    [0x3000 + 5 * 8 + 4]: 1,
  }
  const pae = tables(words, PAE, undefined, 0x1020)

  it('a page, with the bit that forbids execution', () => expect(walkPages(pae, 0xc020_4abc, true)).toBe(0x9abc))
  it('a page beyond 4 GiB is not there', () => expect(walkPages(pae, 0xc020_5000, false)).toBe(-1))
  it('a large page of 2 MiB', () => expect(walkPages(pae, 0xc04f_edcb, true)).toBe(0x006f_edcb))
  it('a directory that is read-only forbids writing below it', () => {
    expect(walkPages(pae, 0xc060_4000, false)).toBe(0x9000)
    expect(walkPages(pae, 0xc060_4000, true)).toBe(-1)
  })
  it('a quarter without tables', () => expect(walkPages(pae, 0x4000_0000, false)).toBe(-1))
})

it('without paging an address is what it is', () => {
  expect(walkPages(tables({}, 0, 0), 0xffff_ffff, true)).toBe(0xffff_ffff)
})
