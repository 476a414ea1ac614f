/** Frontends that do what the protocol does not have: its errors come back, and nobody else notices. */

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { SocketEnd } from '../../src/dom0/frontends/index.js'
import { encodeAddress, INDEX_WORD, PVCALLS, type PvcallsFields } from '../../src/dom0/io/index.js'
import { inside } from '../../src/domain/handles.js'
import { accept, bytesOf, drain, PvcallsLab, SERVER, text } from './lab.js'

const ADDRESS = { ip: '10.0.0.9', port: 8080 }
const IN_SIZE = 4096

/** A hostile guest 1, and guest 2 with a socket that has to go on. */
class HostileLab extends PvcallsLab {
  readonly listener = this.serve()
  readonly #friend = this.guest(2, (front) => front.connect(SERVER, { ringOrder: 1 }))
  readonly #peer = accept(this.listener)
  readonly #before: number[]
  #messages = 0

  constructor(options: ConstructorParameters<typeof PvcallsLab>[0] = {}) {
    super({ guests: 2, ...options })
    this.#before = this.#left()
  }

  #left(): number[] {
    const { host } = this
    return [host.grants.mapped(1), inside(host.dom0).ports.activeEvtchns, host.pvcalls.connection(1)?.sockets.size ?? 0]
  }

  command(cmd: number, fields: PvcallsFields): number {
    return this.guest(1, (front) => front.command(cmd, fields))
  }

  /** An index page and an event channel. */
  end(order = 1): SocketEnd {
    return this.front(1).newEnd('hostile', order)
  }

  connectWith(fields: PvcallsFields): number {
    return this.command(PVCALLS.CONNECT, { id: 1n, addr: encodeAddress(SERVER), len: 16, ...fields })
  }

  /** Whatever was tried: nothing of it is left in the backend, and the other guest's socket works both ways. */
  check(what = ''): void {
    expect(this.#left(), what).toEqual(this.#before)
    this.others(what)
  }

  others(what = ''): void {
    const message = `message ${this.#messages++}`
    this.guest(2, () => this.#friend.send(bytesOf(message)))
    expect(text(drain(this.#peer)), what).toBe(message)
    this.#peer.send(bytesOf(message))
    this.run()
    expect(text(this.guest(2, () => this.#friend.receive())!), what).toBe(message)
  }
}

describe('commands that make no sense', () => {
  it.each([
    ['another family', { domain: 10, type: 1, protocol: 0 }],
    ['another type', { domain: 2, type: 2, protocol: 0 }],
    ['another protocol', { domain: 2, type: 1, protocol: 6 }],
  ])('PV-43: SOCKET with %s is -EAFNOSUPPORT, or -ENOTSUP as the document has it', (_what, fields) => {
    expect(new HostileLab().command(PVCALLS.SOCKET, { id: 1n, ...fields })).toBe(-97)
    const strict = new HostileLab({ pvcalls: { unsupported: 'ENOTSUP' } })
    expect(strict.command(PVCALLS.SOCKET, { id: 1n, ...fields })).toBe(-524)
    strict.check()
  })

  it.each([7, 8, 1000, 0xffffffff])('PV-45: command %i is -ENOTSUP, and its id comes back', (cmd) => {
    const lab = new HostileLab()
    expect(lab.command(cmd, { id: 12n })).toBe(-524)
    lab.check()
  })

  it.each([
    ['LISTEN', PVCALLS.LISTEN, -22],
    ['ACCEPT', PVCALLS.ACCEPT, -22],
    ['POLL', PVCALLS.POLL, -22],
    ['RELEASE', PVCALLS.RELEASE, 0],
  ])('PV-45: %s of an unknown id', (_name, cmd, ret) => {
    const lab = new HostileLab()
    expect(lab.command(cmd, { id: 0xffffffffffffffffn, ref: 1, evtchn: 1 })).toBe(ret)
    lab.check()
  })

  it.each([
    ['of another family', { addr: new Uint8Array(28).fill(1) }],
    ['too short', { len: 7 }],
    ['too long', { len: 29 }],
  ])('PV-44: an address %s is -EINVAL in CONNECT and BIND', (_what, fields) => {
    const lab = new HostileLab()
    const end = lab.end()
    expect(lab.connectWith({ ref: end.ring.indexPage.gref, evtchn: end.port, ...fields })).toBe(-22)
    expect(lab.command(PVCALLS.BIND, { id: 1n, addr: encodeAddress(ADDRESS), len: 16, ...fields })).toBe(-22)
    lab.check()
  })

  it('PV-49: a second CONNECT is -EISCONN, on a bound socket -EINVAL; BIND of either is -EINVAL', () => {
    const lab = new HostileLab()
    const end = lab.end()
    const good = { ref: end.ring.indexPage.gref, evtchn: end.port }
    expect(lab.connectWith(good)).toBe(0)
    const second = lab.end()
    const other = { ref: second.ring.indexPage.gref, evtchn: second.port }
    expect(lab.connectWith(other)).toBe(-106)
    const bind = { addr: encodeAddress(ADDRESS), len: 16 }
    expect(lab.command(PVCALLS.BIND, { id: 1n, ...bind })).toBe(-22)
    expect(lab.command(PVCALLS.BIND, { id: 2n, ...bind })).toBe(0)
    expect(lab.command(PVCALLS.BIND, { id: 2n, ...bind })).toBe(-22)
    expect(lab.connectWith({ id: 2n, ...other })).toBe(-22)
    expect(lab.command(PVCALLS.ACCEPT, { id: 2n, id_new: 3n, ...other }), 'not listening').toBe(-22)
    expect(lab.command(PVCALLS.LISTEN, { id: 2n, backlog: 1 })).toBe(0)
    expect(lab.command(PVCALLS.ACCEPT, { id: 2n, id_new: 1n, ...other }), 'the new id is taken').toBe(-17)
    for (const id of [1n, 2n]) lab.command(PVCALLS.RELEASE, { id })
    lab.check()
  })

  it('PV-49: the id that an ACCEPT waits to give is in use: CONNECT and BIND of it are -EINVAL', () => {
    const lab = new HostileLab()
    const own = lab.guest(1, (front) => front.listen(ADDRESS))
    const [one, two] = [lab.end(), lab.end()]
    const given = { id: own.id, id_new: 50n, ref: one.ring.indexPage.gref, evtchn: one.port }
    const waiting = lab.spawn(1, (front) => front.command(PVCALLS.ACCEPT, given))
    lab.run()
    expect(lab.connectWith({ id: 50n, ref: two.ring.indexPage.gref, evtchn: two.port })).toBe(-22)
    const elsewhere = encodeAddress({ ip: '10.0.0.9', port: 8081 })
    expect(lab.command(PVCALLS.BIND, { id: 50n, addr: elsewhere, len: 16 })).toBe(-22)
    lab.connect(ADDRESS)
    expect([waiting.done, waiting.result]).toEqual([true, 0])
    for (const id of [50n, own.id]) lab.command(PVCALLS.RELEASE, { id })
    lab.check()
  })

  it('PV-49: a guest has so many sockets and no more: -ENFILE', () => {
    const lab = new HostileLab({ pvcalls: { maxSockets: 3 } })
    const bind = (n: number) =>
      lab.command(PVCALLS.BIND, { id: BigInt(n), addr: encodeAddress({ ip: '10.0.0.9', port: n }), len: 16 })
    expect([1, 2, 3, 4].map(bind)).toEqual([0, 0, 0, -23])
    const end = lab.end()
    expect(lab.connectWith({ id: 9n, ref: end.ring.indexPage.gref, evtchn: end.port })).toBe(-23)
    for (const id of [1n, 2n, 3n]) lab.command(PVCALLS.RELEASE, { id })
    lab.check()
  })

  it('PV-49: a backlog without end is bounded, and connects that give up leave nothing in it', () => {
    const lab = new HostileLab({ bufferBytes: 64 })
    const own = lab.guest(1, (front) => front.listen(ADDRESS, { backlog: 0xffffffff }))
    let entered = 0
    for (let i = 0; i < 4100; i++) lab.network.connect(ADDRESS, () => entered++)
    expect([entered, lab.network.waiting]).toEqual([4096, 4])
    const end = lab.end()
    const fields = { addr: encodeAddress(ADDRESS), ref: end.ring.indexPage.gref, evtchn: end.port, len: 16 }
    for (let i = 0; i < 3; i++) {
      const hangs = lab.spawn(1, (front) => front.command(PVCALLS.CONNECT, { id: 9n, ...fields }))
      lab.run()
      lab.command(PVCALLS.RELEASE, { id: 9n })
      expect([hangs.result, lab.network.waiting]).toEqual([-9, 4])
    }
    lab.guest(1, () => own.close())
    lab.check()
  })

  it('random commands with random arguments are all answered, and end with nothing left', () => {
    const value = fc.oneof(fc.integer({ min: 0, max: 4 }), fc.integer({ min: 0, max: 0xffffffff }))
    const id = fc.bigInt({ min: 0n, max: 3n })
    const command = fc.record({
      cmd: fc.oneof(fc.integer({ min: 0, max: 7 }), value),
      id,
      id_new: id,
      domain: value,
      type: value,
      protocol: value,
      len: fc.oneof(fc.constant(16), value),
      backlog: value,
      good: fc.boolean(),
      ref: value,
      evtchn: value,
      port: fc.integer({ min: 80, max: 82 }),
    })
    fc.assert(
      fc.property(fc.array(command, { maxLength: 60 }), (commands) => {
        const lab = new HostileLab()
        const ends = [0, 1, 2].map(() => lab.end())
        const answered = commands.map(({ cmd, good, port, ...fields }, i) => {
          const end = ends[i % 3]!
          const pages = good ? { ref: end.ring.indexPage.gref, evtchn: end.port } : {}
          const addr = encodeAddress({ ip: '10.0.0.1', port })
          return lab.spawn(1, (front) => front.command(cmd, { ...fields, addr, ...pages }))
        })
        lab.run()
        for (let n = 0n; n < 4n; n++) lab.command(PVCALLS.RELEASE, { id: n })
        expect(answered.every(({ done, error }) => done && !error)).toBe(true)
        while (lab.listener.accept());
        lab.check()
      }),
      { numRuns: 20 },
    )
  }, 30_000)
})

describe('rings and channels that make no sense', () => {
  it.each([10, 0, 11, 31, 32, 0xffffffff])('PV-acc-12, PV-51: ring order %i is -EFAULT and maps nothing', (order) => {
    const lab = new HostileLab()
    const end = lab.end()
    end.ring.index.publish(INDEX_WORD.ring_order, order)
    expect(lab.connectWith({ ref: end.ring.indexPage.gref, evtchn: end.port })).toBe(-14)
    lab.check()
  })

  it('PV-51: an order above the backend’s own limit likewise', () => {
    const lab = new HostileLab({ pvcalls: { maxPageOrder: 2 } })
    const end = lab.end(3)
    expect(lab.connectWith({ ref: end.ring.indexPage.gref, evtchn: end.port })).toBe(-14)
    lab.check()
  })

  it('PV-49: a reference that was not granted, of the index page or of the ring, is -EFAULT', () => {
    const lab = new HostileLab()
    const end = lab.end(2)
    const { gref } = end.ring.indexPage
    for (const ref of [0, 0xffffffff, 99_999]) expect(lab.connectWith({ ref, evtchn: end.port })).toBe(-14)
    end.ring.index.publish(INDEX_WORD.ref + 3, 99_999)
    expect(lab.connectWith({ ref: gref, evtchn: end.port })).toBe(-14)
    lab.check()
  })

  it('references of another guest’s are nobody’s', () => {
    const lab = new HostileLab()
    const theirs = lab.front(2).newEnd('theirs', 1)
    const mine = lab.end()
    expect(lab.connectWith({ ref: theirs.ring.indexPage.gref, evtchn: mine.port })).toBe(-14)
    lab.check()
  })

  it.each([
    ['no port at all', () => 0],
    ['one that is free', () => 999],
    ['one beyond all', () => 0xffffffff],
    ['the store’s', (lab: HostileLab) => lab.host.guest(1).storePort],
  ])('PV-46: an event channel that is not its own to give: %s', (_what, evtchn) => {
    const lab = new HostileLab()
    const end = lab.end()
    expect(lab.connectWith({ ref: end.ring.indexPage.gref, evtchn: evtchn(lab) })).toBe(-14)
    lab.check()
  })

  it('PV-46: an event channel that another socket has already', () => {
    const lab = new HostileLab()
    const [one, two] = [lab.end(), lab.end()]
    expect(lab.connectWith({ ref: one.ring.indexPage.gref, evtchn: one.port })).toBe(0)
    expect(lab.connectWith({ id: 2n, ref: two.ring.indexPage.gref, evtchn: one.port })).toBe(-14)
    lab.command(PVCALLS.RELEASE, { id: 1n })
    lab.check()
  })

  it.each(['in', 'out'] as const)(
    'PV-53, PV-acc-12: %s indexes further apart than the array: -EINVAL in that direction’s field',
    (way) => {
      const lab = new HostileLab()
      const socket = lab.guest(1, (front) => front.connect(SERVER, { ringOrder: 1 }))
      const peer = accept(lab.listener)
      const { index } = socket.end.ring
      index.publish(way === 'in' ? INDEX_WORD.in_cons : INDEX_WORD.out_prod, way === 'in' ? -IN_SIZE - 1 : IN_SIZE + 1)
      peer.send(bytesOf('x'))
      socket.end.notify()
      lab.run()
      const errors = [index.error(INDEX_WORD.in_error), index.error(INDEX_WORD.out_error)]
      expect(errors).toEqual(way === 'in' ? [-22, 0] : [0, -22])
      expect(drain(peer), 'nothing was sent').toHaveLength(0)
      lab.command(PVCALLS.RELEASE, { id: socket.id })
      lab.check()
    },
  )

  it('PV-53, PV-acc-12: whatever stands in the index page, the backend touches nothing but the ring’s pages', () => {
    const word = fc.oneof(fc.integer({ min: 0, max: 0xffffffff }), fc.integer({ min: -5000, max: 5000 }))
    const lab = new HostileLab()
    const { memory } = lab.host.guest(1).domain
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 0, max: 1023 }), word), { minLength: 1, maxLength: 20 }),
        (writes) => {
          const socket = lab.guest(1, (front) => front.connect(SERVER, { ringOrder: 1 }))
          const peer = accept(lab.listener)
          const ring = [
            socket.end.ring.indexPage,
            ...[0, 4096].map((at) => ({
              bytes: () =>
                at < 4096 ? socket.end.ring.in.segments(0, 4096)[0]! : socket.end.ring.out.segments(0, 4096)[0]!,
            })),
          ]
          const own = ring.map(({ bytes }) => Math.floor((bytes().byteOffset - memory.base) / 4096))
          for (const [at, value] of writes) socket.end.ring.index.publish(at, value)
          const before = memory.view().slice()
          peer.send(new Uint8Array(9000).fill(0xee))
          socket.end.notify()
          lab.run()
          const after = memory.view()
          for (let page = 0; page < memory.frames; page++) {
            if (own.includes(page)) continue
            // The frames of event channels and of the store change by themselves; data of the peer's must not be in any.
            const [a, b] = [before, after].map((all) => all.subarray(page * 4096, page * 4096 + 4096))
            for (let i = 0; i < 4096; i++)
              if (a![i] !== b![i] && b![i] === 0xee) throw new Error(`frame ${page} has the peer's bytes`)
          }
          lab.command(PVCALLS.RELEASE, { id: socket.id })
          socket.end.free()
          peer.close()
        },
      ),
      { numRuns: 25 },
    )
    lab.others()
  })

  it('PV-53: the order and references are read once: changing them later changes nothing', () => {
    const lab = new HostileLab()
    const socket = lab.guest(1, (front) => front.connect(SERVER, { ringOrder: 1 }))
    const peer = accept(lab.listener)
    socket.end.ring.index.publish(INDEX_WORD.ring_order, 9)
    for (let i = 0; i < 8; i++) socket.end.ring.index.publish(INDEX_WORD.ref + i, 99_999)
    lab.guest(1, () => socket.send(bytesOf('as before')))
    expect(text(drain(peer))).toBe('as before')
    lab.command(PVCALLS.RELEASE, { id: socket.id })
    lab.check()
  })

  it('a guest that closes its end of the channel hears nothing more, and that is all', () => {
    const lab = new HostileLab()
    const socket = lab.guest(1, (front) => front.connect(SERVER, { ringOrder: 1 }))
    const peer = accept(lab.listener)
    lab.host.guest(1).close(socket.end.port)
    peer.send(bytesOf('x'))
    lab.run()
    expect(socket.end.ring.readable).toBe(1)
    lab.command(PVCALLS.RELEASE, { id: socket.id })
    lab.check()
  })

  it('a guest that closes its end while it connects, or accepts, harms nobody', () => {
    const lab = new HostileLab({ dom0Cpus: 2 })
    const address = { ip: '10.0.0.9', port: 8080 }
    const own = lab.guest(1, (front) => front.listen(address))
    const end = lab.end()
    const fields = { id: own.id, id_new: 50n, ref: end.ring.indexPage.gref, evtchn: end.port }
    const waiting = lab.spawn(1, (front) => front.command(PVCALLS.ACCEPT, fields))
    lab.run()
    lab.host.guest(1).close(end.port)
    lab.connect(address).send(bytesOf('x'))
    lab.run()
    expect([waiting.done, waiting.result, end.ring.readable]).toEqual([true, 0, 1])
    lab.command(PVCALLS.RELEASE, { id: 50n })
    lab.guest(1, () => own.close())
    lab.check()
  })

  it('PV-12: notifications without end on one socket do not keep others waiting', () => {
    const lab = new HostileLab()
    const socket = lab.guest(1, (front) => front.connect(SERVER, { ringOrder: 1 }))
    const storm = lab.spawn(1, function* () {
      for (let i = 0; i < 2000; i++) {
        socket.end.notify()
        yield
      }
    })
    lab.others('during the storm')
    lab.run()
    expect(storm.done).toBe(true)
    lab.command(PVCALLS.RELEASE, { id: socket.id })
    lab.check()
  })
})

describe('a command ring that makes no sense', () => {
  it.each([33, 0x80000000])(
    'PV-42: %i requests at once: the device is closed with an error, others go on',
    (claimed) => {
      const lab = new HostileLab()
      const front = lab.front(1)
      const { host } = lab
      const xs = host.toolstack.xs
      const ref = Number(lab.dom0(xs.read('/local/domain/1/device/pvcalls/0/ring-ref')))
      const page = host.grants.map(1, ref)
      new Uint32Array(page.bytes().buffer, page.bytes().byteOffset, 4)[0] = claimed
      host.grants.unmap(page)
      host.guest(1).send(Number(lab.dom0(xs.read('/local/domain/1/device/pvcalls/0/port'))))
      host.pass(0.1)
      expect(lab.dom0(xs.read('/local/domain/0/error/backend/pvcalls/1/0/error'))).toBe('command ring is broken')
      expect([host.pvcalls.connection(1), host.grants.mapped(1), front.connected]).toEqual([undefined, 0, false])
      lab.others()
    },
  )
})
