/**
 * The C program (bench/levels/native): one long-lived process per depth in a group, a command and an answer a line, so that its
 * rounds interleave with the others'. It checks its own results.
 */

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { CheckError } from '../../../src/cli/errors.js'
import { CHECKED_LISTS, NAMES, type Op, type Runner, type Task } from '../contender.js'
import { rangeOf } from '../plan.js'

/** Compiled for any processor, or for this one. */
export type Target = 'any' | 'own'

const programOf = (levels: number, bits: number, target: Target) =>
  fileURLToPath(new URL(`../levels-${levels}-${bits}-${target}`, import.meta.url))

/** True if the build found a C compiler. */
export const hasNative = (): boolean => existsSync(programOf(2, 64, 'any'))

export class NativeRunner implements Runner {
  readonly name: string
  readonly remote = true
  readonly levels: number
  readonly events: number
  readonly #program: ChildProcessWithoutNullStreams
  readonly #lines: AsyncIterator<string>
  readonly #task: Task

  constructor(task: Task, target: Target) {
    this.name = target === 'any' ? NAMES.native : NAMES.nativeOwn
    const { group, levels, bits, seed } = task
    const { trees, lists, k, placement } = group
    const how = placement === 'clustered' ? 'clustered' : 'spread'
    this.levels = levels
    this.events = trees * k
    this.#task = task
    this.#program = spawn(
      programOf(levels, bits, target),
      [trees, lists, k, how, rangeOf(bits, levels, placement, k), seed].map(String),
    )
    this.#lines = createInterface(this.#program.stdout)[Symbol.asyncIterator]()
  }

  async check(): Promise<number> {
    const [ok, digest] = (await this.#ask(`check ${CHECKED_LISTS}`)).split(' ')
    if (ok !== 'ok') throw this.#wrong(`${ok} ${digest}`)
    return Number(digest)
  }

  async sample(op: Op, cycles: number, limit: number): Promise<number> {
    const answer = await this.#ask(`${op} ${cycles} ${Math.ceil(limit)}`)
    if (answer.startsWith('wrong')) throw this.#wrong(answer)
    // `nan` where no cycle counted.
    return Number(answer)
  }

  close(): void {
    this.#program.stdin.end()
  }

  async #ask(command: string): Promise<string> {
    this.#program.stdin.write(`${command}\n`)
    const line = await this.#lines.next()
    if (!line.done) return line.value
    if (this.#program.exitCode === null) await once(this.#program, 'exit')
    throw this.#wrong(`ended with ${this.#program.signalCode ?? this.#program.exitCode}`)
  }

  #wrong(what: string): CheckError {
    const { bits, k, placement } = this.#task.group
    return new CheckError(`C, ${this.levels} levels, ${bits}-bit words, ${k} ports ${placement}: ${what}`)
  }
}
