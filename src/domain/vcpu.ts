/**
 * A virtual CPU as events see it: where its vcpu_info is, which selector levels are active, VIRQ bindings, poll
 * and block state. All of it private to the hypervisor; what the guest sees is only the 64 bytes of vcpu_info.
 */

import { type Bits, type EvtchnOpName, type In, type Out, UPCALL_MASK, UPCALL_PENDING } from '../abi/index.js'
import { NONE, VCPU, VCPU_SHIFT } from '../machine/host_layout.js'
import type { GuestMemory } from '../machine/memory.js'
import { frameRefs } from '../machine/memory.js'
import { PrivateMemory } from '../machine/private_memory.js'

// Words of the record.
const INFO = VCPU.INFO >> 2
const DEPTH = VCPU.DEPTH >> 2
const LEVEL2 = VCPU.LEVEL2 >> 2
const LAST = VCPU.LAST >> 2
const DOWN = VCPU.DOWN >> 2
const PIRQ_HEAD = VCPU.PIRQ_HEAD >> 2
const VIRQS = VCPU.VIRQS >> 2
const BLOCKED = VCPU.BLOCKED >> 2
const POLLING = VCPU.POLLING >> 2
const POLL_PORT = VCPU.POLL_PORT >> 2

/** One selector level as registered: its frames and where its words begin in the first of them (NL-sel-2). */
export interface SelectorArea {
  readonly gfns: readonly number[]
  /** Of the words in the first frame. */
  readonly offset: number
  /** Absolute address of the words in each frame. */
  readonly pages: readonly number[]
}

/** The selector levels of a vCPU, 2 … n-1, recorded by set_nlevel_selectors. */
export interface Selectors {
  readonly levels: number
  readonly nrPages: number
  /** The width that their sizes were computed for. */
  readonly bits: Bits
  /** Level 2 first. */
  readonly areas: readonly SelectorArea[]
}

/** Performs a typed event channel operation for a vCPU. */
export type TypedCall = <N extends EvtchnOpName>(vcpu: Vcpu, op: N, args: Readonly<In<N>>) => Out<N>

/** One vCPU of a domain. */
export class Vcpu {
  readonly domid: number
  readonly vcpuId: number
  readonly #memory: GuestMemory
  readonly #call: TypedCall
  #private: PrivateMemory
  /** Word index of the record. */
  #record: number
  /** Pages of level n-1 as recorded, the only selector level that may have several: a table for the host core. */
  #lastTable = { at: 0, bytes: 0 }
  #recorded: Selectors | null = null
  /** Frame of a vcpu_info that the guest registered; -1 on the legacy slot or the dummy. */
  infoGfn = -1
  /** The read-only handle that the package exports (handles.ts). */
  handle: object | undefined
  /** HVMOP_set_evtchn_upcall_vector; 0 = none. */
  upcallVector = 0
  /** Its upcall handler runs: it is inside the embedder's `onUpcall`. */
  inUpcall = false
  /** Number of the thread that it runs on; 0 = the hypervisor's own. */
  thread = 0
  /** Called when something that decides whether it runs has changed: a vCPU on a thread is told. */
  onChange: (() => void) | undefined

  /** `record`: where its record is in the private memory. */
  constructor(
    domid: number,
    vcpuId: number,
    memory: GuestMemory,
    call: TypedCall,
    host: PrivateMemory,
    record: number,
  ) {
    this.domid = domid
    this.vcpuId = vcpuId
    this.#memory = memory
    this.#call = call
    this.#private = host
    this.#record = record >>> 2
    this.#set(INFO, NONE)
  }

  /**
   * An event channel operation with plain values. Returns the OUT members by Xen's names.
   * @throws XenError with operation, errno and what was found; ParameterError for a value of the wrong type or range.
   */
  eventChannelOp<N extends EvtchnOpName>(op: N, args: Readonly<In<N>>): Out<N> {
    return this.#call(this, op, args)
  }

  /** Address of its record. */
  get at(): number {
    return this.#record << 2
  }

  #get(word: number): number {
    return this.#private.words[this.#record + word]!
  }
  #set(word: number, value: number): void {
    this.#private.words[this.#record + word] = value
  }

  /** The domain has left the host, and its records with it. What is asked later sees the last state. */
  dispose(): void {
    const words = this.#private.words.slice(this.#record, this.#record + (1 << (VCPU_SHIFT - 2)))
    this.#dropTable()
    this.#private = PrivateMemory.plain(words)
    this.#record = 0
  }

  #dropTable(): void {
    this.#private.give(this.#lastTable.at, this.#lastTable.bytes)
    this.#lastTable = { at: 0, bytes: 0 }
  }

  /** Absolute address of vcpu_info; -1 while on the dummy (EC-vi-2). */
  get info(): number {
    return this.#get(INFO)
  }
  set info(address: number) {
    this.#set(INFO, address)
  }
  get onDummy(): boolean {
    return this.#get(INFO) === NONE
  }
  /** Back to the dummy. */
  loseInfo(): void {
    this.#set(INFO, NONE)
  }

  /** Depth of the tree whose selectors are active here; 0 = none, events latch in the leaf only (NL-sel-4). */
  get activeDepth(): number {
    return this.#get(DEPTH)
  }
  set activeDepth(depth: number) {
    this.#set(DEPTH, depth)
  }
  /** Absolute address of the words of level k, 1 < k < n-1. */
  levelBase(k: number): number {
    return this.#get(LEVEL2 + k - 2)
  }
  /** Absolute address of page `index` of level n-1. */
  lastPage(index: number): number {
    return this.#private.words[(this.#get(LAST) >>> 2) + index]!
  }

  /** Selectors that the guest named; active or not. */
  get recorded(): Selectors | null {
    return this.#recorded
  }
  /** Records selectors, letting go of the frames of earlier ones; null drops them. True: done, unless it throws. */
  record(selectors: Selectors | null): true {
    // First: the engine may have no memory for it, and then nothing has changed.
    const pages = selectors ? selectors.areas[selectors.levels - 3]!.pages : []
    const bytes = pages.length * 4
    const at = selectors ? this.#private.take(bytes) : 0
    this.#private.words.set(pages, at >>> 2)
    this.#dropTable()
    this.#lastTable = { at, bytes }
    if (selectors) for (const area of selectors.areas) for (const gfn of area.gfns) frameRefs(this.#memory).hold(gfn)
    if (this.#recorded)
      for (const area of this.#recorded.areas) for (const gfn of area.gfns) frameRefs(this.#memory).release(gfn)
    this.#recorded = selectors
    return true
  }
  /** Publishes the recorded areas for climbs: bases first, the depth that makes them used last (NL-sel-3). */
  publishSelectors(): void {
    const { levels, areas } = this.#recorded!
    for (let k = 2; k < levels - 1; k++) this.#set(LEVEL2 + k - 2, areas[k - 2]!.pages[0]!)
    this.#set(LAST, this.#lastTable.at)
    this.#set(DEPTH, levels)
  }

  /** Byte evtchn_upcall_pending; 0 on the dummy. */
  get upcallPending(): number {
    return this.#infoByte(UPCALL_PENDING)
  }
  /** Byte evtchn_upcall_mask; 1 on the dummy, where nothing is delivered. */
  get upcallMask(): number {
    return this.onDummy ? 1 : this.#infoByte(UPCALL_MASK)
  }
  /** PV's mask is the hypervisor's to write at delivery and in SCHEDOP_block (EC-up-6, EC-up-7). */
  setUpcallMask(value: number): void {
    if (!this.onDummy) this.#memory.poke8(this.info + UPCALL_MASK, value)
  }
  #infoByte(offset: number): number {
    return this.onDummy ? 0 : this.#memory.peek8(this.info + offset)
  }

  /** Its bit in the domain's poll_mask. */
  get polling(): boolean {
    return this.#get(POLLING) !== 0
  }
  /** Polled port, -1 = several or none named, 0 = not polling. */
  get pollEvtchn(): number {
    return this.polling ? this.#get(POLL_PORT) : 0
  }
  /** Blocked in SCHEDOP_block or SCHEDOP_poll. */
  get blocked(): boolean {
    return this.#get(BLOCKED) !== 0
  }
  set blocked(blocked: boolean) {
    this.#set(BLOCKED, blocked ? 1 : 0)
  }
  /** Offline: VCPUOP_down was called. A domain begins with all its vCPUs online. */
  get down(): boolean {
    return this.#get(DOWN) !== 0
  }
  set down(down: boolean) {
    this.#set(DOWN, down ? 1 : 0)
    this.onChange?.()
  }

  /** First port of its list of PIRQ ports; 0 = none (EC-pirq-9). */
  get firstPirqPort(): number {
    return this.#get(PIRQ_HEAD)
  }
  set firstPirqPort(port: number) {
    this.#set(PIRQ_HEAD, port)
  }

  /** virq_to_evtchn[virq]; 0 = not bound. */
  virqPort(virq: number): number {
    return this.#get(VIRQS + virq)
  }
  setVirqPort(virq: number, port: number): void {
    this.#set(VIRQS + virq, port)
  }
}
