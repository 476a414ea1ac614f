/**
 * Compiles the guest's core and the host's, each twice (plain and shared memory), and the guest's a third time, traced. It
 * embeds the modules as base64 in src/generated/wasm.ts and traced.ts, so that neither Node nor a bundler needs a rule for
 * loading an asset; traced.ts is apart, so that only `evtchn/traced` carries it. A module is compiled anew
 * only if a source, a configuration or the compiler has changed; and each file is written in a folder of this process and
 * then renamed, so that nobody reads half of one.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import asc from 'assemblyscript/asc'

process.chdir(fileURLToPath(new URL('..', import.meta.url)))

const CONFIGS = { core: 'asconfig.json', host: 'asconfig.host.json' }
const STAMP = 'build/sources.sha256'

function stampOfSources() {
  const hash = createHash('sha256').update(asc.version)
  const sources = readdirSync('assembly', { recursive: true }).filter((name) => name.endsWith('.ts'))
  for (const file of [...Object.values(CONFIGS), ...sources.sort().map((name) => `assembly/${name}`)])
    hash.update(`${file}\n`).update(readFileSync(file))
  return hash.digest('hex')
}

const SIDE = `build/side.${process.pid}`

async function compile(name, config, target) {
  const base = `${SIDE}/${name}${target === 'single' ? '' : `.${target}`}`
  const to = ['--outFile', `${base}.wasm`, '--textFile', `${base}.wat`]
  const { error, stderr } = await asc.main(['--config', config, '--target', target, ...to])
  if (error) {
    process.stderr.write(`${stderr.toString()}\nassembly/build.mjs: ${config}, ${target}: ${error.message}\n`)
    process.exit(1)
  }
}

const names = Object.keys(CONFIGS)
const files = names.flatMap((name) => [`${name}.wasm`, `${name}.threads.wasm`])
const TRACED = 'core.traced.wasm'
const stamp = stampOfSources()
const fresh =
  [...files, TRACED].every((file) => existsSync(`build/${file}`)) &&
  existsSync(STAMP) &&
  readFileSync(STAMP, 'utf8') === stamp
if (!fresh) {
  for (const [name, config] of Object.entries(CONFIGS))
    for (const target of ['single', 'threads']) await compile(name, config, target)
  await compile('core', CONFIGS.core, 'traced')
  for (const file of readdirSync(SIDE)) renameSync(`${SIDE}/${file}`, `build/${file}`)
  rmSync(SIDE, { recursive: true })
  writeFileSync(STAMP, stamp)
}

mkdirSync('src/generated', { recursive: true })
const embed = (file) => `'${readFileSync(`build/${file}`).toString('base64')}'`
const exported = {
  'core.wasm': 'single',
  'core.threads.wasm': 'threads',
  'host.wasm': 'host',
  'host.threads.wasm': 'hostThreads',
}
// Untouched if nothing changed, so that a test run that reads it is not disturbed.
function writeGenerated(name, lines) {
  const text = `/** Made by assembly/build.mjs from build/*.wasm. */\n${lines.join('')}`
  const path = `src/generated/${name}.ts`
  if (existsSync(path) && readFileSync(path, 'utf8') === text) return
  writeFileSync(`${path}.${process.pid}`, text)
  renameSync(`${path}.${process.pid}`, path)
}
writeGenerated(
  'wasm',
  files.map((file) => `export const ${exported[file]} =\n  ${embed(file)}\n`),
)
writeGenerated('traced', [`export const traced =\n  ${embed(TRACED)}\n`])
