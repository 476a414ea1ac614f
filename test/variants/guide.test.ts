/** docs/own-abi.md: its code compiles under strict, and runs. */

import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { mistakes, runSnippet, snippetsOf } from '../snippets.js'

const snippets = snippetsOf(readFileSync(new URL('../../docs/own-abi.md', import.meta.url), 'utf8'))

describe('the guide to own ABIs', () => {
  it('shows TypeScript that compiles under strict', () => {
    expect(snippets).toHaveLength(2)
    expect(mistakes(snippets, 'own-abi')).toEqual([])
  })

  it.each(snippets.map(({ code }, i) => [i + 1, code] as const))('example %d runs', (i, code) => {
    const { status, stderr } = runSnippet(code, `own-abi-${i}`)
    expect([status, stderr]).toEqual([0, ''])
  })

  it('shows both halves, which fit each other', () => {
    // The second example's guest on a host with the first example's ABI.
    const [host, guest] = snippets.map(({ code }) => code) as [string, string]
    const lines = guest.split('\n').filter((line) => !line.startsWith('const xen') && !line.startsWith('import'))
    const imports = guest
      .split('\n')
      .filter((line) => line.startsWith('import'))
      .map((line) => line.replace(' Hypervisor,', ''))
    const { status, stdout, stderr } = runSnippet([...imports, host, ...lines].join('\n'), 'own-abi-both')
    expect([status, stderr]).toEqual([0, ''])
    expect(stdout).toContain("levels: 'a tree in one call', nrPages: 0, answer: 'ok'")
  })
})
