/**
 * The profile behind the times, which needs no clock: how many words of the tree an event costs. A set of pending ports
 * makes certain words non-zero, the raise dirties each of them once and the scan visits each of them once. Ports that share
 * a word share its cost, so what matters is how many neighbours an event has.
 *
 *     words per event = (leaf words + words of level 2 … + the word of level 1 that have a bit set) / ports
 */

import type { Bits } from 'evtchn/abi'
import { type Group, portsOf } from './plan.js'

/** Words that one set of ports makes non-zero, leaf and selectors, per port. */
function wordsPerEvent(ports: Iterable<number>, bits: Bits, levels: number): number {
  let level = new Set(ports)
  const events = level.size
  let words = 0
  for (let n = levels; n > 0; n--) {
    level = new Set([...level].map((index) => Math.floor(index / bits)))
    words += level.size
  }
  return words / events
}

/** The same for a group at one depth: the mean over its first sets. */
export function groupWords(group: Group, levels: number, seed: number): number {
  const all = portsOf(group, levels, seed)
  const sets = Math.min(all.length / group.k, 64)
  let sum = 0
  for (let i = 0; i < sets; i++) sum += wordsPerEvent(all.subarray(i * group.k, (i + 1) * group.k), group.bits, levels)
  return sum / sets
}
