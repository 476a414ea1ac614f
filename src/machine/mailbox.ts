/**
 * A mailbox: how a vCPU on a thread of its own makes the calls that only the hypervisor's thread can carry out. It is a block
 * of the private memory, one for each thread, and both ends know its layout from here.
 *
 *     thread   call, arguments, STATE := ASKED, ring the bell, sleep ────────────────▶ result, STATE := IDLE
 *     hypervisor's thread      STATE := SERVING … QUESTION ⇄ REPLIED … result, STATE := ANSWERED, notify
 *
 * A question is a page walk: the caller's page tables are in its own thread, and it waits there anyway.
 */

import type { PrivateMemory } from './private_memory.js'

/** States of a mailbox. */
export const IDLE = 0
export const ASKED = 1
export const SERVING = 2
export const QUESTION = 3
export const REPLIED = 4
export const ANSWERED = 5

/** What is asked for: a hypercall; the time-out of a poll; a VIRQ of the vCPU's own; a send of a port at hand. */
export const CALL_HYPERCALL = 1
export const CALL_ARM = 2
export const CALL_VIRQ = 3
export const CALL_SEND = 4

// Byte offsets. STATE has a line of its own.
const STATE = 0
const TABLES = 4
const CALL = 64
const DOMID = 68
const VCPU = 72
/** Bit i: register i is a bigint. */
const BIGINTS = 76
const COUNT = 80
const REGISTERS = 88
const RESULT = 152
const TEXT_LENGTH = 160
const GVA = 168
const WRITE = 176
const WALKED = 184
const TEXT = 256
/** Characters of a reason that are passed on. */
const MOST_TEXT = 256
/** Number and arguments. */
const MOST_REGISTERS = 8

/** Bytes of a mailbox. */
export const MAILBOX_BYTES = TEXT + 2 * MOST_TEXT

/** A register as the raw hypercall has it. */
export type MailRegister = number | bigint

/** What is asked for. */
export interface Mail {
  readonly call: number
  readonly domid: number
  readonly vcpuId: number
  readonly registers: readonly MailRegister[]
}

/** One end's view of a mailbox. The memory is shared; the view stays good when it grows. */
export class Mailbox {
  readonly #words: Int32Array
  readonly #view: DataView
  readonly #state: number

  /** `at`: where the mailbox is. */
  constructor(memory: Pick<PrivateMemory, 'words'>, at: number) {
    this.#words = memory.words
    this.#view = new DataView(memory.words.buffer, at, MAILBOX_BYTES)
    this.#state = (at + STATE) >>> 2
  }

  get state(): number {
    return Atomics.load(this.#words, this.#state)
  }
  /** Publishes what was written before it, and wakes the other end. */
  set state(state: number) {
    Atomics.store(this.#words, this.#state, state)
    Atomics.notify(this.#words, this.#state)
  }
  /** From one state to another; false if it was in none of the kind. */
  move(from: number, to: number): boolean {
    return Atomics.compareExchange(this.#words, this.#state, from, to) === from
  }
  /** Sleeps while the state is this one; false: `timeoutMs` went by. */
  sleep(state: number, timeoutMs?: number): boolean {
    return Atomics.wait(this.#words, this.#state, state, timeoutMs) !== 'timed-out'
  }

  /** Has the thread page tables of its own? */
  get hasTables(): boolean {
    return this.#view.getInt32(TABLES, true) !== 0
  }
  set hasTables(has: boolean) {
    this.#view.setInt32(TABLES, Number(has), true)
  }

  write({ call, domid, vcpuId, registers }: Mail): void {
    const view = this.#view
    view.setInt32(CALL, call, true)
    view.setInt32(DOMID, domid, true)
    view.setInt32(VCPU, vcpuId, true)
    const count = Math.min(registers.length, MOST_REGISTERS)
    let bigints = 0
    for (let i = 0; i < count; i++) {
      const register = registers[i]!
      if (typeof register === 'number') view.setFloat64(REGISTERS + 8 * i, register, true)
      else {
        bigints |= 1 << i
        view.setBigInt64(REGISTERS + 8 * i, BigInt.asIntN(64, register), true)
      }
    }
    view.setInt32(BIGINTS, bigints, true)
    view.setInt32(COUNT, count, true)
  }

  read(): Mail {
    const view = this.#view
    const bigints = view.getInt32(BIGINTS, true)
    const registers: MailRegister[] = []
    for (let i = 0; i < Math.min(view.getInt32(COUNT, true), MOST_REGISTERS); i++)
      registers.push(
        (bigints >> i) & 1 ? view.getBigInt64(REGISTERS + 8 * i, true) : view.getFloat64(REGISTERS + 8 * i, true),
      )
    const int = (at: number) => view.getInt32(at, true)
    return { call: int(CALL), domid: int(DOMID), vcpuId: int(VCPU), registers }
  }

  /** The result, and the reason of a refusal. */
  answer(result: number, text = ''): void {
    const length = Math.min(text.length, MOST_TEXT)
    for (let i = 0; i < length; i++) this.#view.setUint16(TEXT + 2 * i, text.charCodeAt(i), true)
    this.#view.setInt32(TEXT_LENGTH, length, true)
    this.#view.setFloat64(RESULT, result, true)
  }
  get result(): number {
    return this.#view.getFloat64(RESULT, true)
  }
  get text(): string {
    const length = Math.min(this.#view.getInt32(TEXT_LENGTH, true), MOST_TEXT)
    return String.fromCharCode(...Array.from({ length }, (_, i) => this.#view.getUint16(TEXT + 2 * i, true)))
  }

  /** The question: which guest physical address has this virtual one? */
  ask(gva: number, write: boolean): void {
    this.#view.setFloat64(GVA, gva, true)
    this.#view.setInt32(WRITE, Number(write), true)
  }
  get question(): { readonly gva: number; readonly write: boolean } {
    return { gva: this.#view.getFloat64(GVA, true), write: this.#view.getInt32(WRITE, true) !== 0 }
  }
  get walked(): number {
    return this.#view.getFloat64(WALKED, true)
  }
  set walked(gpa: number) {
    this.#view.setFloat64(WALKED, gpa, true)
  }
}
