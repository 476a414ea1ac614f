/**
 * A small FIFO domain whose code runs step by step (steps.ts): event words, control blocks and flags in a memory of plain
 * words, a real port table and real private state in another, and threads for senders and for the guest.
 *
 *     0    event words of ports 0 … 63       512  upcall flags, a word a vCPU · 832 table of pages
 *     256  control blocks, 128 bytes each    576  scan descriptors, 128 bytes each · 896 output, 64 bytes a vCPU
 */

import { ECS } from '../../src/abi/index.js'
import { FifoState } from '../../src/domain/fifo.js'
import { PortTable } from '../../src/domain/port_table.js'
import {
  ABI_QUEUES,
  DOMAIN,
  DOMAIN_BYTES,
  FIFO,
  POLLED,
  SLOTS,
  VCPU,
  VCPU_SHIFT,
} from '../../src/machine/host_layout.js'
import { GuestMemory } from '../../src/machine/memory.js'
import { PrivateMemory } from '../../src/machine/private_memory.js'
import { BUSY, LINKED, MASKED, PENDING } from './event_word.js'
import type { Thread, World } from './runs.js'
import {
  type Sources,
  type Step,
  type SteppedCore,
  type SteppedHost,
  SteppedMemory,
  type Steps,
  shipped,
} from './steps.js'

const BLOCKS = 256
const FLAGS = 512
const DESCRIPTORS = 576
const TABLE = 832
const OUT = 896
const BYTES = 1024
/** Whose frames hold the pages; made once, for an engine has no room for one a run. */
const NOWHERE = new GuestMemory({ frames: 1 })

/** Priorities that scenarios use. */
const QUEUES = [0, 1, 2, 3, 4, 7]

/** What a scenario is made of. */
export interface Shape {
  vcpus?: number
  /** Ports 1 … this one are used. */
  ports: number
  /** False: the event array has no page yet. */
  pages?: boolean
  sources?: Sources | undefined
}

/** The domain and its surroundings. A scenario adds threads. */
export class FifoWorld implements World {
  readonly memory = new SteppedMemory(BYTES)
  /** The host's private words; block 64 is the domain's record. */
  readonly private = new SteppedMemory(8192, 'private ')
  readonly core: SteppedCore
  readonly host: SteppedHost
  readonly record: number
  readonly state: FifoState
  readonly table: PortTable
  /** Queue locks that are held. */
  readonly held = new Set<number>()
  /** Operations inside the delivery lock, and whether somebody excludes them; `#locked`: the scenario has one. */
  #readers = 0
  #excluded = false
  #locked = false
  #polling = false
  readonly threads: Thread[] = []
  /** Ports handed to handlers, in order. */
  readonly served: number[] = []
  /** Ports whose pollers were woken, and whether they were to be found then. */
  readonly polled: { port: number; found: boolean }[] = []
  /** The order of service matters to the verdict: it tells states apart. */
  remembersOrder = false
  invariant?: () => string | null
  verdict: () => string | null = () => this.lost()
  /** The hypervisor's operations, with what TypeScript does after them. */
  readonly ops = {
    setPending: (port: number): Steps<void> => this.#finished(this.host.raise(this.record, port), port),
    send: (port: number): Steps<void> => this.#finished(this.host.send(this.record, port), port),
    unmask: (port: number): Steps<void> => this.#finished(this.host.unmask(this.record, port), port),
  }
  readonly #sources: Sources
  readonly #machine = { guest: this.memory, private: this.private, held: this.held }
  readonly #ports: number
  readonly #vcpus: number

  constructor({ vcpus = 1, ports, pages = true, sources = shipped }: Shape) {
    this.#ports = ports
    this.#vcpus = vcpus
    this.#sources = sources
    this.core = sources.core
    this.host = sources.host
    this.resume()
    const memory = PrivateMemory.plain(this.private.words, 64)
    this.record = memory.take(DOMAIN_BYTES)
    this.table = new PortTable(memory, this.record)
    this.state = new FifoState(memory, vcpus)
    if (pages) this.state.addPage(NOWHERE, 0, 0)
    const vcpusAt = memory.take(vcpus << VCPU_SHIFT)
    const put = (at: number, value: number) => {
      this.private.words[at / 4] = value
    }
    put(this.record + DOMAIN.DOMID, 1)
    put(this.record + DOMAIN.ABI, ABI_QUEUES)
    put(this.record + DOMAIN.FIFO, this.state.at)
    put(this.record + DOMAIN.VCPUS, vcpusAt)
    put(this.record + DOMAIN.NR_VCPUS, vcpus)
    put(this.record + DOMAIN.FUNCTIONS, SLOTS.indexOf('leafSet'))
    // As if somebody always polled: every new event is reported.
    put(this.record + DOMAIN.POLLERS, 1)
    for (const at of [DOMAIN.VALID, DOMAIN.POLLERS]) this.private.silent.add(this.record + at)
    for (const at of [FIFO.DROPPED, FIFO.FOUGHT]) this.private.silent.add(this.state.at + at)
    if (pages) this.private.silent.add(this.state.at + FIFO.NR_PAGES)
    for (let vcpu = 0; vcpu < vcpus; vcpu++) {
      put(vcpusAt + (vcpu << VCPU_SHIFT) + VCPU.INFO, this.flag(vcpu))
      this.state.mapBlock(NOWHERE, vcpu, { gfn: 1, offset: vcpu * 128 }, this.block(vcpu))
      const descriptor = (DESCRIPTORS + vcpu * 128) / 4
      this.memory.words.set([this.flag(vcpu), this.block(vcpu), TABLE, 64], descriptor)
    }
    for (let port = 1; port <= ports; port++) this.open(port)
  }

  /** Makes an IPI of a free port. */
  open(port: number): void {
    this.table.take(port)
    this.table.setState(port, ECS.IPI)
    this.table.setPriority(port, 7)
  }

  /** A word of a vCPU's record. */
  vcpuWord(vcpu: number, offset: number): number {
    const { words } = this.private
    return words[(words[(this.record + DOMAIN.VCPUS) / 4]! + (vcpu << VCPU_SHIFT) + offset) / 4]!
  }

  *#finished(steps: Steps<number>, port: number): Steps<void> {
    if (this.#locked) {
      yield { label: 'enter', ready: () => !this.#excluded }
      this.#readers++
    }
    const result = yield* steps
    if (this.#locked) this.#readers--
    if (result <= 0 || !(result & POLLED)) return
    this.polled.push({ port, found: this.#queuedOrMasked(port) })
    if (!this.#polling) return
    for (let vcpu = yield* this.host.wakePoller(this.record, port, 0); vcpu >= 0; )
      vcpu = yield* this.host.wakePoller(this.record, port, vcpu + 1)
  }

  /** Something that is done while no sender is inside the delivery lock. */
  *excluding(label: string, body: () => Steps<void> | undefined, ready = () => true): Steps<void> {
    yield { label, ready: () => !this.#readers && !this.#excluded && ready() }
    this.#excluded = true
    const steps = body()
    if (steps) yield* steps
    this.#excluded = false
  }

  /** Senders enter the delivery lock, and structure changes only while none is inside. */
  locked(): this {
    this.#locked = true
    return this
  }

  /** The cores work on this world from here on: before each step of one of its threads. */
  resume(): void {
    this.#sources.machine = this.#machine
  }

  get onRead(): (value: number) => void {
    return this.memory.onRead
  }
  set onRead(hook: (value: number) => void) {
    this.memory.onRead = hook
    this.private.onRead = hook
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
          yield* ops.send(port)
        }
      })(),
    )
  }

  /** A vCPU that polls one port: marks, then looks, then sleeps until somebody wakes it. Looks once more at the end. */
  poller(vcpu: number, port: number): this {
    const { host, record } = this
    this.#polling = true
    // No guest serves the event: what matters is that nobody sleeps while it is there.
    this.verdict = () => this.wrong()
    this.private.silent.delete(record + DOMAIN.POLLERS)
    this.private.words[(record + DOMAIN.POLLERS) / 4] = 0
    const asleep = () => this.vcpuWord(vcpu, VCPU.BLOCKED) !== 0
    return this.add(
      `poller ${vcpu}`,
      (function* () {
        yield* host.startPoll(record, vcpu, port)
        if ((yield* host.bits(record, port)) & 1) yield* host.wake(record, vcpu)
        else yield { label: 'sleep', ready: () => !asleep() }
      })(),
    )
  }

  /** Closes a port; senders are outside. */
  *close(port: number): Steps<void> {
    yield* this.host.clear(this.record, port)
    this.table.setFree(port)
    this.table.giveBack(port)
  }

  /** Closes a port, makes another of the same number, and signals that once (EC-close-9, EC-port-11). */
  reopener(port: number): this {
    const close = () => this.close(port)
    const linked = () => (this.word(port) & LINKED) !== 0
    const open = () => {
      this.open(port)
      return undefined
    }
    const { excluding, ops } = this
    const again = excluding.bind(this)
    return this.add(
      'reopener',
      (function* () {
        yield* again('close', close)
        // Still on a queue: the number is not given out yet.
        yield* again('open', open, () => !linked())
        yield* ops.send(port)
      })(),
    )
  }

  /** EVTCHNOP_expand_array: publishes the first page, then raises what was remembered for its ports. */
  expander(...ports: number[]): this {
    const { host, record, state, table } = this
    return this.add(
      'expander',
      (function* () {
        yield { label: 'page' }
        state.addPage(NOWHERE, 0, 0)
        for (const port of ports) {
          yield { label: 'saved?' }
          if (table.savedPending(port)) yield* host.raise(record, port)
        }
      })(),
    )
  }

  /** set_priority or bind_vcpu, with nobody kept out. */
  changes(port: number, to: { priority?: number; vcpu?: number }): this {
    const { table } = this
    return this.add(
      'changes',
      (function* () {
        yield { label: 'change' }
        if (to.priority !== undefined) table.setPriority(port, to.priority)
        if (to.vcpu !== undefined) table.setNotifyVcpu(port, to.vcpu)
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
      if (this.table.state(port) === ECS.FREE && this.word(port) & PENDING) return `closed port ${port} is pending`
    for (let port = 1; port <= this.#ports; port++)
      if ((this.word(port) & (PENDING | MASKED)) === PENDING) return `the event of port ${port} is lost`
    return this.wrong()
  }

  /** What must not be at any end. */
  wrong(): string | null {
    for (let port = 1; port <= this.#ports; port++) if (this.word(port) & BUSY) return `port ${port} is left BUSY`
    const early = this.polled.find(({ found }) => !found)
    if (early) return `a poller of port ${early.port} was woken before the event was linked`
    if (this.held.size) return 'a queue lock is left held'
    return null
  }

  /** All words, the private state, what was served: with the threads' histories, everything. */
  key(): string {
    const { words } = this.memory
    const parts: number[] = []
    for (let port = 1; port <= this.#ports; port++)
      parts.push(
        words[port]!,
        this.table.priority(port),
        this.table.lastQueue(port),
        this.table.notifyVcpu(port),
        this.table.state(port),
        Number(this.table.savedPending(port)),
      )
    for (let vcpu = 0; vcpu < this.#vcpus; vcpu++) {
      const descriptor = (DESCRIPTORS + vcpu * 128) / 4 + 4
      parts.push(words[this.flag(vcpu) / 4]!, words[this.block(vcpu) / 4]!, words[descriptor]!)
      for (const q of QUEUES)
        parts.push(words[this.block(vcpu) / 4 + 2 + q]!, this.state.tail(vcpu, q), words[descriptor + 1 + q]!)
    }
    const early = this.polled.some(({ found }) => !found)
    const order = this.remembersOrder ? this.served : ''
    if (this.#polling)
      for (let vcpu = 0; vcpu < this.#vcpus; vcpu++)
        for (const word of [VCPU.BLOCKED, VCPU.POLLING, VCPU.POLL_PORT]) parts.push(this.vcpuWord(vcpu, word))
    if (this.#polling) parts.push(this.private.words[(this.record + DOMAIN.POLLERS) / 4]!)
    parts.push(this.#readers, Number(this.#excluded), this.state.nrPages)
    return `${parts.join(',')}|${[...this.held].sort()}|${order}|${early}|${this.state.dropped},${this.state.fought}`
  }
}
