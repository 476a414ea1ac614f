/** The store: one root, one generation counter, and what each domain owns. */

import { Children } from './children.js'
import type { Permissions } from './perms.js'
import { Accounts, type Delta } from './quota.js'
import { findNode, nodeCost, putNode, StoreNode } from './tree.js'

const PRIVATE: Permissions = [{ letter: 'n', domid: 0 }]

/** The tree that everybody sees, and its accounts. */
export class Store {
  readonly accounts = new Accounts()
  #root: StoreNode
  #generation = 0

  /** The tree of a fresh daemon: `/`, `/tool`, `/tool/xenstored`, owned by domain 0 (XS-path-8). */
  constructor() {
    const fresh = () => new StoreNode('', PRIVATE, this.nextGeneration(), Children.none())
    this.#root = putNode(putNode(fresh(), '/tool', fresh()), '/tool/xenstored', fresh())
    for (const path of ['/', '/tool', '/tool/xenstored']) {
      const { owner, bytes } = nodeCost(this.get(path)!)
      const usage = this.accounts.of(owner)
      usage.nodes++
      usage.nodeBytes += bytes
    }
  }

  /** The tree as it is now. It never changes: a change puts another one in its place. */
  get root(): StoreNode {
    return this.#root
  }

  /** A node, or undefined. */
  get(path: string): StoreNode | undefined {
    return findNode(this.#root, path)
  }

  /** The number of the last change. */
  get generation(): number {
    return this.#generation
  }

  /** Number of a new change (XS-path-9). */
  nextGeneration(): number {
    return ++this.#generation
  }

  /** Puts a new tree in place and accounts for the difference. */
  install(root: StoreNode, delta: Delta): void {
    this.#root = root
    this.accounts.apply(delta)
  }
}
