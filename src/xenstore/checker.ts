/** Walks the store and its registers and says what does not fit; nothing does after any sequence of requests. */

import type { Connection } from './connection.js'
import { ownerOf } from './perms.js'
import type { Accounts } from './quota.js'
import type { Store } from './store.js'
import { nodeCost, walk } from './tree.js'

/** What is checked: a server has all of it. */
export interface Checked {
  readonly store: Store
  readonly connections: readonly Connection[]
  /** `size`: number of watched paths. */
  readonly watches: { readonly size: number }
}

/** One sentence per fault; none if the store is sound. */
export function checkStore({ store, connections, watches }: Checked): string[] {
  return [...checkTree(store), ...checkConnections(connections, store.accounts, watches)]
}

function checkTree(store: Store): string[] {
  const faults: string[] = []
  const counts = new Map<number, { nodes: number; bytes: number }>()
  for (const { path, node } of walk('/', store.root)) {
    const { owner, bytes } = nodeCost(node)
    const count = counts.get(owner) ?? { nodes: 0, bytes: 0 }
    counts.set(owner, { nodes: count.nodes + 1, bytes: count.bytes + bytes })
    if (!(node.generation > 0 && node.generation <= store.generation)) faults.push(`${path}: generation`)
    if (node.names().length !== node.children.size) faults.push(`${path}: number of children`)
    if (node.names().reduce((sum, name) => sum + name.length + 1, 0) !== node.nameBytes)
      faults.push(`${path}: name bytes`)
    if (new Set(node.names()).size !== node.children.size) faults.push(`${path}: a child twice`)
    if (!Number.isInteger(ownerOf(node.perms))) faults.push(`${path}: no owner`)
  }
  for (const [domid, usage] of store.accounts.entries()) {
    const { nodes, bytes } = counts.get(domid) ?? { nodes: 0, bytes: 0 }
    if (usage.nodes !== nodes) faults.push(`domain ${domid} owns ${nodes} nodes, not ${usage.nodes}`)
    if (usage.nodeBytes !== bytes) faults.push(`domain ${domid} owns ${bytes} bytes, not ${usage.nodeBytes}`)
    counts.delete(domid)
  }
  for (const domid of counts.keys()) faults.push(`domain ${domid} owns nodes and has no account`)
  return faults
}

function checkConnections(
  connections: readonly Connection[],
  accounts: Accounts,
  watches: Checked['watches'],
): string[] {
  const faults: string[] = []
  const held = new Map<number, { watches: number; transactions: number }>()
  const paths = new Set<string>()
  for (const { domid, watches: own, transactions, closed, ignored } of connections) {
    const sum = held.get(domid) ?? { watches: 0, transactions: 0 }
    held.set(domid, { watches: sum.watches + own.size, transactions: sum.transactions + transactions.size })
    for (const { path } of own.values()) paths.add(path)
    if ((closed || ignored) && own.size + transactions.size)
      faults.push(`a lost connection of domain ${domid} has watches`)
  }
  if (watches.size !== paths.size) faults.push(`${watches.size} watched paths, not ${paths.size}`)
  for (const [domid, usage] of accounts.entries()) {
    const sum = held.get(domid) ?? { watches: 0, transactions: 0 }
    if (usage.watches !== sum.watches) faults.push(`domain ${domid} has ${sum.watches} watches, not ${usage.watches}`)
    if (usage.transactions !== sum.transactions)
      faults.push(`domain ${domid} has ${sum.transactions} transactions, not ${usage.transactions}`)
    if (usage.outstanding < 0) faults.push(`domain ${domid} has ${usage.outstanding} outstanding`)
  }
  return faults
}
