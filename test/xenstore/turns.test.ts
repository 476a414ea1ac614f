/** Rings in turns: a guest whose requests do not end stops neither the other guests nor the embedder's event loop. */

import { describe, expect, it } from 'vitest'
import {
  checkStore,
  encodeText,
  REQUESTS,
  RESPONSES,
  Ring,
  XenStored,
  type XenStoredOptions,
  XS,
} from '../../src/xenstore/index.js'

const REQUEST = encodeText(XS.GET_DOMAIN_PATH, 1, 0, '1\0')

/** A guest that does something as soon as the daemon notifies it, before that call returns. */
class Guest {
  readonly page = new Uint8Array(4096)
  readonly ring = new Ring(() => this.page)
  event = () => {}
  upcall = () => {}

  ask(): void {
    let sent = 0
    while (sent < REQUEST.length) {
      const run = this.ring.write(REQUESTS, (to, at, max) => {
        const part = REQUEST.subarray(sent, sent + max)
        to.set(part, at)
        return part.length
      })
      if (run <= 0) return
      sent += run
    }
  }

  /** Has a reply come? It is taken. */
  replied(): boolean {
    const bytes = this.ring.read(RESPONSES, 1024)
    return bytes !== -1 && bytes.length > 0
  }
}

/** A daemon with a guest that has its next request ready whenever it has a reply, `most` times, and other guests. */
function world(most: number, options: XenStoredOptions = {}) {
  const guests = new Map([1, 2, 3].map((domid) => [domid, new Guest()]))
  const store = new XenStored({
    ...options,
    host: {
      state: () => ({ shutdown: false, dying: false }),
      connect: (domid) => {
        const guest = guests.get(domid)!
        const onEvent = (callback: () => void) => {
          guest.event = callback
        }
        return { page: () => guest.page, channel: { notify: () => guest.upcall(), onEvent }, close: () => {} }
      },
    },
  })
  for (const domid of guests.keys()) store.introduce(domid, 1, 1)
  const hog = guests.get(1)!
  const at = { calls: 0, servedAt: new Map<number, number>() }
  hog.upcall = () => {
    if (!hog.replied() || ++at.calls >= most) return
    hog.ask()
  }
  for (const domid of [2, 3]) {
    const meek = guests.get(domid)!
    meek.upcall = () => {
      if (meek.replied()) at.servedAt.set(domid, at.calls)
    }
  }
  const begin = () => {
    hog.ask()
    hog.event()
  }
  return { store, hog, at, guests, begin }
}

describe('rings in turns', () => {
  it('XS-ring-10: another guest’s request is served after at most one turn of a guest that never stops', () => {
    const { hog, at, guests, begin } = world(500, { later: () => {} })
    const upcall = hog.upcall
    hog.upcall = () => {
      upcall()
      if (at.calls !== 10 || at.servedAt.size) return
      for (const domid of [2, 3]) {
        guests.get(domid)!.ask()
        guests.get(domid)!.event()
      }
    }
    begin()
    expect([...at.servedAt.keys()]).toEqual([2, 3])
    for (const calls of at.servedAt.values()) expect(calls).toBeLessThan(10 + 33)
  })

  it('XS-ring-10: one call serves a bounded share, and `step` the rest, a share at a time', () => {
    const most = 20_000
    let asked = 0
    const { store, at, begin } = world(most, { later: () => void asked++ })
    begin()
    expect(at.calls).toBeGreaterThan(100)
    expect(at.calls).toBeLessThan(64 * 33)
    expect(asked).toBe(1)
    let before = at.calls
    for (let steps = 0; store.step(); steps++) {
      expect(at.calls - before).toBeLessThan(64 * 33)
      expect(steps).toBeLessThan(most)
      before = at.calls
    }
    expect(at.calls).toBe(most)
    expect(store.step()).toBe(false)
    expect(checkStore(store)).toEqual([])
  })

  it('XS-ring-10: by default the rest is served in later turns of the event loop, and timers run between them', async () => {
    const { at, begin } = world(20_000)
    begin()
    const first = at.calls
    expect(first).toBeLessThan(20_000)
    await new Promise((resolve) => setImmediate(resolve))
    expect(at.calls).toBeLessThan(20_000)
    while (at.calls < 20_000) await new Promise((resolve) => setImmediate(resolve))
    expect(at.calls).toBe(20_000)
  })

  it('XS-ring-10: domain 0’s request is replied to at once while a guest’s rest waits', () => {
    const { store, at, begin } = world(20_000, { later: () => {} })
    begin()
    const before = at.calls
    let replies = 0
    const dom0 = store.connect({
      wake: () => {
        while (dom0.outputBytes) {
          dom0.take(4096)
          replies++
        }
      },
      fail: () => {},
      end: () => {},
    })
    store.receive(dom0, encodeText(XS.GET_DOMAIN_PATH, 1, 0, '0\0'))
    expect(replies).toBe(1)
    expect(at.calls - before).toBeLessThan(64 * 33)
  })

  it('XS-ring-10: a `later` that throws, or steps at once, harms nothing', () => {
    const { at, begin } = world(5000, { later: (step) => step() })
    begin()
    expect(at.calls).toBe(5000)
  })

  it('XS-ring-4: what fits one share is served within the event, without a second one', () => {
    const { at, begin } = world(60, { later: () => expect.unreachable('nothing is left over') })
    begin()
    expect(at.calls).toBe(60)
  })
})
