/** `evtchn trace SCRIPT`: runs a module that uses the library, and prints every call that it makes, as strace does. */

import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { ParameterError } from '../check.js'
import { Faults, type TraceEvent } from '../trace/index.js'
import { command } from './command.js'
import { CheckError, UsageError } from './errors.js'
import { choice, flag, text, whole } from './options.js'
import { TRACE_FORMATS, type TraceFormat, Tracing } from './tracing.js'

const KINDS = ['hypercall', 'pending', 'upcall', 'unblock', 'host', 'store', 'thread']

/** Is an event one of these kinds, or of a call whose name holds one of these words? */
function selector(only: string | undefined, domid: number | undefined): (event: TraceEvent) => boolean {
  const words = only?.toLowerCase().split(',')
  return (event) => {
    if (domid !== undefined && event.domid !== domid) return false
    if (!words) return true
    const name = event.kind === 'hypercall' ? event.call : event.kind === 'store' ? event.request : ''
    return words.some((word) => word === event.kind || (name !== '' && name.toLowerCase().includes(word)))
  }
}

function readFaults(program: string, specs: string | undefined): Faults | undefined {
  if (specs === undefined) return undefined
  try {
    return Faults.parse(...specs.split(','))
  } catch (error) {
    if (!(error instanceof ParameterError)) throw error
    throw new UsageError(`${program}: --fail ${JSON.stringify(specs)}: ${error.message}`)
  }
}

/** The subcommand. */
export const trace = command({
  name: 'trace',
  summary: 'run a script and print every call that it makes, as strace does',
  about: `Runs a JavaScript module that uses this package, and prints its hypercalls with their members and, where they are refused, the reason; upcalls, requests to stores and states of kernel threads. Whatever stands behind SCRIPT is the script's.

A fault is spelt [dN:]CALL=ERRNO[@NTH][xTIMES]: d1:alloc_unbound=ENOSPC is the next of domain 1, TRANSACTION_END=EAGAIN@3 the third commit of all.`,
  options: {
    format: choice('how to write it; a file named .json is chrome, .jsonl is jsonl', {
      of: ['auto', ...TRACE_FORMATS],
      preset: 'auto',
    }),
    output: text('write to a file', { value: 'FILE', shown: 'standard error' }),
    only: text(`some of ${KINDS.join(', ')}, and parts of names of calls, with commas between`, { value: 'LIST' }),
    domid: whole('only events of this domain', { min: 0, max: 0x7fef }),
    time: flag("begin each line with the host's time, in seconds"),
    fail: text('faults, with commas between', { value: 'LIST' }),
    limit: whole('events that the form chrome keeps', { min: 1, max: 2 ** 24, preset: 1_000_000 }),
  },
  operands: 'SCRIPT [ARGUMENT…]',
  traced: false,
  async run({ program, values, operands }) {
    const [script, ...rest] = operands
    if (script === undefined) throw new UsageError(`${program}: no script given. See ${program} --help.`)
    const path = resolve(script)
    if (!existsSync(path)) throw new CheckError(`${program}: there is no file ${script}`)
    Tracing.begin({
      program,
      file: values.output,
      format: values.format === 'auto' ? undefined : (values.format as TraceFormat),
      time: values.time,
      limit: values.limit,
      wanted: selector(values.only, values.domid),
      faults: readFaults(program, values.fail),
    })
    process.argv = [process.argv[0]!, path, ...rest]
    await import(pathToFileURL(path).href)
    return Number(process.exitCode ?? 0)
  },
})
