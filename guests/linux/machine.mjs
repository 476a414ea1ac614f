/** Linux on the library: boots Debian's kernel, or starts it from a snapshot, and talks to its shell on the serial line. */

import { readFileSync } from 'node:fs'
import { V86Host } from '../../dist/x86/index.js'
import { clock, emulatorFiles } from '../emulator.mjs'
import { linuxFiles } from './fetch.mjs'

const COMMAND_LINE = 'console=ttyS0 tsc=reliable mitigations=off random.trust_cpu=on init_on_free=1'
const READY = '=== READY ==='
// What a terminal would do with: colours, questions for the cursor's place.
const ESCAPES = new RegExp(`${String.fromCharCode(27)}\\[[0-9;?]*[A-Za-z]`, 'g')

/** A guest and its serial line. */
export class Linux {
  constructor(host) {
    this.host = host
    this.guest = undefined
    this.output = ''
    this.hvc0 = ''
    this.onText = () => {}
    this.waiting = []
    this.commands = 0
  }

  get options() {
    return {
      onSerial: (byte) => this.heard(String.fromCharCode(byte)),
      onConsole: (bytes) => {
        this.hvc0 += String.fromCharCode(...bytes)
      },
    }
  }

  heard(char) {
    this.output += char
    this.onText(char)
    this.waiting = this.waiting.filter(({ text, done }) => {
      if (!this.output.includes(text)) return true
      done()
      return false
    })
  }

  /** Kept when the guest has printed `text`. @throws Error after `seconds`, with the last lines */
  async until(text, seconds) {
    if (this.output.includes(text)) return
    await new Promise((done, fail) => {
      const late = setTimeout(
        () => fail(new Error(`no ${JSON.stringify(text)} after ${seconds} s; last: ${this.output.slice(-1500)}`)),
        seconds * 1000,
      )
      this.waiting.push({
        text,
        done: () => {
          clearTimeout(late)
          done()
        },
      })
    })
  }

  /** Runs a command in the guest's shell: what it printed, and its exit status. */
  async run(command, seconds = 60) {
    const nr = ++this.commands
    const [begin, mark] = [`BEGIN-${nr}-`, `END-${nr}-`]
    this.output = ''
    // The quotes keep the echo of what is typed, which the shell wraps, from looking like its result.
    this.guest.emulator.serial0_send(`echo BE''GIN-${nr}-; ${command}; echo EN''D-${nr}-$?-DO''NE\n`)
    await this.until(mark, seconds)
    await this.until('-DONE', seconds)
    const at = this.output.indexOf(mark)
    const status = Number.parseInt(this.output.slice(at + mark.length), 10)
    const from = this.output.indexOf(begin) + begin.length
    const text = this.output.slice(from, at).replace(ESCAPES, '').replaceAll('\r', '')
    return { text: text.replace(/^\n/, ''), status }
  }
}

/** Options of the host for an ABI by name. */
const hostOptions = (abi) => ({ clock, fifo: abi === 'fifo' })

/** Boots Debian's kernel. `abi`: 'fifo' or '2'. `say` is told what is going on. */
export async function bootLinux({ abi = 'fifo', say = () => {}, onText, trace, commandLine = '' } = {}) {
  const { kernel, initrd } = linuxFiles(say)
  const linux = new Linux(V86Host.create({ ...hostOptions(abi), ...(trace && { trace }) }))
  if (onText) linux.onText = onText
  say('booting')
  linux.guest = await linux.host.boot({
    files: await emulatorFiles(),
    kernel: new Uint8Array(readFileSync(kernel)),
    initrd: new Uint8Array(readFileSync(initrd)),
    commandLine: `${COMMAND_LINE} ${commandLine}`.trim(),
    ...linux.options,
  })
  await linux.until(READY, 400)
  return linux
}

/** Starts a guest from a snapshot, on a host of its own. */
export async function restoreLinux(snapshot, { onText, trace } = {}) {
  const linux = new Linux(V86Host.create({ clock, ...(trace && { trace }) }))
  if (onText) linux.onText = onText
  linux.guest = await linux.host.restore(snapshot, { files: await emulatorFiles(), ...linux.options })
  return linux
}
