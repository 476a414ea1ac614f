/**
 * The library's own FIFO code, one memory access at a time.
 *
 * assembly/guest/fifo.ts and the class FifoPortOps of src/domain/fifo.ts are read as text and turned into generators: every call that
 * touches guest memory or waits for a queue lock becomes a point where another thread may run. Nothing is written anew,
 * so what is explored is what ships; a test compares it with the compiled core as well.
 *
 *     read(word) & MASKED          →   (yield* read(word)) & MASKED            a step
 *     this.#core.fifoRaise(word)   →   (yield* this.#core.fifoRaise(word))     as many steps as fifoRaise has
 *
 * What is private to the hypervisor belongs to the step before it, which the queue locks justify.
 */

import { readFileSync } from 'node:fs'
import ts from 'typescript'
import * as abi from '../../src/abi/index.js'
import { FifoState } from '../../src/domain/fifo.js'

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

/** Calls that are points of interruption, in either source. */
const STEPPING = new Set([
  ...['read', 'write', 'fetchOr', 'fetchAnd', 'take', 'compareExchange'],
  ...['fifoRaise', 'fifoSetLink', 'fifoSetHead', 'fifoReady', 'bitSet', 'bitClear', 'bitTest'],
  ...['lock', '#raise', '#link', '#test', 'setPending'],
])

const calleeOf = (node: ts.Expression): string =>
  ts.isIdentifier(node) ? node.text : ts.isPropertyAccessExpression(node) ? node.name.text : ''

/** Makes generators of functions and methods that hold a stepping call, and marks the calls. */
function stepping(context: ts.TransformationContext): ts.Transformer<ts.SourceFile> {
  const { factory } = context
  const holds = (node: ts.Node): boolean =>
    (ts.isCallExpression(node) && STEPPING.has(calleeOf(node.expression))) ||
    (ts.forEachChild(node, (child) => holds(child) || undefined) ?? false)
  const visit = (node: ts.Node): ts.Node => {
    const seen = ts.visitEachChild(node, visit, context)
    const star = factory.createToken(ts.SyntaxKind.AsteriskToken)
    if (ts.isFunctionDeclaration(seen) && seen.body && holds(node))
      return factory.updateFunctionDeclaration(
        seen,
        undefined,
        star,
        seen.name,
        undefined,
        seen.parameters,
        undefined,
        seen.body,
      )
    if (ts.isMethodDeclaration(seen) && holds(node))
      return factory.updateMethodDeclaration(
        seen,
        undefined,
        star,
        seen.name,
        undefined,
        undefined,
        seen.parameters,
        undefined,
        seen.body,
      )
    if (ts.isCallExpression(seen) && STEPPING.has(calleeOf(seen.expression)))
      return factory.createParenthesizedExpression(factory.createYieldExpression(star, seen))
    return seen
  }
  return (file) => ts.visitNode(file, visit) as ts.SourceFile
}

/** Source text → a function of its imports that answers its exports. */
/** Replaces a passage of a source before it is read: how a test shows that something matters. */
export type Edit = readonly [from: string, to: string]

function compile(
  file: string,
  names: readonly string[],
  exported: readonly string[],
  edits: readonly Edit[],
): (imports: object) => Record<string, unknown> {
  let text = readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8')
  for (const [from, to] of edits) {
    if (!text.includes(from)) throw new Error(`${file} has no passage ${JSON.stringify(from)}`)
    text = text.replace(from, () => to)
  }
  const parsed = ts.createSourceFile(file, text, ts.ScriptTarget.ES2022, true)
  const { transformed } = ts.transform(parsed, [stepping])
  const source = ts
    .createPrinter()
    .printFile(transformed[0]!)
    .replace(/^import [^;]*?from '[^']*';?$/gm, '')
  const plain = ts.transpileModule(source, {
    compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext },
  })
  const body = plain.outputText.replace(/^export /gm, '')
  const make = new Function(...names, `${body}; return { ${exported.join(', ')} }`)
  return (imports) =>
    make(...names.map((name) => (imports as Record<string, unknown>)[name])) as Record<string, unknown>
}

const CORE_NAMES = ['read', 'write', 'fetchOr', 'fetchAnd', 'take', 'compareExchange', 'load', 'store', 'ctz']
const CORE = ['fifoRaise', 'fifoSetLink', 'fifoSetHead', 'fifoReady', 'fifoUnmask', 'fifoScan']
const OPS_NAMES = [...Object.keys(abi), 'sharedInts']

/** Both sources, ready to be given a memory. */
export interface Sources {
  readonly core: (imports: object) => Record<string, unknown>
  readonly FifoPortOps: new (to: object, bits: number, state: object) => SteppedOps
}

/** Reads the sources, with changes if a test wants to see them fail. */
export function readSources(edits: { core?: readonly Edit[]; ops?: readonly Edit[] } = {}): Sources {
  return {
    core: compile('assembly/guest/fifo.ts', CORE_NAMES, CORE, edits.core ?? []),
    ...(compile(
      'src/domain/fifo.ts',
      OPS_NAMES,
      ['FifoPortOps'],
      edits.ops ?? [],
    )({
      ...abi,
      sharedInts: (length: number) => new Int32Array(length),
    }) as Pick<Sources, 'FifoPortOps'>),
  }
}

/** The sources as they are. */
export const shipped: Sources = readSources()

/** The core's functions as generators, over a memory of plain words. */
export interface SteppedCore {
  fifoRaise(word: number): Steps<number>
  fifoSetLink(tail: number, port: number): Steps<number>
  fifoSetHead(block: number, priority: number, port: number): Steps<void>
  fifoReady(block: number, priority: number, upcall: number): Steps<number>
  fifoUnmask(word: number): Steps<number>
  fifoScan(descriptor: number, out: number, max: number): Steps<number>
  bitSet(word: number, bit: number): Steps<number>
  bitClear(word: number, bit: number): Steps<number>
  bitTest(word: number, bit: number): Steps<number>
}

/** The hypervisor's operations as generators. */
export interface SteppedOps {
  setPending(port: number): Steps<void>
  unmask(port: number): Steps<void>
  clearPending(port: number): Steps<void>
}

/** Bytes of memory in words, and who touched what. */
export class SteppedMemory {
  readonly words: Int32Array
  /** Byte addresses that were written since the last look. */
  readonly written = new Set<number>()
  /** What the running thread has read: with it, a thread is where it is. */
  onRead: (value: number) => void = () => {}

  constructor(bytes: number) {
    this.words = new Int32Array(bytes / 4)
  }

  *access(what: string, at: number, change: (old: number) => number): Steps<number> {
    yield { label: what, at }
    const old = this.words[at >>> 2]!
    const next = change(old) | 0
    if (next !== old) {
      this.words[at >>> 2] = next
      this.written.add(at & ~3)
    }
    this.onRead(old)
    return old
  }

  /** The core over this memory. The upcall flag is the one byte that is touched: bit 0 of its word. */
  core({ core }: Sources = shipped): SteppedCore {
    const access = this.access.bind(this)
    const { words } = this
    const bit = (n: number) => 1 << n
    return {
      ...core({
        read: (at: number) => access('load', at, (old) => old),
        write: (at: number, value: number) => access('store', at, () => value),
        fetchOr: (at: number, mask: number) => access('or', at, (old) => old | mask),
        fetchAnd: (at: number, mask: number) => access('and', at, (old) => old & mask),
        take: (at: number) => access('take', at, () => 0),
        compareExchange: (at: number, expected: number, next: number) =>
          access('swap', at, (old) => (old === expected ? next : old)),
        load: (at: number) => words[at >>> 2]!,
        store: (at: number, value: number) => {
          words[at >>> 2] = value
        },
        ctz: (value: number) => 31 - Math.clz32(value & -value),
      }),
      *bitSet(at: number, n: number): Steps<number> {
        return (yield* access('or', at, (old) => old | bit(n))) & bit(n) ? 1 : 0
      },
      *bitClear(at: number, n: number): Steps<number> {
        return (yield* access('and', at, (old) => old & ~bit(n))) & bit(n) ? 1 : 0
      },
      *bitTest(at: number, n: number): Steps<number> {
        return (yield* access('load', at, (old) => old)) & bit(n) ? 1 : 0
      },
    } as SteppedCore
  }
}

/** FifoState whose queue locks are waited for. */
export class SteppedState extends FifoState {
  readonly held = new Set<number>()

  // biome-ignore lint/suspicious/noExplicitAny: a generator takes the place of a plain method
  override lock(one: number, other: number): any {
    return this.#lock(Math.min(one, other), Math.max(one, other))
  }
  *#lock(first: number, second: number): Steps<void> {
    for (const queue of first === second ? [first] : [first, second]) {
      yield { label: `lock queue ${queue}`, ready: () => !this.held.has(queue) }
      this.held.add(queue)
    }
  }
  override unlock(one: number, other: number): void {
    this.held.delete(one)
    this.held.delete(other)
  }
}

/** FifoPortOps over a stepped core. `to` is a Delivery whose core is stepped. */
export function steppedOps(to: object, state: SteppedState, { FifoPortOps }: Sources = shipped): SteppedOps {
  return new FifoPortOps(to, 64, state)
}

/** Runs to the end; `before` sees each step before it is taken. */
export function runThrough<T>(steps: Steps<T>, before: (step: Step) => void = () => {}): T {
  for (;;) {
    const { done, value } = steps.next(0)
    if (done) return value as T
    before(value as Step)
  }
}
