/**
 * The children of a node: an immutable dictionary from name to T that remembers the order of creation (XS-path-5).
 *
 * Up to 32 children are two arrays. More are a hash trie, 32 ways per level, so that adding, replacing or removing one of
 * ten thousand copies a few short arrays and shares the rest:
 *
 *     Branch  bitmap 0b…10010   slots [ Entry, Branch ]      slot of bit i = number of set bits below i
 *                                         └ bitmap … slots [ Entry, Entry[] ]     Entry[] = names of equal hash
 *
 * An entry carries a sequence number; the list in order of creation is sorted out of it when somebody asks, and kept.
 */

interface Entry<T> {
  readonly hash: number
  readonly name: string
  readonly node: T
  readonly seq: number
}
interface Branch<T> {
  readonly bitmap: number
  readonly slots: readonly Slot<T>[]
}
type Slot<T> = Entry<T> | Branch<T> | readonly Entry<T>[]

const FLAT_MAX = 32
const BITS = 5
const HASH_BITS = 32

function hashOf(name: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193)
  return hash ^ (hash >>> 15)
}

function bitCount(word: number): number {
  let v = word - ((word >>> 1) & 0x55555555)
  v = (v & 0x33333333) + ((v >>> 2) & 0x33333333)
  return Math.imul((v + (v >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24
}

const isBranch = <T>(slot: Slot<T>): slot is Branch<T> => 'bitmap' in slot
const isBucket = <T>(slot: Slot<T>): slot is readonly Entry<T>[] => Array.isArray(slot)

/** The order of creation, shared by all versions with the same names. */
interface Order {
  names: readonly string[] | undefined
  /** The names as a DIRECTORY reply holds them, once somebody has asked. */
  listing?: string
}

/** Immutable children of a node. */
export class Children<T> {
  /** Number of children. */
  readonly size: number
  /** Bytes of all names with their nuls: what a DIRECTORY reply holds, and what they count in a node's size. */
  readonly bytes: number
  readonly #order: Order
  /** Flat: nodes in the order of names. Else undefined. */
  readonly #flat: readonly T[] | undefined
  readonly #root: Branch<T> | undefined
  readonly #nextSeq: number

  private constructor(
    size: number,
    bytes: number,
    order: Order,
    flat: readonly T[] | undefined,
    root: Branch<T> | undefined,
    nextSeq: number,
  ) {
    this.size = size
    this.bytes = bytes
    this.#order = order
    this.#flat = flat
    this.#root = root
    this.#nextSeq = nextSeq
  }

  static #none: Children<never> | undefined

  /** No children. */
  static none<T>(): Children<T> {
    Children.#none ??= new Children<never>(0, 0, { names: [] }, [], undefined, 0)
    return Children.#none
  }

  /** The child with this name. */
  get(name: string): T | undefined {
    if (this.#flat) {
      const at = this.#order.names!.indexOf(name)
      return at < 0 ? undefined : this.#flat[at]
    }
    return find(this.#root!, name)?.node
  }

  /** With one child replaced, or added behind all others. */
  with(name: string, node: T): Children<T> {
    if (!this.#flat) return this.#withHashed(name, node)
    const names = this.#order.names!
    const at = names.indexOf(name)
    if (at >= 0) {
      const flat = this.#flat.slice()
      flat[at] = node
      return new Children(this.size, this.bytes, this.#order, flat, undefined, 0)
    }
    const bytes = this.bytes + name.length + 1
    const order = { names: [...names, name] }
    const flat = [...this.#flat, node]
    if (this.size < FLAT_MAX) return new Children(this.size + 1, bytes, order, flat, undefined, 0)
    let root: Branch<T> = { bitmap: 0, slots: [] }
    order.names.forEach((each, seq) => {
      root = insert(root, { hash: hashOf(each), name: each, node: flat[seq]!, seq }, 0)
    })
    return new Children(this.size + 1, bytes, order, undefined, root, this.size + 1)
  }

  #withHashed(name: string, node: T): Children<T> {
    const old = find(this.#root!, name)
    const hash = old ? old.hash : hashOf(name)
    const root = insert(this.#root!, { hash, name, node, seq: old ? old.seq : this.#nextSeq }, 0)
    if (old) return new Children(this.size, this.bytes, this.#order, undefined, root, this.#nextSeq)
    return new Children(
      this.size + 1,
      this.bytes + name.length + 1,
      { names: undefined },
      undefined,
      root,
      this.#nextSeq + 1,
    )
  }

  /** Without one child. */
  without(name: string): Children<T> {
    const bytes = this.bytes - name.length - 1
    if (this.#flat) {
      const at = this.#order.names!.indexOf(name)
      if (at < 0) return this
      if (this.size === 1) return Children.none()
      const keep = (_: unknown, i: number) => i !== at
      const order = { names: this.#order.names!.filter(keep) }
      return new Children(this.size - 1, bytes, order, this.#flat.filter(keep), undefined, 0)
    }
    const old = find(this.#root!, name)
    if (!old) return this
    const root = erase(this.#root!, old, 0) as Branch<T>
    return new Children(this.size - 1, bytes, { names: undefined }, undefined, root, this.#nextSeq)
  }

  /** Names in order of creation. Do not change the array. */
  names(): readonly string[] {
    this.#order.names ??= this.#entries().map((entry) => entry.name)
    return this.#order.names
  }

  /** The names in order of creation, each with its nul: kept, for they never change. */
  listing(): string {
    this.#order.listing ??= this.size ? `${this.names().join('\0')}\0` : ''
    return this.#order.listing
  }

  #entries(): Entry<T>[] {
    const all: Entry<T>[] = []
    const stack: Slot<T>[] = [this.#root!]
    for (let slot = stack.pop(); slot; slot = stack.pop()) {
      if (isBucket(slot)) all.push(...slot)
      else if (isBranch(slot)) stack.push(...slot.slots)
      else all.push(slot)
    }
    return all.sort((a, b) => a.seq - b.seq)
  }
}

function find<T>(root: Branch<T>, name: string): Entry<T> | undefined {
  const hash = hashOf(name)
  let branch = root
  for (let shift = 0; ; shift += BITS) {
    const bit = 1 << ((hash >>> shift) & 31)
    if (!(branch.bitmap & bit)) return undefined
    const slot = branch.slots[bitCount(branch.bitmap & (bit - 1))]!
    if (isBucket(slot)) return slot.find((entry) => entry.name === name)
    if (!isBranch(slot)) return slot.name === name ? slot : undefined
    branch = slot
  }
}

// The recursion of these two is bounded by the hash: seven levels, whatever a guest does.

function insert<T>(branch: Branch<T>, entry: Entry<T>, shift: number): Branch<T> {
  const bit = 1 << ((entry.hash >>> shift) & 31)
  const at = bitCount(branch.bitmap & (bit - 1))
  const slots = branch.slots.slice()
  if (!(branch.bitmap & bit)) {
    slots.splice(at, 0, entry)
    return { bitmap: branch.bitmap | bit, slots }
  }
  slots[at] = insertInto(slots[at]!, entry, shift + BITS)
  return { bitmap: branch.bitmap, slots }
}

function insertInto<T>(slot: Slot<T>, entry: Entry<T>, shift: number): Slot<T> {
  if (isBucket(slot)) return [...slot.filter((other) => other.name !== entry.name), entry]
  if (isBranch(slot)) return insert(slot, entry, shift)
  if (slot.name === entry.name) return entry
  if (shift >= HASH_BITS) return [slot, entry]
  return insert(insert({ bitmap: 0, slots: [] }, slot, shift), entry, shift)
}

function erase<T>(branch: Branch<T>, entry: Entry<T>, shift: number): Slot<T> | undefined {
  const bit = 1 << ((entry.hash >>> shift) & 31)
  const at = bitCount(branch.bitmap & (bit - 1))
  const slot = branch.slots[at]!
  let rest: Slot<T> | undefined
  if (isBucket(slot)) {
    const others = slot.filter((other) => other !== entry)
    rest = others.length > 1 ? others : others[0]!
  } else if (isBranch(slot)) rest = erase(slot, entry, shift + BITS)
  const slots = branch.slots.slice()
  if (rest) slots[at] = rest
  else slots.splice(at, 1)
  if (!slots.length && shift > 0) return undefined
  return { bitmap: rest ? branch.bitmap : branch.bitmap & ~bit, slots }
}
