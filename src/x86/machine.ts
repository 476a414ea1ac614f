/**
 * One v86 machine as an HVM domain. The guest's own instructions reach the hypervisor by three hooks in the emulator, and the
 * hypervisor reaches the guest by an interrupt vector:
 *
 *     CPUID 0x400000xx ──▶ leaves.ts             HVMOP_set_evtchn_upcall_vector ─▶ onUpcall ─▶ local APIC ─▶ the guest's IDT
 *     WRMSR 0x40000000 ──▶ the hypercall page
 *     VMCALL           ──▶ Hypervisor.hypercall, by registers; pointers through the guest's page tables
 *
 * The domain lives in the emulator's own memory: its RAM is a window there, and no byte is copied.
 */

import { ParameterError } from '../check.js'
import type { Domain, Vcpu } from '../domain/handles.js'
import type { UpcallHow } from '../domain/upcall.js'
import { Errno } from '../errno.js'
import type { DomainOptions } from '../host/options.js'
import type { Hypervisor } from '../hypervisor/index.js'
import { instantiateForeign } from '../machine/foreign.js'
import { emulatorOptions, type V86Boot, type V86Emulator, type V86Files } from './emulator.js'
import { HYPERCALL_PAGE_MSR, hypercallPage, xenLeaf } from './leaves.js'
import { walkPages } from './page_walk.js'
import { Processor, type ProcessorExports, REG } from './processor.js'
import { HookError, hookFunctions } from './wasm_hooks.js'

/** `ask` of the hooks is the emulator's read of an I/O port. Real ports have 16 bits, so these numbers are free. */
const ASK = 'io_port_read8'
const KEY = { cpuid: 0x1_0000, wrmsr: 0x1_0001, undefinedOpcode: 0x1_0002 } as const
const HOOKS = [
  { key: KEY.cpuid, exported: 'instr_0FA2' },
  { key: KEY.wrmsr, exported: 'instr_0F30' },
  // VMCALL is no opcode to the emulator: the function that raises #UD is what this small one calls.
  { key: KEY.undefinedOpcode, calledBy: 'instr32_0F01_0_reg' },
] as const
const VMCALL = [0x0f, 0x01, 0xc1] as const
const PAGE = 4096

/** What the machine reports. */
export interface MachineEvents {
  /** A byte on the first serial line. */
  readonly onSerial?: ((byte: number) => void) | undefined
  readonly onError: (error: unknown, where: string) => void
}

/** A machine that was loaded and does not run yet. */
export interface MachineOptions {
  readonly files: V86Files
  readonly boot: V86Boot
  readonly memoryMiB: number
  readonly perVcpuVector: boolean
  readonly domid: number
}

/** The machine. */
export class Machine {
  readonly emulator: V86Emulator
  readonly processor: Processor
  readonly options: MachineOptions
  readonly #events: MachineEvents
  #domain: Domain | undefined
  #xen: Hypervisor | undefined

  private constructor(
    emulator: V86Emulator,
    processor: Processor,
    options: MachineOptions,
    events: MachineEvents,
    hooked: { machine?: Machine },
  ) {
    this.emulator = emulator
    this.processor = processor
    this.options = options
    this.#events = events
    hooked.machine = this
  }

  /**
   * Loads emulator, firmware and kernel. The processor stands still.
   * @throws ParameterError for another emulator than v86 0.5.462
   */
  static async load(options: MachineOptions, events: MachineEvents): Promise<Machine> {
    const { files, boot, memoryMiB } = options
    const hooked: { machine?: Machine; exports?: ProcessorExports; ramBase: number } = { ramBase: 0 }
    const module = hooks(files.wasm)
    const instantiate = async (imports: { env: Record<string, unknown> }) => {
      const readPort = imports.env[ASK] as (port: number) => number
      imports.env[ASK] = (port: number) => (port >= KEY.cpuid ? (hooked.machine?.hook(port) ?? 0) : readPort(port))
      const exports = checkExports(instantiateForeign(module, imports))
      hooked.exports = exports
      const allocate = (bytes: number) => {
        hooked.ramBase = exports.allocate_memory(bytes) >>> 0
        return hooked.ramBase
      }
      return { ...exports, allocate_memory: allocate }
    }
    const settled = emulatorOptions(files, boot, memoryMiB, instantiate)
    const emulator = new files.V86(settled as never) as V86Emulator
    await new Promise<void>((loaded) => emulator.add_listener('emulator-loaded', () => loaded()))
    const processor = new Processor(hooked.exports!, () => hooked.ramBase, memoryMiB * 2 ** 20)
    const machine = new Machine(emulator, processor, options, events, hooked)
    const { onSerial } = events
    if (onSerial)
      emulator.add_listener('serial0-output-byte', (byte) => {
        try {
          onSerial(byte)
        } catch (error) {
          events.onError(error, 'onSerial')
        }
      })
    return machine
  }

  /** The options of `createDomain` that the machine settles: where the RAM is, and the guest's page tables. */
  get placement(): Pick<DomainOptions, 'memory' | 'base' | 'translate'> {
    const { exports, pageTables, ramBase } = this.processor
    return {
      memory: exports.memory,
      base: ramBase(),
      translate: (_vcpu, gva, write) => walkPages(pageTables, gva, write),
    }
  }

  /** From now on the guest's hypercalls are those of this domain. */
  become(xen: Hypervisor, domain: Domain): void {
    this.#xen = xen
    this.#domain = domain
  }

  /** An upcall enters the guest: at a safe point of the emulator, which VMCALL is one of. */
  upcall(how: UpcallHow): void {
    const { cpu } = this.emulator.v86
    if (how.type === 'vector') this.processor.interrupt(how.vector)
    else if (how.type === 'gsi') how.level ? cpu.device_raise_irq(how.gsi) : cpu.device_lower_irq(how.gsi)
    else throw new Error(`the machine has no line for an upcall by ${how.type}`)
    // It may sleep until its next timer.
    cpu.stop_idling()
  }

  /** The vCPU that was blocked runs again. */
  unblock(): void {
    this.processor.halted = false
    this.emulator.v86.cpu.stop_idling()
  }

  /** An instruction that is hooked: 1 if it is done, 0 if the emulator is to do it. Never throws into the emulator. */
  hook(key: number): number {
    try {
      if (key === KEY.cpuid) return this.#cpuid()
      return key === KEY.wrmsr ? this.#wrmsr() : this.#vmcall()
    } catch (error) {
      this.#events.onError(error, `a hook of d${this.options.domid}`)
      return 0
    }
  }

  #cpuid(): number {
    const { processor } = this
    const { domid, perVcpuVector } = this.options
    const leaf = xenLeaf(processor.register(REG.EAX) >>> 0, { domid, vcpuId: 0, perVcpuVector })
    if (!leaf) return 0
    for (const [i, register] of [REG.EAX, REG.EBX, REG.ECX, REG.EDX].entries())
      processor.setRegister(register, leaf[i]!)
    return 1
  }

  #wrmsr(): number {
    const { processor } = this
    if (processor.register(REG.ECX) >>> 0 !== HYPERCALL_PAGE_MSR || processor.privilege !== 0) return 0
    processor.writeRam((processor.register(REG.EAX) & -PAGE) >>> 0, hypercallPage())
    return 1
  }

  #isVmcall(): boolean {
    const { processor } = this
    return VMCALL.every(
      (byte, i) => processor.ram(walkPages(processor.pageTables, processor.instruction + i, false)) === byte,
    )
  }

  #vmcall(): number {
    const { processor } = this
    if (!this.#isVmcall()) return 0
    const vcpu = this.#domain?.vcpu(0)
    if (!vcpu || !this.#xen) return 0
    processor.setRegister(REG.EAX, processor.privilege ? -Errno.EPERM : this.#hypercall(this.#xen, vcpu))
    // A vCPU that may not run looks to the emulator like one that executed HLT.
    if (!vcpu.runnable) processor.halted = true
    return 1
  }

  #hypercall(xen: Hypervisor, vcpu: Vcpu): number {
    const register = (index: number) => this.processor.register(index)
    const args = [REG.EBX, REG.ECX, REG.EDX, REG.ESI, REG.EDI].map(register)
    return xen.hypercall(vcpu, register(REG.EAX) >>> 0, args)
  }
}

const THE_EMULATOR = 'build/v86.wasm of npm v86 0.5.462'

function hooks(wasm: Uint8Array): Uint8Array {
  try {
    return hookFunctions(wasm, ASK, HOOKS)
  } catch (error) {
    if (!(error instanceof HookError)) throw error
    throw new ParameterError('V86Host.boot', 'files.wasm', wasm, `${THE_EMULATOR}; ${error.message}`)
  }
}

function checkExports(exports: Record<string, unknown>): ProcessorExports {
  for (const name of ['allocate_memory', 'get_apic_addr', 'handle_irqs', 'jit_dirty_cache'])
    if (typeof exports[name] !== 'function')
      throw new ParameterError('V86Host.boot', 'files.wasm', exports, `${THE_EMULATOR}, which exports ${name}`)
  return exports as unknown as ProcessorExports
}
