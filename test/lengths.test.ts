/** No file over 400 lines, no function over 70, in everything that we write: library, core, tests, benches, examples. */

import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { describe, expect, it } from 'vitest'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const FOLDERS = ['src', 'assembly', 'test', 'bench', 'examples']
const MOST_LINES_OF_FILE = 400
const MOST_LINES_OF_FUNCTION = 70

interface Source {
  readonly file: string
  readonly text: string
}

const SOURCES: readonly Source[] = FOLDERS.flatMap((folder) =>
  readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.(ts|mts|mjs|js)$/.test(entry.name))
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)))
    .filter((file) => !file.startsWith('src/generated/')),
).map((file) => ({ file, text: readFileSync(join(ROOT, file), 'utf8') }))

/** Callbacks of `describe` and `it`: a table of tests, and a test with its data, may be longer. */
const isTest = (node: ts.Node): boolean =>
  ts.isCallExpression(node.parent) && /^(describe|it|test)\b/.test(node.parent.expression.getText())

/** `file:line name: lines` of each function that is too long. */
function longFunctions({ file, text }: Source): string[] {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.ES2022, true)
  const lineOf = (at: number) => source.getLineAndCharacterOfPosition(at).line + 1
  const found: string[] = []
  const visit = (node: ts.Node): void => {
    if (ts.isFunctionLike(node) && 'body' in node && node.body && !isTest(node)) {
      const from = lineOf(node.getStart())
      const lines = lineOf(node.end) - from + 1
      const name = (node.name as ts.Node | undefined)?.getText() ?? 'a function without a name'
      if (lines > MOST_LINES_OF_FUNCTION) found.push(`${file}:${from} ${name}: ${lines}`)
    }
    ts.forEachChild(node, visit)
  }
  visit(source)
  return found
}

describe('lengths', () => {
  it('sees what is too long', () => {
    expect(SOURCES.length).toBeGreaterThan(300)
    const text = `function long() {\n${'  x()\n'.repeat(MOST_LINES_OF_FUNCTION)}}\n`
    expect(longFunctions({ file: 'a.ts', text })).toEqual(['a.ts:1 long: 72'])
  })

  it('no file is over 400 lines', () => {
    const long = SOURCES.map(({ file, text }) => [file, text.split('\n').length - 1] as const)
    expect(long.filter(([, lines]) => lines > MOST_LINES_OF_FILE)).toEqual([])
  })

  it('no function is over 70 lines', () => {
    expect(SOURCES.flatMap(longFunctions)).toEqual([])
  })
})
