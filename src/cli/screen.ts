/** What people see: aligned tables, one progress line on a terminal, plain lines elsewhere. */

/** Numbers with thin grouping: 262,144. */
export const count = (n: number): string => Math.round(n).toLocaleString('en-US')

/** A time with the unit that suits it. */
export function duration(ns: number): string {
  if (ns < 1e3) return `${ns.toFixed(ns < 10 ? 1 : 0)} ns`
  if (ns < 1e6) return `${(ns / 1e3).toFixed(1)} µs`
  if (ns < 1e9) return `${(ns / 1e6).toFixed(1)} ms`
  return `${(ns / 1e9).toFixed(2)} s`
}

/** Bytes as KiB or MiB. */
export function bytes(n: number): string {
  return n < 1024 ? `${n} B` : n < 1 << 20 ? `${(n / 1024).toFixed(1)} KiB` : `${(n / (1 << 20)).toFixed(1)} MiB`
}

/** Rows under a header; the first column left-justified, the others right-justified. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const all = [header, ...rows]
  const widths = header.map((_, i) => Math.max(...all.map((row) => (row[i] ?? '').length)))
  const line = (row: readonly string[]) =>
    row
      .map((cell, i) => (i ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)))
      .join('  ')
      .trimEnd()
  return [line(header), widths.map((width) => '─'.repeat(width)).join('  '), ...rows.map(line)]
}

/** Standard output for results, and a progress line on standard error when that is a terminal. */
export class Screen {
  readonly #out: NodeJS.WriteStream
  readonly #err: NodeJS.WriteStream
  readonly #quiet: boolean
  #progress = ''

  /** `quiet`: results go elsewhere (`--json`), print no lines. */
  constructor(quiet = false, out: NodeJS.WriteStream = process.stdout, err: NodeJS.WriteStream = process.stderr) {
    this.#quiet = quiet
    this.#out = out
    this.#err = err
  }

  /** A line of the result. */
  line(text = ''): void {
    this.done()
    if (!this.#quiet) this.#out.write(`${text}\n`)
  }

  /** A heading: bold on a terminal, and underlined by nothing but its place elsewhere. */
  heading(text: string): void {
    this.line()
    this.line(this.#out.isTTY ? `\x1b[1m${text}\x1b[0m` : text)
  }

  /** Several lines, indented. */
  block(lines: readonly string[]): void {
    for (const text of lines) this.line(text && `  ${text}`)
  }

  /** Shows what is going on; only on a terminal, replaced by the next call or line. */
  progress(text: string): void {
    if (!this.#err.isTTY) return
    this.#err.write(`\r\x1b[K${text.slice(0, (this.#err.columns || 80) - 1)}`)
    this.#progress = text
  }

  /** Removes the progress line. */
  done(): void {
    if (this.#progress) this.#err.write('\r\x1b[K')
    this.#progress = ''
  }
}
