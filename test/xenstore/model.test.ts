/** Random requests by several connections, with transactions, against the plain model. A failure prints its seed. */
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { insideStore } from '../../src/xenstore/server.js'
import { walk } from '../../src/xenstore/tree.js'
import { Model, type Op, type Told } from './model.js'
import { Script } from './script.js'

const WATCHED = ['/', '/a', '/a/b', '/a/b/c', '/d', '/a/x/y']
const PATHS = ['/', '/a', '/a/b', '/a/b/c', '/a/x', '/a/x/y', '/d', '/d/e', '/d/f', '/tool']

interface Step {
  who: number
  /** Which of the open transactions; none is outside. */
  inside: number
  op: Op | 'start' | 'commit' | 'abort'
}

const kind = fc.constantFrom<Op['kind']>('READ', 'WRITE', 'WRITE', 'MKDIR', 'RM', 'DIRECTORY', 'GET_PERMS', 'SET_PERMS')
const op = fc.record({ kind, path: fc.constantFrom(...PATHS), value: fc.constantFrom('', 'x', 'yy') })
const step: fc.Arbitrary<Step> = fc.record({
  who: fc.nat(2),
  inside: fc.nat(3),
  op: fc.oneof(
    { weight: 12, arbitrary: op },
    { weight: 2, arbitrary: fc.constant('start' as const) },
    { weight: 3, arbitrary: fc.constant('commit' as const) },
    { weight: 1, arbitrary: fc.constant('abort' as const) },
  ),
})

/** A transaction under way: what it asked, what it was told, and what others changed meanwhile. */
interface Open {
  id: number
  who: string
  ops: Op[]
  replies: string[]
  changed: Set<string>
}

/** Could a change of these paths concern a request at that path? */
const near = (path: string, changed: Set<string>) =>
  [...changed].some(
    (each) => `${path}/`.startsWith(`${each === '/' ? '' : each}/`) || each.startsWith(path === '/' ? '/' : `${path}/`),
  )

class Run {
  readonly script = new Script({}, 'a', 'b', 'c', 'w')
  readonly model = new Model()
  readonly open: Open[] = []
  committed = 0
  refused = 0

  constructor() {
    for (const path of WATCHED) this.script.send('w', 0, 'WATCH', `${path}|${path}|`)
  }

  /** Events for what was told, in the order of registration. */
  events(told: readonly Told[]): string[] {
    return told.flatMap(({ path, exact }) =>
      WATCHED.filter((each) => each === path || (!exact && (each === '/' || path.startsWith(`${each}/`)))).map(
        (each) => `w ${path}|${each}|`,
      ),
    )
  }
  ask(who: string, id: number, { kind: request, path, value }: Op): string {
    const payload = { WRITE: `${path}|${value}`, SET_PERMS: `${path}|${value === 'x' ? 'r0' : 'n0'}|r${value.length}|` }
    this.script.log = []
    return this.script.ask(who, id, request, payload[request as 'WRITE'] ?? `${path}|`)
  }
  heard(): string[] {
    return this.script.log.filter((line) => !line.startsWith('*'))
  }
  changed(by: Open | null, paths: readonly string[]): void {
    for (const each of this.open) if (each !== by) for (const path of paths) each.changed.add(path)
  }

  step({ who: number, inside, op: what }: Step): void {
    const who = 'abc'[number]!
    const own = this.open.filter((each) => each.who === who)
    const transaction = own[inside] ?? null
    if (what === 'start') {
      const id = Number(this.script.ask(who, 0, 'TRANSACTION_START', '|').slice(0, -1))
      this.open.push({ id, who, ops: [], replies: [], changed: new Set() })
    } else if (typeof what === 'string') {
      const ending = transaction ?? own[0]
      if (ending) this.end(ending, what === 'commit')
    } else if (transaction) {
      transaction.ops.push(what)
      transaction.replies.push(this.ask(who, transaction.id, what))
      expect(this.heard()).toEqual([])
    } else {
      const reply = this.ask(who, 0, what)
      const expected = this.model.run(what)
      expect(reply).toBe(expected.reply)
      expect(this.heard()).toEqual(this.events(expected.told))
      this.changed(null, this.model.touched)
    }
  }

  end(transaction: Open, commit: boolean): void {
    this.open.splice(this.open.indexOf(transaction), 1)
    this.script.log = []
    const reply = this.script.ask(transaction.who, transaction.id, 'TRANSACTION_END', commit ? 'T|' : 'F|')
    const heard = this.heard()
    if (!commit) expect(reply).toBe('OK|')
    if (!commit || reply === 'EAGAIN') {
      expect(heard).toEqual([])
      // A conflict is never invented: somebody changed something near what was looked at.
      if (!commit) return
      this.refused++
      expect(transaction.ops.some(({ path }) => near(path, transaction.changed))).toBe(true)
      return
    }
    this.committed++
    expect(reply).toBe('OK|')
    const { replies, told } = this.model.commit(transaction.ops)
    // The requests saw what they would have seen one after the other at this moment: the commits are a serial order.
    expect(transaction.replies).toEqual(replies)
    expect(heard.sort()).toEqual(this.events(told).sort())
    this.changed(transaction, this.model.touched)
  }

  finish(): void {
    for (const transaction of [...this.open]) this.end(transaction, false)
    const nodes = [...walk('/', insideStore(this.script.server).store.root)].map(({ path, node }) => [path, node.value])
    expect(Object.fromEntries(nodes)).toEqual(
      Object.fromEntries([...this.model.nodes].map(([path, { value }]) => [path, value])),
    )
    this.script.sound()
  }
}

it('XS-tx-2 to XS-tx-8: committed transactions are a serial order, aborted ones leave nothing, events fit', () => {
  let committed = 0
  let refused = 0
  fc.assert(
    fc.property(fc.array(step, { minLength: 20, maxLength: 80 }), (steps) => {
      const run = new Run()
      for (const each of steps) run.step(each)
      run.finish()
      committed += run.committed
      refused += run.refused
    }),
    { numRuns: 1500 },
  )
  // The steps are such that both outcomes are common.
  expect(committed).toBeGreaterThan(1000)
  expect(refused).toBeGreaterThan(200)
})
