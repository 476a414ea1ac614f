/**
 * Hooks in a WebAssembly module that somebody else compiled: a hooked function first asks the embedder, and does its own work
 * only if the embedder did nothing. No tool chain, and no index changes:
 *
 *     function 17: body            ─▶   function 17:  if (ask(key)) return; call 912 with the same arguments
 *                                       function 912: body                             (appended)
 *
 * `ask` is a function that the module imports already, i32 → i32. Custom sections, names among them, are left out.
 */

const SECTION = { custom: 0, type: 1, import: 2, function: 3, export: 7, code: 10 } as const
const KIND = { function: 0, table: 1 } as const
const OP = { end: 0x0b, return: 0x0f, call: 0x10, localGet: 0x20, i32Const: 0x41, if: 0x04, emptyBlock: 0x40 } as const
const HEADER_BYTES = 8

/** A function that is hooked, and the number that `ask` gets: by the name of its export, or as what an export calls. */
export type Hook = { readonly key: number } & ({ readonly exported: string } | { readonly calledBy: string })

/** Why a module cannot be hooked. */
export class HookError extends Error {
  override name = 'HookError'
}

/** Reads a module's numbers. The linker pads them, so they are parsed and never searched for. */
class Reader {
  readonly bytes: Uint8Array
  at: number

  constructor(bytes: Uint8Array, at = 0) {
    this.bytes = bytes
    this.at = at
  }

  byte(): number {
    const byte = this.bytes[this.at++]
    if (byte === undefined) throw new HookError('the module ends in the middle')
    return byte
  }

  unsigned(): number {
    let value = 0
    for (let shift = 0; ; shift += 7) {
      const byte = this.byte()
      value += (byte & 127) * 2 ** shift
      if (!(byte & 128)) return value
      if (shift > 28) throw new HookError('a number of more than 32 bits')
    }
  }

  take(length: number): Uint8Array {
    if (this.at + length > this.bytes.length) throw new HookError('the module ends in the middle')
    this.at += length
    return this.bytes.subarray(this.at - length, this.at)
  }

  name(): string {
    return String.fromCharCode(...this.take(this.unsigned()))
  }

  list<T>(item: () => T): T[] {
    return Array.from({ length: this.unsigned() }, item)
  }
}

function unsigned(value: number): number[] {
  const bytes: number[] = []
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return [...bytes, rest]
    bytes.push((rest % 128) | 128)
  }
}

/** A positive number as a signed one: its last byte has bit 6 clear. */
const positive = (value: number): number[] => {
  const bytes = unsigned(value)
  const last = bytes.at(-1)!
  return last & 64 ? [...bytes.slice(0, -1), last | 128, 0] : bytes
}

/** A module as far as hooks need it. */
interface Parts {
  readonly sections: readonly { readonly id: number; readonly body: Uint8Array }[]
  /** Number of arguments and of results, by type. */
  readonly types: { readonly args: number; readonly results: number }[]
  readonly imported: string[]
  readonly functions: number[]
  readonly exported: ReadonlyMap<string, number>
  readonly bodies: Uint8Array[]
}

function readImports(from: Reader): string[] {
  const functions: string[] = []
  from.list(() => {
    from.name()
    const name = from.name()
    const kind = from.byte()
    if (kind === KIND.function) {
      from.unsigned()
      functions.push(name)
    } else if (kind === KIND.table) {
      from.byte()
      const flags = from.unsigned()
      from.unsigned()
      if (flags & 1) from.unsigned()
    } else throw new HookError(`the import ${name} is neither a function nor a table`)
  })
  return functions
}

function parse(module: Uint8Array): Parts {
  const all = new Reader(module, HEADER_BYTES)
  const sections: { id: number; body: Uint8Array }[] = []
  while (all.at < module.length) {
    const id = all.byte()
    sections.push({ id, body: all.take(all.unsigned()) })
  }
  const section = (id: number): Reader => {
    const found = sections.find((each) => each.id === id)
    if (!found) throw new HookError(`the module has no section ${id}`)
    return new Reader(found.body)
  }
  const types = section(SECTION.type)
  const imports = section(SECTION.import)
  const functions = section(SECTION.function)
  const exports = section(SECTION.export)
  const code = section(SECTION.code)
  return {
    sections,
    types: types.list(() => {
      types.byte()
      const args = types.take(types.unsigned()).length
      return { args, results: types.take(types.unsigned()).length }
    }),
    imported: readImports(imports),
    functions: functions.list(() => functions.unsigned()),
    exported: new Map(
      exports
        .list(() => [exports.name(), exports.byte(), exports.unsigned()] as const)
        .flatMap(([name, kind, index]) => (kind === KIND.function ? [[name, index] as const] : [])),
    ),
    bodies: code.list(() => code.take(code.unsigned())),
  }
}

/** Index among the module's own functions. */
function indexOf({ exported, imported, bodies }: Parts, hook: Hook): number {
  const name = 'exported' in hook ? hook.exported : hook.calledBy
  const index = exported.get(name)
  if (index === undefined) throw new HookError(`the module exports no function ${name}`)
  if ('exported' in hook) return index - imported.length
  // No locals, and the call is the first that it does.
  const body = new Reader(bodies[index - imported.length]!)
  if (body.byte() !== 0 || body.byte() !== OP.call) throw new HookError(`${name} does not begin with a call`)
  return body.unsigned() - imported.length
}

/** @throws HookError if a function is missing, or is not of the form that a hook needs. */
export function hookFunctions(module: Uint8Array, ask: string, hooks: readonly Hook[]): Uint8Array {
  const parts = parse(module)
  const { types, imported, functions, bodies } = parts
  const asked = imported.indexOf(ask)
  if (asked < 0) throw new HookError(`the module imports no function ${ask}`)
  for (const hook of hooks) {
    const index = indexOf(parts, hook)
    const type = functions[index]!
    const { args, results } = types[type]!
    if (results) throw new HookError(`function ${index} returns something`)
    const moved = imported.length + functions.length
    functions.push(type)
    bodies.push(bodies[index]!)
    const pass = Array.from({ length: args }, (_, i) => [OP.localGet, ...unsigned(i)]).flat()
    const question = [OP.i32Const, ...positive(hook.key), OP.call, ...unsigned(asked)]
    const leave = [OP.if, OP.emptyBlock, OP.return, OP.end]
    bodies[index] = Uint8Array.from([0, ...question, ...leave, ...pass, OP.call, ...unsigned(moved), OP.end])
  }
  return assemble(module, parts)
}

function assemble(module: Uint8Array, { sections, functions, bodies }: Parts): Uint8Array {
  const pieces: Uint8Array[] = [module.subarray(0, HEADER_BYTES)]
  const add = (id: number, ...body: Uint8Array[]) => {
    const length = body.reduce((sum, each) => sum + each.length, 0)
    pieces.push(Uint8Array.from([id, ...unsigned(length)]), ...body)
  }
  for (const { id, body } of sections) {
    if (id === SECTION.custom) continue
    if (id === SECTION.function) add(id, Uint8Array.from([functions.length, ...functions].flatMap(unsigned)))
    else if (id === SECTION.code)
      add(
        id,
        Uint8Array.from(unsigned(bodies.length)),
        ...bodies.flatMap((each) => [Uint8Array.from(unsigned(each.length)), each]),
      )
    else add(id, body)
  }
  const whole = new Uint8Array(pieces.reduce((sum, each) => sum + each.length, 0))
  let at = 0
  for (const piece of pieces) {
    whole.set(piece, at)
    at += piece.length
  }
  return whole
}
