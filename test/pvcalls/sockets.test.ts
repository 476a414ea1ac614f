/** Sockets of a guest as its programs see them, over the in-process network. */

import { describe, expect, it } from 'vitest'
import type { NetSocket } from '../../src/dom0/backends/index.js'
import type { PvSocket } from '../../src/dom0/frontends/index.js'
import { PVCALLS, PVCALLS_ERRNO } from '../../src/dom0/io/index.js'
import { inside } from '../../src/domain/handles.js'
import { accept, bytesOf, drain, PvcallsLab, pattern, SERVER, same, text } from './lab.js'

const ADDRESS = { ip: '10.0.0.9', port: 8080 }

function connected(lab: PvcallsLab, ringOrder = 1) {
  const listener = lab.serve()
  const socket = lab.guest(1, (front) => front.connect(SERVER, { ringOrder }))
  return { socket, peer: accept(listener) }
}

describe('an active socket', () => {
  it('carries bytes both ways', () => {
    const lab = new PvcallsLab()
    const { socket, peer } = connected(lab)
    lab.guest(1, () => socket.send(bytesOf('hello')))
    expect(text(drain(peer))).toBe('hello')
    peer.send(bytesOf('and back'))
    lab.run()
    expect(text(lab.guest(1, () => socket.receive())!)).toBe('and back')
  })

  it('PV-acc-13, PV-55: after the peer closed, all 5,000 bytes can be read, then -ENOTCONN', () => {
    const lab = new PvcallsLab()
    const { socket, peer } = connected(lab)
    peer.send(pattern(1, 0, 5000))
    peer.close()
    lab.run()
    expect(socket.end.ring.inError, 'only when all is in the ring').toBe(0)
    expect(lab.guest(1, () => socket.receiveAll())).toEqual(pattern(1, 0, 5000))
    expect(socket.tryReceive(new Uint8Array(1))).toBe(-107)
  })

  it('PV-55: a peer that breaks off is -ECONNRESET in both directions, as soon as each is used', () => {
    const lab = new PvcallsLab()
    const { socket, peer } = connected(lab)
    peer.abort()
    lab.run()
    expect(() => lab.guest(1, () => socket.receive())).toThrow('receive: ECONNRESET')
    lab.guest(1, () => socket.send(bytesOf('x')))
    lab.run()
    expect(() => socket.trySend(bytesOf('y'))).toThrow('send: ECONNRESET')
  })

  it('PV-55: after an error no more moves in that direction, whatever the guest writes into the field', () => {
    const lab = new PvcallsLab()
    const { socket, peer } = connected(lab)
    peer.end()
    lab.run()
    expect(socket.end.ring.inError).toBe(-107)
    socket.end.ring.index.publish(2, 0)
    socket.end.notify()
    lab.run()
    expect(socket.end.ring.readable).toBe(0)
    lab.guest(1, () => socket.send(bytesOf('the other direction goes on')))
    expect(text(drain(peer))).toBe('the other direction goes on')
  })

  it('PV-24: a receiver that takes nothing stops the sender, and nothing is lost', () => {
    const lab = new PvcallsLab({ bufferBytes: 3000 })
    const { socket, peer } = connected(lab)
    let sent = 0
    const feed = () => {
      for (let put = 1; put > 0; ) {
        put = peer.send(pattern(3, sent, 1000))
        if (put > 0) sent += put
      }
      lab.run()
    }
    for (let i = 0; i < 5; i++) feed()
    expect(sent, 'a full ring and a full buffer').toBe(4096 + 3000)
    const all: number[] = []
    while (all.length < sent) all.push(...lab.guest(1, () => socket.receive(700))!)
    expect(Uint8Array.from(all)).toEqual(pattern(3, 0, sent))
  })

  it('PV-52: indexes run past 2^32', () => {
    const lab = new PvcallsLab()
    const listener = lab.serve()
    // A guest may begin anywhere: the indexes of a fresh page are its own.
    const { socket, peer } = lab.guest(1, function* (front) {
      const make = front.newEnd.bind(front)
      front.newEnd = (...args) => {
        const end = make(...args)
        for (const word of [0, 1, 16, 17]) end.ring.index.publish(word, 0xfffff000)
        return end
      }
      return { socket: yield* front.connect(SERVER, { ringOrder: 1 }), peer: accept(listener) }
    })
    const job = lab.spawn(1, () => socket.send(pattern(5, 0, 20_000)))
    const got: number[] = []
    for (let i = 0; i < 100 && got.length < 20_000; i++, lab.run()) got.push(...drain(peer))
    expect([job.done, got.length]).toEqual([true, 20_000])
    expect(same(Uint8Array.from(got), pattern(5, 0, 20_000))).toBe(true)
    expect(socket.end.ring.index.index(17)).toBe((0xfffff000 + 20_000) >>> 0)
  })

  it('close waits for what was sent, which RELEASE would drop', () => {
    const lab = new PvcallsLab({ bufferBytes: 1000 })
    const { socket, peer } = connected(lab)
    const job = lab.spawn(1, function* () {
      yield* socket.send(pattern(1, 0, 4000))
      yield* socket.close()
    })
    lab.run()
    expect(job.done).toBe(false)
    const got: number[] = []
    for (let i = 0; i < 10; i++, lab.run()) got.push(...drain(peer))
    expect(job.done).toBe(true)
    expect(Uint8Array.from(got)).toEqual(pattern(1, 0, 4000))
    expect(peer.receive(new Uint8Array(1)), 'the orderly end').toBe(0)
  })

  it.each([1, 2, 3, 4, 5, 6, 7, 8, 9])('PV-51: ring order %i: half of its pages for each direction', (order) => {
    const lab = new PvcallsLab({ guest: { frames: 768 } })
    const { socket, peer } = connected(lab, order)
    const half = (2 ** order * 4096) / 2
    expect([socket.end.ring.in.size, socket.end.ring.out.size]).toEqual([half, half])
    const length = half + 12_345
    const job = lab.spawn(1, () => socket.send(pattern(order, 0, length)))
    const got = new Uint8Array(length)
    for (let at = 0, i = 0; at < length && i < 1000; i++, lab.run()) {
      const piece = drain(peer)
      got.set(piece, at)
      at += piece.length
    }
    expect(job.done).toBe(true)
    expect(same(got, pattern(order, 0, length))).toBe(true)
  })

  it.each([0, 10, 1.5, -1, Number.NaN])('PV-51: a ring order of %d is refused with what is allowed', (ringOrder) => {
    const lab = new PvcallsLab()
    const listener = lab.guest(1, (front) => front.listen(ADDRESS))
    const message = `ringOrder is ${ringOrder}; allowed: an integer from 1 to 9`
    expect(() => lab.guest(1, (front) => front.connect(SERVER, { ringOrder }))).toThrow(message)
    expect(() => lab.guest(1, () => listener.accept({ ringOrder }))).toThrow(message)
  })

  it('PV-44: an address that is none costs the guest neither pages nor ports', () => {
    const lab = new PvcallsLab()
    const nowhere = { ip: 'localhost', port: 80 }
    // Each data ring of order 4 has 17 pages, and the guest 256.
    for (let i = 0; i < 20; i++)
      expect(() => lab.guest(1, (front) => front.connect(nowhere))).toThrow(
        'connect: address.ip is "localhost"; allowed: four numbers',
      )
    expect(connected(lab, 4).socket.closed).toBe(false)
  })

  it('to receive no bytes at all is refused, for 0 would tell of an end', () => {
    const lab = new PvcallsLab()
    const { socket, peer } = connected(lab)
    peer.send(bytesOf('x'))
    lab.run()
    expect(() => lab.guest(1, () => socket.receive(0))).toThrow('no room for a byte')
    expect(text(lab.guest(1, () => socket.receive(1))!)).toBe('x')
  })

  it('PV-47: reuse on RELEASE is a hint: the id can be used again in any case', () => {
    const lab = new PvcallsLab()
    const { socket } = connected(lab)
    const { id } = socket
    expect(lab.guest(1, (front) => front.command(PVCALLS.RELEASE, { id, reuse: 1 }))).toBe(0)
    expect(lab.host.pvcalls.connection(1)!.sockets.size).toBe(0)
    lab.guest(1, (front) => front.connect(SERVER))
  })
})

describe('a listening socket', () => {
  it('PV-48: accepts: the answer comes with the connection, not before', () => {
    const lab = new PvcallsLab()
    const listener = lab.guest(1, (front) => front.listen(ADDRESS))
    const job = lab.spawn(1, () => listener.accept())
    lab.host.pass(10)
    expect(job.done).toBe(false)
    const peer = lab.connect(ADDRESS)
    expect(job.done).toBe(true)
    peer.send(bytesOf('to the guest'))
    lab.run()
    expect(text(lab.guest(1, () => job.result!.receive())!)).toBe('to the guest')
  })

  it('accepts what waits already, in order', () => {
    const lab = new PvcallsLab()
    const listener = lab.guest(1, (front) => front.listen(ADDRESS))
    const peers = [1, 2, 3].map(() => lab.connect(ADDRESS))
    peers.forEach((peer, i) => void peer.send(bytesOf(`peer ${i}`)))
    const heard = lab.guest(1, function* () {
      const all: string[] = []
      for (let i = 0; i < 3; i++) {
        const socket: PvSocket = yield* listener.accept()
        all.push(text((yield* socket.receive())!))
      }
      return all
    })
    expect(heard).toEqual(['peer 0', 'peer 1', 'peer 2'])
  })

  it('PV-48, PV-26: an accept takes one connection, also if another one enters the backlog meanwhile', () => {
    const lab = new PvcallsLab()
    const listener = lab.guest(1, (front) => front.listen(ADDRESS, { backlog: 1 }))
    for (const name of ['first', 'second', 'third'])
      lab.network.connect(ADDRESS, (socket) => void (socket as NetSocket).send(bytesOf(name)))
    const heard = [1, 2, 3].map(() =>
      lab.guest(1, function* () {
        const socket = yield* listener.accept({ ringOrder: 1 })
        return text((yield* socket.receive())!)
      }),
    )
    expect(heard).toEqual(['first', 'second', 'third'])
    expect(lab.host.pvcalls.connection(1)!.sockets.size).toBe(4)
    lab.guest(1, () => listener.close())
  })

  it('PV-48, PV-26: poll is answered when a connection waits, and leaves it there', () => {
    const lab = new PvcallsLab()
    const listener = lab.guest(1, (front) => front.listen(ADDRESS))
    const job = lab.spawn(1, () => listener.poll())
    lab.run()
    expect(job.done).toBe(false)
    lab.connect(ADDRESS)
    expect(job.done).toBe(true)
    lab.guest(1, () => listener.poll())
    lab.guest(1, () => listener.accept())
  })

  it('PV-acc-10, PV-26: while an accept is at the backend another accept or poll is -EINTR at once', () => {
    const lab = new PvcallsLab()
    const listener = lab.guest(1, (front) => front.listen(ADDRESS))
    const first = lab.spawn(1, () => listener.accept())
    lab.run()
    const ports = inside(lab.host.dom0).ports.activeEvtchns
    const refused = lab.guest(1, function* (front) {
      const end = front.newEnd('second', 1)
      const fields = { id: listener.id, id_new: 99n, ref: end.ring.indexPage.gref, evtchn: end.port }
      return [yield* front.command(PVCALLS.ACCEPT, fields), yield* front.command(PVCALLS.POLL, { id: listener.id })]
    })
    expect(refused).toEqual([PVCALLS_ERRNO.EINTR, PVCALLS_ERRNO.EINTR])
    expect(inside(lab.host.dom0).ports.activeEvtchns, 'nothing of the refused ones is left').toBe(ports)
    lab.connect(ADDRESS)
    expect(first.result).toBeDefined()
  })

  it('PV-56: accepts and polls of one listener take turns, in their order', () => {
    const lab = new PvcallsLab()
    const listener = lab.guest(1, (front) => front.listen(ADDRESS))
    const served: string[] = []
    const serve = (name: string) =>
      lab.spawn(1, function* () {
        yield* listener.accept({ ringOrder: 1 })
        served.push(name)
      })
    serve('one')
    lab.run()
    lab.spawn(1, function* () {
      yield* listener.poll()
      served.push('poll')
    })
    lab.run()
    serve('two')
    lab.run()
    lab.connect(ADDRESS)
    expect(served).toEqual(['one'])
    lab.connect(ADDRESS)
    lab.host.pass(1)
    expect(served).toEqual(['one', 'poll', 'two'])
  })

  it('PV-56: who comes when one was served stands behind those who wait', () => {
    const lab = new PvcallsLab()
    const listener = lab.guest(1, (front) => front.listen(ADDRESS))
    const served: string[] = []
    const serve = (name: string) => {
      const job = lab.spawn(1, function* () {
        yield* listener.accept({ ringOrder: 1 })
        served.push(name)
      })
      lab.run()
      return job
    }
    serve('one')
    serve('two')
    lab.connect(ADDRESS)
    lab.host.pass(1)
    const three = serve('three')
    expect([served, three.error]).toEqual([['one'], undefined])
    for (let i = 0; i < 2; i++) {
      lab.connect(ADDRESS)
      lab.host.pass(1)
    }
    expect([served, three.error]).toEqual([['one', 'two', 'three'], undefined])
  })

  it('PV-56: who waits for a turn holds no pages, and is told when the listener is closed', () => {
    const lab = new PvcallsLab()
    const listener = lab.guest(1, (front) => front.listen(ADDRESS))
    const free = lab.host.guest(1).freeFrames
    const jobs = [1, 2, 3].map(() => {
      const job = lab.spawn(1, () => listener.accept({ ringOrder: 1 }))
      lab.run()
      return job
    })
    expect(lab.host.guest(1).freeFrames).toBe(free - 3)
    lab.guest(1, () => listener.close())
    expect(jobs.map(({ error }) => String(error))).toEqual(Array(3).fill('PvcallsError: ACCEPT: EBADF'))
    expect(lab.host.guest(1).freeFrames).toBe(free)
  })

  it('PV-56: 1,024 wait at most, and one more is EAGAIN', () => {
    const lab = new PvcallsLab()
    const listener = lab.guest(1, (front) => front.listen(ADDRESS))
    for (let i = 0; i <= 1024; i++) lab.spawn(1, () => listener.poll())
    lab.run()
    expect(() => lab.guest(1, () => listener.poll())).toThrow('POLL: EAGAIN')
    lab.guest(1, () => listener.close())
  })

  it('release during accept: the accept is answered, then the release, and nothing is left', () => {
    const lab = new PvcallsLab()
    const mapped = lab.host.grants.mapped(1)
    const listener = lab.guest(1, (front) => front.listen(ADDRESS))
    const waiting = lab.spawn(1, () => listener.accept())
    lab.run()
    lab.guest(1, () => listener.close())
    expect(String(waiting.error)).toContain('ACCEPT: EBADF')
    expect([lab.host.grants.mapped(1), lab.network.bound, lab.host.pvcalls.connection(1)!.sockets.size]).toEqual([
      mapped,
      [],
      0,
    ])
  })

  it('closing it refuses those who wait', () => {
    const lab = new PvcallsLab()
    const listener = lab.guest(1, (front) => front.listen(ADDRESS))
    const peer = lab.connect(ADDRESS)
    lab.guest(1, () => listener.close())
    expect(peer.receive(new Uint8Array(1))).toBe(-104)
    expect(() => lab.connect(ADDRESS)).toThrow('-111')
  })

  it('PV-44: an address in use is refused; after a release it is free again', () => {
    const lab = new PvcallsLab({ guests: 2 })
    const listener = lab.guest(1, (front) => front.listen(ADDRESS))
    expect(() => lab.guest(2, (front) => front.listen(ADDRESS))).toThrow('BIND: EADDRINUSE')
    lab.guest(1, () => listener.close())
    lab.guest(2, (front) => front.listen(ADDRESS))
  })

  it('one guest connects to another through domain 0', () => {
    const lab = new PvcallsLab({ guests: 2 })
    const listener = lab.guest(1, (front) => front.listen(ADDRESS))
    const heard = lab.spawn(1, function* () {
      const socket = yield* listener.accept()
      return text(yield* socket.receiveAll())
    })
    lab.guest(2, function* (front) {
      const socket = yield* front.connect(ADDRESS)
      yield* socket.send(bytesOf('from d2'))
      yield* socket.close()
    })
    lab.run()
    expect(heard.result).toBe('from d2')
  })
})
