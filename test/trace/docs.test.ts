/** docs/tracing.md against what is there: its examples run as they are written. */

import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { runSnippet, snippetsOf } from '../snippets.js'

const text = readFileSync(new URL('../../docs/tracing.md', import.meta.url), 'utf8')

describe('docs/tracing.md', () => {
  it.each(snippetsOf(text).map((snippet, i) => [i + 1, snippet] as const))(
    'example %i prints what it says',
    (i, snippet) => {
      const { stdout, stderr, status } = runSnippet(snippet.code, `tracing-${i}`)
      expect([stderr, status]).toEqual(['', 0])
      expect(stdout).toBe(snippet.prints)
    },
  )

  it('has three examples that print', () => {
    expect(snippetsOf(text).filter(({ prints }) => prints)).toHaveLength(3)
  })
})
