/** A design of a user's own: written against the public entry, run on a whole host; its faults stay its own. */

import { describe, expect, it } from 'vitest'
import {
  type Delivery,
  ForwardingDelivery,
  Host,
  OnDemandDelivery,
  SingleDelivery,
  type Task,
  type XsWatchEvent,
} from '../../src/dom0/index.js'
import { create, createGuests, destroy, inD, stall, texts, threadsLike } from './lab.js'

/** One thread for each remainder of the domid, made when it is first needed and never ended. */
class Buckets extends ForwardingDelivery {
  readonly design = 'buckets'
  readonly #size = 2

  protected override serves(domid: number) {
    const bucket = 1 + (domid % this.#size)
    return this.up(bucket) ?? this.create(bucket)
  }

  *start(): Task {}

  protected *stopWatching(): Task {}
}

describe('a design of a user', () => {
  it('XW-own-1: runs on a host: two buckets, of which one is stalled', () => {
    const host = new Host({ xenMtwatch: true, design: (each) => new Buckets(each) })
    expect(host.xenbus.delivery.design).toBe('buckets')
    createGuests(host, 2)
    stall(host, 'netback')
    expect(destroy(host, 1).ok).toBe(false)
    expect(inD(host)).toEqual(['xen-mtwatch-2'])
    // Domain 2 is in the other bucket, domain 3 shares that of domain 1.
    expect(texts(destroy(host, 2))).toEqual([])
    expect(texts(create(host, 'third'))[0]).toContain('unable to add device')
    expect(texts(create(host, 'fourth'))).toEqual([])
    host.injector.release()
    host.pass(1)
    expect(texts(create(host, 'fifth'))).toEqual([])
    expect(threadsLike(host, 'xen-mtwatch').sort()).toEqual(['xen-mtwatch-1', 'xen-mtwatch-2'])
    expect(host.xenbus.reports).toEqual([])
  })

  it.each(['enqueue', 'route', 'get', 'put', 'callbackReturned', 'domainLists', 'purge'] as const)(
    'XW-own-2: whose %s throws is reported, and its events run in the default thread',
    (member) => {
      const seen = new Set<string>()
      const host = new Host({
        xenMtwatch: true,
        onError: (error, where) => void seen.add(`${where}: ${(error as Error).message}`),
        design: (each) => faulty(new SingleDelivery(each), member),
      })
      createGuests(host, 2)
      expect(texts(destroy(host, 1))).toEqual([])
      host.pass(1)
      // The bus gives back only what get() returned, and this design returns nothing.
      host.xenbus.delivery.put(undefined)
      expect(host.xenbus.delivery.domainLists).toEqual([])
      expect(host.bus.devices).toHaveLength(2)
      expect([...seen]).toEqual([`${member} of design single: broken`])
      expect(host.xenbus.watches.every(({ nrPending }) => nrPending === 0)).toBe(true)
    },
  )

  it('XW-own-3: is not asked where the kernel parameter is off, and a design that does not exist is named', () => {
    const host = new Host({ design: (each) => new OnDemandDelivery(each) })
    expect(host.xenbus.delivery.design).toBe('single')
    const design = 'rcf' as 'rfc'
    expect(() => new Host({ xenMtwatch: true, design })).toThrow(
      /design is .rcf.; allowed: single, rfc, talk, on-demand/,
    )
  })

  it('XW-own-2: that forwards to the default list itself runs there', () => {
    class Circle extends SingleDelivery {
      override route(_event: XsWatchEvent) {
        return circle as never
      }
    }
    let circle: unknown
    const host = new Host({
      xenMtwatch: true,
      design: (each) => {
        circle = each.xenwatch
        return new Circle(each)
      },
    })
    createGuests(host, 1)
    expect(host.bus.devices).toHaveLength(2)
  })
})

/** A delivery one member of which throws. */
function faulty(delivery: Delivery, member: keyof Delivery): Delivery {
  return new Proxy(delivery, {
    get(target, name) {
      const broken = () => {
        throw new Error('broken')
      }
      if (name === member) return name === 'domainLists' ? broken() : broken
      const value = Reflect.get(target, name, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}
