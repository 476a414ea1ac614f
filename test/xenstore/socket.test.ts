/** The daemon on a unix socket, with clients that are slow, endless, many or gone. */
import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { connectSocket, type SocketServer, serveSocket } from '../../src/node/xenstored_socket.js'
import { checkStore, encodeText, type XenStoreClient, XenStored, XS } from '../../src/xenstore/index.js'
import { insideStore } from '../../src/xenstore/server.js'
import { random } from '../random.js'
import { seedOr } from '../settings.js'
import { temporary } from './real.js'

let place: ReturnType<typeof temporary>
let path: string
let server: XenStored
let listening: SocketServer
const open: (XenStoreClient | Socket)[] = []

const client = async () => {
  const made = await connectSocket(path)
  open.push(made)
  return made
}
const raw = async () => {
  const socket = connect(path)
  open.push(socket)
  await new Promise((resolve) => socket.once('connect', resolve))
  return socket
}
/** Waits until something is so. */
const until = async (so: () => boolean) => {
  for (let i = 0; i < 2000 && !so(); i++) await sleep(2)
  expect(so()).toBe(true)
}

beforeEach(async () => {
  place = temporary()
  path = join(place.path, 's')
  server = new XenStored({ outputMax: 1 << 20 })
  listening = await serveSocket(server, path)
})
afterEach(async () => {
  expect(checkStore(server)).toEqual([])
  for (const each of open.splice(0)) 'destroy' in each ? each.destroy() : each.close()
  await listening.close()
  expect(existsSync(path)).toBe(false)
  expect(server.connections).toEqual([])
  place[Symbol.dispose]()
})

it('XS-sock-1: a socket connection is domain 0', async () => {
  const one = await client()
  await one.write('name', 'dom0')
  expect(await (await client()).read('/local/domain/0/name')).toBe('dom0')
  expect(await one.control('check')).toBe('OK')
})

it('only its owner may open the socket', () => {
  expect(statSync(path).mode & 0o777).toBe(0o600)
})

it('XS-sock-3: opening causes no traffic', async () => {
  const socket = await raw()
  let bytes = 0
  socket.on('data', (data: Buffer) => {
    bytes += data.length
  })
  await (await client()).write('/x', 'v')
  expect(bytes).toBe(0)
})

it('XS-sock-4: closing drops watches and open transactions, without events', async () => {
  const one = await client()
  const two = await client()
  const seen: string[] = []
  await two.watch('/w', { onEvent: ({ path: at }) => seen.push(at) })
  const begun = one.transaction(async (t) => {
    await t.write('/w/x', 'v')
    one.close()
    await t.read('/w/x')
  })
  await expect(begun).rejects.toMatchObject({ code: 'EIO' })
  await until(() => server.connections.length === 1)
  expect(await two.exists('/w/x')).toBe(false)
  expect(seen).toEqual(['/w'])
})

it('XS-wire-6: a header that announces too much closes the connection at once, the others live on', async () => {
  const socket = await raw()
  const closed = new Promise((resolve) => socket.on('close', resolve))
  const header = encodeText(XS.READ, 1, 0, '')
  header[14] = 1
  socket.write(header)
  socket.resume()
  await closed
  expect(await (await client()).exists('/tool')).toBe(true)
})

it('a request that never ends costs what one request may have', async () => {
  const socket = await raw()
  socket.write(encodeText(XS.WRITE, 1, 0, `/x\0${'v'.repeat(4000)}`).subarray(0, 3000))
  const other = await client()
  for (let i = 0; i < 100; i++) {
    socket.write(Buffer.from('v'))
    await other.write('/y', String(i))
  }
  await until(() => server.connections[0]!.inputBytes === 3100)
  expect(await other.read('/y')).toBe('99')
})

it('a client that asks and never reads is not read any more; the others are served', async () => {
  const socket = await raw()
  const other = await client()
  await other.write('/big', 'v'.repeat(4000))
  const ask = Buffer.concat(Array.from({ length: 1000 }, (_, i) => Buffer.from(encodeText(XS.READ, i, 0, '/big\0'))))
  socket.pause()
  for (let i = 0; i < 20; i++) socket.write(ask)
  let most = 0
  for (let i = 0; i < 200; i++) {
    await other.read('/big')
    most = Math.max(most, server.connections[0]!.outputBytes)
  }
  // What may wait, one chunk that was read before it was noticed, and its replies.
  expect(most).toBeLessThan(1 << 20)
  expect(server.connections).toHaveLength(2)
  let got = 0
  socket.on('data', (data: Buffer) => {
    got += data.length
  })
  socket.resume()
  await until(() => got === 20_000 * 4016)
}, 30_000)

it('a watcher that never reads is cut off before it fills the memory; the others are served', async () => {
  const socket = await raw()
  const other = await client()
  socket.write(encodeText(XS.WATCH, 1, 0, '/\0t\0'))
  socket.pause()
  await until(() => insideStore(server).watches.size === 1)
  const name = 'x'.repeat(1000)
  let most = 0
  for (let i = 0; i < 5000 && server.connections.length === 2; i++) {
    await other.write(`/${name}/${i}`, 'v')
    most = Math.max(most, server.connections[0]!.outputBytes)
    if (i % 100 === 99) await other.rm(`/${name}`)
  }
  expect(server.connections).toHaveLength(1)
  expect(most).toBeLessThan(1.1 * (1 << 20))
  expect(await other.ls('/')).toContain('tool')
})

it('10,000 watches of one client and 200 clients: everybody is told, everybody is served', async () => {
  const many = await client()
  let events = 0
  const set = Array.from({ length: 10_000 }, (_, i) =>
    many.watch(`/w/${i}`, {
      onEvent: () => {
        events++
      },
    }),
  )
  await Promise.all(set)
  expect(events).toBe(10_000)
  const clients = await Promise.all(Array.from({ length: 200 }, client))
  await Promise.all(clients.map((each, i) => each.write(`/w/${i}`, 'v')))
  await until(() => events === 10_200)
  await clients[0]!.rm('/w')
  // Those whose node was there, and nobody else.
  await many.read('/')
  expect(events).toBe(10_400)
  expect(insideStore(server).watches.size).toBe(10_000)
  many.close()
  await until(() => insideStore(server).watches.size === 0)
})

it.each([
  ['announces too much', (socket: Socket) => socket.write(Buffer.alloc(16, 0xff))],
  ['says that it has nothing more to ask', (socket: Socket) => socket.end()],
])(
  'XS-wire-6: a client that never reads and %s does not keep the daemon from ending',
  async (_, offend) => {
    const socket = await raw()
    const other = await client()
    await other.write('/big', 'v'.repeat(4000))
    socket.pause()
    const ask = Buffer.concat(Array.from({ length: 10 }, () => Buffer.from(encodeText(XS.READ, 1, 0, '/big\0'))))
    const [asking] = server.connections
    // Until the kernel takes no more, and not so much that its requests would wait.
    while (!asking!.outputBytes) {
      socket.write(ask)
      await other.read('/big')
    }
    offend(socket)
    await other.read('/big')
    await listening.close()
    expect(server.connections).toEqual([])
    expect(existsSync(path)).toBe(false)
    expect(socket.readableEnded).toBe(false)
  },
  10_000,
)

it('a client that vanishes in the midst of a reply hurts nobody', async () => {
  const other = await client()
  await other.write('/big', 'v'.repeat(4000))
  for (let i = 0; i < 50; i++) {
    const socket = await raw()
    socket.write(Buffer.concat(Array.from({ length: 100 }, () => Buffer.from(encodeText(XS.READ, 1, 0, '/big\0')))))
    socket.destroy()
  }
  await until(() => server.connections.length === 1)
  expect(await other.read('/big')).toHaveLength(4000)
})

it('random bytes from many clients end their connections or are answered, and harm nothing', async () => {
  const next = random(seedOr(12345))
  for (let i = 0; i < 50; i++) {
    const socket = await raw()
    socket.resume()
    socket.on('error', () => {})
    socket.write(Buffer.from(Array.from({ length: 200 }, () => next(i % 2 ? 256 : 3))))
  }
  expect(await (await client()).control('check')).toBe('OK')
})

it('a stale socket file is replaced; a live one, and any other file, is not', async () => {
  await expect(serveSocket(new XenStored(), path)).rejects.toThrow(/in use/)
  const file = join(place.path, 'file')
  writeFileSync(file, 'precious')
  await expect(serveSocket(new XenStored(), file)).rejects.toThrow(/not a socket/)
  await expect(serveSocket(new XenStored(), join(place.path, 'no/such/socket'))).rejects.toThrow(
    /no folder .*no\/such; make it with mkdir -p/,
  )
  expect(existsSync(file)).toBe(true)
})

it('a path that is too long for a socket is refused, not cut off', async () => {
  const long = join(place.path, 'x'.repeat(100))
  await expect(serveSocket(new XenStored(), long)).rejects.toThrow(/has \d+ bytes; the path of a socket has at most/)
  await expect(connectSocket(long)).rejects.toThrow(/at most/)
  expect(readdirSync(place.path)).toEqual(['s'])
})
