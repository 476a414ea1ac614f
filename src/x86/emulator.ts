/**
 * npm `v86` as this room sees it: the class that an embedder hands over, its options and events. The package itself is never
 * imported, so it stays an optional peer of this one.
 */

/** What the adapter uses of a running emulator. */
export interface V86Emulator {
  readonly v86: {
    readonly cpu: {
      stop_idling(): void
      device_raise_irq(line: number): void
      device_lower_irq(line: number): void
    }
  }
  add_listener(event: string, listener: (value: number) => void): void
  run(): unknown
  stop(): Promise<void>
  destroy(): Promise<void>
  save_state(): Promise<ArrayBuffer>
  restore_state(state: ArrayBuffer): Promise<void>
  /** Types text at the first serial line. */
  serial0_send(text: string): void
}

/** The class `V86` of the package. What it declares of itself is less than what it has, so nothing is asked of its types. */
export type V86Class = new (options: never) => object

/** The parts of a machine that the embedder brings. */
export interface V86Files {
  /** `V86` of npm v86 0.5.462. */
  readonly V86: V86Class
  /** Its build/v86.wasm. */
  readonly wasm: Uint8Array
  /** SeaBIOS: bios.bin of Debian's package seabios. */
  readonly bios: Uint8Array
  /** vgabios.bin of Debian's package vgabios. */
  readonly vgaBios: Uint8Array
}

/** What starts in the machine. */
export interface V86Boot {
  /** A kernel in Linux's boot format (bzImage). */
  readonly kernel?: Uint8Array
  readonly initrd?: Uint8Array
  readonly commandLine?: string
}

/** An image as v86 takes it: a buffer of its own, for v86 keeps it. */
const image = (bytes: Uint8Array) => ({ buffer: bytes.slice().buffer })

/** Options of `new V86`: one processor, a local APIC, no screen that is drawn, no keyboard. */
export function emulatorOptions(
  { bios, vgaBios }: V86Files,
  { kernel, initrd, commandLine }: V86Boot,
  memoryMiB: number,
  instantiate: (imports: { env: Record<string, unknown> }) => Promise<Record<string, unknown>>,
): Record<string, unknown> {
  return {
    wasm_fn: instantiate,
    bios: image(bios),
    vga_bios: image(vgaBios),
    ...(kernel && { bzimage: image(kernel) }),
    ...(initrd && { initrd: image(initrd) }),
    ...(commandLine !== undefined && { cmdline: commandLine }),
    memory_size: memoryMiB * 2 ** 20,
    vga_memory_size: 2 ** 21,
    acpi: true,
    autostart: false,
    disable_keyboard: true,
    disable_mouse: true,
    disable_speaker: true,
  }
}
