/**
 * A million random and mutated messages, three fifths of them by privileged connections, two fifths by guests through their
 * rings: no exception, no leak, and the store still sound.
 */
import { expect, it } from 'vitest'
import {
  type Connection,
  checkStore,
  encodeText,
  REQUESTS,
  RESPONSES,
  Ring,
  type RingPeer,
  type Transport,
  XenStored,
  XS,
} from '../../src/xenstore/index.js'
import { insideStore } from '../../src/xenstore/server.js'
import { random } from '../random.js'
import { seedOr } from '../settings.js'

const MESSAGES = 1_000_000
const CHECK_EVERY = 50_000
const CLIENTS = 3
const FIRST_GUEST = 5

const PATHS = [
  '/',
  '/a',
  '/a/b',
  '/a/b/c',
  '/d',
  'x',
  'x/y',
  '/local/domain/5',
  '/local/domain/',
  '//',
  '@releaseDomain',
  '',
]
const PERMS = ['n0', 'r5', 'b6', 'n5', 'w7', 'x1', '']
const TOKENS = ['t', '', 'token', 't'.repeat(300)]
const TYPES = Object.values(XS)

/** A connection that fetches what it is sent, most of the time. */
class Client implements Transport {
  connection!: Connection
  fetching = true
  lost = false
  readonly #count: (bytes: number) => void

  constructor(count: (bytes: number) => void) {
    this.#count = count
  }
  wake(): void {
    if (this.fetching) while (this.connection.outputBytes) this.#count(this.connection.take(1 << 16).length)
  }
  fail(): void {
    this.lost = true
  }
  end(): void {
    this.lost = true
  }
}

const WORDS = ['req_cons', 'req_prod', 'rsp_cons', 'rsp_prod', 'connection', 'error', 'server_features'] as const

/** A guest's end of its ring, in plain memory. */
class Guest {
  fetching = true
  lost = true
  readonly ring: Ring
  readonly peer: RingPeer
  readonly #count: (bytes: number) => void
  #onEvent = () => {}
  /** What there was no room for yet. */
  #waiting: Uint8Array = new Uint8Array(0)

  constructor(count: (bytes: number) => void) {
    this.#count = count
    const page = new Uint8Array(4096)
    this.ring = new Ring(() => page)
    this.peer = {
      page: () => page,
      channel: {
        notify: () => {},
        onEvent: (callback) => {
          this.#onEvent = callback
        },
      },
      close: () => {
        this.lost = true
      },
    }
  }

  /** A fresh connection. */
  begin(): void {
    this.lost = false
    this.#waiting = new Uint8Array(0)
  }

  /** Sends a message, or what is left of an earlier one; turns with the daemon until neither can go on. */
  send(bytes: Uint8Array): void {
    if (!this.#waiting.length) this.#waiting = bytes
    for (let moved = true; moved && !this.lost; ) {
      const sent = this.ring.write(REQUESTS, (to, at, max) => {
        const part = this.#waiting.subarray(0, max)
        to.set(part, at)
        this.#waiting = this.#waiting.subarray(part.length)
        return part.length
      })
      this.#onEvent()
      const got = this.fetching ? this.ring.read(RESPONSES, 1024) : new Uint8Array(0)
      if (typeof got === 'number' || this.ring.get('error') !== 0) this.lost = true
      else {
        this.#count(got.length)
        moved = sent > 0 || got.length > 0
      }
      this.#onEvent()
    }
  }
}

class Fuzz {
  readonly random: (below: number) => number
  now = 0
  readonly server: XenStored
  readonly clients: Client[] = []
  /** Domains 5 and 6. */
  readonly guests: Guest[] = []
  fetched = 0
  fetchedByGuests = 0
  introduced = 0

  constructor(seed: number) {
    this.random = random(seed)
    const count = (bytes: number) => {
      this.fetchedByGuests += bytes
    }
    for (let i = 0; i < 2; i++) this.guests.push(new Guest(count))
    this.server = new XenStored({
      now: () => this.now,
      host: {
        state: () => ({ shutdown: false, dying: false }),
        connect: (domid) => this.guests[domid - FIRST_GUEST]?.peer ?? undefined,
      },
    })
    for (let i = 0; i < CLIENTS; i++) this.open(i)
    for (let i = 0; i < 2; i++) this.introduce(i)
    for (const [path, perm] of [
      ['/d', 'b0'],
      ['/local/domain/5', 'n5'],
      ['/local/domain/6', 'n6'],
    ]) {
      this.send(0, encodeText(XS.MKDIR, 0, 0, `${path}\0`))
      this.send(0, encodeText(XS.SET_PERMS, 0, 0, `${path}\0${perm}\0`))
    }
  }

  client(): Client {
    return new Client((bytes) => {
      this.fetched += bytes
    })
  }

  /** A privileged connection. */
  open(index: number): void {
    const client = this.client()
    client.connection = this.server.connect(client)
    this.clients[index] = client
  }

  /** A guest's connection, or a new one on the old page. */
  introduce(index: number): void {
    this.server.introduce(FIRST_GUEST + index, 1, 1)
    this.guests[index]!.begin()
    this.introduced++
  }

  pick<T>(from: readonly T[]): T {
    return from[this.random(from.length)]!
  }

  message(): Uint8Array {
    const type = this.pick(TYPES)
    const path = this.pick(PATHS)
    const transaction = this.random(3) ? 0 : this.random(12)
    const payloads: Partial<Record<number, string>> = {
      [XS.WATCH]: `${path}\0${this.pick(TOKENS)}\0`,
      [XS.UNWATCH]: `${path}\0${this.pick(TOKENS)}\0`,
      [XS.WRITE]: `${path}\0${'v'.repeat(this.random(4) ? this.random(20) : this.random(3000))}`,
      [XS.SET_PERMS]: `${path}\0${this.pick(PERMS)}\0${this.random(2) ? `${this.pick(PERMS)}\0` : ''}`,
      [XS.TRANSACTION_END]: this.pick(['T\0', 'T\0', 'F\0', 'x\0']),
      [XS.DIRECTORY_PART]: `${path}\0${this.random(50)}\0`,
      // Guests are introduced again; RELEASE of one of them, now and then.
      [XS.RELEASE]: `${this.random(200) ? 99 : 5 + this.random(2)}\0`,
      [XS.SET_TARGET]: `${5 + this.random(2)}\0${5 + this.random(3)}\0`,
      [XS.CONTROL]: `${this.pick(['help', 'quota', 'log', 'nonsense'])}\0`,
    }
    return encodeText(type, this.random(2 ** 31), transaction, payloads[type] ?? `${path}\0`)
  }

  /** Turns bits, cuts, doubles, or replaces everything. */
  mutate(bytes: Uint8Array): Uint8Array {
    switch (this.random(8)) {
      case 0: // any byte of the payload
        if (bytes.length > 16) bytes[16 + this.random(bytes.length - 16)] = this.random(256)
        return bytes
      case 1: // type, request or transaction
        bytes[this.random(12)] = this.random(256)
        return bytes
      case 2: // length, seldom: most such streams end
        if (!this.random(20)) bytes[12 + this.random(4)] = this.random(256)
        return bytes
      case 3: // without the last nul
        bytes[12] = (bytes[12]! + 255) & 255
        return bytes[12] === 255 ? bytes : bytes.subarray(0, -1)
      default:
        return bytes
    }
  }

  /** A guest sends, and writes what it likes to its page, now and then. */
  guest(index: number): void {
    const guest = this.guests[index]!
    if (guest.lost) this.introduce(index)
    const [word, value] = [this.pick(WORDS), this.random(2 ** 32)]
    if (!this.random(1000)) guest.ring.set(word, this.random(2) ? value : value % 2000)
    guest.send(this.mutate(this.message()))
    if (!this.random(100)) guest.fetching = !guest.fetching
  }

  send(index: number, bytes: Uint8Array): void {
    const client = this.clients[index]!
    const cut = this.random(3) ? bytes.length : this.random(bytes.length)
    this.server.receive(client.connection, bytes.subarray(0, cut))
    if (cut < bytes.length) this.server.receive(client.connection, bytes.subarray(cut))
  }

  step(): void {
    const index = this.random(CLIENTS + 2)
    const client = this.clients[index]
    if (client) {
      if (client.lost) {
        this.server.disconnect(client.connection)
        this.open(index)
      }
      this.send(index, this.mutate(this.message()))
      if (!this.random(100)) client.fetching = !client.fetching
    } else this.guest(index - CLIENTS)
    if (!this.random(1000)) {
      this.now += this.random(30_000)
      this.server.tick()
    }
    if (!this.random(2000)) this.reset()
  }

  /** Drops what has piled up at domain 0, which has no quota. */
  reset(): void {
    for (const path of ['/a', '/local/domain/0']) this.send(0, encodeText(XS.RM, 0, 0, `${path}\0`))
    const index = this.random(CLIENTS)
    this.server.disconnect(this.clients[index]!.connection)
    this.open(index)
  }
}

it('a million random and mutated messages leave a sound store and nothing behind', () => {
  const seed = seedOr(Math.floor(Math.random() * 2 ** 32))
  const about = `seed ${seed}`
  const fuzz = new Fuzz(seed)
  for (let i = 1; i <= MESSAGES; i++) {
    try {
      fuzz.step()
    } catch (error) {
      throw new Error(`${about}, message ${i}`, { cause: error })
    }
    if (i % CHECK_EVERY === 0) expect(checkStore(fuzz.server), `${about}, message ${i}`).toEqual([])
  }
  // Most of them were understood and answered.
  expect(fuzz.fetched, about).toBeGreaterThan(10 * MESSAGES)
  expect(fuzz.fetchedByGuests, about).toBeGreaterThan(5 * MESSAGES)
  expect(fuzz.introduced, about).toBeGreaterThan(500)
  // Everybody leaves: nothing stays but the nodes, and domain 0 can remove these.
  const { server } = fuzz
  for (const domid of [5, 6])
    if (insideStore(server).domains.get(domid)?.connection) insideStore(server).introductions.release(domid)
  for (const connection of server.connections) server.disconnect(connection)
  expect(insideStore(server).watches.size, about).toBe(0)
  const last = fuzz.client()
  last.connection = server.connect(last)
  for (const path of insideStore(server).store.root.names())
    server.receive(last.connection, encodeText(XS.RM, 0, 0, `/${path}\0`))
  server.receive(last.connection, encodeText(XS.SET_PERMS, 0, 0, '/\0n0\0'))
  expect(insideStore(server).store.root.names(), about).toEqual([])
  server.disconnect(last.connection)
  const left = [...insideStore(server).store.accounts.entries()].filter(([, usage]) =>
    Object.values(usage).some((each) => each > 0),
  )
  expect(left, about).toEqual([
    [0, { ...insideStore(server).store.accounts.of(0), nodes: 1, watches: 0, transactions: 0, outstanding: 0 }],
  ])
}, 60_000)
