/**
 * A data ring of a guest, mapped: the index page, then the pages that it names (PV-51). Whatever the guest wrote is read
 * once and checked before use (PV-53): the order first, then each reference; a guest that changes them later changes
 * nothing here.
 */

import { CircularArray, INDEX_WORD, IndexPage } from '../../io/pvcalls_data_ring.js'
import type { GrantTable, MappedPage } from '../grants.js'

/** What is mapped for one socket. */
export class MappedDataRing {
  /** @internal */
  readonly index: IndexPage
  /** @internal Backend to frontend. */
  readonly in: CircularArray
  /** @internal Frontend to backend. */
  readonly out: CircularArray
  readonly order: number
  readonly #grants: GrantTable
  readonly #pages: readonly MappedPage[]

  private constructor(grants: GrantTable, index: IndexPage, order: number, pages: readonly MappedPage[]) {
    this.#grants = grants
    this.#pages = pages
    this.index = index
    this.order = order
    const data = pages.slice(1).map(({ bytes }) => bytes)
    this.in = new CircularArray(data.slice(0, data.length / 2))
    this.out = new CircularArray(data.slice(data.length / 2))
  }

  /** Maps the ring whose index page is `ref`; undefined if a page is not granted or the order is out of range. */
  static map(grants: GrantTable, domid: number, ref: number, maxOrder: number): MappedDataRing | undefined {
    const pages: MappedPage[] = []
    const map = (gref: number): boolean => {
      const page = grants.tryMap(domid, gref)
      if (page) pages.push(page)
      return page !== undefined
    }
    if (!map(ref)) return undefined
    const index = new IndexPage(pages[0]!.bytes)
    const order = index.index(INDEX_WORD.ring_order)
    let ok = order >= 1 && order <= maxOrder
    for (let i = 0; ok && i < 1 << order; i++) ok = map(index.index(INDEX_WORD.ref + i))
    if (ok) return new MappedDataRing(grants, index, order, pages)
    for (const page of pages) grants.unmap(page)
    return undefined
  }

  unmap(): void {
    for (const page of this.#pages) this.#grants.unmap(page)
  }
}
