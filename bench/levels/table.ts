/** Aligned text tables. */

export interface Column {
  /** One entry a line of the head. */
  readonly head: readonly string[]
  readonly left?: boolean
}

/** Lines of a table; a cell that is undefined shows as a dash. */
export function table(columns: readonly Column[], rows: readonly (readonly (string | undefined)[])[]): string[] {
  const height = Math.max(...columns.map(({ head }) => head.length))
  const heads = Array.from({ length: height }, (_, i) => columns.map(({ head }) => head[i] ?? ''))
  const body = rows.map((row) => row.map((cell) => cell ?? '-'))
  const widths = columns.map((_, c) => Math.max(...[...heads, ...body].map((row) => row[c]!.length)))
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, c) => (columns[c]!.left ? cell.padEnd(widths[c]!) : cell.padStart(widths[c]!)))
      .join('  ')
      .trimEnd()
  return [...heads.map(line), widths.map((width) => '─'.repeat(width)).join('  '), ...body.map(line)]
}

/** Three significant digits, no exponent. */
export function digits(value: number | undefined): string | undefined {
  if (value === undefined) return undefined
  if (value >= 99.95) return grouped(Math.round(value))
  return value.toFixed(value >= 9.995 ? 1 : 2)
}

/** An integer with commas. */
export const grouped = (value: number): string => value.toLocaleString('en-US')
