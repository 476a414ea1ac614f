/** The protocol as data: numbers, layouts, addresses, the command ring, circular arrays. */

import { describe, expect, it } from 'vitest'
import {
  CircularArray,
  COMMAND_SLOTS,
  CommandBackRing,
  CommandFrontRing,
  decodeAddress,
  decodeRequest,
  decodeResponse,
  encodeAddress,
  encodeRequest,
  encodeResponse,
  INDEX_WORD,
  IndexPage,
  PVCALLS,
  queuedBytes,
} from '../../src/dom0/io/index.js'

const view = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

describe('requests and responses', () => {
  it('PV-41: commands have the numbers of the header, not those of the document’s prose', () => {
    expect(PVCALLS).toEqual({ SOCKET: 0, CONNECT: 1, RELEASE: 2, BIND: 3, LISTEN: 4, ACCEPT: 5, POLL: 6 })
  })

  it('PV-42: every argument is where the table has it', () => {
    const id = 0x1122334455667788n
    const addr = new Uint8Array(28).map((_, i) => i + 1)
    const at = (cmd: number, fields: object) => {
      const bytes = encodeRequest(7, cmd, { id, ...fields })
      const data = view(bytes)
      expect([bytes.length, data.getUint32(0, true), data.getUint32(4, true)]).toEqual([64, 7, cmd])
      expect(data.getBigUint64(8, true)).toBe(id)
      return data
    }
    const socket = at(PVCALLS.SOCKET, { domain: 2, type: 1, protocol: 9 })
    expect([16, 20, 24].map((offset) => socket.getUint32(offset, true))).toEqual([2, 1, 9])
    const connect = at(PVCALLS.CONNECT, { addr, len: 16, flags: 3, ref: 4, evtchn: 5 })
    expect([44, 48, 52, 56].map((offset) => connect.getUint32(offset, true))).toEqual([16, 3, 4, 5])
    expect([connect.getUint8(16), connect.getUint8(43)]).toEqual([1, 28])
    expect(at(PVCALLS.RELEASE, { reuse: 1 }).getUint8(16)).toBe(1)
    expect(at(PVCALLS.BIND, { addr, len: 28 }).getUint32(44, true)).toBe(28)
    expect(at(PVCALLS.LISTEN, { backlog: 12 }).getUint32(16, true)).toBe(12)
    const accept = at(PVCALLS.ACCEPT, { id_new: 99n, ref: 8, evtchn: 9 })
    expect(accept.getBigUint64(16, true)).toBe(99n)
    expect([24, 28].map((offset) => accept.getUint32(offset, true))).toEqual([8, 9])
    at(PVCALLS.POLL, {})
  })

  it('what is encoded is decoded, and any 64 bytes are some request', () => {
    const fields = { id: 5n, addr: encodeAddress({ ip: '1.2.3.4', port: 80 }), len: 16, flags: 1, ref: 2, evtchn: 3 }
    expect(decodeRequest(encodeRequest(1, PVCALLS.CONNECT, fields))).toMatchObject({ req_id: 1, cmd: 1, ...fields })
    const odd = decodeRequest(new Uint8Array(64).fill(0xff))
    expect([odd.cmd, odd.id]).toEqual([0xffffffff, 0xffffffffffffffffn])
  })

  it('PV-42: a response has 24 bytes and a signed result', () => {
    const response = { req_id: 1, cmd: 2, ret: -111, id: 4n }
    const bytes = encodeResponse(response)
    expect([bytes.length, view(bytes).getInt32(8, true)]).toEqual([24, -111])
    expect(decodeResponse(bytes)).toEqual(response)
  })

  it('PV-44: addresses: family, port in network order, address, padding', () => {
    const bytes = encodeAddress({ ip: '10.1.2.3', port: 0x1234 })
    expect([...bytes.subarray(0, 8)]).toEqual([2, 0, 0x12, 0x34, 10, 1, 2, 3])
    expect(decodeAddress(bytes, 16)).toEqual({ ip: '10.1.2.3', port: 0x1234 })
    expect(decodeAddress(bytes, 28)).not.toBeUndefined()
    for (const len of [0, 7, 29, 0xffffffff]) expect(decodeAddress(bytes, len), `len ${len}`).toBeUndefined()
    bytes[0] = 10
    expect(decodeAddress(bytes, 16), 'AF_INET6').toBeUndefined()
  })

  it.each(['1.2.3', '1.2.3.256', 'localhost', '1.2.3.4.5'])('%s is no address', (ip) => {
    expect(() => encodeAddress({ ip, port: 1 })).toThrow(`address.ip is "${ip}"; allowed: four numbers`)
  })
})

describe('the command ring', () => {
  const make = () => {
    const bytes = new Uint8Array(4096)
    const front = new CommandFrontRing(() => bytes)
    return { bytes, words: new Uint32Array(bytes.buffer), front, back: new CommandBackRing(() => bytes) }
  }
  const slot = (value: number, length = 64) => new Uint8Array(length).fill(value)

  it('PV-42: has 32 slots of 64 bytes from byte 64 on', () => {
    const { front, bytes } = make()
    for (let i = 0; i < COMMAND_SLOTS; i++) front.push(slot(i + 1))
    expect(front.full).toBe(true)
    expect(() => front.push(slot(1))).toThrow('full')
    expect([bytes[64], bytes[127], bytes[128], bytes[64 + 31 * 64]]).toEqual([1, 1, 2, 32])
  })

  it('PV-42: a request is notified only if the backend asked, and it asks before it sleeps', () => {
    const { front, back } = make()
    expect(front.push(slot(1)), 'the first is asked for').toBe(true)
    expect(front.push(slot(2)), 'it has not slept since').toBe(false)
    expect(
      [back.pull(), back.pull(), back.pull()].map((each) => (each as Uint8Array | undefined)?.[0] ?? undefined),
    ).toEqual([1, 2, undefined])
    expect(front.push(slot(3))).toBe(true)
  })

  it('a response likewise, and it frees a slot', () => {
    const { front, back } = make()
    for (let i = 0; i < COMMAND_SLOTS; i++) front.push(slot(i))
    back.pull()
    expect(back.push(slot(9, 24))).toBe(true)
    expect(front.pull()?.[0]).toBe(9)
    expect(front.full).toBe(false)
    expect(front.pull()).toBeUndefined()
  })

  it('goes round, past 2^32 requests', () => {
    const { front, back, words } = make()
    for (let i = 0; i < 100; i++) {
      front.push(slot(i))
      expect((back.pull() as Uint8Array)[0]).toBe(i)
      back.push(slot(i, 24))
      expect(front.pull()?.[0]).toBe(i)
    }
    expect(words[0]).toBe(100)
  })

  it.each([33, 0x80000000, 0xffffffff])('a producer index of %i is broken, not a number of requests', (index) => {
    const { back, words } = make()
    words[0] = index
    expect(back.pull()).toBe('broken')
  })

  it('a producer index that goes back is broken', () => {
    const { front, back, words } = make()
    front.push(slot(1))
    front.push(slot(2))
    back.pull()
    back.pull()
    words[0] = 1
    expect(back.pull()).toBe('broken')
  })

  it('a request is a copy: the guest changes nothing afterwards', () => {
    const { front, back, bytes } = make()
    front.push(slot(5))
    const taken = back.pull() as Uint8Array
    bytes.fill(0xff, 64, 128)
    expect(taken[0]).toBe(5)
  })
})

describe('the index page and the data ring', () => {
  it('PV-50: members are where the structure has them', () => {
    const at = Object.fromEntries(Object.entries(INDEX_WORD).map(([name, word]) => [name, word * 4]))
    expect(at).toEqual({
      in_cons: 0,
      in_prod: 4,
      in_error: 8,
      out_cons: 64,
      out_prod: 68,
      out_error: 72,
      ring_order: 128,
      ref: 132,
    })
  })

  it('indexes are unsigned, errors signed', () => {
    const page = new IndexPage(() => memory)
    const memory = new Uint8Array(4096)
    page.publish(INDEX_WORD.in_prod, 0xffffffff)
    page.publish(INDEX_WORD.in_error, -107)
    expect([page.index(INDEX_WORD.in_prod), page.error(INDEX_WORD.in_error)]).toEqual([0xffffffff, -107])
  })

  it('PV-52: bytes queued are the document’s, wherever the indexes make sense', () => {
    const documented = (prod: number, cons: number, size: number): number => {
      if (prod === cons) return 0
      const [p, c] = [(prod & (size - 1)) >>> 0, (cons & (size - 1)) >>> 0]
      if (p === c) return size
      return p > c ? p - c : size - c + p
    }
    for (const cons of [0, 1, 4095, 4096, 0xfffffff0, 0xffffffff])
      for (const length of [0, 1, 100, 4095, 4096]) {
        const prod = (cons + length) >>> 0
        expect(queuedBytes(prod, cons)).toBe(documented(prod, cons, 4096))
      }
  })

  it('PV-51: a circular array goes over pages wherever they are, and round its end', () => {
    const memory = new Uint8Array(16 * 4096)
    const page = (n: number) => () => memory.subarray(n * 4096, (n + 1) * 4096)
    for (const pages of [
      [3, 4, 5, 6],
      [9, 2, 7, 0],
      [5, 6, 1, 2],
    ]) {
      const array = new CircularArray(pages.map(page))
      memory.fill(0)
      expect(array.size).toBe(16384)
      let value = 1
      for (const segment of array.segments(0xffffffff - 4999, 10_000))
        for (let i = 0; i < segment.length; i++) segment[i] = value++ & 0xff
      expect(value).toBe(10_001)
      // Byte by byte, through the pages themselves.
      for (let i = 0; i < 10_000; i++) {
        const at = (0xffffffff - 4999 + i) % 16384
        const real = pages[Math.floor(at / 4096)]! * 4096 + (at % 4096)
        if (memory[real] !== ((i + 1) & 0xff)) throw new Error(`byte ${i} is wrong with pages ${pages}`)
      }
    }
  })

  it('pages that are neighbours are one piece', () => {
    const memory = new Uint8Array(4 * 4096)
    const array = new CircularArray([0, 1, 2, 3].map((n) => () => memory.subarray(n * 4096, (n + 1) * 4096)))
    expect(array.segments(0, 16384).map(({ length }) => length)).toEqual([16384])
    expect(array.segments(16000, 1000).map(({ length }) => length)).toEqual([384, 616])
  })
})
