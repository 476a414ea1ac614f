/**
 * Saving and restoring the daemon's state: all of it, for a daemon that is replaced under its clients, or the part of one
 * domain, which moves to another host with its watches.
 *
 *     XenStored ──saveState──▶ records ──▶ bytes ──restoreState──▶ a fresh XenStored
 *
 * What the format does not carry (see records.ts): tickets of what is under way, the rate of writes, generation numbers.
 * Nodes get new generations in the order of the stream. A transaction is restored with its nodes; if one that it had
 * accessed was changed before the state was saved, it can only end in EAGAIN, before and after.
 */

import { ParameterError } from '../check.js'
import type { Connection as InnerConnection, Transport } from './connection.js'
import type { StoreDaemon } from './daemon.js'
import { type Connection, connectionHandle } from './handles.js'
import { absolutePath, domainPath, isSpecial, missingAbove, parentPath } from './path.js'
import { type Permissions, settle } from './perms.js'
import { ACCESS, decodeRecords, encodeRecords, type NodeRecord, StoreStateError } from './records.js'
import { insideStore, type XenStored } from './server.js'
import type { Transaction } from './transaction.js'
import { walk } from './tree.js'

/** What is saved. */
export interface SaveOptions {
  /** Only the connection of this domain and the nodes below its home. Default: everything. */
  readonly domid?: number
  /** Descriptor of a socket connection that lives on. Default: socket connections are left out. */
  readonly socketFd?: (connection: Connection) => number | undefined
}

/** How a state is restored. */
export interface RestoreOptions {
  /** The domain whose state this is gets this number. For a state that was saved with `domid`. */
  readonly domid?: number
  /** The way to a socket that lives on. Default: socket connections are left out. */
  readonly socket?: (fd: number) => Transport | undefined
}

const EVERYWHERE = ''

// --- saving ------------------------------------------------------------------------------------------------------------

/** The state of a daemon as a stream of records. Nothing changes in the daemon. */
export function saveState(xenstored: XenStored, options: SaveOptions = {}): Uint8Array {
  const daemon = insideStore(xenstored)
  const { domid } = options
  const within = domid === undefined ? EVERYWHERE : domainPath(domid)
  const connections = daemon.connections.flatMap((connection) => {
    const ring = daemon.domains.get(connection.domid)
    const isRing = ring?.connection === connection
    if (domid !== undefined && !(isRing && connection.domid === domid)) return []
    const fd = isRing ? undefined : options.socketFd?.(connectionHandle(connection))
    if (!isRing && fd === undefined) return []
    const to = isRing ? { ring: { domid: connection.domid, target: ring.target, port: ring.port } } : { fd: fd! }
    return [
      { connection, record: { id: connection.id, ...to, input: connection.input.rest, ...connection.output.rest } },
    ]
  })
  const transactions = connections.flatMap(({ connection }) =>
    [...connection.transactions.values()].map((transaction) => ({ connection: connection.id, transaction })),
  )
  return encodeRecords({
    ...(domid === undefined ? { global: { rw: -1, ro: -1 } } : {}),
    connections: connections.map(({ record }) => record),
    watches: connections.flatMap(({ connection }) =>
      [...connection.watches.values()].map(({ path, token, cut }) => ({
        connection: connection.id,
        path: path.slice(cut),
        token,
      })),
    ),
    transactions: transactions.map(({ connection, transaction }) => ({ connection, tx: transaction.id })),
    nodes: [
      ...committedNodes(daemon, within),
      ...transactions.flatMap(({ connection, transaction }) => pendingNodes(daemon, connection, transaction)),
    ],
  })
}

function committedNodes({ store, specials, birth }: StoreDaemon, within: string): NodeRecord[] {
  const record = (path: string, value: string, perms: Permissions): NodeRecord => ({
    connection: 0,
    tx: 0,
    access: 0,
    path,
    value,
    perms,
  })
  const names = within === EVERYWHERE ? [...specials.entries()] : []
  const top = within === EVERYWHERE ? store.root : store.get(within)
  const nodes = top ? [...walk(within || '/', top)] : []
  return [
    ...names.map(([name, guarded]) => record(name, '', settle(guarded, birth))),
    ...nodes.map(({ path, node }) => record(path, node.value, settle(node, birth))),
  ]
}

/** What a transaction has read and written. A node that was changed under it is saved in its earlier form, too. */
function pendingNodes({ store }: StoreDaemon, connection: number, transaction: Transaction): NodeRecord[] {
  const of = { connection, tx: transaction.id }
  return transaction.accessed().flatMap(({ path, base, exists, modified, value, perms }): NodeRecord[] => {
    const read = { ...of, path, access: ACCESS.read, value: base?.value ?? '', perms: base?.perms ?? [] }
    if (!modified) return [read]
    const written = exists
      ? { ...of, path, access: ACCESS.read | ACCESS.written, value, perms }
      : { ...of, path, access: 0, value: '', perms: [] }
    return store.get(path)?.generation === base?.generation ? [written] : [read, written]
  })
}

// --- restoring ---------------------------------------------------------------------------------------------------------

/**
 * Restores a state into a fresh daemon: nodes, then connections with their watches, transactions and pending bytes. Rings
 * are mapped through the daemon's host and keep their indexes. Returns the connections by their numbers in the stream.
 * @throws StoreStateError if the stream is not sound; the daemon is then of no use.
 */
export function restoreState(
  xenstored: XenStored,
  bytes: Uint8Array,
  options: RestoreOptions = {},
): Map<number, Connection> {
  if (!(bytes instanceof Uint8Array)) throw new ParameterError('restoreState', 'bytes', bytes, 'a Uint8Array')
  const restored = new Restore(insideStore(xenstored), options).run(bytes)
  return new Map([...restored].map(([id, connection]) => [id, connectionHandle(connection)]))
}

/** One restore. */
class Restore {
  readonly #daemon: StoreDaemon
  readonly #options: RestoreOptions
  readonly #connections = new Map<number, InnerConnection>()
  /** The domain that is renumbered, if it is. */
  #from: number | undefined

  constructor(daemon: StoreDaemon, options: RestoreOptions) {
    this.#daemon = daemon
    this.#options = options
  }

  run(bytes: Uint8Array): Map<number, InnerConnection> {
    const { global, connections, watches, transactions, nodes } = decodeRecords(bytes)
    if (this.#options.domid !== undefined) this.#from = connections.find(({ ring }) => ring)?.ring?.domid
    for (const { perms } of nodes)
      for (const { domid, void: lost } of perms) if (!lost) this.#daemon.domains.know(this.#domid(domid))
    this.#nodes(
      nodes.filter(({ connection }) => !connection),
      global !== undefined,
    )
    for (const record of connections) this.#connect(record)
    for (const { connection, path, token } of watches) this.#watch(connection, path, token)
    for (const { connection, tx } of transactions) {
      const owner = this.#connections.get(connection)
      if (owner) this.#daemon.transactions.add(owner, tx)
    }
    const pending = nodes.filter(({ connection }) => connection)
    // Parents before their children, as they must be made.
    for (const node of pending.sort((a, b) => a.path.length - b.path.length)) this.#pending(node)
    for (const connection of this.#connections.values()) this.#daemon.resume(connection)
    return this.#connections
  }

  #domid(domid: number): number {
    return domid === this.#from ? this.#options.domid! : domid
  }

  #path(path: string): string {
    if (this.#from === undefined) return path
    const home = domainPath(this.#from)
    return path === home || path.startsWith(`${home}/`)
      ? domainPath(this.#options.domid!) + path.slice(home.length)
      : path
  }

  #perms(perms: Permissions): Permissions {
    return perms.map((entry) => {
      const domid = this.#domid(entry.domid)
      return this.#daemon.domains.get(domid) ? { ...entry, domid } : { ...entry, domid, void: true }
    })
  }

  #nodes(nodes: readonly NodeRecord[], all: boolean): void {
    const { store, specials } = this.#daemon
    const view = this.#daemon.direct()
    if (all && view.get('/tool')) view.remove('/tool')
    for (const { path: given, value, perms: list } of nodes) {
      const path = this.#path(given)
      const perms = this.#perms(list)
      if (isSpecial(path)) {
        specials.set(path, perms, store.nextGeneration())
        continue
      }
      if (absolutePath(path, 0, Number.POSITIVE_INFINITY) !== path) throw new StoreStateError(`the path ${path}`)
      if (view.get(path)) {
        view.change(path, value, perms)
        continue
      }
      // A domain's part of a store begins below what the other host has.
      for (const missing of missingAbove(path, (each) => view.get(each) !== undefined)) {
        if (all) throw new StoreStateError(`${path} comes before its parent`)
        view.create(missing, '', [{ letter: 'n', domid: 0 }])
      }
      view.create(path, value, perms)
    }
    view.commit()
  }

  #connect(record: ReturnType<typeof decodeRecords>['connections'][number]): void {
    const { ring, fd, input, output, begun } = record
    let connection: InnerConnection | undefined
    if (ring) connection = this.#ring(this.#domid(ring.domid), ring.target, ring.port)
    else {
      const transport = this.#options.socket?.(fd!)
      connection = transport && this.#daemon.open(0, transport)
    }
    if (!connection) return
    connection.input.push(input)
    connection.input.detach()
    connection.output.restore(output, begun)
    this.#connections.set(record.id, connection)
  }

  #ring(domid: number, target: number | undefined, port: number): InnerConnection | undefined {
    const connection = this.#daemon.introductions.reconnect(domid, port)
    if (connection && target !== undefined) this.#daemon.domains.get(domid)!.target = this.#domid(target)
    return connection
  }

  #watch(id: number, given: string, token: string): void {
    const connection = this.#connections.get(id)
    if (!connection) return
    const path = absolutePath(this.#path(given), connection.domid, Number.POSITIVE_INFINITY)
    if (path === undefined) throw new StoreStateError(`a watch on ${given}`)
    this.#daemon.watches.set(connection, { path, token, relative: path !== this.#path(given), depth: undefined })
  }

  #pending({ connection: id, tx, path: given, value, access, perms }: NodeRecord): void {
    const transaction = this.#connections.get(id)?.transactions.get(tx)
    if (!transaction) return
    const path = this.#path(given)
    const node = transaction.get(path)
    if (access === 0) {
      if (node) transaction.remove(path)
      return
    }
    if (!(access & ACCESS.written)) {
      // It was read in a form that is no more.
      if (perms.length ? node?.value !== value : node) transaction.doom()
      return
    }
    const list = this.#perms(perms)
    if (node) transaction.change(path, value, list)
    else {
      if (!transaction.get(parentPath(path))) throw new StoreStateError(`${path} in a transaction, without its parent`)
      transaction.create(path, value, list)
    }
    transaction.announce(path)
  }
}
