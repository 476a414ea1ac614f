/** What requests do to nodes, with the checks of rights and quotas. Each works on the store or on a transaction alike. */

import { refuse } from './errors.js'
import { childPath, parentPath } from './path.js'
import { type Birth, inherit, NEED, ownerOf, type Permissions, permits, type Subject, settle } from './perms.js'
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

/** The node, if `who` has the right that is needed; a missing one is only admitted to those who could know (XS-perm-4). */
export function demand(scene: Scene, path: string, need: number): NodeView {
  const node = scene.view.get(path)
  if (!node) return refuse(mayKnow(scene, path, need) ? 'ENOENT' : 'EACCES')
  if (!permits(node, scene.who, need, scene.rules.birth)) refuse('EACCES')
  return node
}

function mayKnow(scene: Scene, path: string, need: number): boolean {
  return permits(nearest(scene, path).node, scene.who, need, scene.rules.birth)
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
  const node = scene.view.get(path)
  if (!node) create(scene, path, value)
  else {
    if (!permits(node, scene.who, NEED.write, scene.rules.birth)) refuse('EACCES')
    checkSize(scene, node.perms, value.length, node.nameBytes)
    scene.view.change(path, value, settle(node, scene.rules.birth))
  }
  scene.view.announce(path)
}

/** MKDIR: like a WRITE of nothing, but a node that exists stays as it is, silently. */
export function mkdir(scene: Scene, path: string): void {
  const node = scene.view.get(path)
  if (node) {
    if (!permits(node, scene.who, NEED.write, scene.rules.birth)) refuse('EACCES')
    return
  }
  create(scene, path, '')
  scene.view.announce(path)
}

function create(scene: Scene, path: string, value: string): void {
  const { who, view, rules } = scene
  const above = nearest(scene, path)
  if (!permits(above.node, who, NEED.write, rules.birth)) refuse('EACCES')
  const owner = who.privileged || rules.profile.newNodeOwner === 'inherited' ? null : who.domid
  const perms = inherit(settle(above.node, rules.birth), owner)
  const prefix = above.path === '/' ? 1 : above.path.length + 1
  let parent = above.path
  for (const name of path.slice(prefix).split('/')) {
    const at = childPath(parent, name)
    checkCount(scene, ownerOf(perms))
    const { perms: parentPerms, value: parentValue, nameBytes } = view.get(parent)!
    checkSize(scene, parentPerms, parentValue.length, nameBytes + name.length + 1)
    checkSize(scene, perms, at === path ? value.length : 0, 0)
    view.create(at, at === path ? value : '', perms)
    parent = at
  }
}

function checkCount({ who, view, rules }: Scene, owner: number): void {
  if (who.privileged) return
  const owned = rules.store.accounts.of(owner).nodes + view.ownedMore(owner)
  if (owned >= rules.quotas.nodes + rules.profile.slack.nodes) refuse('ENOSPC')
}

function checkSize({ who, rules }: Scene, perms: Permissions, valueBytes: number, nameBytes: number): void {
  if (who.privileged && !rules.profile.nodeSizeForAll) return
  if (nodeSize(perms, valueBytes, nameBytes) >= rules.quotas.nodeSize) refuse(rules.profile.nodeTooLarge)
}

/** RM: removes a node with all below it; a missing one is as good as removed if its parent exists (XS-path-7). */
export function remove(scene: Scene, path: string): void {
  const node = scene.view.get(path)
  if (node) {
    if (!permits(node, scene.who, NEED.write, scene.rules.birth)) refuse('EACCES')
    if (path === '/') refuse('EINVAL')
    scene.view.remove(path)
    return
  }
  if (!mayKnow(scene, path, NEED.write)) refuse('EACCES')
  if (!scene.view.get(parentPath(path))) refuse('ENOENT')
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
