/**
 * A struct's bytes as an object: each member is an accessor that was made once for its place and size, so that reading a
 * hypercall's arguments copies no object and leaves no garbage.
 *
 *     bytes   ├ remote_dom ┼ pad ┼ remote_port ┼ local_port ┤
 *               get/set     (kept)  get/set       get/set
 *
 * A record may be used again for other bytes: whoever keeps a member for later keeps its value.
 */

import { type Field, getField, type Members, type Struct, setField } from './struct.js'

/** A struct's bytes. */
export class Place {
  readonly bytes: Uint8Array
  readonly view: DataView

  constructor(size: number) {
    this.bytes = new Uint8Array(size)
    this.view = new DataView(this.bytes.buffer)
  }
}

/** A struct in its place: IN and OUT members by Xen's names. */
export type StructRecord<S extends Struct> = Place & Members<S, 'in' | 'out' | 'inout'>

/** Makes the records of one struct. */
export type RecordClass<S extends Struct> = new () => StructRecord<S>

/** An accessor per size: the engine sees that place and size are constant, which it cannot in a loop over members. */
function accessor(field: Field): PropertyDescriptor & ThisType<Place> {
  const { offset, size } = field
  if (size === 4)
    return {
      get() {
        return this.view.getUint32(offset, true)
      },
      set(value: number) {
        this.view.setUint32(offset, value, true)
      },
    }
  if (size === 2)
    return {
      get() {
        return this.view.getUint16(offset, true)
      },
      set(value: number) {
        this.view.setUint16(offset, value, true)
      },
    }
  return {
    get() {
      return getField(this.view, field)
    },
    set(value: number) {
      setField(this.view, field, value)
    },
  }
}

/** The record class of a struct. Padding has no member: its bytes stay as they are. */
export function recordClass<S extends Struct>(layout: S): RecordClass<S> {
  const made = class extends Place {
    constructor() {
      super(layout.size)
    }
  }
  for (const [name, field] of Object.entries(layout.fields) as [string, Field][])
    if (field.dir !== 'pad') Object.defineProperty(made.prototype, name, accessor(field))
  return made as unknown as RecordClass<S>
}
