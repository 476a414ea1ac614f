/** Programs that a host has started: they end with it, and none is left behind. */

import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process'
import type { Program } from './program.js'

/** How long a program may take to end after SIGTERM. */
const PATIENCE_MS = 1000

/** The children of one host. */
export class Children {
  readonly #running = new Set<ChildProcess>()

  /** Starts a program. Its end takes it off the list. */
  start({ command, args, env }: Program, stdio: StdioOptions = 'inherit'): ChildProcess {
    const child = spawn(command, args, { env, stdio })
    this.#running.add(child)
    const ended = () => this.#running.delete(child)
    child.once('exit', ended)
    child.once('error', ended)
    return child
  }

  /** Runs a program to its end; resolves to its exit code, 128 and the signal's number if one ended it, 127 if it is not there. */
  run(program: Program, stdio?: StdioOptions): Promise<number> {
    return new Promise((resolve) => {
      const child = this.start(program, stdio)
      child.once('error', (error: NodeJS.ErrnoException) => {
        process.stderr.write(`${program.command}: ${error.message}\n`)
        resolve(error.code === 'ENOENT' ? 127 : 126)
      })
      child.once('exit', (code, signal) => resolve(code ?? 128 + (signal ? (SIGNALS[signal] ?? 0) : 0)))
    })
  }

  /** Ends all: SIGTERM, and SIGKILL for those that stay. */
  async close(): Promise<void> {
    const ends = [...this.#running].map(
      (child) =>
        new Promise<void>((resolve) => {
          const kill = setTimeout(() => child.kill('SIGKILL'), PATIENCE_MS)
          child.once('exit', () => {
            clearTimeout(kill)
            resolve()
          })
          child.kill('SIGTERM')
        }),
    )
    await Promise.all(ends)
  }
}

const SIGNALS: Partial<Record<NodeJS.Signals, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGABRT: 6,
  SIGKILL: 9,
  SIGSEGV: 11,
  SIGPIPE: 13,
  SIGTERM: 15,
}
