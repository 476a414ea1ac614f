/**
 * A guest's own side of its grant table, version 1: it writes entries and takes them back (Linux's grant-table.c does the
 * same). An entry in use by a backend cannot be taken back; the guest tries again later (EC-gnt-5).
 */

import {
  DOMID_SELF,
  decode,
  encode,
  GNTST,
  GNTTAB_RESERVED,
  GNTTAB_SETUP_TABLE,
  GNTTABOP,
  GRANT_ENTRY,
  GRANTS_PER_FRAME,
  GTF,
  HYPERVISOR,
  PAGE_SIZE,
} from '../abi/index.js'
import { integer } from '../check.js'
import { Errno, XenError } from '../errno.js'
import type { GuestMemory } from '../machine/memory.js'
import type { GuestHypercalls, GuestPlatform } from './platform.js'

/**
 * Makes GNTTABOP_setup_table, with the list in frame `listGfn`. Returns the table's frames.
 * @throws XenError ENOMEM if the host grants no such table, or a frame of it is placed nowhere.
 */
export function grantFrames(
  { memory, bits }: GuestPlatform,
  calls: GuestHypercalls,
  listGfn: number,
  frames: number,
): number[] {
  const call = 'GNTTABOP_setup_table'
  const layout = GNTTAB_SETUP_TABLE[bits]
  const bytes = new Uint8Array(layout.size)
  const args = { dom: DOMID_SELF, nr_frames: frames, frame_list: listGfn * PAGE_SIZE }
  encode(layout, new DataView(bytes.buffer), args)
  let at = 0
  calls.mustRaw(call, 0, HYPERVISOR.grant_table_op, bytes, (gpa) => {
    at = gpa
    return [GNTTABOP.setup_table, gpa, 1]
  })
  const { status } = decode(layout, memory.data, 'out', at)
  if (status !== GNTST.okay)
    throw new XenError(call, Errno.ENOMEM, `the status is ${(status << 16) >> 16} for ${frames} frames`)
  const list = calls.view(listGfn * PAGE_SIZE, PAGE_SIZE)
  return Array.from({ length: frames }, (_, i) => {
    const gfn = bits === 64 ? Number(list.getBigUint64(i * 8, true)) : list.getUint32(i * 4, true)
    if (memory.frame(gfn) < 0) throw new XenError(call, Errno.ENOMEM, `frame ${i} of the table is placed nowhere`)
    return gfn
  })
}

/** Hands out references of one guest. Made by `GuestKernel.setupGrants`. */
export class GuestGrants {
  readonly #memory: GuestMemory
  /** Frames of the table by index. */
  readonly #frames: readonly number[]
  readonly #free: number[] = []
  #next: number = GNTTAB_RESERVED.entries

  /** @internal */
  constructor(memory: GuestMemory, frames: readonly number[]) {
    this.#memory = memory
    this.#frames = frames
  }

  #words(): Uint32Array {
    return new Uint32Array(this.#memory.memory.buffer)
  }

  #word(ref: number): number {
    const gfn = this.#frames[Math.floor(ref / GRANTS_PER_FRAME)]!
    return (this.#memory.base + gfn * PAGE_SIZE + (ref % GRANTS_PER_FRAME) * GRANT_ENTRY.size) / 4
  }

  #must(call: string, ref: number): number {
    return integer(call, 'ref', ref, 0, this.#frames.length * GRANTS_PER_FRAME - 1)
  }

  /**
   * Lends frame `gfn` to a domain, for reading and writing unless `readOnly`. Returns the reference.
   * @throws XenError ENOSPC if the table is full.
   */
  grant(domid: number, gfn: number, { readOnly = false }: { readOnly?: boolean } = {}): number {
    const ref = this.#free.pop() ?? this.#next
    if (ref >= this.#frames.length * GRANTS_PER_FRAME)
      throw new XenError('GuestGrants.grant', Errno.ENOSPC, `all of ${this.#frames.length} grant frames are in use`)
    if (ref === this.#next) this.#next++
    this.#write(ref, domid, gfn, readOnly)
    return ref
  }

  #write(ref: number, domid: number, gfn: number, readOnly: boolean): void {
    const words = this.#words()
    const at = this.#word(ref)
    // The frame first: the moment that flags say "permitted", another domain may read it.
    Atomics.store(words, at + 1, gfn)
    Atomics.store(words, at, (domid << 16) | GTF.permit_access | (readOnly ? GTF.readonly : 0))
  }

  /** Lends a frame under one of the first eight references, which have a meaning: console is 0, the store's ring 1. */
  grantReserved(ref: number, domid: number, gfn: number): void {
    integer('GuestGrants.grantReserved', 'ref', ref, 0, GNTTAB_RESERVED.entries - 1)
    this.#write(ref, domid, gfn, false)
  }

  /** Does a domain use the grant at present? */
  inUse(ref: number): boolean {
    const at = this.#word(this.#must('GuestGrants.inUse', ref))
    return (Atomics.load(this.#words(), at) & (GTF.reading | GTF.writing)) !== 0
  }

  /** Takes a grant back. False if it is in use: it stays as it is. */
  end(ref: number): boolean {
    const words = this.#words()
    const at = this.#word(this.#must('GuestGrants.end', ref))
    for (;;) {
      const entry = Atomics.load(words, at)
      if (entry & (GTF.reading | GTF.writing)) return false
      if (Atomics.compareExchange(words, at, entry, 0) === entry) break
    }
    this.#free.push(ref)
    return true
  }
}
