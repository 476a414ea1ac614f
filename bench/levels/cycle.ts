/**
 * How a time is measured, in this process and in the same way by bench/levels/native/main.c.
 *
 * A scan needs pending ports, and a send needs ports that are not pending, so the unit is a cycle: raise, then scan. One
 * of its halves is timed. Three things would spoil that time, and are dealt with here:
 *
 *   - The clock costs 40 ns to read and a scan that finds one port takes 15. So with few pending ports a cycle raises and
 *     scans several trees, 16 for one port and 4 for 16, few enough to stay in the cache; and directly before the timed
 *     region a region over no trees at all is timed, which costs the clock and the call, and subtracted. One more before
 *     it, untimed, has their code in the cache.
 *   - A branch predictor learns what repeats: with four sets of 4,096 ports in turn a scan seems twice as fast as it is.
 *     So each cycle raises another list, and 4,096 sets of ports, or 65,536 ports, pass before the first comes again.
 *   - Other programs run too. So a sample is many cycles, a cycle whose region took far longer than it does (its `limit`)
 *     does not count, and what is compared are samples of one round (rounds.ts). What a garbage collection takes goes
 *     uncounted with it, in favour of the sets that allocate.
 */

import { CheckError } from '../../src/cli/errors.js'
import { CHECKED_LISTS, type Contender, type Op, type Runner, type Task } from './contender.js'

/** Puts the cycle around a contender. */
export class LocalRunner implements Runner {
  readonly remote = false
  readonly levels: number
  readonly events: number
  readonly #task: Task
  readonly #contender: Contender

  constructor(
    readonly name: string,
    task: Task,
    contender: Contender,
  ) {
    this.levels = task.levels
    this.events = contender.trees * task.group.k
    this.#task = task
    this.#contender = contender
  }

  sample(op: Op, cycles: number, limit: number): number {
    const contender = this.#contender
    const { trees } = contender
    const { k, lists } = this.#task.group
    const most = limit / 1e6
    let spent = 0
    let counted = 0
    for (let cycle = 0; cycle < cycles; cycle++) {
      const list = cycle % lists
      let told: number
      let total: number
      let empty: number
      let begin: number
      let end: number
      if (op === 'send') {
        performance.now()
        contender.send(list, 0)
        empty = performance.now()
        contender.send(list, 0)
        begin = performance.now()
        told = contender.send(list, trees)
        end = performance.now()
        total = contender.scan(trees)
      } else {
        told = contender.send(list, trees)
        performance.now()
        contender.scan(0)
        empty = performance.now()
        contender.scan(0)
        begin = performance.now()
        total = contender.scan(trees)
        end = performance.now()
      }
      if (told !== trees) throw this.#wrong(`told ${told} vCPUs of ${trees}`, list)
      if (total !== trees * k) throw this.#wrong(`delivered ${total} ports of ${trees * k}`, list)
      if (end - begin > most || begin - empty > most) continue
      spent += end - begin - (begin - empty)
      counted++
    }
    return (spent * 1e6) / (counted * trees * k)
  }

  check(): number | undefined {
    const contender = this.#contender
    contender.rewind?.()
    let digest = 0x811c9dc5
    const lists = Math.min(this.#task.group.lists, CHECKED_LISTS)
    for (let list = 0; list < lists; list++) {
      contender.send(list, contender.trees)
      contender.scan(contender.trees)
      for (let tree = 0; tree < contender.trees; tree++) {
        const delivered = Uint32Array.from(contender.delivered(tree)).subarray(0, this.#task.group.k)
        for (const port of delivered) digest = Math.imul(digest ^ port, 0x01000193)
        this.#compare(delivered, list, tree)
      }
    }
    if (contender.short) for (let list = 0; list < lists; list++) this.#checkShort(contender, list)
    return contender.rewind ? digest >>> 0 : undefined
  }

  /** The same with a buffer of 7 ports: what a full buffer ends must be given back, or later scans miss it. */
  #checkShort(contender: Contender, list: number): void {
    contender.send(list, contender.trees)
    for (let tree = 0; tree < contender.trees; tree++) {
      const delivered: number[] = []
      for (let part = contender.short!(tree, 7); part.length > 0; part = contender.short!(tree, 7))
        delivered.push(...Array.from(part))
      this.#compare(Uint32Array.from(delivered), list, tree)
    }
  }

  /** Throws unless the ports are those of the list. */
  #compare(delivered: Uint32Array, list: number, tree: number): void {
    const { k, trees } = this.#task.group
    const at = (list * trees + tree) * k
    const sent = this.#task.ports.slice(at, at + k).sort()
    delivered.sort()
    if (delivered.length !== k || sent.some((port, i) => port !== delivered[i]))
      throw this.#wrong(`the ports delivered are not the ports sent, tree ${tree}`, list)
  }

  close(): void {}

  #wrong(what: string, list: number): CheckError {
    const { bits, k, placement } = this.#task.group
    const where = `${this.name}, ${this.levels} levels, ${bits}-bit words, ${k} ports ${placement}, list ${list}`
    return new CheckError(`${where}: ${what}`)
  }
}
