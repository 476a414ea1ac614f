/** docs/xenstore.md against what is there. */

import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { PROFILES } from '../../src/cli/xenstored.js'
import { C_4_17, C_4_23, DEFAULT_QUOTAS, type Profile, StoreAccess, XenStoreClient } from '../../src/xenstore/index.js'
import { runSnippet, snippetsOf } from '../snippets.js'

const text = readFileSync(fileURLToPath(new URL('../../docs/xenstore.md', import.meta.url)), 'utf8')

const LIBRARY: Record<string, Profile> = { C_4_17, C_4_23 }

/** Rows of the table that begins with this heading, as cells without backquotes. */
function table(heading: string): string[][] {
  const lines = text.slice(text.indexOf(`| ${heading} `)).split('\n')
  const rows = lines.slice(2, lines.indexOf(''))
  return rows.map((row) =>
    row
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim().replaceAll('`', '')),
  )
}

describe('docs/xenstore.md', () => {
  it.each(snippetsOf(text).map((snippet, i) => [i + 1, snippet] as const))(
    'example %d prints what it says',
    (i, snippet) => {
      const { status, stdout, stderr } = runSnippet(snippet.code, `xenstore-${i}`)
      expect(stderr).toBe('')
      expect(stdout).toBe(snippet.prints)
      expect(status).toBe(0)
    },
  )

  it('has examples that say what they print', () => {
    expect(snippetsOf(text).filter(({ prints }) => prints)).toHaveLength(2)
  })

  it('names every quota with its default', () => {
    const said = Object.fromEntries(table('quota').map(([name, value]) => [name!, Number(value)]))
    expect(said).toEqual(DEFAULT_QUOTAS)
  })

  it('names every profile of the command, and what it is called in the library', () => {
    const said = table('name').map(([name, library]) => [name!, library!.match(/^[A-Z_0-9]+/)![0]] as const)
    expect(said.map(([name]) => name)).toEqual(Object.keys(PROFILES))
    for (const [name, library] of said) expect(LIBRARY[library], library).toBe(PROFILES[name]!.profile)
  })

  it('names every method of the client', () => {
    const own = [XenStoreClient, StoreAccess].flatMap((each) => Object.getOwnPropertyNames(each.prototype))
    for (const name of own)
      if (!['constructor', 'request', 'closed'].includes(name)) expect(text, name).toMatch(new RegExp(`\\b${name}\\b`))
  })
})
