/**
 * The few names of the platform that the library uses beyond ECMAScript 2022, and nothing else: neither the DOM's types
 * nor Node's are in scope in src/, so the compiler proves that the library needs neither.
 */
declare namespace WebAssembly {
  class Module {
    constructor(bytes: Uint8Array)
  }
  class Memory {
    constructor(descriptor: { initial: number; maximum?: number; shared?: boolean })
    readonly buffer: ArrayBuffer | SharedArrayBuffer
    grow(delta: number): number
  }
  class Table {
    constructor(descriptor: { element: 'anyfunc'; initial: number; maximum?: number })
    readonly length: number
    set(index: number, value: unknown): void
    grow(delta: number): number
  }
  class Instance {
    constructor(module: Module, imports?: Record<string, Record<string, unknown>>)
    readonly exports: Record<string, unknown>
  }
}
declare function atob(text: string): string
declare function btoa(text: string): string
/** The text coders of the platform. Not declared as globals of the same names: those of Node's types would clash with them. */
interface PlatformText {
  readonly TextEncoder: new () => {
    encode(text: string): Uint8Array
    encodeInto(text: string, to: Uint8Array): { read: number; written: number }
  }
  readonly TextDecoder: new (label: string, options: { ignoreBOM: boolean }) => { decode(bytes: Uint8Array): string }
}
declare function queueMicrotask(body: () => void): void
