/** A registered tree as data, and drawn for a terminal: how many words each level has, and where the last port's bits are. */

import { type Bits, levelBits, levelBytes, maxEvtchns, wordShift } from '../../abi/index.js'
import { count } from '../format.js'

/** One level. */
export interface Level {
  readonly level: number
  /** `vcpu_info`, `shared_info`, or guest frames. */
  readonly where: 'vcpu_info' | 'shared_info' | 'frames'
  /** True: each vCPU has its own. */
  readonly perVcpu: boolean
  readonly bits: number
  readonly words: number
  readonly bytes: number
  /** Word and bit of the last port there. */
  readonly last: { readonly word: number; readonly bit: number }
}

/** The levels of a tree, level 1 first. */
export function levelsOf(bits: Bits, levels: number, nrPages: number): Level[] {
  const channels = maxEvtchns(bits, levels, nrPages)
  const b = wordShift(bits)
  return Array.from({ length: levels }, (_, i): Level => {
    const level = i + 1
    const bitsHere = level === levels ? channels : levelBits(bits, levels, level, channels)
    const bytes = level === levels ? channels / 8 : levelBytes(bits, levels, level, channels)
    const bit = (channels - 1) >>> (b * (levels - level))
    return {
      level,
      where: level === 1 ? 'vcpu_info' : levels === 2 ? 'shared_info' : 'frames',
      perVcpu: level < levels,
      bits: bitsHere,
      words: bytes / (bits / 8),
      bytes,
      last: { word: bit >>> b, bit: bit & (bits - 1) },
    }
  })
}

/** Cells of the leaf: at most, and at least where there is little room. */
const MOST_CELLS = 32
const LEAST_CELLS = 8

/**
 * The tree as lines: a row of cells a level, wider where there are more words, and the last port's way down.
 *
 *     level 1   ▪                  1 word
 *     level 2   ▪▪▪▪▪▪             64 words
 *     leaf      ▪▪▪▪▪▪▪▪▪▪▪▪   4,096 words
 */
export function draw(tree: readonly Level[], width: number): string[] {
  const most = Math.log2(tree.at(-1)!.words) || 1
  const name = ({ level }: Level) => (level === tree.length ? 'leaf' : `level ${level}`)
  const words = tree.map((each) => count(each.words))
  const longest = Math.max(...words.map(({ length }) => length))
  const behind = tree.map((each, i) => {
    const where = each.perVcpu ? `${each.where}, each vCPU` : `${each.where}, two bitmaps`
    return `${words[i]!.padStart(longest)} ${each.words === 1 ? 'word ' : 'words'}  ${where}`
  })
  const room = width - 12 - Math.max(...behind.map(({ length }) => length))
  const cells = Math.max(LEAST_CELLS, Math.min(MOST_CELLS, room))
  return tree.map((each, i) => {
    const filled = Math.max(1, Math.round((Math.log2(each.words) / most) * cells))
    return `${name(each).padEnd(8)}  ${'▪'.repeat(filled).padEnd(cells)}  ${behind[i]}`
  })
}

/** The way of the last port, as text: `level 1 bit 63 → level 2 word 63 bit 63 → leaf word 4,095 bit 63`. */
export function wayOfLast(tree: readonly Level[]): string {
  return tree
    .map(({ level, last: { word, bit }, words }) => {
      const name = level === tree.length ? 'leaf' : `level ${level}`
      return words === 1 ? `${name} bit ${bit}` : `${name} word ${count(word)} bit ${bit}`
    })
    .join(' → ')
}
