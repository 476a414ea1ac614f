/**
 * The tree: immutable nodes with shared structure. A change makes new nodes along one path and a new root; whoever holds
 * an older root still sees the old tree, so an operation that fails half-way is undone by forgetting its root.
 *
 *     root ── local ── domain ─┬─ 0            root' ── local' ── domain' ─┬─ (the same 0)
 *                              └─ 5 ── name                                └─ 5' ── name'
 *
 * Nothing here recurses over the depth of a path, which guests choose (XS-adv-418).
 */

import type { Children } from './children.js'
import { childPath, pathParts } from './path.js'
import { type Guarded, ownerOf, type Permissions } from './perms.js'

/** A node, by itself or inside a transaction. */
export interface NodeView extends Guarded {
  /** One character per byte: immutable like the node, and a tenth of the memory of a typed array. */
  readonly value: string
  /** Names of the children in order of creation. */
  names(): readonly string[]
  /** The same as a DIRECTORY reply holds them, each with its nul. */
  listing(): string
  /** Bytes of these names with their nuls. */
  readonly nameBytes: number
}

/** A node of the tree. */
export class StoreNode implements NodeView {
  readonly value: string
  readonly perms: Permissions
  readonly generation: number
  readonly children: Children<StoreNode>

  constructor(value: string, perms: Permissions, generation: number, children: Children<StoreNode>) {
    this.value = value
    this.perms = perms
    this.generation = generation
    this.children = children
  }

  names(): readonly string[] {
    return this.children.names()
  }
  listing(): string {
    return this.children.listing()
  }
  get nameBytes(): number {
    return this.children.bytes
  }
  /** The same node with other children; unlike any other change this one may keep the generation. */
  withChildren(children: Children<StoreNode>, generation = this.generation): StoreNode {
    return new StoreNode(this.value, this.perms, generation, children)
  }
}

/** Size of a node as the quota counts it: header, permissions, value, names of its children. */
export function nodeSize(perms: Permissions, valueBytes: number, nameBytes: number): number {
  return 24 + 8 * perms.length + valueBytes + nameBytes
}

/** What one node costs its owner. */
export function nodeCost(node: NodeView): { owner: number; bytes: number } {
  return { owner: ownerOf(node.perms), bytes: nodeSize(node.perms, node.value.length, node.nameBytes) }
}

/** Looks a node up. */
export function findNode(root: StoreNode, path: string): StoreNode | undefined {
  let node: StoreNode | undefined = root
  let from = 1
  while (from < path.length) {
    let to = path.indexOf('/', from)
    if (to < 0) to = path.length
    node = node.children.get(path.slice(from, to))
    if (!node) return undefined
    from = to + 1
  }
  return node
}

/**
 * The tree with one node replaced or added. Its parent must exist; added, the node stands behind its siblings.
 * @throws Error if the parent is missing: a mistake of the caller.
 */
export function putNode(root: StoreNode, path: string, node: StoreNode): StoreNode {
  const parts = pathParts(path)
  const above = ancestors(root, parts)
  let made = node
  for (let i = parts.length - 1; i >= 0; i--) made = above[i]!.withChildren(above[i]!.children.with(parts[i]!, made))
  return made
}

/** The tree without a node and everything below. The node must exist and not be the root. */
export function removeNode(root: StoreNode, path: string): StoreNode {
  const parts = pathParts(path)
  const name = parts.pop()!
  const above = ancestors(root, [...parts, name])
  const parent = above[parts.length]!
  let made = parent.withChildren(parent.children.without(name))
  for (let i = parts.length - 1; i >= 0; i--) made = above[i]!.withChildren(above[i]!.children.with(parts[i]!, made))
  return made
}

/** Nodes from the root to the parent of the path's last part. */
function ancestors(root: StoreNode, parts: readonly string[]): StoreNode[] {
  const above = [root]
  for (let i = 0; i < parts.length - 1; i++) {
    const next = above[i]!.children.get(parts[i]!)
    if (!next) throw new Error(`no node above /${parts.join('/')}`)
    above.push(next)
  }
  return above
}

/** A node met on a walk. */
export interface Visit {
  readonly path: string
  readonly node: StoreNode
}

/** All nodes at and below `path`, each before its children, children in order of creation. */
export function* walk(path: string, top: StoreNode): Generator<Visit> {
  const stack: Visit[] = [{ path, node: top }]
  for (let at = stack.pop(); at; at = stack.pop()) {
    yield at
    const names = at.node.names()
    for (let i = names.length - 1; i >= 0; i--)
      stack.push({ path: childPath(at.path, names[i]!), node: at.node.children.get(names[i]!)! })
  }
}

/** All nodes at and below `path`, each after everything below it. */
export function walkUp(path: string, top: StoreNode): Visit[] {
  // A node before its children, children last to first, turned round, is children first to last before their node.
  const out: Visit[] = []
  const stack: Visit[] = [{ path, node: top }]
  for (let at = stack.pop(); at; at = stack.pop()) {
    out.push(at)
    for (const name of at.node.names())
      stack.push({ path: childPath(at.path, name), node: at.node.children.get(name)! })
  }
  return out.reverse()
}
