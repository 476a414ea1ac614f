/** The thread xenbus: messages split anywhere, messages that are none, requests by id, suspend and resume. */

import { describe, expect, it } from 'vitest'
import { memoryRing } from '../../src/dom0/host/store_host.js'
import { Kernel, Scheduler, type Task } from '../../src/dom0/kernel/index.js'
import { Xenbus, XenbusWatch } from '../../src/dom0/xenbus/index.js'
import { encodeText, REQUESTS, RESPONSES, Ring, XS } from '../../src/xenstore/index.js'
import { Gate, SmallLab } from './small_lab.js'

/** A kernel whose daemon is played by the test, byte by byte. */
function scripted() {
  const scheduler = new Scheduler()
  const kernel = new Kernel(scheduler, 'd0')
  const { server, client } = memoryRing()
  const ring = new Ring(server.page)
  let notified = 0
  server.channel.onEvent(() => void notified++)
  const xenbus = new Xenbus({ kernel, peer: client })
  return {
    scheduler,
    kernel,
    xenbus,
    ring,
    notified: () => notified,
    /** Sends bytes and lets the kernel run. */
    send(bytes: Uint8Array) {
      for (let at = 0; at < bytes.length; ) {
        at += ring.write(RESPONSES, (to, offset, max) => {
          const run = Math.min(max, bytes.length - at)
          to.set(bytes.subarray(at, at + run), offset)
          return run
        })
        server.channel.notify()
        scheduler.run()
      }
    },
    /** Writes nonsense over an index of the ring. */
    corrupt(at: number) {
      const page = server.page()
      new DataView(page.buffer, page.byteOffset).setUint32(at, 0x12345678, true)
      server.channel.notify()
      scheduler.run()
    },
    /** Takes what the kernel has sent. */
    receive(): Uint8Array {
      const bytes: number[] = []
      for (
        let part = ring.read(REQUESTS, 4096) as Uint8Array;
        part.length;
        part = ring.read(REQUESTS, 4096) as Uint8Array
      )
        bytes.push(...part)
      server.channel.notify()
      scheduler.run()
      return new Uint8Array(bytes)
    },
  }
}

const event = (...strings: string[]) => encodeText(XS.WATCH_EVENT, 0, 0, strings.map((each) => `${each}\0`).join(''))

describe('xenbus_thread', () => {
  it('XW-base-2, XW-base-3: takes a message that arrives byte by byte, and sleeps in between holding the response mutex', () => {
    const { kernel, scheduler, xenbus, send, receive } = scripted()
    const seen: string[] = []
    const watch = new XenbusWatch({
      node: '/a',
      // biome-ignore lint/correctness/useYield: it only looks
      *callback(_watch, path) {
        seen.push(path)
      },
    })
    kernel.process('p', () => xenbus.register(watch))
    scheduler.run()
    receive()
    send(encodeText(XS.WATCH, 1, 0, 'OK\0'))
    const bytes = event('/a/b', watch.token)
    bytes.forEach((byte, i) => {
      expect(xenbus.comms.responseMutex.owner !== undefined).toBe(i > 0)
      send(Uint8Array.of(byte))
    })
    expect(xenbus.comms.responseMutex.owner).toBeUndefined()
    expect(seen).toEqual(['/a/b'])
  })

  it.each([
    [[], 'a watch event of 0 strings (EINVAL)'],
    [['/a'], 'a watch event of 1 strings (EINVAL)'],
    [['/a', 'b', 'c'], 'a watch event of 3 strings (EINVAL)'],
  ])('XW-base-5, XS-linux-2: drops an event of %j, for it must have exactly two strings', (strings, problem) => {
    const { xenbus, send } = scripted()
    send(event(...strings))
    expect(xenbus.comms.badMessages).toEqual([problem])
  })

  it.each([
    ['rsp_prod', 2056 + 4],
    ['req_cons', 2048],
  ] as const)(
    'XW-base-3: a store ring whose %s cannot be ends the request under way, and each later one, with EIO',
    (_, at) => {
      const { kernel, scheduler, xenbus, corrupt } = scripted()
      const codes: unknown[] = []
      const read = function* (): Task {
        try {
          yield* xenbus.comms.talk(XS.READ, '/a\0', 0)
        } catch (error) {
          codes.push((error as { code?: unknown }).code)
        }
      }
      kernel.process('first', read)
      scheduler.run()
      expect(codes).toEqual([])
      corrupt(at)
      kernel.process('second', read)
      scheduler.run()
      expect(codes).toEqual(['EIO', 'EIO'])
      expect(xenbus.comms.badMessages).toEqual(['the indexes of the store ring cannot be (EIO)'])
      expect(scheduler.run()).toBe(0)
    },
  )

  it('XW-base-3: drops an event without its last nul, a reply that nobody waits for, and a header of more than 4096 bytes', () => {
    const { xenbus, send } = scripted()
    send(encodeText(XS.WATCH_EVENT, 0, 0, '/a\0token'))
    send(encodeText(XS.READ, 77, 0, 'value'))
    const long = encodeText(XS.READ, 1, 0, '')
    new DataView(long.buffer).setUint32(12, 4097, true)
    send(long)
    expect(xenbus.comms.badMessages).toEqual([
      'a watch event of 1 strings (EINVAL)',
      'a reply to request 77, which nobody made (ENOENT)',
      'a message of 4097 bytes (EINVAL)',
    ])
    expect(xenbus.comms.responseMutex.owner).toBeUndefined()
  })

  it('XW-base-5, XS-watch-11: an event for a watch that is gone is dropped', () => {
    const { xenbus, send } = scripted()
    send(event('/a', 'ffff'))
    expect(xenbus.xenwatch.length).toBe(0)
    expect(xenbus.comms.badMessages).toEqual([])
  })

  it('XS-wire-4, XS-linux-1: gives each reply to the request with its id, in whatever order they come', () => {
    const { kernel, scheduler, xenbus, send, receive } = scripted()
    const got: string[] = []
    const ask = function* (path: string): Task {
      got.push(`${path} ${yield* xenbus.readIfExists(path)}`)
    }
    for (const path of ['/a', '/b', '/c']) kernel.process('p', () => ask(path))
    scheduler.run()
    receive()
    expect(xenbus.comms.pending).toBe(3)
    send(encodeText(XS.READ, 3, 0, 'three'))
    send(encodeText(XS.ERROR, 1, 0, 'ENOENT\0'))
    send(encodeText(XS.READ, 2, 0, 'two'))
    expect(got).toEqual(['/c three', '/a undefined', '/b two'])
    expect(xenbus.comms.pending).toBe(0)
  })

  it('XS-ring-5: requests larger than the ring go out in parts as the daemon takes them', () => {
    const { kernel, scheduler, xenbus, send, receive } = scripted()
    const value = 'x'.repeat(3000)
    kernel.process('p', () => xenbus.write('/long', value))
    scheduler.run()
    const bytes: number[] = []
    for (let part = receive(); part.length; part = receive()) bytes.push(...part)
    expect(bytes).toEqual([...encodeText(XS.WRITE, 1, 0, `/long\0${value}`)])
    send(encodeText(XS.WRITE, 1, 0, 'OK\0'))
    expect(kernel.find('p')).toBeUndefined()
  })

  it('XS-ring-4: notifies once for what the daemon has not yet read, not for each request', () => {
    const { kernel, scheduler, xenbus, notified } = scripted()
    kernel.process('a', () => xenbus.write('/a', 1))
    scheduler.run()
    expect(notified()).toBe(1)
    kernel.process('b', () => xenbus.write('/b', 1))
    scheduler.run()
    expect(notified()).toBe(1)
  })
})

describe('suspend', () => {
  it('XW-acc-23, XW-base-10: waits for the packet boundary while an event is half received', () => {
    const { kernel, scheduler, xenbus, send } = scripted()
    const bytes = event('/a/b', 'ffff')
    send(bytes.subarray(0, 20))
    let suspended = false
    kernel.process('suspend', function* () {
      yield* xenbus.suspend()
      suspended = true
      yield* kernel.sleep(1e9)
      xenbus.cancelSuspend()
    })
    scheduler.run()
    expect(suspended).toBe(false)
    send(bytes.subarray(20))
    expect(suspended).toBe(true)
    scheduler.advance(2e9)
    expect(xenbus.comms.responseMutex.owner).toBeUndefined()
  })

  it('XW-base-10: waits for a transaction from its start to its end, and holds new requests until resume', () => {
    const lab = new SmallLab('single')
    const { host } = lab
    const { xenbus } = host
    const gate = new Gate(host)
    gate.shut()
    const order: string[] = []
    host.start(
      xenbus.transaction(function* (tx) {
        yield* xenbus.write('/t', 1, tx)
        yield* gate.pass()
        yield* xenbus.write('/t', 2, tx)
        order.push('transaction')
      }),
    )
    host.run()
    host.start(
      (function* () {
        yield* xenbus.suspend()
        order.push('suspended')
        yield* host.kernel.sleep(1e9)
        order.push('resume')
        yield* xenbus.resume(host.newRing())
      })(),
    )
    host.run()
    host.start(
      (function* () {
        yield* xenbus.write('/late', 1)
        order.push('late')
      })(),
    )
    host.run()
    expect(order).toEqual([])
    gate.open()
    expect(order).toEqual(['transaction', 'suspended'])
    host.scheduler.advance(2e9)
    expect(order).toEqual(['transaction', 'suspended', 'resume', 'late'])
    expect(host.complete(xenbus.read('/t'))).toBe('2')
  })

  it('XW-acc-23, XS-linux-3: after resume on another ring every watch has fired once, under its old token', () => {
    const lab = new SmallLab('single')
    const watches = ['a', 'b', 'c'].map((name) => lab.plainWatch(name))
    lab.register(...watches)
    const tokens = watches.map(({ token }) => token)
    lab.host.complete(
      (function* () {
        yield* lab.host.xenbus.suspend()
        yield* lab.host.xenbus.resume(lab.host.newRing())
      })(),
    )
    expect(lab.ran).toEqual(['xenwatch /plain/a', 'xenwatch /plain/b', 'xenwatch /plain/c'])
    expect(watches.map(({ token }) => token)).toEqual(tokens)
    lab.host.write('/plain/b/x')
    lab.host.run()
    expect(lab.ran.at(-1)).toBe('xenwatch /plain/b/x')
  })
})
