/** How a step of a story went. */

/** How a step went so far. */
export interface StepRecord {
  readonly what: string
  readonly tried: boolean
  /** When it began, in ns. */
  readonly fromNs: number
  /** When it ended; undefined while it is under way. */
  readonly toNs: number | undefined
  /** Undefined while it is under way. */
  readonly ok: boolean | undefined
  /** What the toolstack said, or what the step threw. */
  readonly errors: readonly string[]
}
