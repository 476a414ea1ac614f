/**
 * The scan's promises (NL-scan-1 to NL-scan-4), at every depth and width and in both builds: order and fairness with
 * buffers of any size, what an early stop gives back, bits beyond the tree, filters. Ports are raised as a sender does.
 */

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { GuestKernel, Hypervisor, type WantedLevels } from '../src/index.js'
import { P } from './nlevel/geometry.js'
import { boundaries, type Form, FULL, nameOf, PARTIAL, Rig } from './nlevel/rig.js'

const FORMS = [...FULL, ...PARTIAL].map((form) => [nameOf(form), form] as const)
const buffers = ({ bits }: Form) => [1, 2, 3, bits - 1, bits, bits + 1]

/** The cyclic order from a port on. */
const cyclic = (ports: readonly number[], start: number) => [
  ...ports.filter((port) => port >= start),
  ...ports.filter((port) => port < start),
]

/** What must hold between two scans: what waits can be reached, and its vCPU will scan again (NL-scan-2). */
function expectReachable(rig: Rig, waiting: Iterable<number>, v = 0): void {
  let some = false
  for (const port of waiting) {
    some = true
    if (!rig.isPending(port) || rig.path(port, v).includes(0))
      expect.fail(`port ${port} waits: pending ${rig.isPending(port)}, selectors ${rig.path(port, v)}`)
  }
  if (some) expect(rig.flag(v)).toBe(1)
}

describe.each(FORMS)('the order of a scan: %s', (_, form) => {
  it.each([false, true])(
    'NL-scan-2, NL-scan-3: is cyclic from the port after the last served, with buffers of any size (shared: %s)',
    (shared) => {
      const rig = new Rig(form, { shared })
      const all = boundaries(form)
      // One word is full, so that buffers end inside it.
      const word = Math.floor((rig.channels - 1) / form.bits / 2) * form.bits
      const ports = [...new Set([...all, ...Array.from({ length: form.bits }, (_, i) => word + i)])].sort(
        (a, b) => a - b,
      )
      for (const start of all) {
        for (const max of buffers(form)) {
          for (const port of ports) rig.raise(port)
          rig.setNext(start)
          const waiting = new Set(ports)
          const order: number[] = []
          for (let scans = 0; rig.flag(); scans++) {
            if (scans > 2 * ports.length) expect.fail(`from ${start} by ${max}: ${scans} scans and no end`)
            const served = rig.scan(max)
            for (const port of served) waiting.delete(port)
            order.push(...served)
            expectReachable(rig, waiting)
            if (served.length) expect(rig.next()).toBe((served.at(-1)! + 1) % rig.channels)
          }
          expect(order, `from ${start} by ${max}`).toEqual(cyclic(ports, start))
          expect(rig.anySelector(), `selectors after the last scan from ${start} by ${max}`).toBe(false)
        }
      }
      rig.checkGuards()
    },
  )

  it('NL-scan-2: a buffer without room changes nothing at all', () => {
    const rig = new Rig(form)
    rig.raise(rig.channels - 1)
    for (const max of [0, -1]) expect(rig.scan(max)).toEqual([])
    expectReachable(rig, [rig.channels - 1])
  })

  it('NL-scan-1: masked ports stay pending, and a second scan finds nothing', () => {
    const rig = new Rig(form)
    const ports = boundaries(form)
    const masked = ports.filter((_, i) => i % 3 === 0)
    for (const port of ports) rig.raise(port)
    for (const port of masked) rig.setMask(port)
    expect(rig.scan(1000)).toEqual(ports.filter((port) => !masked.includes(port)))
    for (const port of ports) expect(rig.isPending(port)).toBe(masked.includes(port))
    expect([rig.flag(), rig.anySelector()]).toEqual([0, false])
    expect(rig.scan(1000)).toEqual([])
  })

  it('NL-scan-1: bits at or beyond the number of channels are discarded, whatever lies behind them', () => {
    const rig = new Rig(form)
    const ports = boundaries(form)
    for (const max of [1, 2, 1000]) {
      for (const start of [0, rig.channels - 1, rig.channels, 0xffff_ffff]) {
        for (const port of ports) rig.raise(port)
        rig.fillSelectors()
        rig.setNext(start)
        const order: number[] = []
        for (let scans = 0; rig.flag() && scans <= 2 * ports.length; scans++) order.push(...rig.scan(max))
        expect(order).toEqual(cyclic(ports, start < rig.channels ? start : 0))
        expect([rig.flag(), rig.anySelector()]).toEqual([0, false])
      }
    }
    rig.checkGuards()
  })
})

describe.each(FORMS)('fairness: %s', (_, form) => {
  /**
   * Serves until `serves` ports were served; `during` is the handler, and may raise ports. After a port was served, what
   * was pending at the exchange that gave it must be served before it is served again.
   */
  function serve(
    rig: Rig,
    max: number,
    serves: number,
    pending: Set<number>,
    during: (port: number) => number[],
  ): number[] {
    const owed = new Map<number, Set<number>>()
    const order: number[] = []
    for (let empty = 0; rig.flag() && order.length < serves; ) {
      if (empty > 3) expect.fail(`${empty} scans served nothing, and the flag is set`)
      const atExchange = new Set(pending)
      const served = rig.scan(max)
      empty = served.length ? 0 : empty + 1
      for (const port of served) {
        if (!pending.delete(port)) expect.fail(`port ${port} was served for nothing`)
        const before = owed.get(port)
        if (before?.size) expect.fail(`port ${port} was served again before ${[...before]}: ${order.slice(-20)}`)
        for (const each of owed.values()) each.delete(port)
        atExchange.delete(port)
        owed.set(port, new Set(atExchange))
        order.push(port)
      }
      for (const port of served)
        for (const raised of during(port))
          if (!pending.has(raised)) {
            rig.raise(raised)
            pending.add(raised)
          }
      expectReachable(rig, pending)
    }
    return order
  }

  it.each([false, true])(
    'NL-scan-3: a port that fires without pause, from its own handler too, keeps no other waiting (shared: %s)',
    (shared) => {
      const rig = new Rig(form, { shared })
      const ports = boundaries(form)
      for (const hot of ports) {
        for (const max of buffers(form)) {
          rig.setNext(hot)
          for (const port of ports) rig.raise(port)
          const order = serve(rig, max, 3 * ports.length, new Set(ports), () => [hot])
          // One round serves all the others, and between two servings of the hot one there is one such round at first.
          const others = order.filter((port) => port !== hot)
          expect(others.sort((a, b) => a - b)).toEqual(ports.filter((port) => port !== hot))
          const firstRound = order.slice(0, ports.length + 1)
          expect(firstRound.filter((port) => port === hot).length, `from ${hot} by ${max}`).toBeLessThanOrEqual(2)
          // What still fires is taken out again for the next turn.
          while (rig.flag()) rig.scan(1000)
        }
      }
    },
  )

  it('NL-scan-3: holds for any ports that are raised at any time, however often', () => {
    const rig = new Rig(form)
    const known = boundaries(form)
    const port = fc.oneof(
      fc.constantFrom(...known),
      fc.nat(3 * form.bits).map((near) => near % rig.channels),
    )
    const property = fc.property(
      fc.constantFrom(...buffers(form)),
      fc.array(port, { minLength: 1, maxLength: 40 }),
      fc.array(fc.array(port, { maxLength: 6 }), { minLength: 1, maxLength: 60, size: 'max' }),
      (max, first, script) => {
        const pending = new Set(first)
        for (const each of pending) rig.raise(each)
        let turn = 0
        serve(rig, max, 200, pending, () => script[turn++] ?? [])
        rig.scan(1000)
        expect(rig.flag()).toBe(0)
      },
    )
    fc.assert(property, { numRuns: 60 })
    rig.checkGuards()
  })
})

describe.each(FORMS)('filters: %s', (_, form) => {
  it.each([false, true])(
    "NL-scan-4: two vCPUs whose ports share leaf words do not take each other's events (shared: %s)",
    (shared) => {
      const rig = new Rig(form, { shared, vcpus: 2, filter: true })
      const ports = boundaries(form)
      const of = (v: number) => ports.filter((_, i) => i % 2 === v)
      for (const v of [0, 1]) for (const port of of(v)) rig.own(port, v)
      for (const max of buffers(form)) {
        for (const v of [0, 1]) for (const port of of(v)) rig.raise(port, v)
        // The selector bits of one lead to words of both: its scan looks at all and takes its own.
        for (const v of [1, 0]) {
          const start = rig.next(v)
          const order: number[] = []
          for (let scans = 0; rig.flag(v) && scans <= 2 * ports.length; scans++) {
            order.push(...rig.scan(max, v))
            expectReachable(
              rig,
              of(v).filter((port) => !order.includes(port)),
              v,
            )
            if (v) expectReachable(rig, of(0), 0)
          }
          expect(order).toEqual(cyclic(of(v), start))
          expect([rig.flag(v), rig.anySelector(v)]).toEqual([0, false])
        }
      }
      rig.checkGuards()
    },
  )

  it("NL-scan-4: nothing on an absent page of the filter is this vCPU's", () => {
    const rig = new Rig(form, { vcpus: 2, filter: true })
    const ports = boundaries(form)
    const away = ports.filter((port) => Math.floor(port / P) % 2 === 0)
    const here = ports.filter((port) => !away.includes(port))
    for (const port of here) rig.own(port, 0)
    for (const start of ports) {
      for (const port of ports) rig.raise(port)
      rig.setNext(start)
      const order: number[] = []
      for (let scans = 0; rig.flag() && scans <= 2 * ports.length; scans++) order.push(...rig.scan(2))
      expect(order).toEqual(cyclic(here, start))
      for (const port of away) expect(rig.isPending(port)).toBe(true)
      expect([rig.flag(), rig.anySelector()]).toEqual([0, false])
      for (const port of away) rig.clearPending(port)
    }
    rig.checkGuards()
  })
})

describe('the driver is as fair as its scan', () => {
  const forms: [32 | 64, WantedLevels][] = [
    [64, 2],
    [64, 3],
    [64, 4],
    [32, 2],
    [32, 3],
    [32, 4],
    [32, 5],
  ]
  it.each(forms)(
    'NL-scan-3: %i bits, %s levels: a handler that signals its own port keeps no other waiting',
    (bits, levels) => {
      for (const batch of [1, 2, 3, bits - 1, bits, bits + 1]) {
        const xen = Hypervisor.create()
        const domain = xen.createDomain({ domid: 1, bits, frames: 64 })
        const kernel = GuestKernel.boot(xen.platform(domain), {
          levels,
          batch,
          ...(levels === 2 ? {} : { nrPages: 1 }),
        })
        const order: number[] = []
        const handler = (port: number) => {
          order.push(port)
          if (port === hot && order.length < 3 * bits) kernel.send(port)
        }
        const ports = Array.from({ length: 2 * bits }, () => kernel.bindIpi({ handler }))
        const hot = ports[5]!
        for (const port of ports) kernel.send(port)
        kernel.upcall()
        // Each of the others once, and the hot one at most once more than there were rounds.
        expect(order.filter((port) => port !== hot).sort((a, b) => a - b)).toEqual(ports.filter((port) => port !== hot))
        expect(order.lastIndexOf(ports.at(-1)!)).toBeLessThanOrEqual(ports.length)
      }
    },
  )
})
