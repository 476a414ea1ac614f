/**
 * The grant table of one domain, version 1: entries in frames of its own RAM, which the guest writes, and what others have
 * mapped of it (xen/common/grant_table.c).
 *
 *     reference ──▶ frame [ref / 512], entry ref % 512 ──▶ flags, domid, gfn
 *
 * What the hypervisor believes of a grant in use (who maps it, how often, which frame) is private, as in Xen: a guest that
 * changes the entry of a mapped page changes nothing (EC-gnt-4). Of the guest's words Xen sets and clears two bits, with a
 * compare and exchange, for the guest may write the same word.
 */

import { DOMID_SELF, GNTST, GRANT_ENTRY, GRANT_FRAMES, GRANTS_PER_FRAME, GTF, PAGE_SIZE } from '../abi/index.js'
import { frameRefs, type GuestMemory } from '../machine/memory.js'

/** Why a grant cannot be used: a status of grant_table_op, and the reason as text. */
export class GrantRefusal {
  readonly status: number
  readonly text: string

  constructor(status: number, text: string) {
    this.status = status
    this.text = text
  }
}

/** A grant in use. */
interface Active {
  readonly domid: number
  readonly gfn: number
  /** How often it is used at all, and for writing. */
  uses: number
  writes: number
}

/** One use of a grant, until `unpin`. */
export interface Pin {
  readonly ref: number
  readonly gfn: number
  readonly write: boolean
}

/** The table. */
export class GrantEntries {
  readonly maxFrames: number
  readonly #domid: number
  readonly #memory: GuestMemory
  /** Where the creator put the table's frames, one behind the other; -1: nowhere, the guest places them. */
  readonly #firstGfn: number
  /** Frame of RAM by index; -1: the frame exists and is placed nowhere. */
  readonly #frames: number[] = []
  readonly #active = new Map<number, Active>()
  /** Uses that this domain has of others' grants; each ends with it. */
  readonly held = new Set<() => void>()

  /** `firstGfn`: where the creator put the table; -1 if the guest is to place it. */
  constructor(domid: number, memory: GuestMemory, firstGfn: number, maxFrames: number) {
    this.#domid = domid
    this.#memory = memory
    this.#firstGfn = firstGfn
    this.maxFrames = maxFrames
    this.grow(Math.min(GRANT_FRAMES.initial, maxFrames))
  }

  /** Frames that the table has. */
  get frames(): number {
    return this.#frames.length
  }

  /** Grants of this domain that others use. */
  get inUse(): number {
    return this.#active.size
  }

  /** Frame of RAM that holds frame `index` of the table; -1 if it is placed nowhere. */
  gfn(index: number): number {
    return this.#frames[index] ?? -1
  }

  /** The table has at least `count` frames from now on. False beyond its limit (EC-gnt-2). */
  grow(count: number): boolean {
    if (count > this.maxFrames) return false
    while (this.#frames.length < count) {
      const gfn = this.#firstGfn < 0 ? -1 : this.#firstGfn + this.#frames.length
      this.#frames.push(-1)
      if (gfn >= 0) this.#hold(this.#frames.length - 1, gfn)
    }
    return true
  }

  #hold(index: number, gfn: number): void {
    const old = this.#frames[index]!
    if (old >= 0) frameRefs(this.#memory).release(old)
    frameRefs(this.#memory).hold(gfn)
    this.#frames[index] = gfn
  }

  /**
   * Puts frame `index` of the table at `gfn`, as add_to_physmap does: entries move there from where they were, and a frame
   * that was placed nowhere is empty. False if there is no such frame, or no such RAM.
   */
  place(index: number, gfn: number): boolean {
    const to = this.#memory.frame(gfn)
    if (to < 0 || !this.grow(index + 1)) return false
    const from = this.gfn(index)
    const all = new Uint8Array(this.#memory.memory.buffer)
    if (from < 0) all.fill(0, to, to + PAGE_SIZE)
    else if (from !== gfn) {
      const at = this.#memory.base + from * PAGE_SIZE
      all.copyWithin(to, at, at + PAGE_SIZE)
    }
    this.#hold(index, gfn)
    return true
  }

  /** Index of an entry's first word in the memory's words, or -1. */
  #word(ref: number): number {
    const gfn = this.gfn(Math.floor(ref / GRANTS_PER_FRAME))
    if (gfn < 0) return -1
    return (this.#memory.base + gfn * PAGE_SIZE + (ref % GRANTS_PER_FRAME) * GRANT_ENTRY.size) / 4
  }

  /** One more use of a grant by domain `by` (EC-gnt-3). */
  pin(ref: number, by: number, write: boolean): Pin | GrantRefusal {
    if (ref >= this.#frames.length * GRANTS_PER_FRAME)
      return new GrantRefusal(GNTST.bad_gntref, `d${this.#domid} has ${this.frames} grant frames, no entry ${ref}`)
    const known = this.#active.get(ref)
    if (known && known.domid !== by)
      return new GrantRefusal(GNTST.general_error, `grant ${ref} of d${this.#domid} is in use by d${known.domid}`)
    let active = known
    if (!active || (write && !active.writes)) {
      const refusal = this.#enter(ref, by, write)
      if (refusal) return refusal
      const gfn = known?.gfn ?? this.#frameOf(ref)
      if (this.#memory.absolute(gfn * PAGE_SIZE, PAGE_SIZE) < 0) {
        this.#leave(ref, GTF.reading | GTF.writing)
        return new GrantRefusal(GNTST.bad_page, `grant ${ref} of d${this.#domid} is of frame ${gfn}, which is no RAM`)
      }
      active ??= { domid: by, gfn, uses: 0, writes: 0 }
      if (!known) frameRefs(this.#memory).hold(gfn)
    }
    active.uses++
    if (write) active.writes++
    this.#active.set(ref, active)
    return { ref, gfn: active.gfn, write }
  }

  #frameOf(ref: number): number {
    return new Uint32Array(this.#memory.memory.buffer)[this.#word(ref) + 1]!
  }

  /** Sets "in use" in an entry that permits it. */
  #enter(ref: number, by: number, write: boolean): GrantRefusal | undefined {
    const at = this.#word(ref)
    const no = (text: string) => new GrantRefusal(GNTST.general_error, `grant ${ref} of d${this.#domid} ${text}`)
    if (at < 0) return no('is in a frame that is placed nowhere')
    const words = new Uint32Array(this.#memory.memory.buffer)
    for (;;) {
      const entry = words[at]!
      const [flags, domid] = [entry & 0xffff, entry >>> 16]
      if ((flags & GTF.type_mask) !== GTF.permit_access) return no('permits no access')
      if (domid !== by && !(domid === DOMID_SELF && by === this.#domid)) return no(`is for d${domid}, not d${by}`)
      if (write && flags & GTF.readonly) return no('is read-only')
      const used = entry | GTF.reading | (write ? GTF.writing : 0)
      if (Atomics.compareExchange(words, at, entry, used) === entry) return undefined
    }
  }

  #leave(ref: number, bits: number): void {
    const at = this.#word(ref)
    if (at >= 0) Atomics.and(new Uint32Array(this.#memory.memory.buffer), at, ~bits)
  }

  /** One use less; the last one clears "in use" (EC-gnt-5). */
  unpin({ ref, write }: Pin): void {
    const active = this.#active.get(ref)
    // The domain is gone, and its memory may be another's.
    if (!active) return
    if (write && !--active.writes) this.#leave(ref, GTF.writing)
    if (--active.uses) return
    this.#leave(ref, GTF.reading)
    this.#active.delete(ref)
    frameRefs(this.#memory).release(active.gfn)
  }

  /** The domain dies: what it uses of others ends. Its own grants stay with those who use them. */
  releaseHeld(): void {
    for (const release of [...this.held]) release()
  }

  /** The domain is gone: its memory is not touched again. */
  dispose(): void {
    for (const { gfn } of this.#active.values()) frameRefs(this.#memory).release(gfn)
    this.#active.clear()
    for (const gfn of this.#frames) if (gfn >= 0) frameRefs(this.#memory).release(gfn)
    this.#frames.length = 0
  }
}
