/**
 * Granted pages: a guest lends frames by reference, a backend maps them. A domain that was killed stays a zombie as long
 * as one of its pages is mapped (XW-obs-2).
 */

/** What the host knows of a guest's memory. */
export type GuestPage = (domid: number, gfn: number) => (() => Uint8Array) | undefined

let markUnmapped: (page: MappedPage) => void

/** A mapped page. */
export class MappedPage {
  readonly domid: number
  readonly gref: number
  /** Its bytes, as they are now. */
  readonly bytes: () => Uint8Array
  #users = 0
  #mapped = true

  static {
    markUnmapped = (page) => {
      page.#mapped = false
    }
  }

  /** @internal */
  constructor(domid: number, gref: number, bytes: () => Uint8Array) {
    this.domid = domid
    this.gref = gref
    this.bytes = bytes
  }

  /** Users besides the mapping itself: gnttab_unmap_refs_sync waits until there are none. */
  get users(): number {
    return this.#users
  }

  get mapped(): boolean {
    return this.#mapped
  }

  /** One more user. */
  hold(): void {
    this.#users++
  }

  /** One user less. @throws Error if there is none. */
  release(): void {
    if (this.#users === 0) throw new Error(`page ${this.gref} of d${this.domid} has no user`)
    this.#users--
  }
}

/** All grants of a host. */
export class GrantTable {
  readonly #page: GuestPage
  readonly #granted = new Map<number, Map<number, number>>()
  readonly #mapped = new Map<number, Set<MappedPage>>()
  readonly #onRelease: (domid: number) => void
  #lastRef = 7

  /** `onRelease`: the last mapped page of a domain was unmapped. */
  constructor(page: GuestPage, onRelease: (domid: number) => void) {
    this.#page = page
    this.#onRelease = onRelease
  }

  /** A guest lends a frame; the reference. */
  grant(domid: number, gfn: number): number {
    const table = this.#granted.get(domid) ?? new Map<number, number>()
    this.#granted.set(domid, table)
    table.set(++this.#lastRef, gfn)
    return this.#lastRef
  }

  /** A guest takes a frame back; what is mapped stays mapped. */
  end(domid: number, gref: number): void {
    this.#granted.get(domid)?.delete(gref)
  }

  /** Maps a page. @throws Error for an invalid reference. */
  map(domid: number, gref: number): MappedPage {
    const page = this.tryMap(domid, gref)
    if (!page) throw new Error(`d${domid} has not granted reference ${gref}`)
    return page
  }

  /** Maps a page; undefined for an invalid reference. */
  tryMap(domid: number, gref: number): MappedPage | undefined {
    const gfn = this.#granted.get(domid)?.get(gref)
    const bytes = gfn === undefined ? undefined : this.#page(domid, gfn)
    if (!bytes) return undefined
    const page = new MappedPage(domid, gref, bytes)
    const pages = this.#mapped.get(domid) ?? new Set()
    this.#mapped.set(domid, pages.add(page))
    return page
  }

  /** Unmaps a page that nobody uses any more. */
  unmap(page: MappedPage): void {
    if (page.users) throw new Error(`page ${page.gref} of d${page.domid} is still used`)
    if (!page.mapped) throw new Error(`page ${page.gref} of d${page.domid} is not mapped`)
    markUnmapped(page)
    const pages = this.#mapped.get(page.domid)!
    pages.delete(page)
    if (pages.size) return
    this.#mapped.delete(page.domid)
    this.#onRelease(page.domid)
  }

  /** Pages of a domain that are mapped. */
  mapped(domid: number): number {
    return this.#mapped.get(domid)?.size ?? 0
  }

  /** The domain is gone: its references mean nothing any more. */
  forget(domid: number): void {
    this.#granted.delete(domid)
  }
}
