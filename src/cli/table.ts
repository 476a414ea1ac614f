/**
 * Aligned tables that fit. A table that is too wide first breaks its heads at spaces, then stands in several parts, each
 * beginning with the columns that say what a row is:
 *
 *     to  sends  delivered  merged   →   to  sends  delivered   →   to  sends  delivered
 *     ──  ─────  ─────────  ──────       ──  ─────  ─────────       ──  ─────  ─────────
 *     d1  1,000        900     100       …
 *                                        to  merged
 *                                        ──  ──────
 */

/** A column: its head, and how it stands. */
export interface Column {
  /** One line, broken at spaces where room is short; or exactly these lines. */
  readonly head: string | readonly string[]
  readonly left?: boolean
  /** It says what a row is: it is repeated in each part of a table that is too wide. */
  readonly key?: boolean
}

/** A column, or only its head. */
export type ColumnLike = Column | string
/** Cells of a row; one that is undefined shows as a dash. */
export type Row = readonly (string | undefined)[]

const GAP = '  '
const NONE = '–'

/** Characters on a screen: colours take none. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: the escape that begins a colour
export const shownLength = (text: string): number => text.replace(/\x1b\[[0-9;]*m/g, '').length

/** Lines of a table, none wider than `width` where that can be. The first column is a key and stands left. */
export function table(
  columns: readonly ColumnLike[],
  rows: readonly Row[],
  width: number = Number.POSITIVE_INFINITY,
): string[] {
  const all = columns.map(
    (column, i): Column => (typeof column === 'string' ? { head: column, left: !i, key: !i } : column),
  )
  const body = rows.map((row) => all.map((_, i) => row[i] ?? NONE))
  const whole = all.map(({ head }) => (typeof head === 'string' ? [head] : head))
  if (totalWidth(widthsOf(whole, body)) <= width) return draw(all, whole, body)
  const broken = whole.map((head, i) => breakHead(head, cellWidth(body, i)))
  const parts = divide(all, widthsOf(broken, body), width)
  return parts.flatMap((part, i) => [
    ...(i ? [''] : []),
    ...draw(
      part.map((c) => all[c]!),
      part.map((c) => broken[c]!),
      body.map((row) => part.map((c) => row[c]!)),
    ),
  ])
}

const cellWidth = (body: readonly Row[], column: number): number =>
  Math.max(0, ...body.map((row) => shownLength(row[column]!)))
const widthsOf = (heads: readonly (readonly string[])[], body: readonly Row[]): number[] =>
  heads.map((head, i) => Math.max(cellWidth(body, i), ...head.map(shownLength)))
const totalWidth = (widths: readonly number[]): number =>
  widths.reduce((sum, width) => sum + width, GAP.length * (widths.length - 1))

/** A head of one line as several, each as long as its column's cells need, or as its longest word. */
function breakHead(head: readonly string[], cells: number): readonly string[] {
  if (head.length !== 1) return head
  const words = head[0]!.split(' ')
  const most = Math.max(cells, ...words.map(({ length }) => length))
  const lines: string[] = []
  for (const word of words) {
    const longer = lines.length ? `${lines.at(-1)} ${word}` : word
    if (lines.length && longer.length <= most) lines[lines.length - 1] = longer
    else lines.push(word)
  }
  return lines
}

/** Columns of each part, by number: the keys first, then as many others as fit, at least one. */
function divide(columns: readonly Column[], widths: readonly number[], width: number): number[][] {
  const keys = columns.flatMap(({ key }, i) => (key ? [i] : []))
  const parts: number[][] = []
  let part = [...keys]
  columns.forEach((_, i) => {
    if (keys.includes(i)) return
    if (part.length > keys.length && totalWidth([...part, i].map((c) => widths[c]!)) > width) {
      parts.push(part)
      part = [...keys]
    }
    part.push(i)
  })
  return [...parts, part]
}

function draw(columns: readonly Column[], heads: readonly (readonly string[])[], body: readonly Row[]): string[] {
  const widths = widthsOf(heads, body)
  const height = Math.max(...heads.map(({ length }) => length))
  // Heads stand on the rule.
  const headRows = Array.from({ length: height }, (_, i) => heads.map((head) => head[i - height + head.length] ?? ''))
  const line = (cells: Row) =>
    cells
      .map((cell, i) => {
        const room = ' '.repeat(Math.max(0, widths[i]! - shownLength(cell!)))
        return columns[i]!.left ? cell + room : room + cell
      })
      .join(GAP)
      .trimEnd()
  return [...headRows.map(line), widths.map((width) => '─'.repeat(width)).join(GAP), ...body.map(line)]
}

/** The same as a Markdown table. */
export function markdownTable(columns: readonly ColumnLike[], rows: readonly Row[]): string[] {
  const heads = columns.map((column) => (typeof column === 'string' ? column : [column.head].flat().join(' ').trim()))
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  const rule = columns.map((column, i) => ((typeof column === 'string' ? !i : column.left) ? '---' : '---:'))
  return [line(heads), line(rule), ...rows.map((row) => line(heads.map((_, i) => row[i] ?? NONE)))]
}

/** Text of at most `width` columns a line, broken at spaces; lines after the first begin with `indent`. */
export function wrap(text: string, width: number, indent = ''): string[] {
  const lines: string[] = []
  let line = ''
  for (const [, gap, word] of text.matchAll(/(\s*)(\S+)/g)) {
    if (line === '') line = gap! + word!
    else if (shownLength(line) + gap!.length + shownLength(word!) <= width) line += gap! + word!
    else {
      lines.push(line)
      line = indent + word!
    }
  }
  return [...lines, line]
}
