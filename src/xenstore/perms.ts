/**
 * Permission lists. Entry 0 names the owner, its letter is everybody else's right; each further entry is one domain's
 * right, and the first match counts (XS-perm-1).
 */

import { integer, object, oneOf } from '../check.js'
/** Rights as bits: a letter of a permission is one of these four. */
export const RIGHT = { n: 0, r: 1, w: 2, b: 3 } as const satisfies Record<PermLetter, number>

/** All rights, and the fourth one: to change the permissions. */
const OWNER = 4
const ALL = RIGHT.b | OWNER

/** What an operation needs on a node. */
export const NEED = { read: RIGHT.r, write: RIGHT.w, owner: OWNER } as const

/** Letter of a permission: none, read, write, both. */
export type PermLetter = 'n' | 'r' | 'w' | 'b'

/** One entry of a permission list. */
export interface Permission {
  readonly letter: PermLetter
  readonly domid: number
  /** It named a domain that is no more: listed, but without effect (XS-perm-7). */
  readonly void?: boolean
}

/** A permission list; never empty. Immutable. */
export type Permissions = readonly Permission[]

/** Who asks. */
export interface Subject {
  readonly domid: number
  /** Domain 0 and every socket connection. */
  readonly privileged: boolean
  /** Domain whose device model this one is (SET_TARGET). */
  readonly target: number | undefined
}

/** What rights are judged by. */
export interface Guarded {
  readonly perms: Permissions
  /** Last change of the node: an entry for a domain that is younger is void. */
  readonly generation: number
}

/** Generation at which a domain became known; undefined if there is no such domain. */
export type Birth = (domid: number) => number | undefined

/** An entry in the protocol's text: `r5`. */
export function formatPermission(permission: Permission): string {
  const { letter, domid } = object('formatPermission', 'permission', permission, 'an entry { letter, domid }')
  oneOf('formatPermission', 'permission.letter', letter, ['r', 'w', 'b', 'n'])
  integer('formatPermission', 'permission.domid', domid, -(2 ** 31), 2 ** 32 - 1)
  return `${letter}${domid}`
}

/**
 * Reads `r5`; undefined for anything else. The number is what C's strtol reads to the end of the text, also octal and hex, cut
 * to 32 bits with a sign.
 */
export function parsePermission(text: string): Permission | undefined {
  const match = /^([nrwb])[ \t-\r]*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9]\d*)$/.exec(text)
  if (!match) return undefined
  const digits = match[3]!
  const size = BigInt(/^0[0-7]/.test(digits) ? `0o${digits.slice(1)}` : digits)
  const domid = Number(BigInt.asIntN(32, BigInt.asIntN(64, match[2] === '-' ? -size : size)))
  return { letter: match[1] as PermLetter, domid }
}

/** Owner of a node. */
export function ownerOf(perms: Permissions): number {
  return perms[0]!.domid
}

/** True if `who` has the right on the node (XS-perm-2). */
export function permits(node: Guarded, who: Subject, need: number, birth: Birth): boolean {
  return (rightsOn(node, who, birth) & need) === need
}

/** True if `who` has one of these rights on the node. */
export function permitsAny(node: Guarded, who: Subject, needs: number, birth: Birth): boolean {
  return (rightsOn(node, who, birth) & needs) !== 0
}

function rightsOn({ perms, generation }: Guarded, who: Subject, birth: Birth): number {
  const first = perms[0]!
  if (who.privileged || first.domid === who.domid || first.domid === who.target) return ALL
  for (let i = 1; i < perms.length; i++) {
    const entry = perms[i]!
    if (entry.domid !== who.domid && entry.domid !== who.target) continue
    if (isValid(entry, generation, birth)) return RIGHT[entry.letter]
  }
  return RIGHT[first.letter]
}

/** XS-perm-7: the domain must be known, and older than the node's last change. */
function isValid(entry: Permission, generation: number, birth: Birth): boolean {
  if (entry.void) return false
  const born = birth(entry.domid)
  return born !== undefined && born <= generation
}

/** The list with every entry marked that has lost its effect; done whenever a node is written (XS-perm-7). */
export function settle({ perms, generation }: Guarded, birth: Birth): Permissions {
  if (perms.every((entry, i) => i === 0 || entry.void || isValid(entry, generation, birth))) return perms
  return perms.map((entry, i) => (i === 0 || isValid(entry, generation, birth) ? entry : { ...entry, void: true }))
}

/** Permissions of a new node: its parent's; a guest becomes the owner (XS-perm-5). */
export function inherit(parent: Permissions, owner: number | undefined): Permissions {
  const first = parent[0]!
  if (owner === undefined || first.domid === owner) return parent
  return [{ letter: first.letter, domid: owner }, ...parent.slice(1)]
}
