/** The daemons that are measured: ours, and the C daemon where it can be had. Each is a process of its own. */

import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/** A daemon that runs. */
export interface Daemon {
  readonly name: string
  readonly socket: string
  /** Bytes of memory that are its own. */
  memory(): number
  stop(): void
}

async function start(name: string, child: ChildProcess, folder: string, socket: string): Promise<Daemon> {
  for (let i = 0; i < 250 && !existsSync(socket); i++) await sleep(20)
  if (!existsSync(socket)) throw new Error(`${name} did not open ${socket}`)
  return {
    name,
    socket,
    memory: () => {
      const line = /^Private_Dirty:\s+(\d+) kB/m.exec(readFileSync(`/proc/${child.pid}/smaps_rollup`, 'latin1'))
      return Number(line?.[1] ?? 0) * 1024
    },
    stop: () => {
      child.kill()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** Ours, as the command starts it. */
export function startOurs(): Promise<Daemon> {
  const folder = mkdtempSync(join(tmpdir(), 'xs-'))
  const socket = join(folder, 'socket')
  const command = [resolve('dist/cli/main.js'), 'xenstored', '--quiet', '--socket', socket]
  const child = spawn(process.execPath, command, { stdio: ['ignore', 'ignore', 'inherit'] })
  return start('evtchn', child, folder, socket)
}

/** The C daemon over the shim; or why there is none. */
export async function startC(): Promise<Daemon | string> {
  const folder = resolve(process.env.EVTCHN_XEN_UTILS ?? 'build/xen-utils')
  const lib = join(folder, 'usr/lib')
  const versions = existsSync(lib) ? readdirSync(lib).filter((name) => name.startsWith('xen-')) : []
  const daemon = versions.map((name) => join(lib, name, 'bin/xenstored')).find(existsSync)
  const shim = join(folder, 'shim.so')
  if (!daemon) return 'xen-utils is not unpacked (.ci/xenstore-tools)'
  if (!existsSync(shim)) return 'the shim is not compiled (a C compiler and libxen-dev)'
  const run = mkdtempSync(join(tmpdir(), 'xs-'))
  const env = { ...process.env, XENSTORED_RUNDIR: run, LD_PRELOAD: shim }
  const child = spawn(daemon, ['-N'], { env, stdio: 'ignore' })
  return start(`C xenstored (${versions.at(-1)})`, child, run, join(run, 'socket'))
}
