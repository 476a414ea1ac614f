/**
 * Builds what the bench of the levels has beside TypeScript: the wasm loops (both builds, with the options of
 * asconfig.json) and, if there is a C compiler, the C programs. Run by `npm run bench`.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import asc from 'assemblyscript/asc'

process.chdir(fileURLToPath(new URL('../..', import.meta.url)))
const OUT = 'build/bench/bench/levels'
mkdirSync(OUT, { recursive: true })

/** The core's own options and targets with another entry. Paths in a configuration are relative to it. */
async function buildLoops() {
  const { options, targets } = JSON.parse(readFileSync('asconfig.json', 'utf8'))
  for (const [name, target] of Object.entries(targets)) {
    target.outFile = `loops.${name}.wasm`
    target.textFile = `loops.${name}.wat`
  }
  const config = `${OUT}/asconfig.json`
  writeFileSync(config, JSON.stringify({ options, targets }))
  for (const target of Object.keys(targets)) {
    const { error, stderr } = await asc.main(['bench/levels/wasm/loops.ts', '--config', config, '--target', target])
    if (error) fail(`loops, target ${target}: ${error.message}\n${stderr}`)
  }
}

/**
 * Two programs per depth and width: for any x86-64, as a distribution builds, and for this very processor, as the engine
 * compiles. Without a compiler none, and the bench says so in their rows.
 */
function buildNative() {
  const cc = process.env.CC || 'cc'
  const shapes = [2, 3, 4].flatMap((levels) => [32, 64].map((bits) => ({ levels, bits })))
  const kinds = { any: [], own: ['-march=native'] }
  const programs = Object.entries(kinds).flatMap(([kind, options]) =>
    shapes.map(({ levels, bits }) => ({ levels, bits, options, program: `${OUT}/levels-${levels}-${bits}-${kind}` })),
  )
  for (const { program } of programs) rmSync(program, { force: true })
  for (const { levels, bits, options, program } of programs) {
    const all = ['-O2', ...options, '-std=c11', '-Wall', '-Wextra', `-DLEVELS=${levels}`, `-DBITS=${bits}`]
    const { error, status, stderr } = spawnSync(cc, [...all, '-o', program, 'bench/levels/native/main.c'])
    if (error) return
    if (status) fail(`${cc} ${all.join(' ')}:\n${stderr}`)
  }
}

function fail(message) {
  process.stderr.write(`bench/levels/build.mjs: ${message}\n`)
  process.exit(1)
}

await buildLoops()
buildNative()
