/**
 * The rules of docs/spec/, the tests and sources that name them, and docs/known-differences.md fit together. Everything is
 * read from the files themselves; `npm run conformance` writes the same facts as a table.
 */

import { describe, expect, it } from 'vitest'
import { cited, report, rulesOf, survey } from './conformance.mjs'

const all = survey()
const rules = all.documents.flatMap(({ sections }) => sections.flatMap(({ rules }) => rules))
const known = new Set(rules)
const unknown = (map: Map<string, unknown>) => [...map.keys()].filter((id) => !known.has(id))

describe('the rules of docs/spec', () => {
  it('are numbered once each', () => {
    expect(rules.filter((id, i) => rules.indexOf(id) !== i)).toEqual([])
    // A sign that the documents are read at all.
    expect(rules.length).toBeGreaterThan(600)
  })

  it('are each proved by a test that names them, or named as a known difference', () => {
    expect(rules.filter((id) => !all.tests.has(id) && !all.differences.has(id))).toEqual([])
  })

  it('exist, if a test, a source or the known differences name them', () => {
    expect({
      tests: unknown(all.tests),
      sources: unknown(all.sources),
      differences: unknown(all.differences),
    }).toEqual({ tests: [], sources: [], differences: [] })
  })

  it('are not said to be untested where a test names them', () => {
    const untested = ['Not testable here', 'Of other implementations or of history']
    const partly = new Set(cited(PARTLY))
    const wrong = [...all.differences].filter(
      ([id, titles]) => titles.some((title) => untested.includes(title)) && all.tests.has(id) && !partly.has(id),
    )
    expect(wrong.map(([id]) => id)).toEqual([])
  })

  it('stand first in the names of tests', () => {
    expect(all.titles).toEqual([])
  })
})

/** Rules of which one part has a test and another cannot have one. */
const PARTLY = 'EC-init-8, EC-expand-4, EC-virq-6, EC-vi-13, EC-close-7, EC-lock-8'

describe('the survey', () => {
  it('writes one row for each rule, with links from build/', () => {
    const table = report(all, new Map([['EC-lay-2', '1 passed']]))
    expect(table.match(/^\| (EC|NL|XS|XW|PV)-\S+ \|/gm)!.length).toBe(rules.length)
    expect(table).toMatch(/^\| EC-lay-2 \| 1 passed \| \[delivery\/ports\]\(\.\.\/test\/delivery\/ports\.test\.ts\)/m)
  })

  it('understands short forms', () => {
    expect(cited('EC-fifo-3…5, EC-vi-8, -9 and -11: x')).toEqual([
      'EC-fifo-3',
      'EC-fifo-4',
      'EC-fifo-5',
      'EC-vi-8',
      'EC-vi-9',
      'EC-vi-11',
    ])
    expect(cited('XW-tool-2 to XW-tool-4 (XS-dom-7a)')).toEqual(['XW-tool-2', 'XW-tool-3', 'XW-tool-4', 'XS-dom-7a'])
    expect(cited('NL-scan-1..2; EC-send-1, 2 ports, 64-bit')).toEqual(['NL-scan-1', 'NL-scan-2', 'EC-send-1'])
  })

  it('takes a rule where it is stated, not where it is referred to', () => {
    const text =
      '## A\n- **EC-x-1** see **EC-x-9** (EC-x-8)\n1. **EC-x-2** b\n### B\n| EC-x-3 | c |\n| **EC-x-4** d | EC-x-7 |'
    expect(rulesOf(text)).toEqual([
      { title: 'A', rules: ['EC-x-1', 'EC-x-2'] },
      { title: 'B', rules: ['EC-x-3', 'EC-x-4'] },
    ])
  })
})
