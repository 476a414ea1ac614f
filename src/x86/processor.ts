/**
 * The processor of v86 0.5.462 from outside: its state lies at fixed addresses of the emulator's memory.
 *
 *       64  EAX ECX EDX EBX ESP EBP ESI EDI      556  instruction pointer   560  that of the instruction under way
 *      580  CR0 … CR4                            612  privilege level (u8)  616  halted (u8)
 *
 * The memory may grow, which leaves older views without bytes: they are renewed at each use.
 */

import type { WasmMemory } from '../machine/core.js'
import type { PageTables } from './page_walk.js'

const REGISTERS = 64
const PREVIOUS_IP = 560
const CONTROL_REGISTERS = 580
const PRIVILEGE = 612
const HALTED = 616
/** Interrupt request register of the local APIC: eight words, a bit for each vector. */
const APIC_IRR = 64

/** General registers, in the processor's order. */
export const REG = Object.freeze({ EAX: 0, ECX: 1, EDX: 2, EBX: 3, ESI: 6, EDI: 7 } as const)

/** What the adapter uses of the emulator's exports. */
export interface ProcessorExports {
  readonly memory: WasmMemory
  allocate_memory(bytes: number): number
  get_apic_addr(): number
  handle_irqs(): void
  jit_dirty_cache(from: number, to: number): void
}

/** The one processor of a machine. */
export class Processor {
  readonly exports: ProcessorExports
  /** Where the guest's RAM begins in the emulator's memory. */
  readonly ramBase: () => number
  readonly #ramBytes: number
  #bytes = new Uint8Array(0)
  #data: DataView = new DataView(new ArrayBuffer(0))
  /** For the page walk: control registers as they are now. */
  readonly pageTables: PageTables

  constructor(exports: ProcessorExports, ramBase: () => number, ramBytes: number) {
    this.exports = exports
    this.ramBase = ramBase
    this.#ramBytes = ramBytes
    const control = (index: number) => this.#view.getUint32(CONTROL_REGISTERS + index * 4, true)
    this.pageTables = {
      get cr0() {
        return control(0)
      },
      get cr3() {
        return control(3)
      },
      get cr4() {
        return control(4)
      },
      read32: (gpa) => (gpa + 4 <= this.#ramBytes ? this.#view.getUint32(this.ramBase() + gpa, true) : 0),
    }
  }

  get #view(): DataView {
    const { buffer } = this.exports.memory
    if (this.#data.buffer !== buffer) {
      this.#bytes = new Uint8Array(buffer as ArrayBuffer)
      this.#data = new DataView(buffer)
    }
    return this.#data
  }

  get #all(): Uint8Array {
    return this.#view && this.#bytes
  }

  register(index: number): number {
    return this.#view.getInt32(REGISTERS + index * 4, true)
  }
  setRegister(index: number, value: number): void {
    this.#view.setInt32(REGISTERS + index * 4, value, true)
  }

  /** Ring 0 to 3. */
  get privilege(): number {
    return this.#all[PRIVILEGE]!
  }

  get halted(): boolean {
    return this.#all[HALTED] !== 0
  }
  set halted(halted: boolean) {
    this.#all[HALTED] = halted ? 1 : 0
  }

  /** Virtual address of the instruction under way. */
  get instruction(): number {
    return this.#view.getUint32(PREVIOUS_IP, true)
  }

  /** A byte of RAM; undefined outside. */
  ram(gpa: number): number | undefined {
    return gpa >= 0 && gpa < this.#ramBytes ? this.#all[this.ramBase() + gpa] : undefined
  }

  /** Stores bytes in RAM, and throws away code that was compiled of what was there. */
  writeRam(gpa: number, bytes: Uint8Array): void {
    if (gpa < 0 || gpa + bytes.length > this.#ramBytes) return
    this.#all.set(bytes, this.ramBase() + gpa)
    this.exports.jit_dirty_cache(gpa, gpa + bytes.length)
  }

  /** Raises an interrupt vector at the local APIC; the guest ends it there. */
  interrupt(vector: number): void {
    const at = this.exports.get_apic_addr() + APIC_IRR + (vector >> 5) * 4
    this.#view.setInt32(at, this.#view.getInt32(at, true) | (1 << (vector & 31)), true)
    this.exports.handle_irqs()
  }
}
