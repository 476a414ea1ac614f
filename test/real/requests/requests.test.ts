/** Every row of docs/requests.md: its rule exists, the test that it names cites it, and its command runs. */

import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const root = new URL('../../../', import.meta.url)
const read = (file: string) => readFileSync(new URL(file, root), 'utf8')
const MAIN = fileURLToPath(new URL('dist/cli/main.js', root))

/** Rows of all tables, without heads and rules. */
const ROWS = read('docs/requests.md')
  .split('\n')
  .filter((line) => line.startsWith('| ') && !line.startsWith('| ---') && !line.startsWith('| asked for'))
  .map((line) => line.split(' | ').map((cell) => cell.replace(/^\| | \|$/g, '').trim()))

const RULES = ['event-channels', 'nlevel', 'xenstore', 'xenwatch', 'pvcalls'].map((name) =>
  read(`docs/spec/${name}.md`),
)

/** `NL-reg-1 in test/…` */
function proofOf(cell: string): { id: string; file: string } {
  const [, id, file] = /^([A-Z]+-\S+) in (test\/\S+)$/.exec(cell) ?? []
  if (!id || !file) throw new Error(`not an id and a file: ${cell}`)
  return { id, file }
}

describe('what the mails ask for', () => {
  it('is listed, with four cells a row', () => {
    expect(ROWS.length).toBeGreaterThan(35)
    for (const row of ROWS) expect(row, row[0]!).toHaveLength(4)
  })

  it.each(ROWS)('%s: has a rule and a test that cites it', (_, __, proof) => {
    const { id, file } = proofOf(proof!)
    expect(
      RULES.some((text) => text.includes(`**${id}**`)),
      id,
    ).toBe(true)
    // The id stands in the name of a test, not in a comment.
    const cited = new RegExp(`['"\`][^'"\`\\n]*\\b${id}\\b(?!\\d)`)
    expect(cited.test(read(file)), `${file} cites ${id}`).toBe(true)
  })

  it.each(ROWS)('%s: is where the row says', (_, where) => {
    for (const [, path] of where!.matchAll(/`((?:src|assembly)\/[^`]+)`/g))
      expect(existsSync(new URL(path!, root)), path!).toBe(true)
  })
})

describe('the command of a row', () => {
  const commands = [...new Set(ROWS.map((row) => row[3]!.replace(/`/g, '')))]
  it.each(commands)('%s runs', (command) => {
    const [name, ...args] = command.split(' ')
    expect(name).toBe('evtchn')
    const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args], {
      encoding: 'utf8',
      maxBuffer: 2 ** 28,
    })
    expect({ status, said: stdout.length > 0 }, stderr).toEqual({ status: 0, said: true })
  })
})
