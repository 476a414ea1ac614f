/**
 * The same random requests to the C daemon and to ours, by three socket connections: equal replies, and equal events in
 * equal order for each. The C daemon runs over a shim in place of the hypervisor; see .ci/xenstore-tools.
 *
 * Two things are left out, for ours differs on purpose: malformed payloads, on which the C daemon aborts, and, in a
 * transaction that can only end in EAGAIN, what it says of nodes that others removed after it had looked at them.
 */
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { serveSocket } from '../../src/node/xenstored_socket.js'
import { encodeText, PacketReader, typeName, XenStored, XS, type XsTypeName } from '../../src/xenstore/index.js'
import { fromLatin1 } from '../../src/xenstore/text.js'
import { cDaemon, required, startCDaemon, temporary, title } from './real.js'

/** One connection, one request at a time, events kept in order. */
class Client {
  readonly #socket: Socket
  readonly #reader = new PacketReader()
  events: string[] = []
  #reply: (text: string) => void = () => {}

  constructor(socket: Socket) {
    this.#socket = socket
    socket.on('close', () => this.#reply('closed'))
    socket.on('error', () => {})
    socket.on('data', (bytes) => {
      this.#reader.push(bytes)
      for (let packet = this.#reader.next(); packet; packet = this.#reader.next()) {
        const text = fromLatin1(packet.body).replaceAll('\0', '|')
        if (packet.type === XS.WATCH_EVENT) this.events.push(text)
        else this.#reply(`${typeName(packet.type)} ${packet.reqId} ${packet.txId} ${text}`)
      }
    })
  }
  static open(path: string): Promise<Client> {
    return new Promise((resolve, reject) => {
      const socket = connect(path)
      // The C daemon takes one connection at a time.
      socket.once('error', () => sleep(5).then(() => Client.open(path).then(resolve, reject)))
      socket.once('connect', () => resolve(new Client(socket)))
    })
  }
  ask(type: number, txId: number, text: string): Promise<string> {
    return new Promise((resolve) => {
      this.#reply = resolve
      this.#socket.write(encodeText(type, 7, txId, text.replaceAll('|', '\0')))
    })
  }
  close(): void {
    this.#socket.destroy()
  }
}

interface Request {
  who: number
  inside: number
  type: XsTypeName
  payload: string
}

const path = fc.constantFrom(
  '/a',
  '/a/b',
  '/a/b/c',
  '/a/k',
  '/w',
  '/w/a/b/c',
  '/w/a',
  'rel',
  'rel/x',
  '/a/b/c/d/e',
  '/',
  '/local/domain/',
  '/a/',
  '',
  '@releaseDomain',
)
const text = (type: XsTypeName, ...parts: fc.Arbitrary<string>[]) =>
  fc.tuple(...parts).map((all) => ({ type, payload: all.join('') }))
const token = fc.constantFrom('|t|', '|u|', '||')
const perms = fc.constantFrom('|n0|', '|r0|', '|n0|r1|', '|b1|', '|x1|', '|', '|n0|r20|', '|n20|', '|n0|n0|', '|r1')
const end = fc.constant('|')
const request: fc.Arbitrary<Request> = fc
  .tuple(
    fc.nat(2),
    fc.nat(4),
    fc.oneof(
      { weight: 18, arbitrary: text('WRITE', path, fc.constantFrom('|', '|v', '|value')) },
      { weight: 12, arbitrary: text('MKDIR', path, end) },
      { weight: 12, arbitrary: text('RM', path, end) },
      { weight: 10, arbitrary: text('READ', path, end) },
      { weight: 6, arbitrary: text('DIRECTORY', path, end) },
      { weight: 4, arbitrary: text('GET_PERMS', path, end) },
      { weight: 6, arbitrary: text('SET_PERMS', fc.constantFrom('/a', '/a/b', '/w', 'rel', '/a/'), perms) },
      { weight: 8, arbitrary: text('WATCH', path, token) },
      { weight: 4, arbitrary: text('UNWATCH', path, token) },
      { weight: 8, arbitrary: text('TRANSACTION_START', end) },
      { weight: 10, arbitrary: text('TRANSACTION_END', fc.constantFrom('T|', 'T|', 'T|', 'F|', 'X|', 'T', '', 'TT|')) },
      { weight: 1, arbitrary: text('RESET_WATCHES', end) },
      { weight: 1, arbitrary: text('IS_DOMAIN_INTRODUCED', fc.constantFrom('0|', '5|', '32752|')) },
      { weight: 1, arbitrary: text('RELEASE', fc.constantFrom('0|', '77|', 'x|')) },
    ),
  )
  .map(([who, inside, { type, payload }]) => ({ who, inside, type, payload }))

async function compare(pairs: (readonly [Client, Client])[], requests: readonly Request[]): Promise<void> {
  const open: number[][] = [[], [], []]
  for (const { who, inside, type, payload } of requests) {
    const own = open[who]!
    const txId = type === 'TRANSACTION_START' ? 0 : (own[inside] ?? 0)
    const [theirs, ours] = await Promise.all(pairs[who]!.map((client) => client.ask(XS[type], txId, payload)))
    // Whoever sent events before these replies has sent them by then.
    for (const pair of pairs) await Promise.all(pair.map((client) => client.ask(XS.GET_DOMAIN_PATH, 0, '1|')))
    const about = `${who} in ${txId}: ${type} ${payload}`
    const doomed = txId > 0 && theirs !== ours && (await isDoomed(pairs[who]!, txId))
    if (doomed) return
    expect(ours, about).toBe(theirs)
    for (const [c, us] of pairs) expect(us.events, `events of ${about}`).toEqual(c.events)
    for (const client of pairs.flat()) client.events = []
    if (type === 'TRANSACTION_START') own.push(Number(theirs!.split(' ').at(-1)!.slice(0, -1)))
    else if (type === 'TRANSACTION_END' && txId && !theirs!.includes('EINVAL')) own.splice(own.indexOf(txId), 1)
    else if (type === 'RESET_WATCHES') own.length = 0
  }
}

/** Does our daemon refuse the transaction for a conflict? Ends the comparison. */
async function isDoomed(pair: readonly [Client, Client], txId: number): Promise<boolean> {
  return (await pair[1].ask(XS.TRANSACTION_END, txId, 'T|')).includes('EAGAIN')
}

it.skipIf(!cDaemon && !required)(
  title('XS-cli-13: our daemon answers as the C daemon does', cDaemon, 'no C daemon, or no shim for it'),
  async () => {
    using place = temporary()
    const real = await startCDaemon(place.path)
    const host = {
      state: (domid: number) => (domid < 10 ? { shutdown: false, dying: false } : null),
      connect: () => null,
    }
    const ours = await serveSocket(new XenStored({ host }), join(place.path, 'ours'))
    try {
      await fc.assert(
        fc.asyncProperty(fc.array(request, { minLength: 60, maxLength: 120 }), async (requests) => {
          const pairs: (readonly [Client, Client])[] = []
          for (let i = 0; i < 3; i++) pairs.push([await Client.open(real.socket), await Client.open(ours.path)])
          for (const client of pairs[0]!)
            for (const top of ['/a', '/w', '/local']) await client.ask(XS.RM, 0, `${top}|`)
          try {
            await compare(pairs, requests)
          } finally {
            for (const client of pairs.flat()) client.close()
          }
        }),
        { numRuns: 60, endOnFailure: true },
      )
    } finally {
      await ours.close()
      real.process.kill()
    }
  },
)
