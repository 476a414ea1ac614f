/**
 * Scripts of requests: each row is (connection, transaction, request, payload, reply, events). In payloads, replies and
 * events `|` stands for a nul. After each row exactly the listed events must have come, in this order; `*` among them is
 * the place of the reply.
 */
import { expect } from 'vitest'
import { insideConnection } from '../../src/xenstore/handles.js'
import {
  type Connection,
  checkStore,
  encodeText,
  PacketReader,
  type Transport,
  typeName,
  XenStored,
  type XenStoredOptions,
  XS,
  type XsTypeName,
} from '../../src/xenstore/index.js'
import { fromLatin1 } from '../../src/xenstore/text.js'

/** who, transaction, request, payload, reply, events */
export type Row = [string, number, XsTypeName | number, string, string, string[]?]

const shown = (text: string) => text.replaceAll('\0', '|')

/** What was answered: the type's name, payload or error name, transaction. */
export interface Reply {
  readonly type: string
  readonly text: string
  readonly tx: number
}

/** One connection of a script. */
export class Peer implements Transport {
  readonly name: string
  readonly reader = new PacketReader()
  readonly #script: Script
  connection!: Connection
  /** Fetches nothing while false. */
  reading = true
  failed = 0
  ended = false

  constructor(script: Script, name: string) {
    this.#script = script
    this.name = name
  }
  wake(): void {
    if (!this.reading) return
    while (this.connection.outputBytes) this.reader.push(this.connection.take(1 << 20))
    for (let packet = this.reader.next(); packet; packet = this.reader.next()) {
      const text = shown(fromLatin1(packet.body))
      if (packet.type === XS.WATCH_EVENT) this.#script.log.push(`${this.name} ${text}`)
      else this.#script.replied(this, packet.type, packet.reqId, packet.txId, text)
    }
    this.reader.detach()
  }
  /** Fetches what has been waiting. */
  fetch(): void {
    this.reading = true
    this.wake()
    this.#script.server.resume(this.connection)
  }
  fail(error: number): void {
    this.failed = error
  }
  end(): void {
    this.ended = true
  }
}

/** A daemon and its connections. Names that end in a number are guests: `g5` is domain 5; any other is privileged. */
export class Script {
  readonly server: XenStored
  readonly peers = new Map<string, Peer>()
  log: string[] = []
  #requests = 0
  readonly #replies = new Map<number, Reply>()

  constructor(options: XenStoredOptions = {}, ...names: string[]) {
    this.server = new XenStored(options)
    for (const name of names.length ? names : ['a', 'b']) this.connect(name)
    this.log = []
  }

  connect(name: string): Peer {
    const peer = new Peer(this, name)
    this.peers.set(name, peer)
    const domid = /\d+$/.exec(name)
    if (!domid) peer.connection = this.server.connect(peer)
    else {
      // Attached by hand, so that a peer has its connection before it is woken.
      const open = this.server.attachDomain(Number(domid[0]), { wake: () => {}, fail: () => {}, end: () => {} })
      peer.connection = open
      insideConnection('attachDomain', open).transport = peer
    }
    return peer
  }

  peer(name: string): Peer {
    return this.peers.get(name)!
  }

  replied(peer: Peer, type: number, reqId: number, txId: number, text: string): void {
    const error = type === XS.ERROR
    this.#replies.set(reqId, { type: typeName(type), text: error ? text.slice(0, -1) : text, tx: txId })
    this.log.push(`* ${peer.name}`)
  }

  /** Sends a request; the reply is found by its number. */
  send(who: string, tx: number, request: XsTypeName | number, payload: string): number {
    const type = typeof request === 'number' ? request : XS[request]
    this.server.receive(
      this.peer(who).connection,
      encodeText(type, ++this.#requests, tx, payload.replaceAll('|', '\0')),
    )
    return this.#requests
  }

  /** The reply to a request; undefined if there is none yet. */
  reply(id: number): Reply | undefined {
    return this.#replies.get(id)
  }

  /** One request and its reply's text: payload or error name. */
  ask(who: string, tx: number, request: XsTypeName | number, payload: string): string {
    return this.reply(this.send(who, tx, request, payload))?.text ?? 'no reply'
  }

  /** Runs rows and checks the store. */
  run(...rows: Row[]): this {
    for (const [who, tx, request, payload, reply, events = []] of rows) {
      const at = `${who} ${tx} ${request} ${payload}`
      this.log = []
      const id = this.send(who, tx, request, payload)
      const name = typeof request === 'number' ? typeName(request) : request
      const isError = /^E[A-Z0-9]+$/.test(reply)
      expect(this.reply(id), at).toEqual({ type: isError ? 'ERROR' : name, text: reply, tx })
      const log = this.log.map((line) => (line.startsWith('* ') ? '*' : line))
      expect(events.includes('*') ? log : log.filter((line) => line !== '*'), `events of ${at}`).toEqual(events)
    }
    this.sound()
    return this
  }

  /** The checker finds nothing. */
  sound(): this {
    expect(checkStore(this.server)).toEqual([])
    return this
  }
}

/** A daemon with connections and rows, in one call. */
export function script(names: string, ...rows: Row[]): Script {
  return new Script({}, ...names.split(' ')).run(...rows)
}
