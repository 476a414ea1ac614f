/**
 * Makes dist/ of src/ and build/*.wasm: nothing if nothing has changed since; else in a folder of this process, from which
 * each file that differs is moved to its place. A rename is one step: an `evtchn` that runs, or starts, while this does
 * finds every file whole.
 *
 *     src, tsconfig ─ tsc ─▶ build/dist.PID ─ rename what differs ─▶ dist
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'

process.chdir(fileURLToPath(new URL('..', import.meta.url)))

const STAMP = 'build/dist.sha256'
const SIDE = `build/dist.${process.pid}`
const WASM = ['core', 'host'].flatMap((name) => [`${name}.wasm`, `${name}.threads.wasm`])
const PROJECTS = ['tsconfig.json', 'src/cli/tsconfig.json']

const filesIn = (folder) =>
  existsSync(folder)
    ? readdirSync(folder, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map(({ parentPath, name }) => `${parentPath}/${name}`.slice(folder.length + 1))
        .sort()
    : []

/** Of all that is built from, and of the names of what was built: a file that somebody removed is made again. */
function stamp() {
  const hash = createHash('sha256').update(ts.version)
  const sources = filesIn('src').filter((name) => name.endsWith('.ts'))
  const inputs = [
    ...PROJECTS,
    'assembly/dist.mjs',
    ...sources.map((name) => `src/${name}`),
    ...WASM.map((name) => `build/${name}`),
  ]
  for (const file of inputs) hash.update(`${file}\n`).update(readFileSync(file))
  return hash.update(filesIn('dist').join('\n')).digest('hex')
}

/** Compiles; what tsc says goes where ours goes. */
function compile(project) {
  const tsc = fileURLToPath(import.meta.resolve('typescript/lib/tsc.js'))
  const { status } = spawnSync(process.execPath, [tsc, '-p', project, '--outDir', SIDE], { stdio: 'inherit' })
  if (status === 0) return
  rmSync(SIDE, { recursive: true, force: true })
  process.exit(status ?? 1)
}

if (!existsSync(STAMP) || readFileSync(STAMP, 'utf8') !== stamp()) {
  for (const project of PROJECTS) compile(project)
  mkdirSync(`${SIDE}/wasm`, { recursive: true })
  for (const file of WASM) writeFileSync(`${SIDE}/wasm/${file}`, readFileSync(`build/${file}`))
  const made = filesIn(SIDE)
  for (const file of made) {
    if (existsSync(`dist/${file}`) && readFileSync(`dist/${file}`).equals(readFileSync(`${SIDE}/${file}`))) continue
    mkdirSync(dirname(`dist/${file}`), { recursive: true })
    renameSync(`${SIDE}/${file}`, `dist/${file}`)
  }
  // What no source makes any more.
  for (const file of filesIn('dist')) if (!made.includes(file)) rmSync(`dist/${file}`)
  rmSync(SIDE, { recursive: true })
  writeFileSync(STAMP, stamp())
}
