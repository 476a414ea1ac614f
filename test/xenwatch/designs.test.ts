/** The multithreaded designs on a whole host: only the stalled domain suffers, and each design's own rules. */

import { describe, expect, it } from 'vitest'
import { diskSpec, nicSpec } from '../../src/dom0/toolstack/index.js'
import { type OnDemandDelivery, XenbusWatch } from '../../src/dom0/xenbus/index.js'
import { inside } from '../../src/domain/handles.js'
import { worldOf } from '../../src/hypervisor/index.js'
import {
  ALL,
  create,
  createGuests,
  destroy,
  EventTrace,
  hostOf,
  inD,
  KINDS,
  MULTITHREADED,
  stackOf,
  stall,
  texts,
  threadsLike,
} from './lab.js'

const CASES = MULTITHREADED.flatMap((design) => KINDS.map((kind) => [design, kind] as const))

describe.each(CASES)('%s, a stall in %s', (design, kind) => {
  it('XW-acc-6, XW-acc-7, XW-acc-22: only the stalled domain suffers: others are created, destroyed, closed', () => {
    const host = hostOf(design)
    createGuests(host, 3)
    stall(host, kind)
    const stalled = texts(destroy(host, 1))
    expect(stalled[0]).toMatch(/^Domain 1:unable to remove device with path /)
    expect(stalled.at(-1)).toBe('Domain 1:libxl__devices_destroy failed')
    expect(inD(host)).toEqual(['xen-mtwatch-1'])
    expect(host.kernel.find('xen-mtwatch-1')!.stack).toEqual(stackOf(kind, 'mtwatch_thread'))

    const made = create(host, 'fourth')
    expect(texts(made)).toEqual([])
    expect(made.ns).toBeLessThan(1e9)
    host.pass(1)
    expect(host.bus.device('backend/vif/4/0')!.state).toBe(4)
    expect(host.bus.device('backend/vbd/4/51712')!.state).toBe(4)
    expect(texts(destroy(host, 2))).toEqual([])
    const { bus, netfront, kernel } = host.guest(3)
    kernel.kthreadRun('rmmod', 'netif_exit', () => bus.close(netfront!))
    host.pass(0.1)
    expect(host.bus.device('backend/vif/3/0')!.state).toBe(6)
    expect(inD(host)).toEqual(['xen-mtwatch-1'])

    host.injector.release()
    host.pass(1)
    expect(inD(host)).toEqual([])
    expect(host.domains.zombies).toEqual([])
    expect(threadsLike(host, 'xen-mtwatch').sort()).toEqual(['xen-mtwatch-3', 'xen-mtwatch-4'])
    expect(host.xenbus.reports).toEqual([])
  })
})

describe.each(MULTITHREADED)('%s', (design) => {
  it('XW-acc-25: a guest that unloads its driver stalls its own thread only', () => {
    const host = hostOf(design)
    createGuests(host, 1)
    stall(host, 'netback')
    const { bus, netfront, kernel } = host.guest(1)
    kernel.kthreadRun('rmmod', 'netif_exit', () => bus.close(netfront!))
    host.pass(1)
    expect(inD(host)).toEqual(['xen-mtwatch-1'])
    expect(host.kernel.find('xen-mtwatch-1')!.stack).toEqual(stackOf('netback', 'mtwatch_thread'))
    expect(texts(create(host, 'second'))).toEqual([])
  })

  it('XW-acc-15, XW-ds-6: a callback without domid that blocks the default thread stops new domains, and more', () => {
    const host = hostOf(design)
    createGuests(host, 1)
    const gate = host.kernel.waitQueue()
    let open = false
    const watch = new XenbusWatch({
      node: '/tool/something',
      *callback(_watch, path) {
        if (path === '/tool/something') yield* gate.until(() => open)
      },
    })
    host.complete('x', host.xenbus.register(watch))
    expect(inD(host)).toEqual(['xenwatch'])
    // A domain with a thread goes on only where events do not come by way of the default list.
    const { bus, netfront, kernel } = host.guest(1)
    kernel.kthreadRun('rmmod', 'netif_exit', () => bus.close(netfront!))
    host.pass(1)
    expect(host.bus.device('backend/vif/1/0')!.state).toBe(design === 'on-demand' ? 6 : 4)
    expect(texts(create(host, 'second'))[0]).toContain('unable to add device')
    open = true
    gate.wakeAll()
    host.pass(1)
    expect(host.bus.device('backend/vif/1/0')!.state).toBe(6)
    expect(texts(create(host, 'third'))).toEqual([])
  })

  it('XW-acc-27, XW-thr-3, XW-domid-7: events of dom0 and paths without a guest go to the default thread', () => {
    const trace = new EventTrace()
    const host = hostOf(design, { observer: trace.observer })
    createGuests(host, 1)
    trace.clear()
    const { xs } = host.toolstack
    const odd = ['vif', 'vif/x/0', 'vif/0/0', 'vif/01/0', 'vif/32752/0', 'vif/1x/0', 'vif/7/0']
    for (const path of odd) host.complete('x', xs.write(`/local/domain/0/backend/${path}`, ''))
    host.pass(1)
    expect(trace.paths('xenwatch', 'runs')).toEqual(odd.map((path) => `backend/${path}`))
    expect(host.bus.devices).toHaveLength(2)
  })

  it('XW-life-2, XW-unreg-4: destroyed guests leave no thread, watch, device or port behind', () => {
    const host = hostOf(design)
    const ports = inside(host.dom0).ports.activeEvtchns
    const watches = host.xenbus.watches.length
    createGuests(host, 4)
    expect(threadsLike(host, 'xen-mtwatch')).toHaveLength(4)
    for (const domid of [3, 1, 4, 2]) expect(texts(destroy(host, domid))).toEqual([])
    host.pass(1)
    expect(threadsLike(host, 'xen-mtwatch')).toEqual([])
    expect(host.xenbus.delivery.domainLists).toEqual([])
    expect(host.bus.devices).toEqual([])
    expect(host.xenbus.watches).toHaveLength(watches)
    expect(inside(host.dom0).ports.activeEvtchns).toBe(ports)
    expect(host.grants.mapped(1)).toBe(0)
    expect(host.xenbus.reports).toEqual([])
  })

  it('XW-acc-10, XW-life-8: the parameter off is the baseline, event for event', () => {
    const run = (xenMtwatch: boolean, named: typeof design | 'single') => {
      const trace = new EventTrace()
      const host = hostOf(named, { xenMtwatch, observer: trace.observer, toolstackMtwatch: false })
      createGuests(host, 2)
      destroy(host, 2)
      host.pass(1)
      expect(threadsLike(host, 'xen-mtwatch')).toEqual([])
      expect(host.xenbus.delivery.design).toBe('single')
      return trace.lines
    }
    expect(run(false, design)).toEqual(run(false, 'single'))
  })

  it('XW-life-8: is switched off only when no domain thread is alive', () => {
    const host = hostOf(design)
    createGuests(host, 1)
    expect(() => host.complete('x', host.xenbus.switchTo('single'))).toThrow('xen-mtwatch-1 must end first')
  })

  it('XW-life-8: can be switched off and on between guests', () => {
    const host = hostOf(design)
    createGuests(host, 1)
    destroy(host, 1)
    host.pass(1)
    host.complete('x', host.xenbus.switchTo('single'))
    expect(texts(create(host, 'a'))).toEqual([])
    host.pass(1)
    expect(threadsLike(host, 'xen-mtwatch')).toEqual([])
    expect(texts(destroy(host, 2))).toEqual([])
    host.pass(1)
    host.complete('x', host.xenbus.switchTo(design))
    expect(texts(create(host, 'b'))).toEqual([])
    host.pass(1)
    expect(threadsLike(host, 'xen-mtwatch')).toEqual(['xen-mtwatch-3'])
  })
})

describe('rfc', () => {
  it('XW-acc-8, XW-rfc-3: the thread exists before the first event of a backend', () => {
    const trace = new EventTrace()
    const host = hostOf('rfc', { observer: trace.observer })
    createGuests(host, 1)
    const { lines } = trace
    const first = lines.findIndex((line) => line.includes('runs backend/'))
    expect(lines.indexOf('xenwatch gets /local/domain/0/mtwatch/1')).toBeGreaterThan(0)
    expect(lines.indexOf('xenwatch gets /local/domain/0/mtwatch/1')).toBeLessThan(first)
    expect(lines.indexOf('xen-mtwatch-1 is up')).toBeLessThan(first)
    // The probe ran in it.
    expect(trace.paths('xen-mtwatch-1', 'runs')[0]).toBe('backend/vbd/1/51712')
    expect(trace.paths('xenwatch', 'runs').filter((path) => path.startsWith('backend/'))).toEqual([])
  })

  it('XW-acc-9, XW-trace-10: removing the node is the last write, and all removals run in the thread', () => {
    const trace = new EventTrace()
    const host = hostOf('rfc', { observer: trace.observer })
    createGuests(host, 1)
    trace.clear()
    destroy(host, 1)
    host.pass(1)
    expect(trace.paths('xenwatch', 'gets').slice(-2)).toEqual(['/local/domain/0/mtwatch/1', '/local/domain/0/mtwatch'])
    // What names no domain, and the nodes of the design itself.
    expect(trace.paths('xenwatch', 'runs')).toEqual([
      'backend/vbd',
      'backend/vif',
      'backend',
      '/local/domain/0/mtwatch/1',
      '/local/domain/0/mtwatch',
    ])
    expect(trace.lines.at(-1)).toBe('xen-mtwatch-1 has ended')
    expect(trace.paths('xen-mtwatch-1', 'runs')).toContain('/local/domain/1/device/vif/0/state')
  })

  it('XW-rfc-3: a toolstack without the patch makes no threads: then it is the baseline', () => {
    const host = hostOf('rfc', { toolstackMtwatch: false })
    createGuests(host, 1)
    expect(threadsLike(host, 'xen-mtwatch')).toEqual([])
  })
})

describe('talk', () => {
  it('XW-acc-12, XW-talk-2: a thread stays when its domain shuts down, and ends when it is destroyed', () => {
    const host = hostOf('talk')
    createGuests(host, 3)
    const domain = host.xen.domain(3)!
    worldOf(host.xen).shutdown(inside(domain), 0)
    host.pass(1)
    expect(threadsLike(host, 'xen-mtwatch-3')).toHaveLength(1)
    destroy(host, 3)
    host.pass(1)
    expect(threadsLike(host, 'xen-mtwatch-3')).toEqual([])
  })
})

describe('on-demand', () => {
  it('XW-acc-13, XW-ds-2: one thread for all devices of a domain, ended by the last one', () => {
    const host = hostOf('on-demand')
    const { toolstack } = host
    const delivery = host.xenbus.delivery as OnDemandDelivery
    createGuests(host, 1)
    host.complete('xl', toolstack.attach(1, diskSpec(1, { dev: 'xvdb' })))
    host.complete('xl', toolstack.attach(1, nicSpec(1, 1, {})))
    host.pass(1)
    expect(threadsLike(host, 'xen-mtwatch')).toEqual(['xen-mtwatch-1'])
    expect(delivery.count(1)).toBe(4)
    for (const [kind, devid, left] of [
      ['vif', 0, 3],
      ['vbd', 51712, 2],
      ['vbd', 51728, 1],
    ] as const) {
      expect(texts(host.complete('xl', toolstack.detach(1, kind, devid)))).toEqual([])
      host.pass(1)
      expect(delivery.count(1)).toBe(left)
      expect(threadsLike(host, 'xen-mtwatch')).toEqual(['xen-mtwatch-1'])
    }
    host.complete('xl', toolstack.detach(1, 'vif', 1))
    host.pass(1)
    expect(threadsLike(host, 'xen-mtwatch')).toEqual([])
  })

  it('XW-acc-14: no event of a domain watch is ever on the default list; elsewhere they come by it', () => {
    for (const design of MULTITHREADED) {
      const trace = new EventTrace()
      const host = hostOf(design, { observer: trace.observer })
      createGuests(host, 2)
      destroy(host, 2)
      const onDefault = trace.paths('xenwatch', 'gets').filter((path) => /^\/local\/domain\/[12]\//.test(path))
      expect(onDefault.length > 0).toBe(design !== 'on-demand')
    }
  })

  it('XW-ds-4, XW-thr-1: the event that makes the thread runs in the default thread, the others of the domain behind it not', () => {
    const trace = new EventTrace()
    const host = hostOf('on-demand', { observer: trace.observer })
    createGuests(host, 1)
    expect(trace.paths('xenwatch', 'runs').filter((path) => path.startsWith('backend/'))).toEqual([
      'backend/vbd/1/51712',
    ])
    const { lines } = trace
    const probeEnds = lines.indexOf('xenwatch ends backend/vbd/1/51712')
    expect(lines.findIndex((line) => line.startsWith('xen-mtwatch-1 runs'))).toBeGreaterThan(probeEnds)
  })

  it('XW-acc-28: a probe that fails gives its count back, and the thread ends', () => {
    const host = hostOf('on-demand')
    const { xs } = host.toolstack
    host.complete(
      'x',
      xs.transaction(function* (tx) {
        yield* xs.write('/local/domain/9/device/vif/0/state', 1, tx)
        const back = '/local/domain/0/backend/vif/9/0'
        yield* xs.mkdir(back, tx)
        yield* xs.write(`${back}/frontend`, '/local/domain/9/device/vif/0', tx)
        yield* xs.write(`${back}/frontend-id`, 9, tx)
        yield* xs.write(`${back}/state`, 1, tx)
      }),
    )
    host.pass(1)
    expect(threadsLike(host, 'xen-mtwatch')).toEqual([])
    expect(host.xenbus.delivery.domainLists).toEqual([])
    expect(host.complete('x', xs.read('/local/domain/0/backend/vif/9/0/state'))).toBe('6')
    expect(host.complete('x', xs.read('/local/domain/0/error/backend/vif/9/0/error'))).toContain('no handle')
    expect(host.xenbus.reports).toEqual([])
  })
})

describe.each(ALL)('%s, a create that fails half way', (design) => {
  it('leaves nothing behind, and the next one succeeds', () => {
    let fails = true
    const host = hostOf(design, {
      *hotplug(xs, action, kind, backend) {
        if (action === 'add' && kind === 'vif' && fails) return false
        if (action === 'add' && kind === 'vbd') yield* xs.write(`${backend}/physical-device`, 'fd:0')
        if (action === 'add') yield* xs.write(`${backend}/hotplug-status`, 'connected')
        return true
      },
    })
    const watches = host.xenbus.watches.length
    const outcome = create(host, 'one')
    expect(texts(outcome)).toEqual([
      'Domain 1:unable to add device with path /local/domain/0/backend/vif/1/0',
      'Domain 1:unable to add nic devices',
      'Domain 1:Non-existant domain',
      'Domain 1:Unable to destroy guest',
      'Domain 1:Destruction of domain failed',
    ])
    host.pass(1)
    expect(threadsLike(host, 'xen-mtwatch')).toEqual([])
    expect(host.bus.devices).toEqual([])
    expect(host.xenbus.watches).toHaveLength(watches)
    fails = false
    expect(texts(create(host, 'two'))).toEqual([])
  })

  it('XW-tool-1: a script that hangs is given up after 40 s', () => {
    const host = hostOf(design, {
      *hotplug(_xs, action) {
        if (action === 'add') yield* host.kernel.sleep(1e15)
        return true
      },
    })
    const outcome = create(host, 'one')
    expect(outcome.ok).toBe(false)
    expect(outcome.ns).toBe(40e9)
  })
})
