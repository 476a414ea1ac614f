/** Middle and spread of samples. Nothing here changes the order of what it is given. */

/** What a figure of a benchmark is: the median of its samples, and the quartiles around it. */
export interface Summary {
  readonly median: number
  /** A quarter of the samples is at most this. */
  readonly low: number
  /** A quarter of the samples is at least this. */
  readonly high: number
  readonly samples: number
}

const ascending = (values: ArrayLike<number>): number[] => Array.from(values).sort((a, b) => a - b)

/** The value at a fraction of sorted samples, between two of them if need be. */
function at(sorted: readonly number[], fraction: number): number {
  const place = (sorted.length - 1) * fraction
  const below = Math.floor(place)
  const low = sorted[below] ?? Number.NaN
  const high = sorted[below + 1]
  return high === undefined || place === below ? low : low + (high - low) * (place - below)
}

/** The middle sample; of an even number the mean of the middle two; NaN of none. */
export const median = (values: ArrayLike<number>): number => at(ascending(values), 0.5)

/** The sample that a quarter of all are below. */
export const lowerQuartile = (values: ArrayLike<number>): number => at(ascending(values), 0.25)

/** The sample that a quarter of all are above. */
export const upperQuartile = (values: ArrayLike<number>): number => at(ascending(values), 0.75)

/** Median and quartiles. */
export function summarize(values: ArrayLike<number>): Summary {
  const sorted = ascending(values)
  return { median: at(sorted, 0.5), low: at(sorted, 0.25), high: at(sorted, 0.75), samples: sorted.length }
}
