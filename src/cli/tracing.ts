/** Where a command's trace goes: to standard error as strace writes it, or to a file in the form that its name asks for. */

import { closeSync, openSync, writeSync } from 'node:fs'
import {
  ambient,
  chromeTrace,
  type Faults,
  formatEvent,
  jsonLine,
  setAmbient,
  Trace,
  type TraceEvent,
} from '../trace/index.js'
import { CheckError } from './errors.js'

/** Forms of a trace. */
export const TRACE_FORMATS = ['text', 'jsonl', 'chrome'] as const
export type TraceFormat = (typeof TRACE_FORMATS)[number]

/** What is traced, and where to. */
export interface TracingOptions {
  /** Begins messages. */
  readonly program: string
  /** File to write to; none: standard error. */
  readonly file?: string | undefined
  /** Default: by the file's name, `.jsonl` or `.json`; else text. */
  readonly format?: TraceFormat | undefined
  /** Text with the time. */
  readonly time?: boolean
  /** Events that are kept for the Chrome form, which is written at the end. */
  readonly limit?: number
  readonly wanted?: (event: TraceEvent) => boolean
  readonly faults?: Faults | undefined
}

/** Bytes that are collected before they are written. */
const CHUNK = 1 << 16
const KEPT = 1_000_000

const formatOf = (file: string | undefined): TraceFormat =>
  file?.endsWith('.jsonl') ? 'jsonl' : file?.endsWith('.json') ? 'chrome' : 'text'

/** A trace of every host, store and scheduler that this process makes from now on. */
export class Tracing {
  readonly #fd: number
  readonly #format: TraceFormat
  readonly #kept: Trace
  readonly #options: TracingOptions
  #text = ''
  #open = true

  private constructor(options: TracingOptions, fd: number) {
    this.#options = options
    this.#fd = fd
    this.#format = options.format ?? formatOf(options.file)
    this.#kept = new Trace({ limit: options.limit ?? KEPT })
  }

  /** Begins to trace. @throws CheckError if the file cannot be written. */
  static begin(options: TracingOptions): Tracing {
    const { file, program, faults } = options
    let fd = 2
    try {
      if (file !== undefined) fd = openSync(file, 'w')
    } catch (error) {
      throw new CheckError(`${program}: ${JSON.stringify(file)} cannot be written: ${(error as Error).message}`)
    }
    const tracing = new Tracing(options, fd)
    setAmbient({ trace: new Trace({ limit: 1, onEvent: (event) => tracing.#take(event) }), faults })
    // A script may run on after its module was loaded, and end in any way.
    process.on('exit', tracing.end)
    return tracing
  }

  #take(event: TraceEvent): void {
    if (!this.#open || this.#options.wanted?.(event) === false) return
    if (this.#format === 'chrome') {
      this.#kept.record(event)
      return
    }
    this.#text += `${this.#format === 'jsonl' ? jsonLine(event) : formatEvent(event, { time: this.#options.time ?? false })}\n`
    // On a terminal at once, among what the script prints.
    if (this.#text.length >= CHUNK || this.#fd === 2) this.#write()
  }

  #write(): void {
    const text = this.#text
    this.#text = ''
    try {
      writeSync(this.#fd, text)
    } catch {
      // Nobody reads it any more, or the disk is full: the command itself continues.
      this.#open = false
    }
  }

  /** Writes what is left. */
  readonly end = (): void => {
    process.off('exit', this.end)
    if (ambient().trace) setAmbient(undefined)
    if (!this.#open) return
    if (this.#format === 'chrome') this.#text = `${JSON.stringify(chromeTrace(this.#kept))}\n`
    this.#write()
    this.#open = false
    if (this.#fd !== 2) closeSync(this.#fd)
  }
}
