/** The tables of docs/reliability.md: every wait in the source has its row, and every file that is named as a proof exists. */

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'

const root = new URL('../../', import.meta.url)
const text = readFileSync(new URL('docs/reliability.md', root), 'utf8')

/** Rows of the table under a heading. */
function rowsOf(heading: string): string[][] {
  const from = text.indexOf(`## ${heading}\n`)
  expect(from, heading).toBeGreaterThan(0)
  const end = text.indexOf('\n## ', from + 1)
  return text
    .slice(from, end)
    .split('\n')
    .filter((line) => line.startsWith('| ') && !line.startsWith('| ---'))
    .slice(1)
    .map((line) => line.split(' | ').map((cell) => cell.replace(/^\| | \|$/g, '')))
}

/** Files of src/ that wait on a queue; the queue itself is none. */
const waiting = (readdirSync(new URL('src/', root), { recursive: true }) as string[])
  .filter((file) => file.endsWith('.ts') && !file.endsWith('wait_queue.ts'))
  .filter((file) => /\.until\(/.test(readFileSync(new URL(`src/${file}`, root), 'utf8')))
  .map((file) => `src/${file.replaceAll('\\', '/')}`)

describe('docs/reliability.md', () => {
  it('has a row for every file that waits', () => {
    const listed = rowsOf('What waits, and what ends it').map(([file]) => file!.replaceAll('`', ''))
    expect([...listed].sort()).toEqual([...waiting].sort())
  })

  it.each(['What can be given up', 'What waits, and what ends it', 'Facts that are kept twice'])(
    '%s: each proof exists',
    (heading) => {
      const rows = rowsOf(heading)
      expect(rows.length).toBeGreaterThan(10)
      for (const row of rows) {
        expect(row, row[0]!).toHaveLength(4)
        const proof = row[3]!.replaceAll('`', '')
        expect(existsSync(new URL(proof, root)), `${row[0]}: ${proof}`).toBe(true)
      }
    },
  )
})
