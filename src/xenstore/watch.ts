/** Watches: which are due for a change, in which order, and what their events say. */

import { isSpecial, parentPath } from './path.js'

/** Who watches: its number is its place in the order of events. */
export interface Watcher {
  readonly id: number
}

/** One watch. */
export interface Watch<W extends Watcher = Watcher> {
  readonly connection: W
  /** Absolute. */
  readonly path: string
  readonly token: string
  /** Characters to cut off a reported path: the home of the domain, if the watch was set with a relative path (XS-watch-5). */
  readonly cut: number
  /** How many levels below are reported (XS-watch-14); undefined: all. */
  readonly depth: number | undefined
  /** Order of registration. */
  readonly seq: number
}

/** Bytes that a watch costs its owner. */
export function watchBytes({ path, token }: Watch): number {
  return 64 + path.length + token.length
}

/** Identity of a watch within its connection (XS-watch-1). No path holds a nul. */
export function watchKey(path: string, token: string): string {
  return `${path}\0${token}`
}

/** What an event tells: the path as its watcher knows it, and the token. */
export function eventText(watch: Watch, path: string): string {
  return `${path.slice(watch.cut)}\0${watch.token}\0`
}

/** All watches, by path. */
export class WatchTable<W extends Watcher> {
  readonly #byPath = new Map<string, Set<Watch<W>>>()
  readonly #order: (a: Watch<W>, b: Watch<W>) => number

  constructor(newestFirst: boolean) {
    const sign = newestFirst ? -1 : 1
    this.#order = (a, b) => a.connection.id - b.connection.id || sign * (a.seq - b.seq)
  }

  /** Number of paths that are watched. */
  get size(): number {
    return this.#byPath.size
  }

  add(watch: Watch<W>): void {
    const set = this.#byPath.get(watch.path)
    if (set) set.add(watch)
    else this.#byPath.set(watch.path, new Set([watch]))
  }

  remove(watch: Watch<W>): void {
    const set = this.#byPath.get(watch.path)
    if (set?.delete(watch) && !set.size) this.#byPath.delete(watch.path)
  }

  /** Watches that a change at `path` concerns: connections in order of creation, watches of registration (XS-watch-6). */
  concerned(path: string, exact: boolean): Watch<W>[] {
    if (!this.#byPath.size) return []
    const found: Watch<W>[] = [...(this.#byPath.get(path) ?? [])]
    if (!exact && !isSpecial(path)) this.#above(path, found)
    return found.length > 1 ? found.sort(this.#order) : found
  }

  #above(path: string, found: Watch<W>[]): void {
    let distance = 0
    for (let at = path; at !== '/'; ) {
      at = parentPath(at)
      distance++
      const set = this.#byPath.get(at)
      if (set) for (const watch of set) if (watch.depth === undefined || watch.depth >= distance) found.push(watch)
    }
  }
}
