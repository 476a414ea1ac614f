/**
 * What an operation works on: the store itself or a transaction's private view of it. Both read and change nodes by the
 * same four verbs, so that there is one implementation of every request.
 */

import { Children } from './children.js'
import { childPath, parentPath } from './path.js'
import { type Birth, type Guarded, ownerOf, type Permissions, settle } from './perms.js'
import { Delta } from './quota.js'
import type { Store } from './store.js'
import { findNode, type NodeView, nodeCost, putNode, removeNode, StoreNode, walk, walkUp } from './tree.js'

/** A change that watches report. */
export interface Change {
  readonly path: string
  /** Only watches on this very path; else also those on its ancestors (XS-watch-3, XS-watch-4). */
  readonly exact: boolean
  /** Who may read one of these may know (XS-watch-8): the node, its parent, its former permissions. */
  readonly readers: readonly Guarded[]
}

/** The store as one operation sees it. */
export interface View {
  /** A node, or undefined if there is none. In a transaction this counts as an access either way (XS-tx-4). */
  get(path: string): NodeView | undefined
  /** Gives an existing node this value and these permissions. */
  change(path: string, value: string, perms: Permissions): void
  /** Makes a node below an existing one. */
  create(path: string, value: string, perms: Permissions): void
  /** Removes a node, not the root, and everything below it. */
  remove(path: string): void
  /** A node was changed by request: its watches are to fire. */
  announce(path: string): void
  /** A request failed half-way: what was done here must not be committed. */
  fail(): void
  /** Are new nodes on their owner's account as soon as they are made? In a transaction they are at its commit. */
  readonly countsAtOnce: boolean
}

/** A view that changes the store: its root becomes the store's by `commit`, or is forgotten. */
export class DirectView implements View {
  readonly countsAtOnce = true
  readonly changes: Change[] = []
  readonly #store: Store
  readonly #birth: Birth
  readonly #topFirst: boolean
  readonly #delta = new Delta()
  #root: StoreNode

  constructor(store: Store, birth: Birth, topFirst: boolean) {
    this.#store = store
    this.#root = store.root
    this.#birth = birth
    this.#topFirst = topFirst
  }

  get(path: string): StoreNode | undefined {
    return findNode(this.#root, path)
  }

  change(path: string, value: string, perms: Permissions): void {
    const old = this.get(path)!
    this.#replace(path, old, new StoreNode(value, perms, this.#store.nextGeneration(), old.children))
    // The rights before the change count as well (XS-watch-8); they differ for SET_PERMS only.
    this.#before = old
  }
  #before: Guarded | undefined

  create(path: string, value: string, perms: Permissions): void {
    const above = parentPath(path)
    const parent = this.get(above)!
    const name = path.slice(path.lastIndexOf('/') + 1)
    const node = new StoreNode(value, perms, this.#store.nextGeneration(), Children.none())
    const { owner, bytes } = nodeCost(node)
    this.#delta.add(owner, 1, bytes)
    this.#relist(above, parent, parent.children.with(name, node))
  }

  remove(path: string): void {
    const above = parentPath(path)
    const parent = this.get(above)!
    const top = this.get(path)!
    this.#announceRemoval(path, top, parent)
    for (const { node } of walk(path, top)) {
      const { owner, bytes } = nodeCost(node)
      this.#delta.add(owner, -1, -bytes)
    }
    this.#root = removeNode(this.#root, path)
    this.#relist(above, parent, parent.children.without(path.slice(path.lastIndexOf('/') + 1)))
  }

  /** XS-watch-4: each node below for those who watch exactly it, the top for its ancestors' watchers too. */
  #announceRemoval(path: string, top: StoreNode, parent: StoreNode): void {
    const parents = new Map<string, Guarded>()
    const below = this.#topFirst ? [...walk(path, top)] : walkUp(path, top)
    for (const { path: at, node } of walk(path, top))
      for (const name of node.names()) parents.set(childPath(at, name), node)
    for (const { path: at, node } of below)
      this.changes.push({ path: at, exact: at !== path, readers: [node, parents.get(at) ?? parent] })
  }

  /** The list of children changed, and with it the parent's generation. */
  #relist(path: string, old: StoreNode, children: Children<StoreNode>): void {
    const perms = settle(old, this.#birth)
    this.#replace(path, old, new StoreNode(old.value, perms, this.#store.nextGeneration(), children))
  }

  #replace(path: string, old: StoreNode, node: StoreNode): void {
    const before = nodeCost(old)
    const after = nodeCost(node)
    if (before.owner === after.owner) this.#delta.add(after.owner, 0, after.bytes - before.bytes)
    else {
      this.#delta.add(before.owner, -1, -before.bytes)
      this.#delta.add(after.owner, 1, after.bytes)
    }
    this.#root = putNode(this.#root, path, node)
  }

  announce(path: string): void {
    const readers: Guarded[] = [this.get(path)!, this.get(parentPath(path))!]
    if (this.#before) readers.push(this.#before)
    this.changes.push({ path, exact: false, readers })
  }

  fail(): void {}

  /** The nodes at and below a path that `domid` owns, without those below another of them. */
  #topsOwnedBy(domid: number): string[] {
    const tops: string[] = []
    for (const { path, node } of walk('/', this.#root)) {
      const last = tops.at(-1)
      if (ownerOf(node.perms) === domid && path !== '/' && !(last && path.startsWith(`${last}/`))) tops.push(path)
    }
    return tops
  }

  /** Removes what a dead domain owned. The root cannot go: it falls back to domain 0. */
  removeOwnedBy(domid: number): void {
    for (const path of this.#topsOwnedBy(domid)) this.remove(path)
    const { value, perms, generation } = this.get('/')!
    if (ownerOf(perms) !== domid) return
    const [first, ...others] = settle({ perms, generation }, this.#birth)
    this.change('/', value, [{ letter: first!.letter, domid: 0 }, ...others])
  }

  /** Deletes a domain's entries from all permission lists, silently (XS-dom-8). */
  dropEntries(domid: number): void {
    for (const { path, node } of [...walk('/', this.#root)]) {
      const perms = node.perms.filter((entry, i) => i === 0 || entry.domid !== domid)
      if (perms.length === node.perms.length) continue
      const { value, generation, children } = this.get(path)!
      this.#replace(path, node, new StoreNode(value, perms, generation, children))
    }
  }

  /** Makes the changes the store's. */
  commit(): void {
    this.#store.install(this.#root, this.#delta)
  }
}
