/** The bus of backends, netback and blkback: probing, states, the thread of each watch, what disconnecting waits for. */

import { describe, expect, it } from 'vitest'
import { StoreHost } from '../../src/dom0/host/store_host.js'
import type { Host } from '../../src/dom0/index.js'
import type { Task } from '../../src/dom0/kernel/index.js'
import { BackendBus, backendPathDomid } from '../../src/dom0/xenbus/index.js'
import { create, createGuests, destroy, EventTrace, hostOf, MULTITHREADED, stall, texts, threadsLike } from './lab.js'

/** A host with one guest that does nothing more by itself; the test writes its states. */
function frozen(): { host: Host; written: number[]; front(state: number | undefined): number[] } {
  const host = hostOf('single')
  createGuests(host, 1)
  host.guest(1).kernel.freeze()
  const device = host.bus.device('backend/vif/1/0')!
  const written: number[] = []
  const original = host.bus.switchState.bind(host.bus)
  host.bus.switchState = (which, state) => {
    if (which === device && which.state !== state) written.push(state)
    return original(which, state)
  }
  return {
    host,
    written,
    /** The frontend's state becomes this; the states that the backend went through. */
    front(state) {
      written.length = 0
      const { xs } = host.toolstack
      const node = '/local/domain/1/device/vif/0/state'
      host.complete('x', state === undefined ? xs.rm(node) : xs.write(node, state))
      host.pass(0.1)
      return [...written]
    },
  }
}

describe('netback', () => {
  it('XW-net-2, XW-net-3: goes towards its target one step at a time', () => {
    const { front, host } = frozen()
    expect(host.netback.vif('vif1.0')!.state).toBe(4)
    expect(front(3)).toEqual([])
    expect(front(1), 'Connected to InitWait').toEqual([5, 6, 2])
    expect(front(4), 'InitWait to Connected').toEqual([4])
    expect(front(5), 'Connected to Closing').toEqual([5])
    expect(front(4), 'Closing to Connected').toEqual([6, 2, 4])
    expect(front(6), 'Connected to Closed').toEqual([5, 6])
    expect(front(5), 'Closed to Closing').toEqual([5])
    expect(front(1), 'Closing to InitWait').toEqual([6, 2])
    expect(front(6), 'InitWait to Closed').toEqual([5, 6])
    expect(front(4), 'Closed to Connected').toEqual([2, 4])
    expect(host.bus.devices).toHaveLength(2)
    expect(front(undefined), 'gone').toEqual([5, 6])
    expect(host.bus.device('backend/vif/1/0')).toBeUndefined()
  })

  it('XW-net-2: a state that makes no sense is a fatal error, told in the store', () => {
    const { front, host } = frozen()
    expect(front(7)).toEqual([5])
    expect(host.complete('x', host.toolstack.xs.read('/local/domain/0/error/backend/vif/1/0/error'))).toBe(
      'saw state 7 at frontend',
    )
  })

  it('XW-net-2: Closed with online 0 is the end of the device', () => {
    const { front, host } = frozen()
    host.complete('x', host.toolstack.xs.write('/local/domain/0/backend/vif/1/0/online', 0))
    front(6)
    expect(host.bus.device('backend/vif/1/0')).toBeUndefined()
  })

  it('XW-net-1: probe writes features, and waits in state 2 for a frontend', () => {
    const host = hostOf('single')
    createGuests(host, 1)
    const { xs } = host.toolstack
    for (const feature of ['feature-sg', 'feature-rx-copy'])
      expect(host.complete('x', xs.read(`/local/domain/0/backend/vif/1/0/${feature}`))).toBe('1')
  })

  it('XW-net-4: tells Connected only when the hotplug script has done its part', () => {
    const host = hostOf('single', {
      *hotplug(xs, action, kind, backend) {
        if (action === 'add' && kind === 'vbd') yield* xs.write(`${backend}/physical-device`, 'fd:0')
        return true
      },
    })
    createGuests(host, 1)
    const state = () => host.complete('x', host.toolstack.xs.read('/local/domain/0/backend/vif/1/0/state'))
    expect([host.netback.vif('vif1.0')!.state, state()]).toEqual([4, '2'])
    host.complete('x', host.toolstack.xs.write('/local/domain/0/backend/vif/1/0/hotplug-status', 'connected'))
    host.pass(0.1)
    expect(state()).toBe('4')
    expect(host.xenbus.watches.some(({ node }) => node.includes('hotplug'))).toBe(false)
  })

  it('XW-net-5: disconnecting waits for the dealloc thread, which waits for packets in flight', () => {
    const host = hostOf('single')
    createGuests(host, 1)
    stall(host, 'netback')
    destroy(host, 1)
    expect(threadsLike(host, 'vif1.0')).toEqual(['vif1.0-q0-dealloc'])
    const thread = host.kernel.find('vif1.0-q0-dealloc')!
    expect([thread.state, thread.shouldStop]).toEqual(['S', true])
    host.injector.release()
    host.pass(0.1)
    expect(threadsLike(host, 'vif1.0')).toEqual([])
  })

  it('XW-stall-4: a guest that keeps a backend thread alive makes a zombie domain of itself', () => {
    const host = hostOf('on-demand')
    createGuests(host, 1)
    stall(host, 'netback')
    destroy(host, 1)
    expect(host.domains.zombies).toEqual([1])
    host.injector.release()
    host.pass(0.1)
    expect(host.domains.zombies).toEqual([])
  })
})

describe('numbers of domains', () => {
  it('XW-obs-2: zombies keep theirs; when all are in use a create fails (ENOMEM), and goes again when one is free', () => {
    const host = hostOf('on-demand', { maxDomid: 2 })
    createGuests(host, 2)
    stall(host, 'netback')
    destroy(host, 1)
    expect(() => create(host, 'one too many')).toThrow(
      /all numbers from 1 to 2 have a domain, 1 of them a zombie \(ENOMEM\)/,
    )
    host.injector.release()
    host.pass(0.1)
    expect(create(host, 'another')).toMatchObject({ ok: true, domid: 1 })
  })
})

describe('blkback', () => {
  it('XW-inj-4, XW-inj-5, XW-blk-3: the injector holds a request or a page, and its release lets all go on', () => {
    for (const kind of ['blkback', 'grant'] as const) {
      const host = hostOf('rfc')
      createGuests(host, 1)
      stall(host, kind)
      const [blkif] = host.blkback.blkifs
      expect(blkif!.inflight).toBe(kind === 'blkback' ? 1 : 0)
      expect(blkif!.persistentPages).toBe(1)
      destroy(host, 1)
      expect(threadsLike(host, '1.xvda')).toEqual(kind === 'blkback' ? ['1.xvda-0'] : [])
      host.injector.release()
      host.pass(0.1)
      expect(host.blkback.blkifs).toEqual([])
      expect(host.grants.mapped(1)).toBe(0)
    }
  })

  it('XW-blk-1, XW-blk-2: waits for physical-device before it connects, and takes only a device number', () => {
    let value = ''
    const host = hostOf('single', {
      *hotplug(xs, action, kind, backend) {
        if (action === 'add' && kind === 'vbd' && value) yield* xs.write(`${backend}/physical-device`, value)
        if (action === 'add') yield* xs.write(`${backend}/hotplug-status`, 'connected')
        return true
      },
    })
    create(host, 'one')
    host.pass(1)
    expect([host.bus.device('backend/vbd/1/51712')!.state, host.guest(1).blkfront!.state]).toEqual([2, 3])
    host.complete('x', host.toolstack.xs.write('/local/domain/0/backend/vbd/1/51712/physical-device', 'fd:1'))
    host.pass(1)
    expect([host.bus.device('backend/vbd/1/51712')!.state, host.guest(1).blkfront!.state]).toEqual([4, 4])
    value = 'nonsense'
    create(host, 'two')
    host.pass(1)
    // Closing, and the guest's end follows.
    expect(host.bus.device('backend/vbd/2/51712')!.state).toBe(6)
    expect(host.complete('x', host.toolstack.xs.read('/local/domain/0/error/backend/vbd/2/51712/error'))).toBe(
      'reading physical-device',
    )
  })

  it('XS-adv-350: fast connecting and disconnecting by the guest is harmless', () => {
    const host = hostOf('on-demand')
    createGuests(host, 1)
    const guest = host.guest(1)
    for (let i = 0; i < 20; i++) {
      guest.kernel.kthreadRun('closer', 'closer', function* () {
        const front = guest.blkfront!
        yield* guest.bus.close(front)
        yield* guest.bus.switchState(front, 6)
        yield* guest.bus.switchState(front, 1)
      })
      host.pass(i % 2 ? 0 : 0.001)
    }
    host.pass(1)
    expect(host.xenbus.reports).toEqual([])
    expect(texts(destroy(host, 1))).toEqual([])
    host.pass(1)
    expect(host.grants.mapped(1)).toBe(0)
  })
})

describe('the bus', () => {
  it('XW-be-1, XW-be-3: looks for devices that are there already, then watches; each is probed once', () => {
    const host = new StoreHost()
    const add = (id: number) => {
      host.write(`/local/domain/4/device/vif/${id}/state`, 1)
      host.write(`/local/domain/0/backend/vif/4/${id}/frontend`, `/local/domain/4/device/vif/${id}`)
      host.write(`/local/domain/0/backend/vif/4/${id}/frontend-id`, 4)
      host.write(`/local/domain/0/backend/vif/4/${id}/state`, 1)
    }
    add(0)
    add(1)
    const probed: string[] = []
    const bus = new BackendBus(host.xenbus)
    const log = function* (what: string): Task {
      probed.push(what)
      yield* host.xenbus.exists('/')
    }
    bus.addDriver({
      type: 'vif',
      busFrames: 'all',
      probe: ({ name }) => log(`probe ${name}`),
      otherendChanged: ({ name }, state) => log(`${name} sees ${state}`),
      remove: ({ name }) => log(`remove ${name}`),
    })
    host.complete(bus.start())
    expect(probed.filter((what) => what.startsWith('probe'))).toEqual(['probe vif-4-0', 'probe vif-4-1'])
    add(2)
    host.run()
    expect(probed.filter((what) => what.startsWith('probe')).at(-1)).toBe('probe vif-4-2')
    expect(probed.filter((what) => what.endsWith('sees 1'))).toHaveLength(3)
    host.rm('/local/domain/0/backend/vif/4')
    host.run()
    expect(probed.filter((what) => what.startsWith('remove'))).toHaveLength(3)
    expect(host.xenbus.watches.map(({ node }) => node)).toEqual(['backend'])
  })

  it('XW-be-2, XW-be-3: ignores paths that are too short, devices that are not in state 1, and those without frontend', () => {
    const host = hostOf('single')
    const { xs } = host.toolstack
    const write = (path: string, value: string | number) => {
      host.complete('x', xs.write(`/local/domain/0/backend/${path}`, value))
      host.pass(0.1)
    }
    write('vif/5', '')
    write('vif/5/0/state', 2)
    write('vif/5/0/handle', 0)
    write('vif/6/0/state', 1)
    write('vif/6/0/frontend', '/local/domain/6/device/vif/0')
    write('nothing/6/0/state', 1)
    expect(host.bus.devices).toEqual([])
    expect(host.xenbus.reports).toEqual([])
  })

  it('XW-be-2, XW-be-6: a node that is gone takes every device at or below it along', () => {
    const host = hostOf('on-demand')
    createGuests(host, 3)
    host.complete('x', host.toolstack.xs.rm('/local/domain/0/backend/vif/2'))
    host.pass(1)
    expect(host.bus.devices.map(({ name }) => name)).toEqual([
      'vbd-1-51712',
      'vif-1-0',
      'vbd-2-51712',
      'vbd-3-51712',
      'vif-3-0',
    ])
    expect(host.netback.vifs.map(({ name }) => name)).toEqual(['vif1.0', 'vif3.0'])
    // What was deleted is not brought back by a last state (XW-be-5).
    expect(host.complete('x', host.toolstack.xs.exists('/local/domain/0/backend/vif/2'))).toBe(false)
  })

  it('XW-be-4: listens to no frontend while the system goes down', () => {
    const host = hostOf('single')
    createGuests(host, 1)
    host.bus.goDown()
    const { bus, netfront, kernel } = host.guest(1)
    kernel.kthreadRun('rmmod', 'exit', () => bus.close(netfront!))
    host.pass(1)
    expect(host.bus.device('backend/vif/1/0')!.state).toBe(4)
  })

  it('XW-domid-1, XW-domid-7: the domid of a path is its third component, of a guest, in decimal', () => {
    const domids = [
      'backend',
      'backend/vif',
      'backend/vif/7',
      'backend/vif/7/0/state',
      'backend/vif/x',
      'backend/vif/0',
    ]
    expect(domids.map(backendPathDomid)).toEqual([0, 0, 7, 7, 0, 0])
    expect(
      ['backend/vif/07', 'backend/vif/-1', 'backend/vif/32751', 'backend/vif/32752'].map(backendPathDomid),
    ).toEqual([0, 0, 32751, 0])
  })

  it.each(MULTITHREADED)(
    'XW-domid-2 to XW-domid-6, XW-domid-8, XW-rfc-1: %s: device watches belong to the other end, all else to the default thread',
    (design) => {
      const host = hostOf(design)
      createGuests(host, 2)
      const { watches } = host.xenbus
      for (const watch of watches) {
        const domid = Number(/\/(?:domain|vbd|vif)\/([12])\//.exec(watch.node)?.[1] ?? 0)
        expect(watch.getOwner?.(watch) ?? 0, watch.node).toBe(domid)
        if (watch.node !== 'backend') expect(watch.getDomid?.(watch, watch.node, '') ?? 0, watch.node).toBe(domid)
      }
      expect(watches.length).toBeGreaterThan(6)
    },
  )

  it.each(MULTITHREADED)(
    'XW-thr-2, XW-thr-4, XW-ds-1: %s: the callback of one watch may run in several threads at once',
    (design) => {
      const trace = new EventTrace()
      const host = hostOf(design, { observer: trace.observer })
      createGuests(host, 3)
      stall(host, 'netback')
      destroy(host, 1)
      // xen-mtwatch-1 is in a callback; be_watch's runs in others.
      trace.clear()
      expect(texts(create(host, 'four'))).toEqual([])
      const runners = new Set(
        trace.lines.filter((line) => line.includes(' runs backend/')).map((line) => line.split(' ')[0]),
      )
      expect([...runners]).toContain('xen-mtwatch-4')
      const lists = host.xenbus.delivery.domainLists
      expect(new Set(lists.map(({ mutex }) => mutex)).size).toBe(lists.length)
      expect(lists.find(({ domid }) => domid === 1)!.mutex.owner!.name).toBe('xen-mtwatch-1')
    },
  )
})
