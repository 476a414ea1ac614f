/**
 * A transaction: a private view, made node by node (XS-tx-3).
 *
 * The first access of a node keeps the node as it is in the store at that moment, its *base*; since nodes are immutable
 * that is one reference. What the transaction does to it stands in the cell beside. It is not a snapshot of the whole
 * tree: a node that was not accessed yet is read as it is by then. Commit compares the generation of every base with the
 * store's node of today (XS-tx-4); if all are equal, the view equals the store with the changes applied, and they are
 * applied to an immutable root, which is installed when nothing can fail any more: all or nothing (XS-adv-421).
 */

import { Children } from './children.js'
import { refuse } from './errors.js'
import { baseName, childPath, parentPath } from './path.js'
import { type Birth, type Guarded, ownerOf, type Permissions, settle } from './perms.js'
import { Delta } from './quota.js'
import type { Store } from './store.js'
import { findNode, type NodeView, nodeCost, putNode, StoreNode } from './tree.js'
import type { Change, View } from './view.js'
import { joinStrings } from './wire.js'

const ABSENT = -1
/** What the memory quota counts for a cell, beside its path and value. */
const CELL_BYTES = 64

/** What a transaction knows of one path. */
class Cell implements NodeView {
  readonly path: string
  readonly base: StoreNode | undefined
  exists: boolean
  value = ''
  perms: Permissions = []
  generation = ABSENT
  modified = false
  event: 'none' | 'exact' | 'subtree' = 'none'
  /** Made here: the base's children are not its children. */
  #remade = false
  readonly #removed = new Set<string>()
  readonly #added = new Set<string>()
  #nameBytes = 0

  constructor(path: string, base: StoreNode | undefined) {
    this.path = path
    this.base = base
    this.exists = base !== undefined
    if (!base) return
    this.value = base.value
    this.perms = base.perms
    this.generation = base.generation
    this.#nameBytes = base.nameBytes
  }

  get nameBytes(): number {
    return this.#nameBytes
  }

  names(): readonly string[] {
    const kept = this.base && !this.#remade ? this.base.names() : []
    if (!this.#removed.size && !this.#added.size) return kept
    return [...kept.filter((name) => !this.#removed.has(name)), ...this.#added]
  }

  listing(): string {
    if (!this.#removed.size && !this.#added.size && this.base && !this.#remade) return this.base.listing()
    return joinStrings(this.names())
  }

  lists(name: string): boolean {
    if (this.#added.has(name)) return true
    return !this.#remade && !this.#removed.has(name) && this.base?.children.get(name) !== undefined
  }

  addName(name: string): void {
    if (this.lists(name)) return
    this.#added.add(name)
    this.#nameBytes += name.length + 1
  }

  removeName(name: string): void {
    if (!this.lists(name)) return
    this.#nameBytes -= name.length + 1
    if (!this.#added.delete(name) || this.base?.children.get(name)) this.#removed.add(name)
  }

  make(value: string, perms: Permissions, generation: number): void {
    this.#remade = true
    this.#removed.clear()
    this.#added.clear()
    this.#nameBytes = 0
    this.exists = true
    this.set(value, perms, generation)
  }

  set(value: string, perms: Permissions, generation: number): void {
    this.value = value
    this.perms = perms
    this.generation = generation
    this.modified = true
  }

  unmake(): void {
    this.exists = false
    this.modified = true
  }

  /** The children that the store's node gets: those it has, without the removed, with a blank for each added one. */
  apply(children: Children<StoreNode>, blank: StoreNode): Children<StoreNode> {
    let made = this.#remade ? Children.none<StoreNode>() : children
    for (const name of this.#removed) made = made.without(name)
    for (const name of this.#added) made = made.with(name, blank)
    return made
  }
}

/** A node as a transaction has accessed it. */
export interface AccessedNode {
  readonly path: string
  /** In the store, when it was accessed first. */
  readonly base: StoreNode | undefined
  readonly exists: boolean
  readonly modified: boolean
  readonly value: string
  readonly perms: Permissions
}

/** Options of a transaction. */
export interface TransactionOptions {
  readonly birth: Birth
  /** Most nodes that it may touch; Infinity for a privileged owner. */
  readonly maxNodes: number
}

/** One open transaction. */
export class Transaction implements View {
  readonly id: number
  /** Its own nodes are counted when it is committed (XS-tx-9). */
  readonly countsAtOnce = false
  readonly #store: Store
  readonly #options: TransactionOptions
  readonly #cells = new Map<string, Cell>()
  /** Owners of nodes that were made, removed or given away here. */
  readonly #owners = new Set<number>()
  /** A node was made here: the owner's nodes are held against the quota, even if the transaction removes more (XS-tx-9). */
  #created = false
  /** A request inside it failed half-way: it cannot be committed any more (XS-tx-9, XS-adv-415). */
  failed = false
  /** Changed anything? */
  modified = false

  constructor(id: number, store: Store, options: TransactionOptions) {
    this.id = id
    this.#store = store
    this.#options = options
  }

  /** Number of nodes accessed. */
  get size(): number {
    return this.#cells.size
  }

  /** Bytes that it keeps for its owner: the cells, and the values that were written. */
  get bytes(): number {
    return this.#bytes
  }
  #bytes = 0

  /** May one more node be accessed? If not, the transaction has failed (XS-tx-9). */
  #mayAccess(path: string): boolean {
    if (this.#cells.has(path) || this.#cells.size < this.#options.maxNodes) return true
    this.failed = true
    return false
  }

  #cell(path: string): Cell {
    let cell = this.#cells.get(path)
    if (cell) return cell
    if (!this.#mayAccess(path)) refuse('ENOSPC')
    cell = new Cell(path, this.#store.get(path))
    this.#cells.set(path, cell)
    this.#bytes += CELL_BYTES + path.length
    return cell
  }

  get(path: string): NodeView | undefined {
    const cell = this.#cell(path)
    return cell.exists ? cell : undefined
  }

  change(path: string, value: string, perms: Permissions): void {
    const cell = this.#cell(path)
    this.#weigh(cell, value)
    // A WRITE keeps the first entry; SET_PERMS takes the node from one account and puts it on another, or the same.
    if (perms[0] !== cell.perms[0]) this.#account(cell.perms, perms)
    cell.set(value, perms, this.#store.nextGeneration())
    this.modified = true
  }

  create(path: string, value: string, perms: Permissions): void {
    const cell = this.#cell(path)
    const parent = this.#cell(parentPath(path))
    this.#weigh(cell, value)
    this.#account(perms)
    this.#created = true
    cell.make(value, perms, this.#store.nextGeneration())
    parent.addName(baseName(path))
    this.#relisted(parent)
  }

  #weigh(cell: Cell, value: string): void {
    this.#bytes += value.length - (cell.modified ? cell.value.length : 0)
  }

  remove(path: string): void {
    const parent = this.#cell(parentPath(path))
    if (!parent.exists) refuse('EINVAL')
    const { cells, stopped } = this.#below(path)
    // The walk removes each node after its children: where it stopped, the nodes above are still there (XS-tx-4a).
    for (const cell of cells)
      if (stopped === undefined || !stopped.startsWith(`${cell.path}/`)) this.#unmake(cell, cell.path === path)
    // Others made the node after its parent was accessed here: it goes, but the commit can only fail.
    if (stopped !== undefined || !parent.lists(baseName(path))) refuse('EIO')
    parent.removeName(baseName(path))
    this.#relisted(parent)
  }

  #unmake(cell: Cell, isTop: boolean): void {
    this.#account(cell.perms)
    cell.unmake()
    // What its ancestors' watchers were to be told of it they are still told.
    if (cell.event !== 'subtree') cell.event = isTop ? 'subtree' : 'exact'
  }

  /** The nodes of these owners are counted anew at the commit. */
  #account(...lists: readonly Permissions[]): void {
    for (const perms of lists) this.#owners.add(ownerOf(perms))
  }

  /**
   * The cells at and below a path, each before its children. `stopped` is the path at which the walk ended early: a node
   * is listed and not there, for others removed it, or the transaction would touch too many.
   */
  #below(path: string): { cells: readonly Cell[]; stopped: string | undefined } {
    const cells: Cell[] = []
    const stack = [path]
    for (let at = stack.pop(); at !== undefined; at = stack.pop()) {
      const cell = this.#mayAccess(at) ? this.#cell(at) : undefined
      if (!cell?.exists) return { cells, stopped: at }
      cells.push(cell)
      for (const name of [...cell.names()].reverse()) stack.push(childPath(at, name))
    }
    return { cells, stopped: undefined }
  }

  #relisted(parent: Cell): void {
    parent.set(parent.value, settle(parent, this.#options.birth), this.#store.nextGeneration())
    this.modified = true
  }

  announce(path: string): void {
    this.#cell(path).event = 'subtree'
  }

  fail(): void {
    this.failed = true
  }

  #delta(): Delta {
    const delta = new Delta()
    for (const cell of this.#cells.values()) {
      if (!cell.modified) continue
      if (cell.base) {
        const { owner, bytes } = nodeCost(cell.base)
        delta.add(owner, -1, -bytes)
      }
      if (cell.exists) {
        const { owner, bytes } = nodeCost(cell)
        delta.add(owner, 1, bytes)
      }
    }
    return delta
  }

  /** What it knows of each node that it accessed, in the order of first access. */
  accessed(): readonly AccessedNode[] {
    return [...this.#cells.values()]
  }

  /** It conflicts, whatever its nodes are. */
  doom(): void {
    this.#doomed = true
  }
  #doomed = false

  /** Is every accessed node still the one that was accessed? */
  get current(): boolean {
    if (this.#doomed) return false
    for (const cell of this.#cells.values()) {
      const now = this.#store.get(cell.path)
      if ((now ? now.generation : ABSENT) !== (cell.base ? cell.base.generation : ABSENT)) return false
    }
    return true
  }

  /**
   * Makes the changes the store's and returns what to tell the watches (XS-tx-7). `limit` is how many nodes the domain
   * `domid` may own.
   * @throws Refusal EAGAIN after a conflict, ENOMEM after a failure inside, ENOSPC over the limit; nothing is changed then.
   */
  commit(domid: number, limit: number): Change[] {
    if (this.failed) refuse('ENOMEM')
    const delta = this.#delta()
    if (!this.#ownersLive()) refuse('ENOMEM')
    const more = delta.nodes(domid)
    if ((more > 0 || this.#created) && this.#store.accounts.of(domid).nodes + more >= limit) refuse('ENOSPC')
    if (!this.current || !this.#ownersSame()) refuse('EAGAIN')
    if (!this.modified) return []
    this.#store.install(this.#apply(), delta)
    return this.#changes()
  }

  /** Every owner whose nodes were made, removed or given away must live: none gets nodes after its death (XS-adv-419). */
  #ownersLive(): boolean {
    for (const owner of this.#owners) if (this.#options.birth(owner) === undefined) return false
    return true
  }

  /** Nodes must not go to the next domain of a dead owner's number (XS-adv-322). */
  #ownersSame(): boolean {
    for (const { modified, exists, perms, generation } of this.#cells.values()) {
      if (!modified || !exists) continue
      const born = this.#options.birth(ownerOf(perms))
      if (born === undefined || born > generation) return false
    }
    return true
  }

  #apply(): StoreNode {
    let root = this.#store.root
    // A parent's path is shorter than its child's, so parents come first and make room for their children.
    const cells = [...this.#cells.values()].filter((cell) => cell.modified)
    for (const cell of cells.sort((a, b) => a.path.length - b.path.length)) {
      if (!cell.exists) continue
      const blank = new StoreNode('', cell.perms, 0, Children.none())
      const children = findNode(root, cell.path)!.children
      // Judged by when the list was written: who came since gains nothing by the commit's new generation.
      const perms = settle(cell, this.#options.birth)
      const node = new StoreNode(cell.value, perms, this.#store.nextGeneration(), cell.apply(children, blank))
      root = putNode(root, cell.path, node)
    }
    return root
  }

  #changes(): Change[] {
    const changes: Change[] = []
    for (const cell of this.#cells.values()) {
      // Made and removed inside: nobody ever saw it.
      if (cell.event === 'none' || (!cell.exists && !cell.base)) continue
      // The rights before the transaction count as well (XS-watch-8), those in between do not.
      const readers: Guarded[] = cell.base ? [cell.base] : []
      // Of a node that is gone the parent does not count, unlike outside transactions.
      if (cell.exists) readers.push(this.#store.get(cell.path)!, this.#store.get(parentPath(cell.path))!)
      changes.push({ path: cell.path, exact: cell.event === 'exact', readers })
    }
    return changes
  }
}
