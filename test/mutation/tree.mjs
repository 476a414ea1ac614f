/** A copy of the project in build/mutation, in which one file at a time is changed, and the process that runs its tests. */

import { execFileSync, fork, spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { applied } from './mutants.mjs'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const TREE = `${ROOT}build/mutation/tree/`
/** What the build made, and tests read. */
const BUILT = [
  'dist',
  'src/generated',
  ...readdirSync(`${ROOT}build`)
    .filter((name) => /^(core|host|sources)\./.test(name))
    .map((name) => `build/${name}`),
]
const WASM = 'src/generated/wasm.ts'
const OPTIONS = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, verbatimModuleSyntax: true }

/** Every file of the project that git knows, ours or new. */
const tracked = () =>
  execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], { cwd: ROOT, encoding: 'utf8' })
    .split('\n')
    .filter((file) => file && existsSync(ROOT + file))

/** Files that can have mutants. */
export const sources = () =>
  tracked().filter((file) => /^(src|assembly)\/.*\.ts$/.test(file) && !file.endsWith('.d.ts'))

export const read = (file) => readFileSync(ROOT + file, 'utf8')

/** Makes the copy anew. */
export function makeTree() {
  rmSync(TREE, { recursive: true, force: true })
  for (const file of [...tracked(), ...BUILT]) {
    mkdirSync(dirname(TREE + file), { recursive: true })
    cpSync(ROOT + file, TREE + file, { recursive: true })
  }
  symlinkSync(`${ROOT}node_modules`, `${TREE}node_modules`)
}

/**
 * Puts a mutant into the copy.
 * @returns {string[] | undefined} files that have changed; undefined: the compiler refuses the mutant
 */
export function put(mutant) {
  const text = applied(read(mutant.file), mutant)
  writeFileSync(TREE + mutant.file, text)
  if (!mutant.file.startsWith('assembly/')) {
    const compiled = `dist/${mutant.file.slice(4, -3)}.js`
    if (existsSync(TREE + compiled))
      writeFileSync(TREE + compiled, ts.transpileModule(text, { compilerOptions: OPTIONS }).outputText)
    return [mutant.file]
  }
  const { status } = spawnSync(process.execPath, ['assembly/build.mjs'], { cwd: TREE, stdio: 'ignore' })
  return status === 0 ? [WASM] : undefined
}

/** Takes a mutant out again. @returns {string[]} files that have changed */
export function takeOut({ file }) {
  const back = file.startsWith('assembly/') ? [file, ...BUILT.filter((each) => each !== 'dist')] : [file]
  for (const each of back) cpSync(ROOT + each, TREE + each, { recursive: true })
  const compiled = `dist/${file.slice(4, -3)}.js`
  if (existsSync(ROOT + compiled)) cpSync(ROOT + compiled, TREE + compiled)
  return file.startsWith('assembly/') ? [WASM] : [file]
}

/** The process that runs tests in the copy. */
export class Runner {
  #child
  /** Every test file. */
  all = []

  async start() {
    this.#child = fork(`${TREE}test/mutation/runner.mjs`, { cwd: TREE, stdio: 'ignore' })
    const { all } = await new Promise((resolve, reject) => {
      this.#child.once('message', resolve)
      this.#child.once('exit', (code) => reject(new Error(`test/mutation/runner.mjs ended with ${code}`)))
    })
    this.all = all
  }

  /**
   * Runs tests until one fails, which is returned; null: none does. A test that takes over `limitMs` has failed.
   * `ran` is called after each, with the time it took.
   */
  async run(changed, tests, limitMs, ran = () => {}) {
    if (!this.#child) await this.start()
    const child = this.#child
    let [next, at] = [0, performance.now()]
    const result = await new Promise((resolve) => {
      let timer
      // The first test also loads the library.
      const arm = () => {
        clearTimeout(timer)
        timer = setTimeout(() => {
          child.kill('SIGKILL')
          this.#child = undefined
          resolve(`${tests[next]} (without end)`)
        }, limitMs(tests[next]))
      }
      child.removeAllListeners('message').removeAllListeners('exit')
      child.on('exit', () => {
        clearTimeout(timer)
        if (this.#child === child) this.#child = undefined
        resolve(`${tests[next]} (the process died)`)
      })
      child.on('message', ({ ran: test, failed }) => {
        if (test) {
          const now = performance.now()
          ran(test, now - at)
          ;[next, at] = [next + 1, now]
          if (next < tests.length) arm()
          return
        }
        clearTimeout(timer)
        resolve(failed)
      })
      arm()
      child.send({ changed, tests })
    })
    return result
  }

  stop() {
    this.#child?.kill('SIGKILL')
  }
}
