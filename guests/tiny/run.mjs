/**
 * Builds the tiny guests and runs them, each in a machine of its own: `npm run guests [-- NAME …]`. Ends with 1 if one of them
 * did not print RESULT SUCCESS.
 */

import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { V86Host } from '../../dist/x86/index.js'
import { clock, emulatorFiles } from '../emulator.mjs'

const GUESTS = ['two-levels', 'three-levels', 'hostile']
const TIMEOUT_MS = 60_000
const VIRQ_DEBUG = 1
const here = (path) => fileURLToPath(new URL(path, import.meta.url))

/** Runs one guest to its RESULT line: what it printed, and whether it is content. */
export async function runTiny(name, print = () => {}) {
  const host = V86Host.create({ clock })
  let text = ''
  let done = () => {}
  const ended = new Promise((resolve) => {
    done = resolve
  })
  const guest = await host.boot({
    files: await emulatorFiles(),
    memoryMiB: 32,
    kernel: new Uint8Array(readFileSync(here(`../../build/guests/${name}.bz`))),
    onSerial(byte) {
      const char = String.fromCharCode(byte)
      text += char
      print(char)
      if (char !== '\n') return
      // Not inside of the guest's own instruction: the emulator takes it at its next turn.
      if (text.endsWith('RAISE\n')) setImmediate(() => host.xen.sendVirq(guest.domain.vcpu(0), VIRQ_DEBUG))
      if (/RESULT \w+\n$/.test(text)) done()
    },
  })
  const late = setTimeout(() => {
    text += `no RESULT after ${TIMEOUT_MS / 1000} s\n`
    done()
  }, TIMEOUT_MS)
  await ended
  clearTimeout(late)
  const { levels } = guest.domain
  await host.destroy(guest)
  return { text, levels, success: text.endsWith('RESULT SUCCESS\n') }
}

/** Compiles them. Throws what gcc says. */
export function buildTiny() {
  execFileSync('sh', [here('build.sh')], { stdio: ['ignore', 'inherit', 'inherit'] })
}

async function main(given) {
  const unknown = given.filter((name) => !GUESTS.includes(name))
  if (unknown.length || given.includes('--help')) {
    console.log(`npm run guests [-- NAME …]\n\nTiny guests in C, each in an x86 machine: ${GUESTS.join(', ')}.`)
    return given.includes('--help') ? 0 : 2
  }
  buildTiny()
  const results = []
  for (const name of given.length ? given : GUESTS) {
    console.log(`${name}:`)
    const from = performance.now()
    const { success } = await runTiny(name, (char) => process.stdout.write(char))
    results.push([name, success, ((performance.now() - from) / 1000).toFixed(1)])
  }
  console.log()
  for (const [name, success, seconds] of results)
    console.log(`${name.padEnd(16)}${success ? 'success' : 'FAILURE'}${`${seconds} s`.padStart(10)}`)
  return results.every(([, success]) => success) ? 0 : 1
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exit(await main(process.argv.slice(2)))
