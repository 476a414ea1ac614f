/**
 * The host core over its private memory, and the guests' cores that it calls: one table of functions, a run of slots for
 * each memory that guests live in. Domains in windows of one memory share its slots; the last that leaves clears them, so
 * that a table keeps no memory alive.
 */

import { Errno, XenError } from '../errno.js'
import * as wasm from '../generated/wasm.js'
import { type Core, decodeModule, type WasmModule } from './core.js'
import { SHARED_HOST } from './host_build.js'
import { DOMAINS, HEAP, SLOTS } from './host_layout.js'
import { PrivateMemory } from './private_memory.js'

/** The core's exports; see assembly/host/index.ts. `domain` is the address of a record. */
export interface HostExports {
  send(domain: number, port: number): number
  raise(domain: number, port: number): number
  raiseUsable(domain: number, port: number): number
  raiseVirq(domain: number, vcpu: number, virq: number): number
  climbAgain(domain: number, port: number): number
  unmask(domain: number, port: number): number
  clear(domain: number, port: number): number
  bits(domain: number, port: number): number
  portObject(domain: number, port: number): number
  startPoll(domain: number, vcpu: number, port: number): void
  wake(domain: number, vcpu: number): number
  wakePoller(domain: number, port: number, from: number): number
}

const modules: { single?: WasmModule; threads?: WasmModule } = {}

/** The compiled module. */
function hostModule(shared: boolean): WasmModule {
  const build = shared ? 'threads' : 'single'
  modules[build] ??= decodeModule(shared ? wasm.hostThreads : wasm.host)
  return modules[build]
}

/** Where a guest's core is in the table. */
interface Slots {
  readonly first: number
  users: number
}

/** One host's private state and the core that works on it. */
export class HostCore {
  readonly memory: PrivateMemory
  readonly calls: HostExports
  readonly #table: WebAssembly.Table
  readonly #slots = new Map<Core, Slots>()
  readonly #freeSlots: number[] = []
  /** Slot 0 stays empty: a record that names no core traps. */
  #nextSlot = 1

  #generation = 0

  private constructor(memory: PrivateMemory) {
    this.memory = memory
    this.#table = new WebAssembly.Table({ element: 'anyfunc', initial: 1 })
    const imports = { env: { memory: memory.memory!, table: this.#table } }
    this.calls = new WebAssembly.Instance(hostModule(memory.shared), imports).exports as unknown as HostExports
  }

  /**
   * A host without domains. `shared`: the build with atomics, over a memory that threads can share.
   * @throws XenError ENOMEM if the engine has no memory for it.
   */
  static create(shared = SHARED_HOST): HostCore {
    try {
      return new HostCore(PrivateMemory.create(HEAP, shared))
    } catch (error) {
      if (!(error instanceof RangeError)) throw error
      throw new XenError('Hypervisor.create', Errno.ENOMEM, `the engine has no private memory: ${error.message}`)
    }
  }

  /** First slot of a guest's core. Each `enter` is paired with a `leave`. */
  enter(core: Core): number {
    let slots = this.#slots.get(core)
    if (!slots) {
      const first = this.#freeSlots.pop() ?? this.#newSlots()
      SLOTS.forEach((name, i) => {
        this.#table.set(first + i, core[name])
      })
      slots = { first, users: 0 }
      this.#slots.set(core, slots)
    }
    slots.users++
    return slots.first
  }

  leave(core: Core): void {
    const slots = this.#slots.get(core)!
    if (--slots.users) return
    for (let i = 0; i < SLOTS.length; i++) this.#table.set(slots.first + i, null)
    this.#slots.delete(core)
    this.#freeSlots.push(slots.first)
  }

  #newSlots(): number {
    const first = this.#nextSlot
    const end = first + SLOTS.length
    if (end > this.#table.length) this.#table.grow(Math.max(end - this.#table.length, this.#table.length))
    this.#nextSlot = end
    return first
  }

  /** A number that no domain of this host had. */
  nextGeneration(): number {
    return ++this.#generation
  }

  /** Publishes a domain's record under its number; 0 takes the number off the host. */
  publish(domid: number, record: number): void {
    this.memory.words[(DOMAINS >> 2) + domid] = record
  }

  /** The record of a domain, 0 if there is none. */
  recordOf(domid: number): number {
    return this.memory.words[(DOMAINS >> 2) + domid]!
  }
}
