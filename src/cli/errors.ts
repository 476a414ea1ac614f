/** How a command fails: exit code 2 for a command line, 1 for a result. */

import { nearest } from '../check.js'

/** A command line that cannot be understood: exit code 2. */
export class UsageError extends Error {}

/** A result that is inconsistent, or one that could not be had: exit code 1. */
export class CheckError extends Error {}

/** `; did you mean X?`, or nothing. */
export function didYouMean(word: string, known: readonly string[], spell = (each: string) => each): string {
  const best = nearest(word, known)
  return best === undefined ? '' : `; did you mean ${spell(best)}?`
}
