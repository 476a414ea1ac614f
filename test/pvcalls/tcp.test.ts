/** Real TCP on loopback: a guest's client and a real server, a real client and a guest's server, and whole streams. */

import { once } from 'node:events'
import { createServer, request } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { connect, createServer as createTcpServer } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { IO_POLICIES } from '../../src/dom0/backends/index.js'
import { PVCALLS } from '../../src/dom0/io/index.js'
import { TcpHost, type TcpHostOptions } from '../../src/node/index.js'
import { listenLocally, streamFromGuest, streamToGuest } from '../../src/node/pvcalls_stream.js'
import { bytesOf, text } from './lab.js'

const hosts: TcpHost[] = []

function hostOf(options: TcpHostOptions = {}): TcpHost {
  const host = new TcpHost({ anyPort: true, ...options })
  hosts.push(host)
  return host
}

afterEach(() => {
  for (const host of hosts.splice(0)) host.close()
})

describe('a guest’s client', () => {
  it('fetches a page from a real HTTP server through connect', async () => {
    const server = createServer((incoming, response) => response.end(`you asked for ${incoming.url}`))
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as AddressInfo
    const host = hostOf()
    const answer = await host.guest(function* () {
      const socket = yield* host.front.connect({ ip: '127.0.0.1', port })
      yield* socket.send(bytesOf('GET /page HTTP/1.0\r\n\r\n'))
      const all = yield* socket.receiveAll()
      yield* socket.close()
      return text(all)
    })
    expect(answer).toMatch(/^HTTP\/1\.1 200 OK[\s\S]*\r\n\r\nyou asked for \/page$/)
    server.close()
  })

  it('PV-45: is refused where nobody listens: -ECONNREFUSED', async () => {
    const host = hostOf()
    const { server, port } = await listenLocally(() => {})
    await new Promise((resolve) => server.close(resolve))
    await expect(host.guest(() => host.front.connect({ ip: '127.0.0.1', port }))).rejects.toThrow('ECONNREFUSED')
    expect(host.host.pvcalls.connection(1)!.sockets.size).toBe(0)
  })

  it('does not get off loopback unless it is allowed: -EACCES', async () => {
    const host = hostOf()
    await expect(host.guest(() => host.front.connect({ ip: '192.0.2.1', port: 80 }))).rejects.toThrow('EACCES')
    await expect(host.guest(() => host.front.listen({ ip: '192.0.2.1', port: 80 }))).rejects.toThrow('EACCES')
  })

  it('PV-55: sees a peer that resets as an error, not as an end', async () => {
    const { server, port } = await listenLocally((socket) => socket.once('data', () => socket.resetAndDestroy()))
    const host = hostOf()
    const attempt = host.guest(function* () {
      const socket = yield* host.front.connect({ ip: '127.0.0.1', port })
      yield* socket.send(bytesOf('x'))
      return yield* socket.receive()
    })
    await expect(attempt).rejects.toThrow('receive: ECONNRESET')
    server.close()
  })

  it('PV-27: a release ends the TCP socket too, whether the peer is held up by its own bytes or reads none', async () => {
    const held = await listenLocally((socket) => void socket.pipe(socket).on('error', () => {}))
    const deaf = await listenLocally((socket) => void socket.pause().on('error', () => {}))
    const host = hostOf({ lingerMs: 1 })
    const { front, network } = host
    for (const { server, port } of [held, deaf]) {
      const socket = await host.guest(() => front.connect({ ip: '127.0.0.1', port }))
      // All buffers on the way fill up, and nobody in the guest reads.
      const [piece, { ring }] = [new Uint8Array(65536), socket.end]
      for (let stuck = 0; stuck < 100; stuck = ring.unsent < ring.out.size ? 0 : stuck + 1) {
        socket.trySend(piece)
        host.loop.kick()
        await new Promise((resolve) => setImmediate(resolve))
      }
      expect(network.open).toBe(1)
      await host.guest(() => front.release(socket.id, socket.end))
      while (network.open) await new Promise((resolve) => setImmediate(resolve))
      server.close()
    }
    expect(host.host.pvcalls.connection(1)!.sockets.size).toBe(0)
  })

  it('is slowed down by a server that does not read, and loses nothing', async () => {
    let deaf: Socket | undefined
    const server = createTcpServer({ pauseOnConnect: true }, (socket) => {
      deaf = socket
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as AddressInfo
    const host = hostOf()
    const total = 32 << 20
    let sent = 0
    const job = host.guest(function* () {
      const socket = yield* host.front.connect({ ip: '127.0.0.1', port }, { ringOrder: 4 })
      const piece = new Uint8Array(1 << 16)
      for (; sent < total; sent += piece.length) yield* socket.send(piece)
      yield* socket.close()
    })
    // Until it stands: nothing was sent for some turns of the event loop.
    for (let last = -1, still = 0; still < 50; last = sent) {
      still = sent === last && sent > 0 ? still + 1 : 0
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect(sent).toBeLessThan(total)
    let got = 0
    const end = new Promise<void>((resolve) => deaf!.on('end', resolve))
    deaf!.on('data', (piece) => {
      got += piece.length
    })
    deaf!.resume()
    await Promise.all([job, end])
    expect(got).toBe(total)
    server.close()
  })
})

describe('a guest’s server', () => {
  it('is reached by a real HTTP client through listen and accept', async () => {
    const host = hostOf()
    const address = { ip: '0.0.0.0', port: 80 }
    const listener = await host.guest(() => host.front.listen(address))
    const served = host.guest(function* () {
      const asked: string[] = []
      for (let i = 0; i < 3; i++) {
        const socket = yield* listener.accept()
        asked.push(text((yield* socket.receive())!).split(' ')[1]!)
        yield* socket.send(bytesOf(`HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\npage ${i}`))
        yield* socket.close()
      }
      return asked
    })
    const port = host.network.portOf(address)
    const bodies: string[] = []
    for (let i = 0; i < 3; i++) {
      const body = await new Promise<string>((resolve, reject) => {
        const ask = request({ host: '127.0.0.1', port, path: `/${i}`, agent: false }, (response) => {
          let all = ''
          response.on('data', (piece) => {
            all += piece
          })
          response.on('end', () => resolve(all))
        })
        ask.on('error', reject)
        ask.end()
      })
      bodies.push(body)
    }
    expect(bodies).toEqual(['page 0', 'page 1', 'page 2'])
    expect(await served).toEqual(['/0', '/1', '/2'])
    await host.guest(() => listener.close())
    expect(host.network.portOf(address)).toBe(0)
  })

  it('PV-48: poll tells of a connection, and accept takes it', async () => {
    const host = hostOf()
    const address = { ip: '127.0.0.1', port: 7 }
    const listener = await host.guest(() => host.front.listen(address))
    const polled = host.guest(() => listener.poll())
    const client = connect(host.network.portOf(address), '127.0.0.1')
    client.end('from the client')
    await polled
    const heard = await host.guest(function* () {
      const socket = yield* listener.accept()
      const all = yield* socket.receiveAll()
      yield* socket.close()
      return text(all)
    })
    expect(heard).toBe('from the client')
    await host.guest(() => listener.close())
  })

  it('more connections than its backlog are reset, those within it are served', async () => {
    const host = hostOf()
    const address = { ip: '127.0.0.1', port: 7 }
    const listener = await host.guest(() => host.front.listen(address, { backlog: 2 }))
    const fates = Array.from({ length: 5 }, (_, i) => {
      const client = connect(host.network.portOf(address), '127.0.0.1', () => client.write(`client ${i}`))
      return new Promise<string>((resolve) => {
        client.on('data', (piece) => resolve(String(piece)))
        client.on('error', () => resolve('reset'))
      })
    })
    const reset = fates.slice(2)
    expect(await Promise.all(reset)).toEqual(['reset', 'reset', 'reset'])
    await host.guest(function* () {
      for (let i = 0; i < 2; i++) {
        const socket = yield* listener.accept()
        yield* socket.send((yield* socket.receive())!)
        yield* socket.close()
      }
    })
    expect(await Promise.all(fates.slice(0, 2))).toEqual(['client 0', 'client 1'])
    await host.guest(() => listener.close())
  })

  it('a port that is taken is -EADDRINUSE in LISTEN', async () => {
    const { server, port } = await listenLocally(() => {})
    const host = hostOf({ anyPort: false })
    await expect(host.guest(() => host.front.listen({ ip: '127.0.0.1', port }))).rejects.toThrow('LISTEN: EADDRINUSE')
    expect(host.host.pvcalls.connection(1)!.sockets.size).toBe(0)
    server.close()
  })

  it('PV-27: release during a connect that hangs answers both', async () => {
    // No route of loopback answers here: the host's connect stays under way.
    const host = hostOf({ allow: () => true })
    let connectRet: number | undefined
    host.network.connect = () => () => {}
    const { front } = host
    const pending = host.guest(function* () {
      const end = front.newEnd('hangs', 1)
      connectRet = yield* front.command(PVCALLS.CONNECT, {
        id: 77n,
        addr: Uint8Array.from([2, 0, 0, 80, 127, 0, 0, 1, ...new Array(20).fill(0)]),
        len: 16,
        ref: end.ring.indexPage.gref,
        evtchn: end.port,
      })
    })
    expect(await host.guest(() => front.command(PVCALLS.RELEASE, { id: 77n }))).toBe(0)
    await pending
    expect([connectRet, host.host.pvcalls.connection(1)!.sockets.size]).toEqual([-9, 0])
  })
})

describe('the loop', () => {
  it('runs what is due by the real clock, and ends quietly', async () => {
    const host = hostOf()
    const { kernel } = host.host
    const fired: number[] = []
    kernel.kthreadRun('sleeper', 'sleeper', function* () {
      for (const ms of [3, 1, 2]) {
        yield* kernel.sleep(ms * 1e6)
        fired.push(ms)
      }
    })
    const from = host.host.scheduler.nowNs
    await host.loop.until(() => fired.length === 3)
    expect(fired).toEqual([3, 1, 2])
    expect(host.host.scheduler.nowNs - from).toBeGreaterThanOrEqual(6e6)
  })

  it('rejects whoever waits if a thread fails, and runs no more', async () => {
    const host = hostOf()
    const waiting = host.loop.until(() => false)
    host.host.kernel.kthreadRun('fails', 'fails', function* () {
      yield
      throw new Error('a bug of ours')
    })
    await expect(waiting).rejects.toThrow('a bug of ours')
  })

  it('a program that throws rejects, and the host goes on', async () => {
    const host = hostOf()
    const { front } = host
    const fails = host.guest(function* () {
      yield
      throw new Error('a bug of the guest')
    })
    await expect(fails).rejects.toThrow('a bug of the guest')
    expect(await host.guest(() => front.command(PVCALLS.RELEASE, { id: 1n }))).toBe(0)
  })
})

describe.each(IO_POLICIES)('a guest that dies, %s', (policy) => {
  it('PV-acc-15: leaves no TCP socket: busy ones, one under way, one that listens, those that wait on it', async () => {
    const { server, port } = await listenLocally((socket) => void socket.pipe(socket).on('error', () => {}))
    const host = hostOf({ policy, cpus: 3, lingerMs: 1 })
    const { front, network } = host
    const { kernel, toolstack, grants, pvcalls } = host.host
    const address = { ip: '127.0.0.1', port: 7 }
    await host.guest(() => front.listen(address))
    for (let i = 0; i < 4; i++) {
      const socket = await host.guest(() => front.connect({ ip: '127.0.0.1', port }, { ringOrder: 2 }))
      // Nobody reads the echo.
      void host.guest(() => socket.send(new Uint8Array(5_000_000)))
    }
    const waiting = connect(network.portOf(address), '127.0.0.1').on('error', () => {})
    while (network.open < 5) await new Promise((resolve) => setImmediate(resolve))
    void host.guest(() => front.connect({ ip: '127.0.0.1', port }))
    let gone = false
    kernel.kthreadRun('xl', 'xl', function* () {
      yield* toolstack.destroy(1)
      gone = true
    })
    await host.loop.until(() => gone)
    while (network.open) await new Promise((resolve) => setImmediate(resolve))
    expect([pvcalls.connections.length, pvcalls.policy.workers.length, grants.mapped(1)]).toEqual([0, 0, 0])
    expect(network.portOf(address)).toBe(0)
    waiting.destroy()
    server.close()
  })
})

describe('closing the host', () => {
  it('rejects whoever waits for a program or for the loop, and whoever asks afterwards', async () => {
    const host = hostOf()
    const waiting = [
      host.guest(() => host.front.listen({ ip: '127.0.0.1', port: 7 })).then(() => host.loop.until(() => false)),
      host.guest(function* () {
        for (;;) yield* host.host.kernel.sleep(1e9)
      }),
    ]
    await host.guest(() => host.front.listen({ ip: '127.0.0.1', port: 8 }))
    await new Promise((resolve) => setImmediate(resolve))
    // Nobody waits for this one, and its end is no unhandled rejection.
    void host.guest(() => host.host.kernel.sleep(1e12))
    host.close()
    waiting.push(host.guest(() => host.host.kernel.sleep(1)))
    for (const each of waiting) await expect(each).rejects.toThrow('the loop was stopped')
  })

  it('closes what programs left open: connections, listening sockets, and what waits on them', async () => {
    const ended: Promise<unknown>[] = []
    const { server, port } = await listenLocally((socket) => {
      socket.resume()
      ended.push(once(socket, 'close'))
    })
    const host = hostOf()
    const address = { ip: '127.0.0.1', port: 7 }
    await host.guest(function* () {
      yield* host.front.connect({ ip: '127.0.0.1', port })
      yield* host.front.listen(address)
    })
    const there = host.network.portOf(address)
    const waiting = connect(there, '127.0.0.1')
    waiting.resume()
    ended.push(once(waiting, 'end'))
    while (host.network.open < 2) await new Promise((resolve) => setImmediate(resolve))
    host.close()
    await Promise.all(ended)
    expect(ended).toHaveLength(2)
    const refused = new Promise((resolve) => connect(there, '127.0.0.1').on('error', resolve))
    expect(await refused).toMatchObject({ code: 'ECONNREFUSED' })
    waiting.destroy()
    server.close()
  })
})

describe('sixteen megabytes through real TCP', () => {
  it.each([1, 2, 3, 4, 5, 6, 7, 8, 9])(
    'PV-51, PV-54: arrive intact both ways with ring order %i',
    async (ringOrder) => {
      const host = hostOf({ policy: IO_POLICIES[ringOrder % 2]! })
      const options = { bytes: 16 << 20, ringOrder }
      const toGuest = await streamToGuest(host, options)
      const fromGuest = await streamFromGuest(host, options)
      expect([toGuest, fromGuest]).toMatchObject([
        { bytes: 16 << 20, intact: true },
        { bytes: 16 << 20, intact: true },
      ])
      // The same bytes each way, so the same hash.
      expect(toGuest.sha256).toBe(fromGuest.sha256)
    },
  )

  it.each(IO_POLICIES)('PV-8: arrive intact while CPUs go offline and come back, %s', async (policy) => {
    const host = hostOf({ policy, cpus: 4 })
    const { kernel } = host.host
    let over = false
    let changes = 0
    kernel.kthreadRun('hotplug', 'hotplug', function* () {
      for (let cpu = 0; !over; cpu = (cpu + 1) % 4) {
        yield* kernel.cpus.takeOffline(cpu)
        changes++
        yield* kernel.sleep(2e5)
        yield* kernel.cpus.bringOnline(cpu)
      }
    })
    const options = { bytes: 16 << 20, ringOrder: 2 }
    const streams = [await streamToGuest(host, options), await streamFromGuest(host, options)]
    over = true
    expect(streams.map(({ intact }) => intact)).toEqual([true, true])
    expect(changes).toBeGreaterThan(5)
    if (policy === 'bounded') expect(host.host.pvcalls.policy.stats.moves).toBeGreaterThan(2)
  })
})
