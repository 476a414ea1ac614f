/**
 * Can the stress test fail? Each mutant is the library with one thing taken away; the stress must find it within a minute.
 * `npm run stress:mutants`. A reader that leaves silently is too rare for the stress: its window is one look at a word. The
 * model of the lock finds it (test/models/lock.pml; needs spin and gcc).
 *
 *     dist, assembly ─ copy, edit, compile ─▶ build/mutants/NAME/dist ─ stress.mjs --dist ─▶ must exit with 1
 */

import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import asc from 'assemblyscript/asc'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const FOUND_WITHIN_MS = 60_000

/** Name, the forms that it shows in, edits of the host core, edits of dist. Each passage must be there. */
const MUTANTS = [
  {
    name: 'no exclusion',
    levels: '3',
    dist: [['machine/delivery_lock.js', 'if (this.#threads.size === 0)', 'if (true)']],
  },
  {
    name: 'no queue locks',
    levels: 'fifo',
    host: [['lock.ts', '  if (!THREADS) return\n  const me', '  return\n  const me']],
  },
  {
    name: 'a reader backs off silently',
    levels: '2',
    host: [['lock.ts', '    write<u32>(thread, 0)\n    atomic.notify(thread, 1)\n', '    write<u32>(thread, 0)\n']],
  },
  { name: 'a reader leaves silently', model: 'LEAVE_SILENTLY' },
  {
    name: 'a vCPU looks before it is asleep',
    levels: '2',
    dist: [
      [
        'vcpu/cpu.js',
        '        this.#thread.calls.fallAsleep(this.#domain.record, this.vcpuId);\n        return this.#sleep(deadlineNs);',
        '        if (this.upcallDue) return "upcall";\n        for (let i = 0; i < 300; i++) this.#get(0);\n' +
          '        this.#thread.calls.fallAsleep(this.#domain.record, this.vcpuId);\n' +
          '        this.#thread.calls.sleepOn(this.#at + 192, 1, -1);\n        return this.#sleep(deadlineNs);',
      ],
    ],
  },
]

/** Replaces a passage of a file, which must be there. */
function edit(file, from, to) {
  const text = readFileSync(file, 'utf8')
  if (!text.includes(from)) throw new Error(`${file} has no passage ${JSON.stringify(from)}`)
  writeFileSync(
    file,
    text.replace(from, () => to),
  )
}

/** Compiles a changed host core and embeds it in a copy of dist. */
async function compileHost(folder) {
  const wasm = `${folder}/host.threads.wasm`
  const { error, stderr } = await asc.main([
    `${folder}/assembly/host/index.ts`,
    ...['--runtime', 'stub', '--noAssert', '-O3', '--converge', '--importMemory', '--noExportMemory', '--importTable'],
    ...['--enable', 'threads', '--sharedMemory', '--initialMemory', '1', '--maximumMemory', '65536'],
    ...['--use', 'THREADS=1', '--use', 'abort=', '--outFile', wasm],
  ])
  if (error) throw new Error(stderr.toString())
  const text = readFileSync(`${folder}/dist/generated/wasm.js`, 'utf8')
  const base64 = readFileSync(wasm).toString('base64')
  writeFileSync(
    `${folder}/dist/generated/wasm.js`,
    text.replace(/(export const hostThreads =\s*)'[^']*'/, (_, begin) => `${begin}'${base64}'`),
  )
}

/** What Spin says of the model of the lock with one thing changed; undefined: there is no Spin. */
function searchModel(change, folder) {
  const run = (command, ...args) => spawnSync(command, args, { cwd: folder, encoding: 'utf8' })
  if (run('spin', '-a', `-D${change}`, `${ROOT}/test/models/lock.pml`).error) return undefined
  run('gcc', '-O2', '-w', '-DSAFETY', '-o', 'pan', 'pan.c')
  return /^pan:1: (.*?) \(at depth/m.exec(run(`${folder}/pan`, '-m100000').stdout ?? '')?.[1]
}

let missed = 0
process.chdir(ROOT)
for (const { name, levels, host = [], dist = [], model } of MUTANTS) {
  const folder = `${ROOT}build/mutants/${name.replaceAll(' ', '-')}`
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  if (model) {
    const says = searchModel(model, folder)
    if (!says) missed++
    console.log(`${name}: ${says ? `found by the model: ${says}` : 'NOT FOUND: is spin there?'}`)
    continue
  }
  cpSync('dist', `${folder}/dist`, { recursive: true })
  cpSync('assembly', `${folder}/assembly`, { recursive: true })
  for (const [file, from, to] of host) edit(`${folder}/assembly/host/${file}`, from, to)
  for (const [file, from, to] of dist) edit(`${folder}/dist/${file}`, from, to)
  if (host.length) await compileHost(folder)
  const start = Date.now()
  const { status, stdout } = spawnSync(
    process.execPath,
    ['test/threads/stress.mjs', '--sends', '4e9', '--levels', levels, '--dist', new URL(`file://${folder}/dist/`).href],
    { encoding: 'utf8', timeout: FOUND_WITHIN_MS, env: { ...process.env, STRESS_PATIENCE_MS: '5000' } },
  )
  const seconds = ((Date.now() - start) / 1000).toFixed(1)
  const found = status === 1
  if (!found) missed++
  console.log(
    `${name}: ${found ? `found after ${seconds} s: ${stdout.trim().split(': ').slice(2).join(': ')}` : 'NOT FOUND'}`,
  )
}
process.exit(missed ? 1 : 0)
