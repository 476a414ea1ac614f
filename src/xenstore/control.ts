/** CONTROL: what an administrator asks the daemon itself (XS-wire-13). */

import type { Daemon } from './call.js'
import { checkStore } from './checker.js'
import { refuse } from './errors.js'
import { atoi } from './wire.js'

const OK = 'OK\0'

const commands: Record<string, (server: Daemon, args: string[]) => string> = {
  check: (server) => {
    const faults = checkStore(server)
    return faults.length ? `${faults.join('\n').slice(0, 4000)}\0` : OK
  },
  // There is no log to switch and none to name; the commands are accepted as any setting is.
  log: () => OK,
  logfile: () => OK,
  memreport: (server) => memoryReport(server),
  print: () => OK,
  quota: (server, args) => (args.length ? usageOf(server, atoi(args[0]!)) : limits(server)),
  'quota-soft': (server) => `memory: ${server.quotas.memorySoft}\0`,
  help: () => `${Object.keys(commands).join('\n')}\n\0`,
}

/** Carries out a command with its arguments. */
export function control(server: Daemon, [name, ...args]: string[]): string {
  const command = Object.hasOwn(commands, name!) ? commands[name!] : undefined
  return command ? command(server, args) : refuse('EINVAL')
}

function table(rows: readonly (readonly [string, number])[]): string {
  return `${rows.map(([name, value]) => `${name.padEnd(18)}: ${value}\n`).join('')}\0`
}

function limits({ quotas }: Daemon): string {
  return table([
    ['nodes', quotas.nodes],
    ['watches', quotas.watches],
    ['transactions', quotas.transactions],
    ['outstanding', quotas.outstanding],
    ['transaction-nodes', quotas.transactionNodes],
    ['memory', quotas.memoryHard],
    ['node-permissions', quotas.permissions],
    ['path-max', quotas.pathMax],
    ['node-size', quotas.nodeSize],
  ])
}

function usageOf(server: Daemon, domid: number): string {
  if (!server.domains.get(domid)) refuse('ENOENT')
  const usage = server.store.accounts.of(domid)
  return table([
    ['nodes', usage.nodes],
    ['watches', usage.watches],
    ['transactions', usage.transactions],
    ['outstanding', usage.outstanding],
    ['memory', usage.nodeBytes + usage.watchBytes],
  ])
}

function memoryReport(server: Daemon): string {
  let nodes = 0
  let bytes = 0
  for (const [, usage] of server.store.accounts.entries()) {
    nodes += usage.nodes
    bytes += usage.nodeBytes
  }
  return table([
    ['nodes', nodes],
    ['node bytes', bytes],
    ['connections', server.connections.length],
  ])
}
