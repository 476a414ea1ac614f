/** A WebAssembly module that is not the library's own: an emulator that brings its guest's RAM. */

/** Compiles a module and makes an instance of it: its exports. @throws what the engine throws for bytes or imports that do not fit */
export const instantiateForeign = (
  bytes: Uint8Array,
  imports: Record<string, Record<string, unknown>>,
): Record<string, unknown> => new WebAssembly.Instance(new WebAssembly.Module(bytes), imports).exports
