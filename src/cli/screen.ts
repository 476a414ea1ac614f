/**
 * What people see: results on standard output, as wide as the terminal, and one progress line on standard error where that
 * is a terminal. Colour only stresses what words say, and is off in pipes and with NO_COLOR.
 */

import { duration } from './format.js'
import { type ColumnLike, type Row, shownLength, table, wrap } from './table.js'

/** What a text means; each has a colour. */
export type Tone = 'good' | 'bad' | 'quiet' | 'strong'

const CODES: Readonly<Record<Tone, number>> = { good: 32, bad: 31, quiet: 2, strong: 1 }
/** Narrower than this nothing is laid out for. */
const LEAST_WIDTH = 40

/** Options of a screen. */
export interface ScreenOptions {
  /** Results go elsewhere (`--json`): print no lines. */
  readonly quiet?: boolean
  readonly out?: NodeJS.WriteStream
  readonly err?: NodeJS.WriteStream
  readonly env?: NodeJS.ProcessEnv
  /** For the time that is left. */
  readonly nowNs?: () => number
}

/** Standard output for results, and a progress line on standard error when that is a terminal. */
export class Screen {
  readonly #out: NodeJS.WriteStream
  readonly #err: NodeJS.WriteStream
  readonly #quiet: boolean
  readonly #colour: boolean
  readonly #columns: number | undefined
  readonly #nowNs: () => number
  #progress = ''
  #task = { what: '', startedNs: 0 }

  constructor(options: ScreenOptions = {}) {
    const { quiet = false, out = process.stdout, err = process.stderr, env = process.env } = options
    this.#quiet = quiet
    this.#out = out
    this.#err = err
    this.#nowNs = options.nowNs ?? (() => performance.now() * 1e6)
    this.#colour = out.isTTY === true && !env.NO_COLOR
    const asked = /^\d+$/.test(env.COLUMNS ?? '') ? Number(env.COLUMNS) : undefined
    this.#columns = asked || (out.isTTY ? out.columns : undefined)
  }

  /** Columns of a line: the terminal's, or COLUMNS; in a pipe there is no limit. */
  get width(): number {
    return this.#columns === undefined ? Number.POSITIVE_INFINITY : Math.max(LEAST_WIDTH, this.#columns)
  }

  /** A text in the colour of its meaning, where there are colours. */
  paint(tone: Tone, text: string): string {
    return this.#colour ? `\x1b[${CODES[tone]}m${text}\x1b[0m` : text
  }

  /** A line of the result, wrapped where it is too long; further lines begin under its first word and a little more. */
  line(text = ''): void {
    this.done()
    if (this.#quiet) return
    const indent = `${/^ */.exec(text)![0]}  `
    const lines = shownLength(text) <= this.width ? [text] : wrap(text, this.width, indent)
    for (const each of lines) this.#out.write(`${each}\n`)
  }

  /** A line whose form is fixed, as that of a dump: never wrapped. */
  raw(text: string): void {
    this.done()
    if (!this.#quiet) this.#out.write(`${text}\n`)
  }

  /** A heading: bold on a terminal, and marked by its place alone elsewhere. */
  heading(text: string): void {
    this.line()
    for (const each of wrap(text, this.width)) this.line(this.paint('strong', each))
  }

  /** Several lines, indented. */
  block(lines: readonly string[]): void {
    for (const text of lines) this.line(text && `  ${text}`)
  }

  /** A table, indented, as wide as there is room. */
  table(columns: readonly ColumnLike[], rows: readonly Row[]): void {
    this.block(table(columns, rows, this.width - 2))
  }

  /** Shows what is under way; only on a terminal, replaced by the next call or line. */
  progress(text: string): void {
    if (!this.#err.isTTY) return
    this.#err.write(`\r\x1b[K${text.slice(0, (this.#err.columns || 80) - 1)}`)
    this.#progress = text
  }

  /** The same, with how far it is and how long it will take: `connecting 55,000 of 100,000, 2 s left`, and what is at hand. */
  steps(what: string, done: number, of: number, atHand = ''): void {
    const now = this.#nowNs()
    if (this.#task.what !== what || !done) this.#task = { what, startedNs: now }
    const spent = now - this.#task.startedNs
    const left = done ? `, ${duration((spent / done) * (of - done))} left` : ''
    this.progress(
      `${what} ${done.toLocaleString('en-US')} of ${of.toLocaleString('en-US')}${left}${atHand && `: ${atHand}`}`,
    )
  }

  /** Removes the progress line. */
  done(): void {
    if (this.#progress) this.#err.write('\r\x1b[K')
    this.#progress = ''
  }
}
