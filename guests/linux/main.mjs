/** `npm run linux`: an unmodified Linux of Debian's on the library, with its shell on this terminal. */

import { readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { formatEvent, Trace } from '../../dist/index.js'
import { bootLinux, restoreLinux } from './machine.mjs'
import { readSnapshot, writeSnapshot } from './snapshot.mjs'

const HELP = `npm run linux -- [OPTIONS]

Boots Debian's kernel for i686 in an x86 emulator, as a Xen guest of this
library, and gives you its shell. Ctrl-] ends it.

  --abi 2|fifo       event channel ABI that the host has (default fifo)
  --run 'COMMAND'    run one shell command in the guest, print its output,
                     and exit with its status
  --snapshot FILE    save the booted guest there, and end
  --restore FILE     start from a snapshot, in about a second
  --trace            print each hypercall on stderr while it runs
  --verbose          print what the kernel says while it boots
  --help             this text

The first start fetches kernel and busybox from Debian (53 MB, by apt) into
build/linux. Needed beside Node: apt-get, dpkg-deb and the package seabios.
`
const CTRL_RIGHT_BRACKET = 0x1d
const OPTIONS = {
  abi: { type: 'string', default: 'fifo' },
  run: { type: 'string' },
  snapshot: { type: 'string' },
  restore: { type: 'string' },
  trace: { type: 'boolean' },
  verbose: { type: 'boolean' },
  help: { type: 'boolean' },
}

/** One line that is replaced on a terminal, and lines in a pipe. */
function progress() {
  const { stderr } = process
  const from = Date.now()
  let what = ''
  const line = () => `linux: ${what}, ${Math.round((Date.now() - from) / 1000)} s`
  const timer = stderr.isTTY ? setInterval(() => stderr.write(`\r\x1b[K${line()}`), 500) : undefined
  return {
    say(now) {
      what = now
      if (!stderr.isTTY) stderr.write(`${line()}\n`)
    },
    end() {
      clearInterval(timer)
      if (stderr.isTTY) stderr.write('\r\x1b[K')
    },
  }
}

/** The terminal is the guest's until Ctrl-]. */
async function converse(linux) {
  const { stdin, stdout, stderr } = process
  stderr.write('linux: this is the guest; Ctrl-] ends it\n')
  linux.onText = (char) => stdout.write(char)
  linux.guest.emulator.serial0_send('\n')
  if (stdin.isTTY) stdin.setRawMode(true)
  await new Promise((done) => {
    stdin.on('data', (bytes) => {
      if (bytes.includes(CTRL_RIGHT_BRACKET)) return done()
      linux.guest.emulator.serial0_send(bytes.toString('latin1'))
    })
    stdin.on('end', done)
  })
  if (stdin.isTTY) stdin.setRawMode(false)
  stdout.write('\n')
}

async function start({ abi, restore, trace, verbose }) {
  const { say, end } = progress()
  const options = {
    abi,
    say,
    ...(verbose && { onText: (char) => process.stderr.write(char) }),
    ...(trace && { trace: new Trace({ onEvent: (event) => process.stderr.write(`${formatEvent(event)}\n`) }) }),
  }
  try {
    if (restore === undefined) return await bootLinux(options)
    say(`restoring ${restore}`)
    return await restoreLinux(readSnapshot(readFileSync(restore)), options)
  } finally {
    end()
  }
}

async function main(argv) {
  const { values } = parseArgs({ args: argv, options: OPTIONS })
  if (values.help) {
    console.log(HELP)
    return 0
  }
  if (!['2', 'fifo'].includes(values.abi)) throw new Error(`--abi is ${values.abi}; 2 and fifo are allowed`)
  const linux = await start(values)
  linux.onText = () => {}
  if (values.run !== undefined) {
    const { text, status } = await linux.run(values.run, 600)
    process.stdout.write(text)
    return status
  }
  if (values.snapshot !== undefined) {
    await linux.run('sync; echo 3 > /proc/sys/vm/drop_caches')
    const bytes = writeSnapshot(await linux.host.save(linux.guest))
    writeFileSync(values.snapshot, bytes)
    console.log(`${values.snapshot}: ${(bytes.length / 2 ** 20).toFixed(1)} MiB`)
    return 0
  }
  await converse(linux)
  return 0
}

try {
  process.exit(await main(process.argv.slice(2)))
} catch (error) {
  console.error(`linux: ${error instanceof Error ? error.message : error}`)
  process.exit(2)
}
