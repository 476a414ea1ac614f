/** The README's examples compile under strict and run as they are written. */

import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { mistakes, runSnippet, snippetsOf } from './snippets.js'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const README = readFileSync(`${ROOT}README.md`, 'utf8')

const examples = snippetsOf(README)

describe('README', () => {
  it('begins with an example of at most 20 lines: two domains, a channel, a send, an upcall', () => {
    const [first] = examples
    expect(first!.code.trimEnd().split('\n').length).toBeLessThanOrEqual(20)
    expect(first!.code).toContain("from 'evtchn'")
    expect(first!.code).toContain('Hypervisor')
  })

  it('shows TypeScript that compiles under strict', () => {
    expect(mistakes(examples, 'readme')).toEqual([])
  })

  it.each(examples.map((example, i) => [i + 1, example] as const))(
    'example %d runs and prints what it says',
    (i, { code, prints }) => {
      const { status, stdout, stderr } = runSnippet(code, `readme-${i}`)
      expect(stderr).toBe('')
      expect(status).toBe(0)
      if (prints !== undefined) expect(stdout).toBe(prints)
    },
  )

  it('names only commands that package.json has', () => {
    const { scripts } = JSON.parse(readFileSync(`${ROOT}package.json`, 'utf8')) as { scripts: Record<string, string> }
    const named = [...README.matchAll(/npm run ([a-z:-]+)/g)].map((match) => match[1]!)
    expect(named.length).toBeGreaterThan(1)
    for (const name of named) expect(scripts, `npm run ${name}`).toHaveProperty([name])
  })
})
