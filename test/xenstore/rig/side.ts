/** What the real daemon and ours have in common, as the rig drives them. */

import { PacketReader } from '../../../src/xenstore/index.js'
import { fromLatin1 } from '../../../src/xenstore/text.js'

/** Domains that may exist. */
export const DOMAINS = 16
/** State of a domain, as the shim knows it. */
export const RUNS = 1
export const SHUTDOWN = 2
export const DYING = 4

/** Byte offsets in the ring page. */
export const RING = {
  req_cons: 2048,
  req_prod: 2052,
  rsp_cons: 2056,
  rsp_prod: 2060,
  features: 2064,
  connection: 2068,
  error: 2072,
} as const

/** A message that a client received. */
export interface Message {
  readonly type: number
  readonly reqId: number
  readonly txId: number
  /** One character per byte. */
  readonly body: string
}

/** All that one client received. */
export class Stream {
  readonly log: Message[] = []
  readonly #reader = new PacketReader()
  closed = false
  /** Messages that were compared. */
  seen = 0

  take(bytes: Uint8Array): void {
    this.#reader.push(bytes.slice())
    for (let packet = this.#reader.next(); packet; packet = this.#reader.next())
      this.log.push({
        type: packet.type,
        reqId: packet.reqId,
        txId: packet.txId,
        body: fromLatin1(packet.body),
      })
  }

  /** A new ring: what was received in part is gone. */
  restart(): void {
    this.#reader.reset()
  }
}

/** A daemon with its clients. */
export interface Side {
  setClock(ms: number): void
  setState(domid: number, state: number): void
  /** VIRQ_DOM_EXC. */
  domainsChanged(): void | Promise<void>
  /** Lets time take effect. */
  tick(): void
  openSocket(name: string): Promise<void>
  openRing(name: string, domid: number): void
  close(name: string): void
  stream(name: string): Stream
  /** A stalled guest fetches nothing. */
  stall(name: string, stalled: boolean): void
  /** False if the ring stayed full. */
  send(name: string, bytes: Uint8Array): boolean | Promise<boolean>
}
