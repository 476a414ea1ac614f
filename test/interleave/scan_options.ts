/** How a vCPU of the model scans: the rules of nlevel.md, and every way to break one of them. */

import { type Depth, type Level, selectorLevels } from './model.js'

/** One operation of the give-back: an OR of what was taken and not followed in a level's word, and of what was kept. */
export type Back = 'leaf' | `rest ${Level}` | `kept ${Level}` | 'flag'

/** NL-scan-2: bottom-up, the flag last. */
export const backSteps = (n: Depth): Back[] => [
  ...selectorLevels(n).flatMap((k): Back[] => [`rest ${k}`, `kept ${k}`]),
  'flag',
]

/** How a vCPU scans. */
export interface ScanOptions {
  /** Order of the first two operations. */
  readonly begin?: readonly ('flag' | 'level 1')[]
  /** How a selector word is taken: by exchange, by a load and a store of 0, or with that store when all is followed. */
  readonly take?: 'exchange' | 'load, store' | 'load, store after'
  /** Look at the filter (NL-scan-4). */
  readonly filter?: boolean
  /** How the served bits of a leaf word are cleared: atomic AND, load and store, or an exchange with 0. */
  readonly clear?: 'and' | 'load, store' | 'exchange'
  /** The handler runs after the clear. */
  readonly serve?: 'after clear' | 'before clear'
  /** Ports that a round serves at most; 0 = no limit; 'any' = one leaf word and then as chance has it; or none at all. */
  readonly buffer?: number | 'any' | 'none'
  /**
   * Of a leaf word that the buffer cannot hold: clear what fits; or clear all and give the rest back by 'leaf'; or clear
   * what fits and forget that there was more.
   */
  readonly overflow?: 'fits' | 'all' | 'forget'
  readonly back?: readonly Back[]
  /** The ancestors of what goes back go back too. */
  readonly ancestors?: boolean
  /** The give-back by OR, or by load and store. */
  readonly or?: 'atomic' | 'load, store'
  /** The give-back ends at a bit that is set already; or only that bit's ancestors do not go back. */
  readonly stop?: 'never' | 'whole' | 'branch'
  /** What follows a round: another while the flag is set; another after a give-back only (NL-scan-6); nothing. */
  readonly again?: 'while flag' | 'after give-back' | 'never'
  /** Upcalls by edge of the flag, or as long as it is set. */
  readonly upcall?: 'edge' | 'level'
}

/** What nlevel.md says, but for the give-back, which depends on n. */
export const RULES: Omit<Required<ScanOptions>, 'back'> = {
  begin: ['flag', 'level 1'],
  take: 'exchange',
  filter: false,
  clear: 'and',
  serve: 'after clear',
  buffer: 0,
  overflow: 'fits',
  ancestors: true,
  or: 'atomic',
  stop: 'never',
  again: 'after give-back',
  upcall: 'edge',
}

/** Ones among two bits. */
export const ones = (bits: number) => (bits & 1) + (bits >> 1)
