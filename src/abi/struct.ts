/**
 * C structs as data. A struct is a size and a table of fields; copying between bytes and a plain object is driven by it,
 * so that the layout stands in one place and can be compared with what a C compiler says.
 */

/** `in`: the guest fills it; `out`: Xen fills it; `pad`: ignored, kept as the guest left it. */
export type Direction = 'in' | 'out' | 'inout' | 'pad'

/** One member: byte offset, size in bytes (1, 2, 4 or 8), direction. */
export interface Field<D extends Direction = Direction> {
  readonly offset: number
  readonly size: number
  readonly dir: D
}

/** A struct of the hypercall ABI. `size` in bytes. */
export interface Struct<F extends Readonly<Record<string, Field>> = Readonly<Record<string, Field>>> {
  readonly name: string
  readonly size: number
  readonly fields: F
}

/** Members of a struct by Xen's names, for code that works on any struct. */
export type Args = Record<string, number>

/** The members of a struct that have one of the directions: `Members<typeof HVM_PARAM, 'in' | 'inout'>`. */
export type Members<S extends Struct, D extends Direction> = string extends keyof S['fields']
  ? Args
  : { -readonly [K in keyof S['fields'] as S['fields'][K]['dir'] extends D ? K : never]: number }

export type Row = readonly [offset: number, size: number, dir: Direction]

/** Builds a struct from rows [offset, size, direction]; their names and directions are part of its type. */
export function struct<const R extends Readonly<Record<string, Row>>>(
  name: string,
  size: number,
  rows: R,
): Struct<{ readonly [K in keyof R]: Field<R[K][2]> }> {
  const fields: Record<string, Field> = {}
  for (const [field, [offset, bytes, dir]] of Object.entries(rows))
    fields[field] = Object.freeze({ offset, size: bytes, dir })
  return Object.freeze({ name, size, fields: Object.freeze(fields) as { readonly [K in keyof R]: Field<R[K][2]> } })
}

const TWO_32 = 2 ** 32

/** An unsigned member. A u64 above 2^53 loses low bits but not its size: good for bounds, which is all it is used for. */
export function getField(view: DataView, field: Field, at = 0): number {
  const offset = at + field.offset
  switch (field.size) {
    case 1:
      return view.getUint8(offset)
    case 2:
      return view.getUint16(offset, true)
    case 4:
      return view.getUint32(offset, true)
    default:
      return view.getUint32(offset + 4, true) * TWO_32 + view.getUint32(offset, true)
  }
}

/** Stores an unsigned member, cut to its size. */
export function setField(view: DataView, field: Field, value: number, at = 0): void {
  const offset = at + field.offset
  switch (field.size) {
    case 1:
      view.setUint8(offset, value)
      break
    case 2:
      view.setUint16(offset, value, true)
      break
    case 4:
      view.setUint32(offset, value, true)
      break
    default:
      view.setUint32(offset, value % TWO_32, true)
      view.setUint32(offset + 4, Math.floor(value / TWO_32), true)
  }
}

/** Reads the members that the caller fills in; with `want` 'out' those that Xen does. */
export function decode<S extends Struct, const W extends 'in' | 'out' = 'in'>(
  layout: S,
  view: DataView,
  want?: W,
  at = 0,
): Members<S, W | 'inout'> {
  const args: Args = {}
  const wanted = want ?? 'in'
  for (const name in layout.fields) {
    const field = layout.fields[name] as Field
    if (field.dir === wanted || field.dir === 'inout') args[name] = getField(view, field, at)
  }
  return args as Members<S, W | 'inout'>
}

/** Stores the members that Xen fills in into `args`. */
export function decodeInto(layout: Struct, view: DataView, args: Args, at = 0): void {
  for (const name in layout.fields) {
    const field = layout.fields[name] as Field
    if (field.dir === 'out' || field.dir === 'inout') args[name] = getField(view, field, at)
  }
}

/** Writes the members that `args` has. */
export function encode(layout: Struct, view: DataView, args: Readonly<Partial<Args>>, at = 0): void {
  for (const name in layout.fields) {
    const value = args[name]
    if (value !== undefined) setField(view, layout.fields[name] as Field, value, at)
  }
}
