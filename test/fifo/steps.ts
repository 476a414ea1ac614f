/**
 * The library's own code, one memory access at a time: both cores, as they ship.
 *
 * The sources of assembly/guest and assembly/host are read as text and turned into generators: every atomic access, every
 * call of a guest's core and every wait for a queue lock becomes a point where another thread may run. Nothing is written
 * anew, so what is explored is what ships; a test compares it with the compiled cores as well.
 *
 *     read(word) & MASKED                  →   (yield* read(word)) & MASKED                a step
 *     call_indirect(f + FIFO_RAISE, word)  →   (yield* call_indirect(f + FIFO_RAISE, …))   as many as fifoRaise has
 *
 * Plain loads and stores of private state belong to the step before them: queue locks, or the delivery lock, justify it.
 */

import { readFileSync } from 'node:fs'
import ts from 'typescript'
import { SLOTS } from '../../src/machine/host_layout.js'

/**
 * One access that is about to happen; `ready` says whether it can, `ways` in how many ways it may go. `fresh`: nothing
 * that the thread has read matters any more; the number says where in its code it is.
 */
export interface Step {
  readonly label: string
  /** The address, for those that have one. */
  readonly at?: number
  readonly ready?: () => boolean
  readonly ways?: number
  readonly fresh?: number
}

/** A run of code that stops before every access. Gets back which way to go. */
export type Steps<T> = Generator<Step, T, number>

/** Calls that are points of interruption; so is every function that has one. */
const ACCESSES = ['read', 'write', 'fetchOr', 'fetchAnd', 'take', 'compareExchange', 'exchange', 'add']
const STEPPING = [...ACCESSES, 'call_indirect', 'lock']

/** Replaces a passage of a source before it is read: how a test shows that something matters. */
export type Edit = readonly [from: string, to: string]

const GUEST = ['fifo', 'levels', 'scan'].map((name) => `assembly/guest/${name}.ts`)
const HOST = ['layout', 'ports', 'poll', 'levels', 'fifo', 'operations', 'index'].map(
  (name) => `assembly/host/${name}.ts`,
)

const sourceOf = (files: readonly string[]) =>
  files.map((file) => readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8')).join('\n')

/** The text of some files in one scope, as TypeScript. Each edit must match somewhere. */
function textOf(files: readonly string[], edits: readonly Edit[]): string {
  let text = sourceOf(files)
  for (const [from, to] of edits) {
    if (!text.includes(from)) throw new Error(`no source has the passage ${JSON.stringify(from)}`)
    text = text.replace(from, () => to)
  }
  return (
    text
      .replace(/^\/\/ @ts-ignore: decorator\n@inline\n/gm, '')
      .replace(/^(import|export) \{[^}]*\} from '[^']*'$/gm, '')
      // Words are numbers here, whatever their width; and the printer mistakes `x << (f<T>() - 3)` for a list of types.
      .replace(/(\w)<(?:T|u8|u32|u64|i32)>\(/g, '$1(')
  )
}

const calleeOf = (node: ts.Expression): string => (ts.isIdentifier(node) ? node.text : '')

/** Makes generators of functions that hold a stepping call, and marks the calls. */
function stepping(context: ts.TransformationContext): ts.Transformer<ts.SourceFile> {
  const { factory } = context
  return (file) => {
    const names = new Set(STEPPING)
    const holds = (node: ts.Node): boolean =>
      (ts.isCallExpression(node) && names.has(calleeOf(node.expression))) ||
      (ts.forEachChild(node, (child) => holds(child) || undefined) ?? false)
    const functions = file.statements.filter(ts.isFunctionDeclaration)
    for (let more = true; more; ) {
      const found = functions.filter((each) => !names.has(each.name!.text) && holds(each.body!))
      for (const each of found) names.add(each.name!.text)
      more = found.length > 0
    }
    const star = factory.createToken(ts.SyntaxKind.AsteriskToken)
    const visit = (node: ts.Node): ts.Node => {
      const seen = ts.visitEachChild(node, visit, context)
      if (ts.isFunctionDeclaration(seen) && names.has(seen.name!.text))
        return factory.updateFunctionDeclaration(
          seen,
          seen.modifiers,
          star,
          seen.name,
          undefined,
          seen.parameters,
          undefined,
          seen.body,
        )
      if (ts.isCallExpression(seen) && names.has(calleeOf(seen.expression)))
        return factory.createParenthesizedExpression(factory.createYieldExpression(star, seen))
      return seen
    }
    return ts.visitNode(file, visit) as ts.SourceFile
  }
}

/** Source text → a function of its imports that returns its exports. */
function compile(files: readonly string[], names: readonly string[], edits: readonly Edit[]) {
  const parsed = ts.createSourceFile('core.ts', textOf(files, edits), ts.ScriptTarget.ES2022, true)
  const { transformed } = ts.transform(parsed, [stepping])
  const source = ts.createPrinter().printFile(transformed[0]!)
  const plain = ts.transpileModule(source, {
    compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext },
  })
  const exported = [...plain.outputText.matchAll(/^export (?:function\*?|const) (\w+)/gm)].map(([, name]) => name!)
  const body = plain.outputText.replace(/^export /gm, '')
  const make = new Function(...names, `${body}; return { ${exported.join(', ')} }`)
  return (imports: object): unknown => make(...names.map((name) => (imports as Record<string, unknown>)[name]))
}

const BUILTINS = ['load', 'store', 'ctz', 'popcnt', 'sizeof', 'below', 'min', 'max', 'THREADS', 'atomic']

/** What the cores of a world work on. */
export interface Machine {
  readonly guest: SteppedMemory
  readonly private: SteppedMemory
  /** Queue locks that are held. */
  readonly held: Set<number>
}

/** Both cores. They are made once; `machine` is the one whose code runs, set before each step. */
export interface Sources {
  readonly core: SteppedCore
  readonly host: SteppedHost
  machine: Machine | undefined
}

/** Reads the sources, with changes if a test wants to see them fail. */
export function readSources(edits: { core?: readonly Edit[]; host?: readonly Edit[] } = {}): Sources {
  const unknown = (edits.core ?? []).find(([from]) => !sourceOf(GUEST).includes(from))
  if (unknown) throw new Error(`no source has the passage ${JSON.stringify(unknown[0])}`)
  const it = { machine: undefined as Machine | undefined }
  const guest = () => it.machine!.guest
  const own = () => it.machine!.private
  // Each file of the guest core has constants of its own.
  const core: Record<string, unknown> = {}
  for (const file of GUEST) {
    const text = readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8')
    const here = (edits.core ?? []).filter(([from]) => text.includes(from))
    const made = compile([file], [...ACCESSES, ...BUILTINS], here)
    Object.assign(core, made({ ...atomics(guest), ...builtins(guest) }))
  }
  const slots = SLOTS.map((name) => core[name] as (...args: number[]) => unknown)
  const host = compile(
    HOST,
    [...ACCESSES, ...BUILTINS, 'call_indirect', 'lock', 'unlock'],
    edits.host ?? [],
  )({
    ...atomics(own),
    ...builtins(own),
    call_indirect: (slot: number, ...args: number[]) => slots[slot]!(...args),
    *lock(at: number): Steps<void> {
      const { held } = it.machine!
      yield { label: 'lock', at, ready: () => !held.has(at) }
      held.add(at)
    },
    unlock: (at: number) => it.machine!.held.delete(at),
  })
  return Object.assign(it, { core: core as unknown as SteppedCore, host: host as SteppedHost })
}

/** The guest core's functions as generators, over a memory of plain words. */
export interface SteppedCore {
  fifoRaise(word: number): Steps<number>
  fifoSetLink(tail: number, port: number): Steps<number>
  fifoSetHead(block: number, priority: number, port: number): Steps<void>
  fifoReady(block: number, priority: number, upcall: number): Steps<number>
  fifoUnmask(word: number): Steps<number>
  fifoScan(descriptor: number, out: number, max: number): Steps<number>
  scan2x32(descriptor: number, out: number, max: number): Steps<number>
  scan3x32(descriptor: number, out: number, max: number): Steps<number>
  leafSet(pending: number, mask: number, port: number): Steps<number>
  leafUnmask(pending: number, mask: number, port: number): Steps<number>
  bitSet(word: number, bit: number): Steps<number>
  bitClear(word: number, bit: number): Steps<number>
  bitTest(word: number, bit: number): Steps<number>
}

/** The host core's functions as generators, over private words. `dom` is the address of a record. */
export interface SteppedHost {
  raise(dom: number, port: number): Steps<number>
  send(dom: number, port: number): Steps<number>
  unmask(dom: number, port: number): Steps<number>
  clear(dom: number, port: number): Steps<number>
  bits(dom: number, port: number): Steps<number>
  climbAgain(dom: number, port: number): Steps<number>
  startPoll(dom: number, vcpu: number, port: number): Steps<void>
  wake(dom: number, vcpu: number): Steps<number>
  wakePoller(dom: number, port: number, from: number): Steps<number>
}

const builtins = (memory: () => SteppedMemory) => ({
  load: (at: number, offset = 0) => memory().words[(at + offset) >>> 2]!,
  store: (at: number, value: number, offset = 0) => {
    memory().words[(at + offset) >>> 2] = value
  },
  ctz: (value: number) => 31 - Math.clz32(value & -value),
  popcnt: (value: number) => {
    let count = 0
    for (let left = value; left; left &= left - 1) count++
    return count
  },
  sizeof: () => 4,
  below: (bit: number) => (1 << bit) - 1,
  min: Math.min,
  max: Math.max,
  THREADS: 1,
  /** Who sleeps is no part of this. */
  atomic: { notify: () => 0 },
})

/** bitops.ts over a memory. The upcall flag is the one byte that is touched: bit 0 of its word. */
const atomics = (memory: () => SteppedMemory) => ({
  read: (at: number) => memory().access('load', at, (old) => old),
  write: (at: number, value: number) => memory().access('store', at, () => value),
  fetchOr: (at: number, mask: number) => memory().access('or', at, (old) => old | mask),
  fetchAnd: (at: number, mask: number) => memory().access('and', at, (old) => old & mask),
  take: (at: number) => memory().access('take', at, () => 0),
  exchange: (at: number, value: number) => memory().access('exchange', at, () => value),
  add: (at: number, value: number) => memory().access('add', at, (old) => old + value),
  compareExchange: (at: number, expected: number, next: number) =>
    memory().access('swap', at, (old) => (old === expected ? next : old)),
})

/** Bytes of memory in words, and who touched what. */
export class SteppedMemory {
  readonly words: Int32Array
  /** Addresses whose accesses belong to the step before: counts that only grow, say. */
  readonly silent = new Set<number>()
  /** Byte addresses that were written since the last look. */
  readonly written = new Set<number>()
  /** What the running thread has read: with it, a thread is where it is. */
  onRead: (value: number) => void = () => {}

  readonly #prefix: string

  /** `prefix` begins the labels of its steps. */
  constructor(bytes: number, prefix = '') {
    this.words = new Int32Array(bytes / 4)
    this.#prefix = prefix
  }

  *access(what: string, at: number, change: (old: number) => number): Steps<number> {
    if (!this.silent.has(at)) yield { label: this.#prefix + what, at }
    const old = this.words[at >>> 2]!
    const next = change(old) | 0
    if (next !== old) {
      this.words[at >>> 2] = next
      this.written.add(at & ~3)
    }
    if (!this.silent.has(at)) this.onRead(old)
    return old
  }
}

/** The sources as they are. */
export const shipped: Sources = readSources()

/** Runs to the end; `before` sees each step before it is taken. */
export function runThrough<T>(steps: Steps<T>, before: (step: Step) => void = () => {}): T {
  for (;;) {
    const { done, value } = steps.next(0)
    if (done) return value as T
    before(value as Step)
  }
}
