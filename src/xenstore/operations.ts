/** What requests do to nodes, with the checks of rights and quotas. Each works on the store or on a transaction alike. */

import { refuse } from './errors.js'
import { parentPath } from './path.js'
import {
  type Birth,
  inherit,
  NEED,
  ownerOf,
  type Permissions,
  permits,
  permitsAny,
  type Subject,
  settle,
} from './perms.js'
import type { Profile } from './profile.js'
import type { Quotas } from './quota.js'
import type { Store } from './store.js'
import { type NodeView, nodeSize } from './tree.js'
import type { View } from './view.js'

/** What every operation is judged by. */
export interface Rules {
  readonly store: Store
  readonly quotas: Quotas
  readonly profile: Profile
  readonly birth: Birth
}

/** One request's surroundings: whose it is and what it works on. */
export interface Scene {
  readonly view: View
  readonly who: Subject
  readonly rules: Rules
}

/** The node, if `who` has the right that is needed; see `find`. */
export function demand(scene: Scene, path: string, need: number): NodeView {
  return find(scene, path, need) ?? refuse('ENOENT')
}

/**
 * The node, if `who` has the right that is needed; undefined if there is none, and `who` could know that (XS-perm-4).
 *
 * Whenever the node is not given out, the nearest ancestor is looked at, and this look counts as an access in a
 * transaction (XS-tx-4).
 */
function find(scene: Scene, path: string, need: number): NodeView | undefined {
  const { view, who, rules } = scene
  const node = view.get(path)
  if (node && permits(node, who, need, rules.birth)) return node
  const above = nearest(scene, path)
  if (node || !permitsAny(above.node, who, need, rules.birth)) refuse('EACCES')
  return undefined
}

/** The nearest ancestor that exists; the root always does. */
function nearest({ view }: Scene, path: string): { path: string; node: NodeView } {
  for (let at = parentPath(path); ; at = parentPath(at)) {
    const node = view.get(at)
    if (node) return { path: at, node }
  }
}

/** WRITE: gives a node a value, making it and what is missing above it (XS-path-6). */
export function write(scene: Scene, path: string, value: string): void {
  const node = find(scene, path, NEED.write)
  if (!node) create(scene, path, value)
  else {
    checkSize(scene, node.perms, value.length, node.nameBytes)
    scene.view.change(path, value, settle(node, scene.rules.birth))
  }
  scene.view.announce(path)
}

/** MKDIR: like a WRITE of nothing, but a node that exists stays as it is, silently. */
export function mkdir(scene: Scene, path: string): void {
  if (find(scene, path, NEED.write)) return
  create(scene, path, '')
  scene.view.announce(path)
}

function create(scene: Scene, path: string, value: string): void {
  const { who, view, rules } = scene
  const above = nearest(scene, path)
  const owner = who.privileged || rules.profile.newNodeOwner === 'inherited' ? undefined : who.domid
  const perms = inherit(settle(above.node, rules.birth), owner)
  const missing: string[] = []
  for (let at = path; at !== above.path; at = parentPath(at)) missing.push(at)
  // All checks come first: a transaction has no half of it inside. The C daemon goes from the node up, too.
  for (const i of missing.keys()) checkCount(scene, ownerOf(perms), i)
  const nameBytes = (at: string) => at.length - at.lastIndexOf('/')
  missing.forEach((_, i) => {
    checkSize(scene, perms, i === 0 ? value.length : 0, i === 0 ? 0 : nameBytes(missing[i - 1]!))
  })
  const { node } = above
  checkSize(scene, node.perms, node.value.length, node.nameBytes + nameBytes(missing.at(-1)!))
  for (const at of missing.reverse()) view.create(at, at === path ? value : '', perms)
}

/** May the owner get one more node, when `more` are made before it? */
function checkCount({ who, view, rules }: Scene, owner: number, more: number): void {
  if (who.privileged) return
  const owned = rules.store.accounts.of(owner).nodes + (view.countsAtOnce ? more : 0)
  if (owned >= rules.quotas.nodes + rules.profile.slack.nodes) refuse('ENOSPC')
}

function checkSize({ who, view, rules }: Scene, perms: Permissions, valueBytes: number, nameBytes: number): void {
  if (who.privileged && !rules.profile.nodeSizeForAll) return
  if (nodeSize(perms, valueBytes, nameBytes) < rules.quotas.nodeSize) return
  // Found when the node is written, when others may be written already: such a transaction is never committed (XS-tx-9).
  view.fail()
  refuse(rules.profile.nodeTooLarge)
}

/** RM: removes a node with all below it; a missing one is as good as removed if its parent exists (XS-path-7). */
export function remove(scene: Scene, path: string): void {
  const node = find(scene, path, NEED.write)
  if (node && path === '/') refuse('EINVAL')
  if (node) scene.view.remove(path)
  else if (!scene.view.get(parentPath(path))) refuse('ENOENT')
}

/** SET_PERMS on a node; the list itself has been checked (XS-perm-6). */
export function setPermissions(scene: Scene, path: string, perms: Permissions): void {
  const node = demand(scene, path, NEED.owner | NEED.write)
  checkOwner(scene, node.perms, perms)
  checkSize(scene, perms, node.value.length, node.nameBytes)
  scene.view.change(path, node.value, perms)
  scene.view.announce(path)
}

/** Only domain 0 gives a node to somebody else (XS-adv-352). */
export function checkOwner({ who, rules }: Scene, old: Permissions, perms: Permissions): void {
  if (!who.privileged && ownerOf(perms) !== ownerOf(old)) refuse(rules.profile.giveAway)
}
