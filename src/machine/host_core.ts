/**
 * The host core over its private memory, and the guests' cores that it calls: one table of functions, a run of slots for
 * each memory that guests live in. Domains in windows of one memory share its slots; the last that leaves clears them, so
 * that a table keeps no memory alive.
 */

import { Errno, XenError } from '../errno.js'
import * as wasm from '../generated/wasm.js'
import { type Core, decodeModule, type WasmMemory, type WasmModule } from './core.js'
import { DeliveryLock } from './delivery_lock.js'
import { SHARED_HOST } from './host_build.js'
import { DOMAINS, FIRST_SLOT, HEAP, SLOTS, WAIT_ON } from './host_layout.js'
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
  // What vCPUs on threads of their own call; `thread` is the address of the thread's line.
  threadSend(thread: number, domid: number, generation: number, port: number): number
  threadUnmask(thread: number, domid: number, generation: number, port: number): number
  threadRaiseVirq(thread: number, domid: number, generation: number, vcpu: number, virq: number): number
  threadBits(thread: number, domid: number, generation: number, port: number): number
  fallAsleep(domain: number, vcpu: number): void
  sleepOn(at: number, value: number, timeoutNs: number): void
}

const modules: { single?: WasmModule; threads?: WasmModule } = {}

/** The compiled module. */
function hostModule(shared: boolean): WasmModule {
  const build = shared ? 'threads' : 'single'
  modules[build] ??= decodeModule(shared ? wasm.hostThreads : wasm.host)
  return modules[build]
}

/** What is used of a `WebAssembly.Table`: declarations name no type of the DOM or of Node. */
export interface WasmTable {
  readonly length: number
  set(index: number, value: unknown): void
  grow(delta: number): number
}

/** A table of functions without guests' cores. */
export const newTable = (): WasmTable => new WebAssembly.Table({ element: 'anyfunc', initial: FIRST_SLOT })

/** A host core over a private memory. Its table has its own function that sleeps. */
export function instance(shared: boolean, env: { memory: WasmMemory; table: WasmTable }): HostExports {
  const { exports } = new WebAssembly.Instance(hostModule(shared), { env })
  env.table.set(WAIT_ON, exports.waitOn)
  return exports as unknown as HostExports
}

/** Where a guest's core is in the table. */
export interface Slots {
  readonly first: number
  /** Number of this run of slots, and of the memory: the run may serve another memory later, the number never does. */
  readonly run: number
  readonly memory: number
}

/** Puts the functions of a guest's core into a table, or null in their place. */
export function fillSlots(table: WasmTable, first: number, core: Core | null): void {
  if (first + SLOTS.length > table.length) table.grow(Math.max(first + SLOTS.length - table.length, table.length))
  SLOTS.forEach((name, i) => {
    table.set(first + i, core?.[name] ?? null)
  })
}

/** One host's private state and the core that works on it. */
export class HostCore {
  readonly memory: PrivateMemory
  readonly calls: HostExports
  readonly #table: WasmTable
  readonly lock: DeliveryLock
  readonly #slots = new Map<Core, Slots & { users: number }>()
  readonly #freeRuns: number[] = []
  #nextRun = 0
  #memories = 0
  /** Gets each memory that guests begin to live in. */
  onMemory: ((core: Core, slots: Slots) => void) | undefined

  #generation = 0

  private constructor(memory: PrivateMemory) {
    this.memory = memory
    this.lock = new DeliveryLock(memory)
    this.#table = newTable()
    const imports = { memory: memory.memory!, table: this.#table }
    this.calls = instance(memory.shared, imports)
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

  /** Where a guest's core is. Each `enter` is paired with a `leave`. */
  enter(core: Core): Slots {
    let slots = this.#slots.get(core)
    if (!slots) {
      const run = this.#freeRuns.pop() ?? this.#nextRun++
      const first = FIRST_SLOT + run * SLOTS.length
      fillSlots(this.#table, first, core)
      slots = { first, run, memory: ++this.#memories, users: 0 }
      this.#slots.set(core, slots)
      this.onMemory?.(core, slots)
    }
    slots.users++
    return slots
  }

  leave(core: Core): void {
    const slots = this.#slots.get(core)!
    if (--slots.users) return
    fillSlots(this.#table, slots.first, null)
    this.#slots.delete(core)
    this.#freeRuns.push(slots.run)
  }

  /** The memories that guests live in at present. */
  get memories(): ReadonlyMap<Core, Slots> {
    return this.#slots
  }

  /** A number that no domain of this host had. */
  nextGeneration(): number {
    return ++this.#generation
  }

  /** Publishes a domain's record under its number; 0 takes the number off the host. */
  publish(domid: number, record: number): void {
    this.lock.write(() => {
      this.memory.words[(DOMAINS >> 2) + domid] = record
    })
  }

  /** The record of a domain, 0 if there is none. */
  recordOf(domid: number): number {
    return this.memory.words[(DOMAINS >> 2) + domid]!
  }
}
