/**
 * A small domain on levels whose code runs step by step as it ships (../fifo/steps.ts): the host core's send, unmask and
 * poll over private words, the guest core's leaf, climb and scan over guest words. 32-bit words, two or three levels.
 *
 *     0     vcpu_info, 64 bytes a vCPU: flag at 0, level 1 at 8     1024  scan descriptors, 128 bytes a vCPU
 *     256   level 2, 64 bytes a vCPU                                1536  tables of the scan
 *     512   pending words · 576 mask words                          1600  output, 64 bytes a vCPU
 */

import { ECS } from '../../src/abi/index.js'
import { PortTable } from '../../src/domain/port_table.js'
import { DOMAIN, DOMAIN_BYTES, POLLED, SLOTS, VCPU, VCPU_SHIFT } from '../../src/machine/host_layout.js'
import { PrivateMemory } from '../../src/machine/private_memory.js'
import type { Thread, World } from '../fifo/runs.js'
import { type Sources, SteppedMemory, type Steps, shipped } from '../fifo/steps.js'

const SEL = 8
const LEVEL2 = 256
const PENDING = 512
const MASK = 576
const DESCRIPTORS = 1024
const TABLES = 1536
const OUT = 1600
const BYTES = 2048
/** Ports that exist: two words of the leaf. */
const CHANNELS = 64

/** What a scenario is made of. */
export interface Shape {
  readonly levels: 2 | 3
  readonly ports: readonly number[]
  readonly vcpus?: number
  readonly sources?: Sources | undefined
}

/** The domain. A scenario adds threads. */
export class ShippedWorld implements World {
  readonly memory = new SteppedMemory(BYTES)
  readonly private = new SteppedMemory(8192, 'private ')
  readonly table: PortTable
  readonly threads: Thread[] = []
  readonly #record: number
  readonly #vcpusAt: number
  readonly #shape: Required<Omit<Shape, 'sources'>>
  readonly #sources: Sources
  readonly #machine = { guest: this.memory, private: this.private, held: new Set<number>() }
  #readers = 0
  #excluded = false
  #locked = false
  #polling = false

  constructor({ levels, ports, vcpus = 1, sources = shipped }: Shape) {
    this.#shape = { levels, ports, vcpus }
    this.#sources = sources
    this.resume()
    const memory = PrivateMemory.plain(this.private.words, 64)
    this.#record = memory.take(DOMAIN_BYTES)
    this.table = new PortTable(memory, this.#record)
    this.#vcpusAt = memory.take(vcpus << VCPU_SHIFT)
    const leaf = memory.take(64)
    this.#put(leaf, PENDING, MASK)
    const record: readonly (readonly [number, number])[] = [
      [DOMAIN.DOMID, 1],
      [DOMAIN.ABI, levels],
      [DOMAIN.WORD_SHIFT, 5],
      [DOMAIN.MAX_EVTCHNS, CHANNELS],
      [DOMAIN.VCPUS, this.#vcpusAt],
      [DOMAIN.NR_VCPUS, vcpus],
      [DOMAIN.FUNCTIONS, SLOTS.indexOf('leafSet')],
      [DOMAIN.CLIMB, SLOTS.indexOf(`climb${levels}x32`)],
      [DOMAIN.SEL, SEL],
      [DOMAIN.LEAF, leaf],
    ]
    for (const [offset, value] of record) this.#put(this.#record + offset, value)
    for (const at of [DOMAIN.VALID, DOMAIN.POLLERS]) this.private.silent.add(this.#record + at)
    for (let vcpu = 0; vcpu < vcpus; vcpu++) {
      const at = this.#vcpusAt + (vcpu << VCPU_SHIFT)
      const last = memory.take(64)
      this.#put(last, LEVEL2 + vcpu * 64)
      this.#put(at + VCPU.INFO, vcpu * 64)
      this.#put(at + VCPU.DEPTH, levels)
      this.#put(at + VCPU.LAST, last)
      this.#describe(vcpu)
    }
    for (const port of ports) this.open(port)
  }

  #put(at: number, ...values: number[]): void {
    this.private.words.set(values, at / 4)
  }

  /** The scan descriptor of a vCPU (assembly/guest/scan.ts). */
  #describe(vcpu: number): void {
    const { words } = this.memory
    const table = TABLES / 4
    words.set([PENDING, MASK, LEVEL2, LEVEL2 + 64], table)
    const two = this.#shape.levels === 2
    const [pending, mask] = two ? [PENDING, MASK] : [TABLES, TABLES + 4]
    const last = TABLES + 8 + vcpu * 4
    words.set([vcpu * 64, vcpu * 64 + SEL, 0, 0, last, pending, mask, 0, CHANNELS, 1], (DESCRIPTORS + vcpu * 128) / 4)
  }

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

  nameOf(at: number): string {
    if (at < LEVEL2) return `${at % 64 === SEL ? 'level 1' : 'flag'} of v${at >> 6}`
    if (at < PENDING) return `level 2 of v${(at - LEVEL2) >> 6}`
    return at < MASK ? 'pending' : at < DESCRIPTORS ? 'mask' : `0x${at.toString(16)}`
  }

  open(port: number): void {
    this.table.take(port)
    this.table.setState(port, ECS.IPI)
  }

  #bit(bitmap: number, port: number): boolean {
    return (this.memory.words[bitmap / 4 + (port >> 5)]! & (1 << (port & 31))) !== 0
  }
  mask(port: number): this {
    this.memory.words[MASK / 4 + (port >> 5)]! |= 1 << (port & 31)
    return this
  }

  add(name: string, steps: Steps<void>, daemon = false): this {
    this.threads.push({ name, steps, daemon })
    return this
  }

  /** Senders enter the delivery lock, and structure changes only while none is inside. */
  locked(): this {
    this.#locked = true
    return this
  }

  /** An operation of the host core, with what TypeScript does after it. */
  *#finished(make: () => Steps<number>, port: number): Steps<void> {
    if (this.#locked) {
      yield { label: 'enter', ready: () => !this.#excluded }
      this.#readers++
    }
    const result = yield* make()
    if (this.#locked) this.#readers--
    if (result <= 0 || !(result & POLLED) || !this.#polling) return
    const { host } = this.#sources
    for (let vcpu = yield* host.wakePoller(this.#record, port, 0); vcpu >= 0; )
      vcpu = yield* host.wakePoller(this.#record, port, vcpu + 1)
  }

  *#excluding(label: string, body: () => Steps<void> | undefined): Steps<void> {
    yield { label, ready: () => !this.#readers && !this.#excluded }
    this.#excluded = true
    const steps = body()
    if (steps) yield* steps
    this.#excluded = false
  }

  #send(port: number): Steps<void> {
    return this.#finished(() => this.#sources.host.send(this.#record, port), port)
  }

  *#sendAll(ports: readonly number[]): Steps<void> {
    for (const [i, port] of ports.entries()) {
      if (i) yield { label: 'next', fresh: i }
      yield* this.#send(port)
    }
  }

  /** Raises ports one after the other. */
  sender(name: string, ...ports: number[]): this {
    return this.add(name, this.#sendAll(ports))
  }

  /** EVTCHNOP_unmask. */
  unmasker(port: number): this {
    return this.add(
      'unmasker',
      this.#finished(() => this.#sources.host.unmask(this.#record, port), port),
    )
  }

  /** EVTCHNOP_bind_vcpu, with nobody kept out: the new vCPU, then the climb there (NL-vcpu-1). */
  mover(port: number, vcpu: number): this {
    const { host } = this.#sources
    const { table } = this
    const record = this.#record
    return this.add(
      'mover',
      (function* () {
        yield { label: 'bind_vcpu' }
        table.setNotifyVcpu(port, vcpu)
        yield* host.climbAgain(record, port)
      })(),
    )
  }

  /** Closes ports as a reset does, one after the other with senders let in between; then opens and sends the first. */
  resetter(...ports: number[]): this {
    return this.add('resetter', this.#reset(ports))
  }

  *#reset(ports: readonly number[]): Steps<void> {
    const { host } = this.#sources
    for (const port of ports) {
      const { table } = this
      const record = this.#record
      yield* this.#excluding(`close ${port}`, function* () {
        yield* host.clear(record, port)
        table.setFree(port)
        table.giveBack(port)
      })
    }
    const [first] = ports
    yield* this.#excluding('open', () => {
      this.open(first!)
      return undefined
    })
    yield* this.#send(first!)
  }

  /** A vCPU that polls one port: marks, looks, sleeps until somebody wakes it. */
  poller(vcpu: number, port: number): this {
    this.#polling = true
    this.private.silent.delete(this.#record + DOMAIN.POLLERS)
    return this.add(`poller ${vcpu}`, this.#poll(vcpu, port))
  }

  *#poll(vcpu: number, port: number): Steps<void> {
    const { host } = this.#sources
    const blocked = (this.#vcpusAt + (vcpu << VCPU_SHIFT) + VCPU.BLOCKED) / 4
    yield* host.startPoll(this.#record, vcpu, port)
    if ((yield* host.bits(this.#record, port)) & 1) yield* host.wake(this.#record, vcpu)
    else yield { label: 'sleep', ready: () => this.private.words[blocked] === 0 }
  }

  /** A vCPU of the guest: scans whenever its flag is up, `batch` events a round. */
  guest(vcpu = 0, batch = 4): this {
    return this.add(`v${vcpu}`, this.#scans(vcpu, batch), true)
  }

  *#scans(vcpu: number, batch: number): Steps<void> {
    const { words } = this.memory
    const scan = `scan${this.#shape.levels}x32` as const
    for (;;) {
      // Between two scans all that the guest knows is in its descriptor, which is part of the key.
      yield { label: 'upcall', ready: () => words[(vcpu * 64) / 4] !== 0, fresh: 0 }
      yield* this.#sources.core[scan](DESCRIPTORS + vcpu * 128, OUT + vcpu * 64, batch)
    }
  }

  /** What is left when nobody can go on: an unmasked pending event that no upcall will bring is lost. */
  verdict(): string | null {
    const guests = this.threads.some(({ daemon }) => daemon)
    for (const port of this.#shape.ports) {
      const pending = this.#bit(PENDING, port)
      if (pending && this.table.state(port) === ECS.FREE) return `closed port ${port} is pending`
      if (guests && pending && !this.#bit(MASK, port)) return `the event of port ${port} is lost`
    }
    return null
  }

  key(): string {
    const { words } = this.memory
    const ports = this.#shape.ports.map((port) => `${this.table.state(port)}/${this.table.notifyVcpu(port)}`)
    const own = Array.from({ length: this.#shape.vcpus }, (_, vcpu) =>
      [VCPU.BLOCKED, VCPU.POLLING, VCPU.POLL_PORT].map(
        (word) => this.private.words[(this.#vcpusAt + (vcpu << VCPU_SHIFT) + word) / 4],
      ),
    )
    const pollers = this.private.words[(this.#record + DOMAIN.POLLERS) / 4]
    return `${words.subarray(0, TABLES / 4)}|${ports}|${own}|${pollers}|${this.#readers},${this.#excluded}`
  }
}
