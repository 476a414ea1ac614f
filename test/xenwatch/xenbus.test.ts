/** xenbus and the toolstack over it: watches, states, and what creation and destruction leave in the store. */

import { describe, expect, it } from 'vitest'
import { StoreHost } from '../../src/dom0/host/store_host.js'
import { DESIGNS, type Xenbus, XenbusWatch } from '../../src/dom0/xenbus/index.js'
import { insideStore } from '../../src/xenstore/server.js'
import { createGuests, destroy, hostOf } from './lab.js'

describe('xenbus', () => {
  it('XW-be-5, XS-linux-5: a state is written only where there is one, and again after a conflict', () => {
    const host = hostOf('single')
    createGuests(host, 1)
    host.guest(1).kernel.freeze()
    const { xs } = host.toolstack
    const device = host.bus.device('backend/vif/1/0')!
    const node = '/local/domain/0/backend/vif/1/0/state'
    const { xenbus } = host.bus
    const read = xenbus.readIfExists.bind(xenbus)
    let reads = 0
    xenbus.readIfExists = function* (path, tx) {
      const value = yield* read(path, tx)
      // Somebody else writes between the look and the commit.
      if (tx && path === `${device.nodename}/state` && ++reads === 1) yield* xs.write(node, 3)
      return value
    }
    host.complete('x', host.bus.switchState(device, 5))
    expect([reads, device.state, host.complete('x', xs.read(node))]).toEqual([2, 5, '5'])
    host.complete('x', xs.rm(node))
    host.complete('x', host.bus.switchState(device, 6))
    expect([device.state, host.complete('x', xs.readIfExists(node))]).toEqual([5, undefined])
  })

  it.each(DESIGNS)(
    'XW-base-1, XW-base-4, XW-base-11, XW-ds-5, XW-rfc-2: %s: will_handle and get_domid run where they must not sleep',
    (design) => {
      const host = new StoreHost({ xenMtwatch: true, design })
      host.complete(host.xenbus.start())
      const asked: string[] = []
      const here = (what: string) => asked.push(`${what} in ${host.scheduler.running.name}`)
      const watch = new XenbusWatch({
        node: '/w',
        // biome-ignore lint/correctness/useYield: it only looks
        *callback() {
          here('callback')
        },
        willHandle: () => here('will_handle') > 0,
        getDomid: () => {
          here('get_domid')
          return 0
        },
      })
      host.complete(host.xenbus.register(watch, 'domain'))
      asked.length = 0
      host.write('/w/x')
      host.run()
      const where = {
        single: [],
        rfc: ['get_domid in xenwatch'],
        talk: ['get_domid in xenwatch'],
        'on-demand': ['get_domid in xenbus'],
      }
      expect(asked).toEqual(['will_handle in xenbus', ...where[design], 'callback in xenwatch'])
    },
  )

  it('XW-base-6: one event at a time, one order for all, under the mutex', () => {
    const host = new StoreHost()
    const ran: string[] = []
    let running = 0
    const watch = (node: string) =>
      new XenbusWatch({
        node,
        *callback(_, path) {
          expect(++running).toBe(1)
          expect(host.xenbus.xenwatch.mutex.owner).toBe(host.xenbus.xenwatch.thread)
          yield* host.xenbus.exists('/')
          ran.push(path)
          running--
        },
      })
    host.complete(host.xenbus.register(watch('/a')))
    host.complete(host.xenbus.register(watch('/b')))
    ran.length = 0
    const paths = ['/b/1', '/a/1', '/a/2', '/b/2', '/a/3']
    for (const path of paths) host.write(path)
    host.run()
    expect(ran).toEqual(paths)
  })

  it('XW-rfc-5: a guest has the one thread, whatever dom0 has', () => {
    const host = hostOf('rfc')
    createGuests(host, 1)
    const xenbus: Xenbus = host.guest(1).xenbus
    expect(xenbus.delivery.design).toBe('single')
    expect(
      host
        .guest(1)
        .kernel.ps()
        .map(({ name }) => name),
    ).toEqual(['xenbus', 'xenwatch'])
  })
})

describe('the toolstack', () => {
  it('XW-tool-7, XW-tool-10: waits for state 2, then runs the script; the node of the domain goes before the hypervisor destroys it', () => {
    const order: string[] = []
    const host = hostOf('rfc', {
      *hotplug(xs, action, kind, backend) {
        order.push(`${action} ${kind}: state ${yield* xs.readIfExists(`${backend}/state`)}`)
        if (action === 'add' && kind === 'vbd') yield* xs.write(`${backend}/physical-device`, 'fd:0')
        if (action === 'add') yield* xs.write(`${backend}/hotplug-status`, 'connected')
        return true
      },
    })
    createGuests(host, 1)
    expect(order).toEqual(['add vbd: state 2', 'add vif: state 2'])
    order.length = 0
    const original = host.domains.destroy.bind(host.domains)
    const { root } = insideStore(host.store).store
    expect(root).toBeDefined()
    host.domains.destroy = (domid) => {
      const left = insideStore(host.store).store.root.names()
      order.push(`destroy d${domid}, root has ${left.join(' ')}`)
      original(domid)
    }
    destroy(host, 1)
    expect(order.slice(0, 2).sort()).toEqual(['remove vbd: state 6', 'remove vif: state 6'])
    expect(order[2]).toMatch(/^destroy d1/)
    expect(host.complete('x', host.toolstack.xs.directory('/local/domain'))).toEqual(['0'])
    expect(host.complete('x', host.toolstack.xs.exists('/local/domain/0/mtwatch'))).toBe(false)
  })
})
