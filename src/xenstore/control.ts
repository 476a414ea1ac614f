/**
 * CONTROL: what an administrator asks the daemon itself (XS-wire-13). Arguments and texts are those of the C daemon, whose
 * `xenstore-control` prints them as they come.
 */

import type { Daemon } from './call.js'
import { checkStore } from './checker.js'
import { refuse } from './errors.js'
import type { Quotas } from './quota.js'
import { atoi, PAYLOAD_MAX } from './wire.js'

const OK = 'OK\0'

/** A command: what `help` says of its arguments, how many there may be, and what it does. */
interface Command {
  readonly usage: string
  readonly least: number
  readonly most: number
  readonly run: (server: Daemon, args: readonly string[]) => string
}

/** A quota by the name that CONTROL knows it by. */
interface QuotaRow {
  readonly name: string
  readonly quota: keyof Quotas
  readonly meaning: string
}

const HARD: readonly QuotaRow[] = [
  { name: 'nodes', quota: 'nodes', meaning: 'Nodes per domain' },
  { name: 'watches', quota: 'watches', meaning: 'Watches per domain' },
  { name: 'transactions', quota: 'transactions', meaning: 'Transactions per domain' },
  { name: 'outstanding', quota: 'outstanding', meaning: 'Outstanding requests per domain' },
  { name: 'transaction-nodes', quota: 'transactionNodes', meaning: 'Max. number of accessed nodes per transaction' },
  { name: 'memory', quota: 'memoryHard', meaning: 'Total Xenstore memory per domain (error level)' },
  { name: 'node-size', quota: 'nodeSize', meaning: 'Max. size of a node' },
  { name: 'path-max', quota: 'pathMax', meaning: 'Max. length of a node path' },
  { name: 'permissions', quota: 'permissions', meaning: 'Max. number of permissions per node' },
]

const SOFT: readonly QuotaRow[] = [
  { name: 'memory', quota: 'memorySoft', meaning: 'Total Xenstore memory per domain (warning level)' },
]

const COMMANDS: Readonly<Record<string, Command>> = {
  check: { usage: '', least: 0, most: 0, run: check },
  log: { usage: 'on|off', least: 1, most: 1, run: log },
  'live-update': {
    usage: '[-c <cmdline>] [-F] [-t <timeout>] <file>\n    Default timeout is 60 seconds.',
    least: 0,
    most: Number.POSITIVE_INFINITY,
    // A daemon that is a library replaces no program: its state is saved and restored instead.
    run: no,
  },
  logfile: { usage: '<file>', least: 1, most: 1, run: no },
  memreport: { usage: '[<file>]', least: 0, most: 1, run: memoryReport },
  print: { usage: '<string>', least: 1, most: 1, run: print },
  quota: { usage: '[set <name> <val>|<domid>]', least: 0, most: 3, run: quota },
  'quota-soft': { usage: '[set <name> <val>]', least: 0, most: 3, run: softQuota },
  help: { usage: '', least: 0, most: 0, run: help },
}

/** Carries out a command with its arguments. */
export function control(server: Daemon, [name, ...args]: readonly string[]): string {
  const command = Object.hasOwn(COMMANDS, name!) ? COMMANDS[name!]! : no()
  return args.length < command.least || args.length > command.most ? no() : command.run(server, args)
}

function no(): never {
  return refuse('EINVAL')
}

function check(server: Daemon): string {
  const faults = checkStore(server)
  return faults.length ? `${faults.join('\n').slice(0, PAYLOAD_MAX - 1)}\0` : OK
}

function help(): string {
  return `${Object.entries(COMMANDS)
    .map(([name, { usage }]) => `${name}\t${usage}\n`)
    .join('')}\0`
}

function settings({ quotas }: Daemon, rows: readonly QuotaRow[]): string {
  const line = ({ name, quota, meaning }: QuotaRow) =>
    `${name.padEnd(17)}: ${String(quotas[quota]).padStart(8)} ${meaning}\n`
  return `Quota settings:\n${rows.map(line).join('')}\0`
}

function setQuota(server: Daemon, rows: readonly QuotaRow[], [verb, name, text]: readonly string[]): string {
  const row = rows.find((each) => each.name === name)
  const value = text === undefined ? -1 : atoi(text)
  if (verb !== 'set' || !row || value < 1) no()
  server.setQuota(row!.quota, value)
  return OK
}

function quota(server: Daemon, args: readonly string[]): string {
  if (args.length === 0) return settings(server, HARD)
  return args.length === 1 && args[0] !== 'set' ? usageOf(server, atoi(args[0]!)) : setQuota(server, HARD, args)
}

function softQuota(server: Daemon, args: readonly string[]): string {
  return args.length === 0 ? settings(server, SOFT) : setQuota(server, SOFT, args)
}

function usageOf(server: Daemon, domid: number): string {
  if (!server.domains.get(domid)) refuse('ENOENT')
  const usage = server.store.accounts.of(domid)
  const rows = [
    ['nodes', usage.nodes],
    ['watches', usage.watches],
    ['transactions', usage.transactions],
    ['outstanding', usage.outstanding],
    ['memory', usage.nodeBytes + usage.watchBytes],
  ] as const
  const lines = rows.map(([name, value]) => `${name.padEnd(16)}: ${String(value).padStart(8)}\n`)
  return `Domain ${domid}:\n${lines.join('')}\0`
}

/** Without an embedder that takes lines there is nothing to be switched. */
function log({ log }: Daemon, [state]: readonly string[]): string {
  if (!log.taken || (state !== 'on' && state !== 'off')) no()
  log.on = state === 'on'
  return OK
}

function print({ log }: Daemon, [text]: readonly string[]): string {
  if (!log.taken) no()
  log.print(text!)
  return OK
}

/** Goes to the embedder; without one that takes it there is nowhere to write it to. */
function memoryReport(server: Daemon, [file]: readonly string[]): string {
  let nodes = 0
  let bytes = 0
  for (const [, usage] of server.store.accounts.entries()) {
    nodes += usage.nodes
    bytes += usage.nodeBytes
  }
  const report = `${nodes} nodes of ${bytes} bytes, ${server.connections.length} connections\n`
  if (!server.writeReport(report, file)) no()
  return OK
}
