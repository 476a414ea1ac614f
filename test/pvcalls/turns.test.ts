/** One socket, without host or worker: what wakes it, and what a turn does. The test is the worker. */

import { describe, expect, it } from 'vitest'
import { ActiveSocket, GrantTable, LocalSocket, MappedDataRing } from '../../src/dom0/backends/index.js'
import { serviceOf } from '../../src/dom0/backends/pvcalls/active_socket.js'
import { INDEX_WORD } from '../../src/dom0/io/index.js'
import { pattern, same } from './lab.js'

const ARRAY = 4096

/** A socket with a ring of order 1 in plain memory. */
function make(bufferBytes = 1 << 16) {
  const memory = new Uint8Array(3 * 4096)
  const page = (gfn: number) => () => memory.subarray(gfn * 4096, (gfn + 1) * 4096)
  const refs = [8, 9, 10]
  const grants = new GrantTable(
    (_domid, gref) => ({ bytes: page(gref - refs[0]!), unmap: () => {} }),
    () => {},
  )
  const words = new Int32Array(memory.buffer, 0, 1024)
  words[INDEX_WORD.ring_order] = 1
  words.set(refs.slice(1), INDEX_WORD.ref)
  const ring = MappedDataRing.map(grants, 1, refs[0]!, 9)!
  const signals = { notified: 0, cpus: [] as number[] }
  const socket = new ActiveSocket(5n, 'd1:5', ring, {
    notify: () => void signals.notified++,
    deliverTo: (cpu) => void signals.cpus.push(cpu),
  })
  const [near, peer] = LocalSocket.pair(bufferBytes)
  socket.attach(near)
  let enqueued = 0
  serviceOf(socket).worker = { enqueue: () => void enqueued++ }
  return {
    socket,
    peer,
    words,
    signals,
    in: memory.subarray(4096, 8192),
    out: memory.subarray(8192, 12288),
    get enqueued() {
      return enqueued
    },
  }
}

describe('a socket’s wake-ups', () => {
  it('PV-21: it begins with one, so that its first turn comes by itself', () => {
    const { socket } = make()
    expect([socket.io, socket.read, socket.write, socket.released]).toEqual([1, true, true, false])
  })

  it('PV-23: data from the network wakes for reading, the event channel for writing, each counted', () => {
    const lab = make()
    const { socket, peer } = lab
    socket.turn()
    expect([socket.io, socket.read, socket.write]).toEqual([0, false, false])
    peer.send(pattern(1, 0, 10))
    expect([socket.io, socket.read, socket.write]).toEqual([1, true, false])
    socket.wakeWrite()
    expect([socket.io, socket.read, socket.write]).toEqual([2, true, true])
    expect(lab.enqueued).toBe(2)
  })

  it('PV-23, PV-27: a socket that is released is woken by nothing', () => {
    const lab = make()
    const { socket, peer } = lab
    socket.turn()
    socket.release()
    peer.send(pattern(1, 0, 10))
    socket.wakeRead()
    socket.wakeWrite()
    expect([socket.io, lab.enqueued]).toEqual([0, 0])
  })

  it('PV-8: between two workers wake-ups are counted, and nobody is called', () => {
    const lab = make()
    lab.socket.turn()
    serviceOf(lab.socket).worker = undefined
    lab.peer.send(pattern(1, 0, 10))
    expect([lab.socket.io, lab.enqueued]).toEqual([1, 0])
  })
})

describe('a turn', () => {
  it('PV-22: answers all wake-ups that came before it; what comes meanwhile is new', () => {
    const { socket, peer, words } = make()
    for (let i = 0; i < 5; i++) socket.wakeWrite()
    words[INDEX_WORD.out_prod] = 100
    // The peer answers while the turn is under way.
    peer.onReadable = () => {
      peer.onReadable = undefined
      peer.send(pattern(2, 0, 7))
    }
    expect(socket.turn()).toEqual({ bytesIn: 0, bytesOut: 100 })
    expect([socket.io, socket.read]).toEqual([1, true])
    expect(socket.turn()).toEqual({ bytesIn: 7, bytesOut: 0 })
    expect(socket.io).toBe(0)
  })

  it('PV-12, PV-22: does at most one read and one write step', () => {
    const { socket, peer, words } = make()
    peer.send(pattern(1, 0, 10_000))
    words[INDEX_WORD.out_prod] = ARRAY
    expect(socket.turn()).toEqual({ bytesIn: ARRAY, bytesOut: ARRAY })
  })

  it('PV-22: does nothing for a socket that is released', () => {
    const { socket, peer, words, signals } = make()
    peer.send(pattern(1, 0, 10))
    socket.release()
    expect(socket.turn()).toEqual({ bytesIn: 0, bytesOut: 0 })
    expect([words[INDEX_WORD.in_prod], signals.notified]).toEqual([0, 0])
  })

  it('PV-29: one without anything to do notifies nobody', () => {
    const { socket, signals } = make()
    socket.turn()
    socket.wakeRead()
    socket.wakeWrite()
    expect(socket.turn()).toEqual({ bytesIn: 0, bytesOut: 0 })
    expect([signals.notified, socket.io]).toEqual([0, 0])
  })
})

describe('the read step', () => {
  it('PV-24, PV-54: copies in one or two segments, advances in_prod behind them, notifies once', () => {
    const lab = make()
    const { socket, peer, words, signals } = lab
    peer.send(pattern(1, 0, 3000))
    socket.turn()
    expect([words[INDEX_WORD.in_prod], signals.notified]).toEqual([3000, 1])
    words[INDEX_WORD.in_cons] = 3000
    peer.send(pattern(1, 3000, 3000))
    socket.turn()
    expect([words[INDEX_WORD.in_prod], signals.notified]).toEqual([6000, 2])
    const round = new Uint8Array([...lab.in.subarray(3000), ...lab.in.subarray(0, 6000 - ARRAY)])
    expect(same(round, pattern(1, 3000, 3000))).toBe(true)
  })

  it('PV-24: a full ring stops it, and it goes on when the frontend notifies', () => {
    const { socket, peer, words } = make()
    peer.send(pattern(1, 0, 5000))
    expect(socket.turn().bytesIn).toBe(ARRAY)
    expect([socket.read, socket.io]).toEqual([true, 0])
    words[INDEX_WORD.in_cons] = 100
    socket.wakeWrite()
    expect(socket.turn().bytesIn).toBe(100)
  })

  it('PV-53: in_prod is the backend’s own: a guest that writes it moves nothing', () => {
    const lab = make()
    const { socket, peer, words } = lab
    words[INDEX_WORD.in_prod] = 2000
    peer.send(pattern(1, 0, 10))
    socket.turn()
    expect(words[INDEX_WORD.in_prod]).toBe(10)
    expect(same(lab.in.subarray(0, 10), pattern(1, 0, 10))).toBe(true)
  })
})

describe('a direction that has failed', () => {
  it.each(['in', 'out'] as const)('PV-55: %s stays stopped, though the guest repairs what it broke', (way) => {
    const lab = make()
    const { socket, peer, words } = lab
    const index = way === 'in' ? INDEX_WORD.in_cons : INDEX_WORD.out_prod
    const field = way === 'in' ? INDEX_WORD.in_error : INDEX_WORD.out_error
    words[index] = 5000
    peer.send(pattern(1, 0, 100))
    socket.turn()
    expect(words[field]).toBe(-22)
    words[field] = 0
    words[index] = way === 'in' ? 0 : 100
    socket.wakeRead()
    socket.wakeWrite()
    const { bytesIn, bytesOut } = socket.turn()
    expect(way === 'in' ? bytesIn : bytesOut).toBe(0)
  })
})

describe('the write step', () => {
  it('PV-25, PV-54: sends what is queued, advances out_cons behind it, notifies', () => {
    const lab = make()
    const { socket, peer, words, signals } = lab
    lab.out.set(pattern(3, 0, 500))
    words[INDEX_WORD.out_prod] = 500
    expect(socket.turn().bytesOut).toBe(500)
    expect([words[INDEX_WORD.out_cons], signals.notified]).toEqual([500, 1])
    const got = new Uint8Array(500)
    peer.receive(got)
    expect(same(got, pattern(3, 0, 500))).toBe(true)
  })

  it('PV-25, PV-28: a short write waits for the network’s word, without turns in between; EAGAIN notifies nobody', () => {
    const lab = make(1000)
    const { socket, peer, words, signals } = lab
    words[INDEX_WORD.out_prod] = 3000
    expect(socket.turn().bytesOut).toBe(1000)
    expect([socket.io, socket.write, lab.enqueued]).toEqual([0, false, 0])
    const { notified } = signals
    socket.wakeWrite()
    expect(socket.turn().bytesOut).toBe(0)
    expect(signals.notified).toBe(notified)
    peer.receive(new Uint8Array(600))
    expect([socket.io, socket.write]).toEqual([1, true])
    expect(socket.turn().bytesOut).toBe(600)
  })

  it('PV-25: what the frontend put meanwhile without a notification is a wake-up too', () => {
    const { socket, peer, words } = make()
    words[INDEX_WORD.out_prod] = 100
    peer.onReadable = () => {
      words[INDEX_WORD.out_prod] = 150
    }
    expect(socket.turn().bytesOut).toBe(100)
    expect(socket.io).toBe(1)
    expect(socket.turn().bytesOut).toBe(50)
  })

  it('PV-25, PV-55: an error of the network stands in out_error, once, and nothing is sent any more', () => {
    const { socket, peer, words, signals } = make()
    socket.turn()
    peer.abort()
    words[INDEX_WORD.out_prod] = 100
    socket.wakeWrite()
    socket.turn()
    expect([words[INDEX_WORD.in_error], words[INDEX_WORD.out_error], words[INDEX_WORD.out_cons]]).toEqual([
      -104, -104, 0,
    ])
    const { notified } = signals
    socket.wakeWrite()
    socket.turn()
    expect(signals.notified).toBe(notified)
  })
})
