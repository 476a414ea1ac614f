/** The requests: how each payload is read, what is done, and what the reply holds. */

import type { Call } from './call.js'
import { control } from './control.js'
import { refuse } from './errors.js'
import { checkOwner, demand, mkdir, remove, setPermissions, write } from './operations.js'
import { absolutePath, domainPath, isSpecial } from './path.js'
import { formatPermission, NEED, type Permissions, parsePermission, permits } from './perms.js'
import { fromLatin1 } from './text.js'
import type { NodeView } from './tree.js'
import { atoi, joinStrings, oneString, PAYLOAD_MAX, splitStrings, XS } from './wire.js'

/** Answers a request: the payload, or nothing for `OK`. */
type Handler = (call: Call) => string | undefined

/** A kind of request. */
export interface RequestKind {
  readonly handle: Handler
  /** Guests are refused. */
  readonly privileged?: boolean
  /** Connections that only read are refused. */
  readonly changes?: boolean
  /** The transaction id is not looked at (XS-watch-2). */
  readonly outside?: boolean
}

const DOMID_SELF = 0x7ff0

function one(call: Call): string {
  return oneString(call.packet.body) ?? refuse('EINVAL')
}

function several(call: Call, least: number, most = Number.POSITIVE_INFINITY): string[] {
  const strings = splitStrings(call.packet.body)
  if (!strings || strings.length < least || strings.length > most) refuse('EINVAL')
  return strings
}

/** The absolute form of a path in a request. */
function pathIn({ server, connection }: Call, given: string): string {
  const limited = server.profile.pathMaxForAll || !connection.privileged
  const max = limited ? server.quotas.pathMax : Number.POSITIVE_INFINITY
  return absolutePath(given, connection.domid, max) ?? refuse('EINVAL')
}

/** A path that names a node. */
function nodePath(call: Call, given: string): string {
  const path = pathIn(call, given)
  return isSpecial(path) ? refuse(call.server.profile.readSpecial) : path
}

function readable(call: Call, given: string): NodeView {
  return demand(call.server.scene(call), nodePath(call, given), NEED.read)
}

function listingOf(call: Call, node: NodeView): string {
  return call.server.profile.childOrder === 'creation' ? node.listing() : joinStrings([...node.names()].sort())
}

function directoryPart(call: Call): string {
  if (!call.server.profile.directoryPart) refuse('ENOSYS')
  const [path, offset] = several(call, 2, 2) as [string, string]
  const node = readable(call, path)
  const list = listingOf(call, node)
  const generation = `${node.generation}\0`
  const from = atoi(offset)
  if (from < 0 || from >= list.length) return `${generation}\0`
  // The mark of the end, one more empty string, must have room as well (XS-wire-12).
  const room = PAYLOAD_MAX - generation.length - 1
  if (list.length - from <= room) return `${generation}${list.slice(from)}\0`
  return generation + list.slice(from, list.lastIndexOf('\0', from + room - 1) + 1)
}

function writeValue(call: Call): undefined {
  const { body } = call.packet
  const end = body.indexOf(0)
  if (end < 0) refuse('EINVAL')
  const path = nodePath(call, fromLatin1(body, 0, end))
  const value = fromLatin1(body, end + 1)
  call.server.mutate(call, (scene) => write(scene, path, value))
}

function permissionsIn(call: Call, texts: readonly string[]): Permissions {
  const { server, connection } = call
  if (!connection.privileged && texts.length > server.quotas.permissions) refuse('ENOSPC')
  const perms = texts.map((text) => parsePermission(text) ?? refuse('EINVAL'))
  // An owner must exist; another entry without a domain is kept, but will never mean anybody (XS-perm-7).
  return perms.map((entry, i) => {
    if (server.domains.know(entry.domid)) return entry
    return i === 0 ? refuse('ENOENT') : { ...entry, void: true }
  })
}

function setPerms(call: Call): undefined {
  const { server, connection } = call
  const [given, ...texts] = several(call, 2) as [string, ...string[]]
  const perms = permissionsIn(call, texts)
  const path = pathIn(call, given)
  if (!isSpecial(path)) {
    server.mutate(call, (scene) => setPermissions(scene, path, perms))
    return
  }
  const old = server.specials.get(path) ?? refuse('EINVAL')
  if (!permits(old, connection, NEED.owner, server.domains.birth)) refuse('EACCES')
  checkOwner(server.scene(call), old.perms, perms)
  server.specials.set(path, perms, server.store.nextGeneration())
}

function getPerms(call: Call): string {
  const given = one(call)
  const special = call.server.profile.specialPermsReadable ? call.server.specials.get(given) : undefined
  if (special && !permits(special, call.connection, NEED.read, call.server.domains.birth)) refuse('EACCES')
  return joinStrings((special ?? readable(call, given)).perms.map(formatPermission))
}

function watch(call: Call): undefined {
  const { server, connection } = call
  const [given, token, depthText] = several(call, 2, server.profile.watchDepth ? 3 : 2) as [string, string, string?]
  const path = pathIn(call, given)
  const depth = depthText === undefined ? undefined : atoi(depthText)
  if (depth !== undefined && depth < 0) refuse('EINVAL')
  const made = server.watches.add(connection, { path, token, relative: given !== path, depth })
  call.afterwards = () => server.watches.send(made, path, connection.ticket())
}

function unwatch(call: Call): undefined {
  const [given, token] = several(call, 2, 2) as [string, string]
  const { server, connection } = call
  // The C daemon does not look at the path: none that is not valid can have been watched.
  const path = absolutePath(given, connection.domid, Number.POSITIVE_INFINITY)
  if (path === undefined || !server.watches.remove(connection, path, token)) refuse('ENOENT')
}

function transactionEnd(call: Call): undefined {
  const { server, connection, transaction } = call
  const text = one(call)
  if (text !== 'T' && text !== 'F') refuse('EINVAL')
  if (!transaction) refuse('ENOENT')
  server.endTransaction(connection, transaction!, text === 'T')
}

function domid(call: Call): number {
  return atoi(one(call))
}

function introduce(call: Call): undefined {
  const [id, gfn, port] = several(call, 3).map(atoi) as [number, number, number]
  if (port <= 0) refuse('EINVAL')
  call.server.introductions.introduce(id, gfn, port)
}

function setTarget(call: Call): undefined {
  const [id, target] = several(call, 2).map(atoi) as [number, number]
  for (const each of [id, target]) if (each !== 0 && !call.server.domains.get(each)?.connection) refuse('ENOENT')
  call.server.domains.get(id)!.target = target
}

function introduced(call: Call): string {
  const id = domid(call)
  return id === 0 || id === DOMID_SELF || call.server.domains.get(id)?.connection ? 'T\0' : 'F\0'
}

const kinds = new Map<number, RequestKind>([
  [XS.CONTROL, { privileged: true, changes: true, handle: (call) => control(call.server, several(call, 1)) }],
  [XS.DIRECTORY, { handle: (call) => listingOf(call, readable(call, one(call))) }],
  [XS.READ, { handle: (call) => readable(call, one(call)).value }],
  [XS.GET_PERMS, { handle: getPerms }],
  [XS.WATCH, { outside: true, handle: watch }],
  [XS.UNWATCH, { outside: true, handle: unwatch }],
  [
    XS.TRANSACTION_START,
    { handle: (call) => `${call.server.transactions.start(call.connection, call.transaction)}\0` },
  ],
  [XS.TRANSACTION_END, { handle: transactionEnd }],
  [XS.INTRODUCE, { privileged: true, changes: true, handle: introduce }],
  [
    XS.RELEASE,
    { privileged: true, changes: true, handle: (call) => void call.server.introductions.release(domid(call)) },
  ],
  [XS.GET_DOMAIN_PATH, { handle: (call) => `${domainPath(domid(call))}\0` }],
  [XS.WRITE, { changes: true, handle: writeValue }],
  [XS.MKDIR, { changes: true, handle: (call) => onNode(call, mkdir) }],
  [XS.RM, { changes: true, handle: (call) => onNode(call, remove) }],
  [XS.SET_PERMS, { changes: true, handle: setPerms }],
  [XS.IS_DOMAIN_INTRODUCED, { privileged: true, handle: introduced }],
  [
    XS.RESUME,
    { privileged: true, changes: true, handle: (call) => void call.server.introductions.resume(domid(call)) },
  ],
  [XS.SET_TARGET, { privileged: true, changes: true, handle: setTarget }],
  [XS.RESET_WATCHES, { handle: (call) => void call.server.dropRequests(call.connection) }],
  [XS.DIRECTORY_PART, { handle: directoryPart }],
])

function onNode(call: Call, operation: typeof mkdir): undefined {
  const path = nodePath(call, one(call))
  call.server.mutate(call, (scene) => operation(scene, path))
}

/** The kind of a request; undefined for one that the daemon does not know. */
export function requestKind(type: number): RequestKind | undefined {
  return kinds.get(type)
}
