/**
 * How a program is run "in" a domain of a host: with the shim preloaded, or under the supervisor if it is static; with the
 * folders of Xen's tools in a place of the host's.
 */

import { closeSync, copyFileSync, existsSync, mkdirSync, openSync, readSync, writeFileSync } from 'node:fs'
import { delimiter, join, resolve } from 'node:path'
import type { NativeParts } from './build.js'
import { xenToolsFolder } from './tools.js'

/** What a program runs on. */
export interface ProgramHost {
  /** The host's folder. */
  readonly dir: string
  readonly parts: NativeParts
}

/** How a program is run. */
export interface ProgramOptions {
  /** Under the supervisor, whatever it is. Default: if it is static. */
  readonly supervise?: boolean
  /** Default: this process's. */
  readonly env?: NodeJS.ProcessEnv
}

/** A command line to spawn, and its environment. */
export interface Program {
  readonly command: string
  readonly args: readonly string[]
  readonly env: NodeJS.ProcessEnv
}

/** Bytes of an ELF file that say whether it asks for an interpreter. */
const ELF = { magic: 0x464c457f, class64: 2, phoff: 32, phentsize: 54, phnum: 56, PT_INTERP: 3 } as const

/** Where a command is: by its path, in PATH, or among Xen's tools; undefined: nowhere. */
export function findProgram(command: string, env: NodeJS.ProcessEnv = process.env): string | undefined {
  if (command.includes('/')) return existsSync(command) ? resolve(command) : undefined
  // Xen's tools first: what Debian has in PATH is a script that looks for a running Xen.
  const tools = xenToolsFolder(env)
  if (tools && existsSync(join(tools, command))) return join(tools, command)
  return (env.PATH ?? '')
    .split(delimiter)
    .map((folder) => join(folder, command))
    .find(existsSync)
}

/** Is it an ELF program without a dynamic linker, which no library can be preloaded into? */
export function isStatic(path: string): boolean {
  const bytes = Buffer.alloc(4096)
  const fd = openSync(path, 'r')
  const length = readSync(fd, bytes, 0, bytes.length, 0)
  closeSync(fd)
  if (length < 64 || bytes.readUInt32LE(0) !== ELF.magic || bytes[4] !== ELF.class64) return false
  const [at, size, count] = [
    Number(bytes.readBigUInt64LE(ELF.phoff)),
    bytes.readUInt16LE(ELF.phentsize),
    bytes.readUInt16LE(ELF.phnum),
  ]
  for (let i = 0; i < count && at + i * size + 4 <= length; i++)
    if (bytes.readUInt32LE(at + i * size) === ELF.PT_INTERP) return false
  return true
}

/** Folder that stands for /etc/xen, /var/lib/xen and so on (native/paths.h). */
const pathsFolder = (dir: string): string => join(dir, 'paths')

/** Hotplug scripts of network and disks: there is nothing to plug, and the backends wait to be told so. */
const HOTPLUG = `#!/bin/sh
# Says that the device is plugged: libxl and the backend wait for it.
case "$1" in
  online | add)
    case "$XENBUS_PATH" in
      */vbd/*) xenstore-write "$XENBUS_PATH/physical-device" 7:0 ;;
    esac
    exec xenstore-write "$XENBUS_PATH/hotplug-status" connected ;;
esac
`

/** Makes what xl wants to find, where the shim leads it. */
function prepareFolders(dir: string, kernel: string): void {
  const folder = pathsFolder(dir)
  for (const each of ['etc/xen/scripts', 'var/lib/xen', 'run/xen', 'var/log/xen', 'var/lock'])
    mkdirSync(join(folder, each), { recursive: true, mode: 0o700 })
  if (existsSync(join(folder, 'etc/xen/xl.conf'))) return
  for (const script of ['vif-bridge', 'block'])
    writeFileSync(join(folder, 'etc/xen/scripts', script), HOTPLUG, { mode: 0o755 })
  // Without this oxenstored looks for its own ring in a file with an empty name.
  writeFileSync(
    join(folder, 'etc/xen/oxenstored.conf'),
    'xenstored-kva = /proc/xen/xsd_kva\nxenstored-port = /proc/xen/xsd_port\n',
  )
  copyFileSync(kernel, join(dir, 'kernel'))
  writeFileSync(join(folder, 'etc/xen/xl.conf'), 'autoballoon="off"\n')
}

/** How to run a command in domain `domid` of a host. `supervise`: under the supervisor, whatever the program is. */
export function programIn(
  { dir, parts }: ProgramHost,
  domid: number,
  [command = '', ...args]: readonly string[],
  { supervise = false, env = process.env }: ProgramOptions = {},
): Program {
  const path = findProgram(command, env)
  prepareFolders(dir, parts.kernel)
  const set: NodeJS.ProcessEnv = {
    ...env,
    EVTCHN_HOST: dir,
    EVTCHN_DOMID: `${domid}`,
    EVTCHN_PATHS: pathsFolder(dir),
    XENSTORED_RUNDIR: dir,
    // In dom0 tools use the daemon's socket; elsewhere the device, as in a guest.
    XENSTORED_PATH: domid ? '/dev/xen/xenbus' : join(dir, 'socket'),
  }
  if (supervise || (path !== undefined && isStatic(path)))
    return { command: parts.supervisor, args: [path ?? command, ...args], env: set }
  return {
    command: path ?? command,
    args,
    env: { ...set, LD_PRELOAD: [parts.shim, env.LD_PRELOAD].filter(Boolean).join(' ') },
  }
}
