/**
 * A small FIFO domain whose code runs step by step (steps.ts): event words, control blocks and flags in a memory of plain
 * words, a real port table, real private state, and threads for senders and for the guest.
 *
 *     0    event words of ports 0 … 63       512  upcall flags, a word a vCPU · 832 table of pages
 *     256  control blocks, 128 bytes each    576  scan descriptors, 128 bytes each · 896 output, 64 bytes a vCPU
 */

import { ECS } from '../../src/abi/index.js'
import { PortTable } from '../../src/domain/port_table.js'
import type { GuestMemory } from '../../src/machine/memory.js'
import type { Thread, World } from './runs.js'
import {
  type Sources,
  type Step,
  type SteppedCore,
  SteppedMemory,
  type SteppedOps,
  SteppedState,
  type Steps,
  shipped,
  steppedOps,
} from './steps.js'

export const PENDING = 1 << 31
export const MASKED = 1 << 30
export const LINKED = 1 << 29
export const BUSY = 1 << 28
export const LINK = 0x1_ffff

const BLOCKS = 256
const FLAGS = 512
const DESCRIPTORS = 576
const TABLE = 832
const OUT = 896
const BYTES = 1024
/** Priorities that scenarios use. */
const QUEUES = [0, 1, 2, 3, 4, 7]

/** What a scenario is made of. */
export interface Shape {
  vcpus?: number
  /** Ports 1 … this one are used. */
  ports: number
  sources?: Sources | undefined
}

/** The domain and its surroundings. A scenario adds threads. */
export class FifoWorld implements World {
  readonly memory = new SteppedMemory(BYTES)
  readonly core: SteppedCore
  readonly state: SteppedState
  readonly ops: SteppedOps
  readonly table = new PortTable()
  readonly threads: Thread[] = []
  /** Ports handed to handlers, in order. */
  readonly served: number[] = []
  /** Ports whose pollers were woken, and whether they were to be found then. */
  readonly polled: { port: number; found: boolean }[] = []
  /** The order of service matters to the verdict: it tells states apart. */
  remembersOrder = false
  invariant?: () => string | null
  verdict: () => string | null = () => this.lost()
  readonly #ports: number
  readonly #vcpus: number

  constructor({ vcpus = 1, ports, sources = shipped }: Shape) {
    this.#ports = ports
    this.#vcpus = vcpus
    this.core = this.memory.core(sources)
    this.state = new SteppedState(vcpus)
    const nowhere = { hold: () => {} } as unknown as GuestMemory
    this.state.addPage(nowhere, 0, 0)
    for (let vcpu = 0; vcpu < vcpus; vcpu++) {
      this.state.mapBlock(nowhere, vcpu, { gfn: 1, offset: vcpu * 128 }, this.block(vcpu))
      const descriptor = (DESCRIPTORS + vcpu * 128) / 4
      this.memory.words.set([this.flag(vcpu), this.block(vcpu), TABLE, 64], descriptor)
    }
    for (let port = 1; port <= ports; port++) {
      this.table.take(port)
      this.table.setState(port, ECS.IPI)
      this.table.setPriority(port, 7)
    }
    this.ops = steppedOps(
      {
        core: this.core,
        ports: this.table,
        vcpus: Array.from({ length: vcpus }, (_, vcpuId) => ({ vcpuId, onDummy: false, info: this.flag(vcpuId) })),
        kick: () => {},
        checkPollers: (port: number) => void this.polled.push({ port, found: this.#queuedOrMasked(port) }),
      },
      this.state,
      sources,
    )
  }

  get onRead(): (value: number) => void {
    return this.memory.onRead
  }
  set onRead(hook: (value: number) => void) {
    this.memory.onRead = hook
  }

  block(vcpu: number): number {
    return BLOCKS + vcpu * 128
  }
  flag(vcpu: number): number {
    return FLAGS + vcpu * 4
  }
  word(port: number): number {
    return this.memory.words[port]!
  }
  setWord(port: number, value: number): void {
    this.memory.words[port] = value
  }

  nameOf(at: number): string {
    if (at < BLOCKS) return `word ${at / 4}`
    if (at < FLAGS) return `${at % 128 ? `head ${((at % 128) - 8) / 4}` : 'ready'} of v${(at - BLOCKS) >> 7}`
    return at < DESCRIPTORS ? `flag of v${(at - FLAGS) / 4}` : `0x${at.toString(16)}`
  }

  /** Can a poller that wakes now find the event? With a guest about, it may be off the queue again by then. */
  #queuedOrMasked(port: number): boolean {
    if (this.threads.some(({ daemon }) => daemon) || this.word(port) & MASKED) return true
    return this.memory.words[this.block(this.table.notifyVcpu(port)) / 4] !== 0
  }

  /** An event that is pending already and the only one of its queue, as if raised long ago. */
  preload(port: number, vcpu = 0): void {
    const priority = this.table.priority(port)
    this.setWord(port, PENDING | LINKED)
    this.table.setLastQueue(port, (vcpu << 16) | priority)
    this.state.setTail(vcpu, priority, port)
    this.memory.words[(this.block(vcpu) + 8) / 4 + priority] = port
    this.memory.words[this.block(vcpu) / 4] = 1 << priority
    this.memory.words[this.flag(vcpu) / 4] = 1
  }

  add(name: string, steps: Steps<void>, daemon = false): this {
    this.threads.push({ name, steps, daemon })
    return this
  }

  /** Raises ports one after the other. */
  sender(name: string, ...ports: number[]): this {
    const { ops } = this
    return this.add(
      name,
      (function* () {
        for (const [i, port] of ports.entries()) {
          if (i) yield { label: 'next', fresh: i }
          yield* ops.setPending(port)
        }
      })(),
    )
  }

  /** A vCPU of the guest: scans whenever its flag is up, `batch` events a round. */
  guest(vcpu = 0, batch = 1): this {
    const { core, memory, served } = this
    const at = this.flag(vcpu)
    return this.add(
      `v${vcpu}`,
      (function* () {
        for (;;) {
          // Between two scans all that the guest knows is in its descriptor, which is part of the key.
          yield { label: 'upcall', ready: () => memory.words[at / 4] !== 0, fresh: 0 }
          const count = yield* core.fifoScan(DESCRIPTORS + vcpu * 128, OUT + vcpu * 64, batch)
          for (let i = 0; i < count; i++) served.push(memory.words[(OUT + vcpu * 64) / 4 + i]!)
        }
      })(),
      true,
    )
  }

  /** The guest unmasks a port as its driver does; where it would spin on BUSY, it waits. */
  unmasker(port: number): this {
    const { core, ops, memory } = this
    const ready = () => !(memory.words[port]! & BUSY)
    return this.add(
      'unmasker',
      (function* () {
        const unmask = core.fifoUnmask(port * 4)
        let next = unmask.next(0)
        while (!next.done) {
          const step = next.value as Step
          next = unmask.next(yield step.label.startsWith('load') ? { ...step, ready } : step)
        }
        if (next.value) yield* ops.unmask(port)
      })(),
    )
  }

  /** What is left when nobody can go on: an unmasked pending event that no upcall will bring is lost. */
  lost(): string | null {
    for (let port = 1; port <= this.#ports; port++)
      if ((this.word(port) & (PENDING | MASKED)) === PENDING) return `the event of port ${port} is lost`
    return this.wrong()
  }

  /** What must not be at any end. */
  wrong(): string | null {
    for (let port = 1; port <= this.#ports; port++) if (this.word(port) & BUSY) return `port ${port} is left BUSY`
    const early = this.polled.find(({ found }) => !found)
    if (early) return `a poller of port ${early.port} was woken before the event was linked`
    if (this.state.held.size) return 'a queue lock is left held'
    return null
  }

  /** All words, the private state, what was served: with the threads' histories, everything. */
  key(): string {
    const { words } = this.memory
    const parts: number[] = []
    for (let port = 1; port <= this.#ports; port++)
      parts.push(words[port]!, this.table.priority(port), this.table.lastQueue(port), this.table.notifyVcpu(port))
    for (let vcpu = 0; vcpu < this.#vcpus; vcpu++) {
      const descriptor = (DESCRIPTORS + vcpu * 128) / 4 + 4
      parts.push(words[this.flag(vcpu) / 4]!, words[this.block(vcpu) / 4]!, words[descriptor]!)
      for (const q of QUEUES)
        parts.push(words[this.block(vcpu) / 4 + 2 + q]!, this.state.tail(vcpu, q), words[descriptor + 1 + q]!)
    }
    const early = this.polled.some(({ found }) => !found)
    const order = this.remembersOrder ? this.served : ''
    return `${parts.join(',')}|${[...this.state.held].sort()}|${order}|${early}|${this.state.dropped},${this.state.fought}`
  }
}
