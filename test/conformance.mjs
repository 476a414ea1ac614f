/**
 * The survey of the rules: each rule of docs/spec/, the tests and sources that name it, the differences that excuse it.
 * Tests check it on every run. `npm run conformance` also runs the suite and writes the table to build/conformance.md.
 *
 *     docs/spec/*.md              **EC-send-3** … in a list, or first in a row of a table     the rules
 *     test/**\/*.ts               it('EC-send-3: …'), describe, rows of it.each               what is proved, and where
 *     src, assembly               comments                                                    what is built, and where
 *     docs/known-differences.md   first cell of a row                                         what is not, and why
 *     a run of the whole suite    how many of the tests that name a rule passed, failed, were not run
 *
 * Short forms are written out: `EC-fifo-3…16`, `EC-init-1..8`, `XW-tool-2 to XW-tool-6`, `EC-vi-8, -9 and -10`.
 */

import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import ts from 'typescript'

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)))
const SPECS = ['event-channels', 'nlevel', 'xenstore', 'xenwatch', 'pvcalls']
const ID = '(?:(?:EC|NL|XS|XW)-[A-Za-z0-9]+|PV(?:-acc)?)-[0-9]+[a-z]?'
const RANGE = ' ?(?:…|\\.\\.\\.?|–| to ) ?'
/** An id, and what a short form hangs on to it. */
const CITATION = new RegExp(`(${ID})((?:${RANGE}(?:${ID}|-?[0-9]+)|(?:, and|,| and|/) ?-[0-9]+)*)`, 'g')
const NEXT = new RegExp(`(${RANGE})?(?:, and|,| and|/)? ?(?:${ID.replace('[0-9]+', '([0-9]+)')}|-?([0-9]+))`, 'g')

const FIRST = new RegExp(`^${ID}`)

/** Every id that a text names, short forms written out. */
export function cited(text) {
  const ids = []
  for (const [, first, rest] of text.matchAll(CITATION)) {
    ids.push(first)
    const stem = first.replace(/[0-9]+[a-z]?$/, '')
    let last = Number.parseInt(first.slice(stem.length), 10)
    for (const [, range, whole, short] of rest.matchAll(NEXT)) {
      const number = Number(whole ?? short)
      for (let n = range ? last + 1 : number; n <= number; n++) ids.push(stem + n)
      last = number
    }
  }
  return ids
}

/** The rules of one document, by section and in its order. */
export function rulesOf(markdown) {
  const sections = []
  for (const line of markdown.split('\n')) {
    const [, , title] = /^(#{2,3}) (.*)/.exec(line) ?? []
    if (title) sections.push({ title, rules: [] })
    const bold = [...line.matchAll(new RegExp(`(?:^[-0-9. ]*|^\\| )\\*\\*(${ID})\\*\\*`, 'g'))]
    const row = new RegExp(`^\\| (${ID}) \\|`).exec(line)
    for (const [, id] of row ? [row] : bold) sections.at(-1).rules.push(id)
  }
  return sections.filter(({ rules }) => rules.length > 0)
}

function* filesBelow(folder, pattern) {
  for (const entry of readdirSync(join(ROOT, folder), { withFileTypes: true }).sort(byName)) {
    const path = `${folder}/${entry.name}`
    if (entry.isDirectory()) yield* filesBelow(path, pattern)
    else if (pattern.test(entry.name)) yield path
  }
}
const byName = (a, b) => (a.name < b.name ? -1 : 1)
const read = (path) => readFileSync(join(ROOT, path), 'utf8')

const NAMED = new Set(['it', 'test', 'describe'])
/** `it`, `it.each([…])`, `describe.skipIf(…)`, … */
function root(node) {
  while (!ts.isIdentifier(node)) {
    if (!ts.isCallExpression(node) && !ts.isPropertyAccessExpression(node)) return ''
    node = node.expression
  }
  return node.text
}
/** The names of all tests and groups of a file; a row of it.each or of a table that is a name counts too. */
function names(path) {
  const source = ts.createSourceFile(path, read(path), ts.ScriptTarget.Latest, true)
  const found = []
  const strings = (node) => {
    if (ts.isStringLiteralLike(node) || ts.isTemplateHead(node) || ts.isTemplateMiddleOrTemplateTail(node))
      found.push(node.text)
    if (!ts.isFunctionLike(node)) ts.forEachChild(node, strings)
  }
  const visit = (node) => {
    if (ts.isCallExpression(node) && NAMED.has(root(node))) {
      strings(node.expression)
      const [name] = node.arguments
      if (name) strings(name)
    }
    ts.forEachChild(node, visit)
  }
  visit(source)
  return found
}
/** The text of all comments of a file. */
function comments(path) {
  return [...read(path).matchAll(/\/\*\*?[\s\S]*?\*\/|\/\/.*/g)]
    .map(([text]) => text.replace(/\n\s*\*/g, ' '))
    .join('\n')
}

/** Rows of the tables of docs/known-differences.md by the ids in their first cell; more than one a rule is possible. */
function differences() {
  const rows = new Map()
  let title = ''
  for (const line of read('docs/known-differences.md').split('\n')) {
    title = /^## (.*)/.exec(line)?.[1] ?? title
    const first = /^\| ([^|]*) \|/.exec(line)?.[1]
    for (const id of cited(first ?? '')) rows.set(id, [...(rows.get(id) ?? []), title])
  }
  return rows
}

/** All there is to know: rules by document, who names them, what is said to differ. */
export function survey() {
  const documents = SPECS.map((name) => ({ name, sections: rulesOf(read(`docs/spec/${name}.md`)) }))
  const add = (map, id, path) => map.set(id, (map.get(id) ?? new Set()).add(path))
  const tests = new Map()
  const titles = []
  for (const path of filesBelow('test', /\.test\.ts$/))
    for (const name of names(path)) {
      for (const id of cited(name)) add(tests, id, path)
      if (cited(name).length && !FIRST.test(name)) titles.push(`${path}: ${name}`)
    }
  const sources = new Map()
  for (const folder of ['src', 'assembly'])
    for (const path of filesBelow(folder, /\.ts$/)) for (const id of cited(comments(path))) add(sources, id, path)
  return { documents, tests, sources, differences: differences(), titles }
}

const link = (path) => {
  const [, ...name] = path.split('/')
  return `[${name
    .join('/')
    .replace(/\.ts$/, '')
    .replace(/\.test$/, '')}](${relative('build', path)})`
}
const anchor = (title) =>
  title
    .toLowerCase()
    .replace(/[^a-z0-9 _-]/g, '')
    .replace(/ /g, '-')

/** Runs the suite; for each rule how the tests that name it ended. */
function runSuite() {
  const file = join(ROOT, 'build/results.json')
  const vitest = join(ROOT, 'node_modules/vitest/vitest.mjs')
  mkdirSync(join(ROOT, 'build'), { recursive: true })
  spawnSync(process.execPath, [vitest, 'run', '--reporter=json', `--outputFile=${file}`], { cwd: ROOT })
  const counts = new Map()
  for (const { assertionResults } of JSON.parse(readFileSync(file, 'utf8')).testResults)
    for (const { fullName, status } of assertionResults)
      for (const id of new Set(cited(fullName))) {
        const count = counts.get(id) ?? { passed: 0, failed: 0, other: 0 }
        count[status in count ? status : 'other']++
        counts.set(id, count)
      }
  const text = ({ passed, failed, other }) =>
    [passed && `${passed} passed`, failed && `${failed} FAILED`, other && `${other} not run`].filter(Boolean).join(', ')
  return new Map([...counts].map(([id, count]) => [id, text(count)]))
}

/** The table as Markdown, for a file in build/. `results`: how the tests of each rule ended. */
export function report({ documents, tests, sources, differences }, results) {
  const count = (rules) => ({
    all: rules.length,
    proved: rules.filter((id) => tests.has(id)).length,
    named: rules.filter((id) => differences.has(id)).length,
    neither: rules.filter((id) => !tests.has(id) && !differences.has(id)).length,
  })
  const rulesIn = ({ sections }) => sections.flatMap(({ rules }) => rules)
  const total = count(documents.flatMap(rulesIn))
  const line = (name, { all, proved, named, neither }) => `| ${name} | ${all} | ${proved} | ${named} | ${neither} |`
  const out = [
    '# Conformance',
    '',
    'Written by `npm run conformance`. A rule is *proved* when a test has its id in its name. It is *named* when',
    '[known-differences.md](../docs/known-differences.md) says what differs or why there is no test. *Result* counts the',
    'tests of one run that name the rule; each row of a table counts as one. A test whose program is not installed does',
    'not run.',
    '',
    '| rules of | in all | proved by a test | named as a difference | neither |',
    '|---|---|---|---|---|',
    ...documents.map((document) =>
      line(`[${document.name}](../docs/spec/${document.name}.md)`, count(rulesIn(document))),
    ),
    line('all', total),
  ]
  for (const { name, sections } of documents) {
    out.push('', `## ${name}`)
    for (const { title, rules } of sections) {
      out.push('', `### ${title}`, '', '| rule | result | tests | source | difference |', '|---|---|---|---|---|')
      for (const id of rules) {
        const of = (map) => [...(map.get(id) ?? [])].map((path) => link(path)).join(', ')
        const rows = [...new Set(differences.get(id) ?? [])]
        const notes = rows.map((row) => `[${row}](../docs/known-differences.md#${anchor(row)})`).join(', ')
        out.push(`| ${id} | ${results.get(id) ?? ''} | ${of(tests)} | ${of(sources)} | ${notes} |`)
      }
    }
  }
  return `${out.join('\n')}\n`
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const all = survey()
  const results = runSuite()
  writeFileSync(join(ROOT, 'build/conformance.md'), report(all, results))
  for (const { name, sections } of all.documents) {
    const rules = sections.flatMap(({ rules }) => rules)
    const open = rules.filter((id) => !all.tests.has(id) && !all.differences.has(id))
    const failed = rules.filter((id) => results.get(id)?.includes('FAILED'))
    console.log(`${name}: ${rules.length} rules, ${open.length} neither proved nor named, ${failed.length} failed`)
    if (open.length + failed.length) process.exitCode = 1
    for (const id of [...open, ...failed]) console.log(`  ${id}`)
  }
  console.log('the table of rules and tests: build/conformance.md')
}
