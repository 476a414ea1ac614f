/**
 * Granted pages: a guest lends frames by entries in its grant table, a backend maps them. A domain that was killed stays a zombie as long
 * as one of its pages is mapped (XW-obs-2).
 */

/** A page that the hypervisor has mapped. */
export interface GrantedBytes {
  /** Its bytes, as they are now. */
  readonly bytes: () => Uint8Array
  /** The entry says "not in use" again. */
  unmap(): void
}

/** Maps a reference of a domain for dom0; undefined if the domain has not granted it. */
export type MapGrant = (domid: number, gref: number) => GrantedBytes | undefined

let markUnmapped: (page: MappedPage) => void
let under: (page: MappedPage) => GrantedBytes

/** A mapped page. */
export class MappedPage {
  readonly domid: number
  readonly gref: number
  /** Its bytes, as they are now. */
  readonly bytes: () => Uint8Array
  readonly #granted: GrantedBytes
  #users = 0
  #mapped = true

  static {
    markUnmapped = (page) => {
      page.#mapped = false
    }
    under = (page) => page.#granted
  }

  /** @internal */
  constructor(domid: number, gref: number, granted: GrantedBytes) {
    this.domid = domid
    this.gref = gref
    this.bytes = granted.bytes
    this.#granted = granted
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

/** The pages that dom0's backends have mapped of guests. The entries are in the guests' own frames. */
export class GrantTable {
  readonly #map: MapGrant
  readonly #mapped = new Map<number, Set<MappedPage>>()
  readonly #onRelease: (domid: number) => void

  /** `onRelease`: the last mapped page of a domain was unmapped. */
  constructor(map: MapGrant, onRelease: (domid: number) => void) {
    this.#map = map
    this.#onRelease = onRelease
  }

  /** Maps a page. @throws Error for an invalid reference. */
  map(domid: number, gref: number): MappedPage {
    const page = this.tryMap(domid, gref)
    if (!page) throw new Error(`d${domid} has not granted reference ${gref}`)
    return page
  }

  /** Maps a page; undefined for an invalid reference. */
  tryMap(domid: number, gref: number): MappedPage | undefined {
    const granted = this.#map(domid, gref)
    if (!granted) return undefined
    const page = new MappedPage(domid, gref, granted)
    const pages = this.#mapped.get(domid) ?? new Set()
    this.#mapped.set(domid, pages.add(page))
    return page
  }

  /** Unmaps a page that nobody uses any more. */
  unmap(page: MappedPage): void {
    if (page.users) throw new Error(`page ${page.gref} of d${page.domid} is still used`)
    if (!page.mapped) throw new Error(`page ${page.gref} of d${page.domid} is not mapped`)
    markUnmapped(page)
    under(page).unmap()
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
}
