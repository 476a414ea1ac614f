/**
 * TypeScript in documents and examples, run as it is written. The output lies in build/, inside the package, where 'evtchn'
 * is the package itself.
 */

import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const FOLDER = `${ROOT}build/snippets`

/** An example, and what it prints if the document says so. */
export interface Snippet {
  readonly code: string
  readonly prints: string | undefined
}

/** Each ```ts block with the ```text block that follows it, if one does: what the example prints. */
export function snippetsOf(text: string): Snippet[] {
  return [...text.matchAll(/```ts\n([\s\S]*?)```(?:\n+[^\n`]*\n*```text\n([\s\S]*?)```)?/g)].map((match) => ({
    code: match[1]!,
    prints: match[2],
  }))
}

/** Writes JavaScript for a piece of TypeScript, without a look at its types. */
function emit(code: string, file: string): string {
  const { outputText } = ts.transpileModule(code, {
    compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, verbatimModuleSyntax: true },
  })
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, outputText)
  return file
}

/** Writes examples/NAME.ts as `npm run build:examples` does, and returns the file. */
export const exampleFile = (name: string): string =>
  emit(readFileSync(`${ROOT}examples/${name}.ts`, 'utf8'), `${ROOT}build/examples/${name}.js`)

/** Runs an example of a document under a name of its own. */
export function runSnippet(code: string, name: string) {
  return spawnSync(process.execPath, [emit(code, `${FOLDER}/${name}.js`)], { encoding: 'utf8' })
}

/** What TypeScript says of examples under `strict`, as the reader of the document compiles them: nothing, if they are right. */
export function mistakes(snippets: readonly Snippet[], name: string): string[] {
  mkdirSync(FOLDER, { recursive: true })
  const files = snippets.map(({ code }, i) => {
    const file = `${FOLDER}/${name}-${i + 1}.ts`
    writeFileSync(file, code)
    return file
  })
  const program = ts.createProgram([...files, `${ROOT}src/platform.d.ts`], {
    target: ts.ScriptTarget.ES2022,
    lib: ['lib.es2022.d.ts', 'lib.esnext.disposable.d.ts'],
    module: ts.ModuleKind.NodeNext,
    strict: true,
    noEmit: true,
    types: ['node'],
    skipLibCheck: true,
  })
  return ts.getPreEmitDiagnostics(program).map(({ file, start, messageText }) => {
    const line = file && start !== undefined ? file.getLineAndCharacterOfPosition(start).line + 1 : 0
    return `${file?.fileName.slice(ROOT.length)}:${line}: ${ts.flattenDiagnosticMessageText(messageText, ' ')}`
  })
}
