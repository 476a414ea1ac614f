/** What a run of stress_run.mjs takes. */
export interface StressOptions {
  readonly levels: number | 'fifo'
  readonly bits: number
  readonly sends: number
  readonly senders?: number
  readonly ports?: number
  readonly seed?: number
  /** Where the library is, with a slash at its end. */
  readonly dist: URL
  readonly churn?: boolean
}

/** What happened. `failure` is undefined if nothing was lost. */
export interface StressResult {
  readonly failure: string | undefined
  readonly sends: number
  readonly rests: number
  readonly cycles: number
  readonly errors: readonly string[]
}

export function stress(options: StressOptions): Promise<StressResult>
