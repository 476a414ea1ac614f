/**
 * Compiles the core twice (plain and shared memory) and embeds both modules as base64 in src/generated/wasm.ts, so that
 * neither Node nor a bundler needs a rule for loading an asset.
 */
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import asc from 'assemblyscript/asc'

process.chdir(fileURLToPath(new URL('..', import.meta.url)))

async function compile(target) {
  const { error, stderr } = await asc.main(['--config', 'asconfig.json', '--target', target])
  if (error) {
    process.stderr.write(`${stderr.toString()}\nassembly/build.mjs: target ${target}: ${error.message}\n`)
    process.exit(1)
  }
}
await compile('single')
await compile('threads')

const embed = (file) => `'${readFileSync(file).toString('base64')}'`
mkdirSync('src/generated', { recursive: true })
mkdirSync('dist/wasm', { recursive: true })
const text = `/** Made by assembly/build.mjs from build/*.wasm. */\nexport const single =\n  ${embed('build/core.wasm')}\nexport const threads =\n  ${embed('build/core.threads.wasm')}\n`
const generated = 'src/generated/wasm.ts'
// Untouched if nothing changed, so that a test run that reads it is not disturbed.
if (!existsSync(generated) || readFileSync(generated, 'utf8') !== text) writeFileSync(generated, text)
for (const name of ['core.wasm', 'core.threads.wasm']) copyFileSync(`build/${name}`, `dist/wasm/${name}`)
