/** A host for native programs, in a folder whose name has a space, and the tools to run on it. */

import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import {
  NativeHost,
  type NativeHostOptions,
  type Program,
  startDaemons,
  xenToolsFolder,
} from '../../../src/node/hostd/index.js'
import { requireTools, xenUtils } from '../../settings.js'

const ROOT = fileURLToPath(new URL('../../..', import.meta.url))

process.env.EVTCHN_XEN_UTILS = xenUtils ?? join(ROOT, 'build/xen-utils')

const runs = (tool: string) => spawnSync(tool, ['--version']).error === undefined
const lacking = [
  ...['cc', 'xenstore-write'].filter((tool) => !runs(tool)),
  ...(xenToolsFolder() ? [] : ['xl (.ci/xenstore-tools)']),
]

/** Begins the titles of tests that cannot run here. */
export const notRun = lacking.length ? `NOT RUN for want of ${lacking.join(', ')}: ` : ''
/** Are they to be left out? Not where tools are demanded. */
export const skipped = notRun !== '' && !requireTools

/** What a program said, and how it ended. */
export interface Ended {
  readonly code: number | string
  readonly out: string
  readonly err: string
  readonly ms: number
}

/** A host, and what is run on it. */
export class Rig {
  readonly host: NativeHost
  readonly dir: string
  /** What the host noted, and its faults. */
  readonly notes: string[]

  private constructor(host: NativeHost, dir: string, notes: string[]) {
    this.host = host
    this.dir = dir
    this.notes = notes
  }

  /** Starts a host. Its faults end the test: they are thrown by `close`. */
  static async start(options: Partial<NativeHostOptions> = {}): Promise<Rig> {
    const dir = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'evtchn test '))
    const notes: string[] = []
    const host = await NativeHost.start({
      dir,
      onNote: (line) => void notes.push(line),
      onError: (error, where) => void notes.push(`FAULT ${where}: ${(error as Error).stack}`),
      ...options,
    })
    return new Rig(host, dir, notes)
  }

  /** dom0 as xl wants it: set up, and with consoles, whose daemon finds domains that are there before it. */
  async setUpDom0(): Promise<void> {
    await startDaemons(this.host)
  }

  program(domid: number, argv: readonly string[], supervise = false): Program {
    return this.host.program(domid, argv, { supervise })
  }

  /** Starts a program that stays. */
  start(domid: number, argv: readonly string[]) {
    return this.host.children.start(this.program(domid, argv), 'ignore')
  }

  /** Runs a program to its end, or for `seconds` at most. */
  run(domid: number, argv: readonly string[], { seconds = 60, supervise = false } = {}): Promise<Ended> {
    return runProgram(this.program(domid, argv, supervise), seconds)
  }

  /** A configuration of a guest; its path. */
  config(name: string, more = ''): string {
    const file = join(this.dir, `${name}.cfg`)
    writeFileSync(file, `name="${name}"\ntype="pv"\nkernel="${this.dir}/kernel"\nmemory=8\nvcpus=1\n${more}`)
    return file
  }

  /** What xenconsoled has logged of a guest. */
  log(name: string): string {
    const file = join(this.dir, `guest-${name}.log`)
    return existsSync(file) ? readFileSync(file, 'utf8') : ''
  }

  /** Waits until something holds. @throws Error after ten seconds */
  async until(holds: () => boolean | Promise<boolean>, what: string): Promise<void> {
    for (let i = 0; i < 1000; i++) {
      if (await holds()) return
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    throw new Error(`not within 10 s: ${what}`)
  }

  /** Ends the host and removes its folder. @throws Error for a fault of the host's own */
  async close(): Promise<void> {
    await this.host.close()
    rmSync(this.dir, { recursive: true, force: true })
    const faults = this.notes.filter((line) => line.startsWith('FAULT'))
    if (faults.length) throw new Error(faults.join('\n'))
  }
}

/** Runs a command line to its end. */
function runProgram({ command, args, env }: Program, seconds = 60): Promise<Ended> {
  return new Promise((resolve) => {
    const began = performance.now()
    const child = spawn(command, args, { env, stdio: ['ignore', 'pipe', 'pipe'] })
    let [out, err] = ['', '']
    child.stdout.on('data', (bytes) => {
      out += bytes
    })
    child.stderr.on('data', (bytes) => {
      err += bytes
    })
    const late = setTimeout(() => child.kill('SIGKILL'), seconds * 1000)
    child.on('error', (error) => {
      err += error.message
    })
    child.on('close', (code, signal) => {
      clearTimeout(late)
      resolve({ code: code ?? signal ?? 'not started', out, err, ms: performance.now() - began })
    })
  })
}
