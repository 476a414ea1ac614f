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
import { Refusal, refuse } from './errors.js'
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
  /** Permissions before a SET_PERMS. */
  before: Guarded | undefined
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
  readonly #store: Store
  readonly #options: TransactionOptions
  readonly #cells = new Map<string, Cell>()
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

  #cell(path: string): Cell {
    let cell = this.#cells.get(path)
    if (cell) return cell
    if (this.#cells.size >= this.#options.maxNodes) {
      this.failed = true
      refuse('ENOSPC')
    }
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
    if (perms !== cell.perms) cell.before = { perms: cell.perms, generation: cell.generation }
    cell.set(value, perms, this.#store.nextGeneration())
    this.modified = true
  }

  create(path: string, value: string, perms: Permissions): void {
    const cell = this.#cell(path)
    const parent = this.#cell(parentPath(path))
    this.#weigh(cell, value)
    cell.make(value, perms, this.#store.nextGeneration())
    parent.addName(baseName(path))
    this.#relisted(parent)
  }

  #weigh(cell: Cell, value: string): void {
    this.#bytes += value.length - (cell.modified ? cell.value.length : 0)
  }

  remove(path: string): void {
    const parent = this.#cell(parentPath(path))
    // Others made the node after its parent was accessed here: the commit can only fail (XS-tx-4a).
    if (!parent.exists) refuse('EINVAL')
    if (!parent.lists(baseName(path))) refuse('EIO')
    for (const cell of this.#below(path)) {
      cell.unmake()
      // What its ancestors' watchers were to be told of it they are still told.
      if (cell.event !== 'subtree') cell.event = cell.path === path ? 'subtree' : 'exact'
    }
    parent.removeName(baseName(path))
    this.#relisted(parent)
  }

  /** The cells at and below a path, each before its children. Refuses with EIO if the transaction would touch too many. */
  #below(path: string): Cell[] {
    const found: Cell[] = []
    const stack = [path]
    try {
      for (let at = stack.pop(); at !== undefined; at = stack.pop()) {
        const cell = this.#cell(at)
        if (!cell.exists) continue
        found.push(cell)
        for (const name of [...cell.names()].reverse()) stack.push(childPath(at, name))
      }
    } catch (error) {
      if (error instanceof Refusal && error.code === 'ENOSPC') refuse('EIO')
      throw error
    }
    return found
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

  /** None: a transaction's own nodes are counted when it is committed (XS-tx-9). */
  ownedMore(): number {
    return 0
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
    if (!this.#ownersLive(delta)) refuse('ENOMEM')
    const more = delta.nodes(domid)
    if (more > 0 && this.#store.accounts.of(domid).nodes + more >= limit) refuse('ENOSPC')
    if (!this.current || !this.#ownersSame()) refuse('EAGAIN')
    if (!this.modified) return []
    this.#store.install(this.#apply(), delta)
    return this.#changes()
  }

  /** Nodes must not go to a domain that has died since (XS-adv-419). */
  #ownersLive(delta: Delta): boolean {
    for (const [owner, { nodes }] of delta.byOwner)
      if (nodes > 0 && this.#options.birth(owner) === undefined) return false
    return true
  }

  /** Nor to the next domain of its number (XS-adv-322). */
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
      const parent = this.#cells.get(parentPath(cell.path))
      const readers: Guarded[] = [
        this.#store.get(cell.path) ?? cell.base!,
        this.#store.get(parentPath(cell.path)) ?? parent!.base!,
      ]
      if (cell.before) readers.push(cell.before)
      changes.push({ path: cell.path, exact: cell.event === 'exact', readers })
    }
    return changes
  }
}
