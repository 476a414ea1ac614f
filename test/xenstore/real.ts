/** What of Xen is on this machine: its tools, its test program, its C daemon. See .ci/xenstore-tools. */
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { requireTools, xenUtils } from '../settings.js'

const top = join(dirname(fileURLToPath(import.meta.url)), '../..')
const folder = xenUtils ?? join(top, 'build/xen-utils')

/** True if the tests that need Xen's programs must run. */
export const required = requireTools
/** Are the tools of xenstore-utils installed? */
export const haveTools = spawnSync('xenstore-read', ['-h']).error === undefined

function binary(name: string): string | null {
  const lib = join(folder, 'usr/lib')
  for (const version of existsSync(lib) ? readdirSync(lib) : [])
    if (existsSync(join(lib, version, 'bin', name))) return join(lib, version, 'bin', name)
  return null
}

/** Xen's test program; null if it was not unpacked. */
export const testXenstore = binary('test-xenstore')
/** Xen's control program. */
export const xenstoreControl = binary('xenstore-control')
/** The C daemon and the shim under it; null if either is missing. */
export const cDaemon = daemon('xenstored')

function daemon(name: string): { daemon: string; shim: string } | null {
  const path = binary(name)
  const shim = join(folder, 'shim.so')
  return path && existsSync(shim) ? { daemon: path, shim } : null
}

/** Title of tests that need a program: says plainly if they are not run. */
export function title(text: string, have: unknown, what: string): string {
  return have || required ? text : `${text} (not run: ${what})`
}

/** A folder that is removed with `[Symbol.dispose]`. */
export function temporary(): { path: string; [Symbol.dispose](): void } {
  const path = mkdtempSync(join(tmpdir(), 'xs-'))
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) }
}

/** Runs a program to its end. */
export function execute(
  command: string,
  args: string[],
  env: Record<string, string> = {},
): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(command, args, { env: { ...process.env, ...env }, timeout: 60_000 }, (error, stdout, stderr) => {
      const code = error ? (typeof error.code === 'number' ? error.code : 1) : 0
      resolve({ code, stdout, stderr })
    })
  })
}

/** Starts the C daemon in a folder and waits for its socket. */
export async function startCDaemon(path: string): Promise<{ socket: string; process: ChildProcess }> {
  if (!cDaemon) throw new Error('no C daemon, or no shim for it: run .ci/xenstore-tools with a compiler and libxen-dev')
  const { daemon, shim } = cDaemon
  const process_ = spawn(daemon, ['-N'], {
    env: { ...process.env, XENSTORED_RUNDIR: path, LD_PRELOAD: shim },
    stdio: 'ignore',
  })
  const socket = join(path, 'socket')
  for (let i = 0; i < 100 && !existsSync(socket); i++) await sleep(20)
  return { socket, process: process_ }
}
