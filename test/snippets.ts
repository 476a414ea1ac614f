/** Examples in documents: found, and run as they are written, inside the package, where 'evtchn' is the package itself. */

import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const FOLDER = fileURLToPath(new URL('../build/snippets', import.meta.url))

/** An example, and what it prints if the document says so. */
export interface Snippet {
  readonly code: string
  readonly prints: string | undefined
}

/** Each ```js block with the ```text block that follows it, if one does: what the example prints. */
export function snippetsOf(text: string): Snippet[] {
  return [...text.matchAll(/```js\n([\s\S]*?)```(?:\n+[^\n`]*\n*```text\n([\s\S]*?)```)?/g)].map((match) => ({
    code: match[1]!,
    prints: match[2],
  }))
}

/** Runs an example under a name of its own. */
export function runSnippet(code: string, name: string) {
  mkdirSync(FOLDER, { recursive: true })
  const file = `${FOLDER}/${name}.mjs`
  writeFileSync(file, code)
  return spawnSync(process.execPath, [file], { encoding: 'utf8' })
}
