/** The reference traces: what the store, the bus and the toolstack see of a guest's life, in order. */

import { describe, expect, it } from 'vitest'
import type { Host } from '../../src/dom0/index.js'
import { differences, inventory } from '../../src/dom0/story/inventory.js'
import { XsHandle } from '../../src/dom0/toolstack/index.js'
import { InProcessTransport } from '../../src/xenstore/index.js'
import { create, createGuests, destroy, EventTrace, hostOf, stall, texts } from './lab.js'

/** Everything that changes in the store, by a watch on its root. */
function watchAll(host: Host): string[] {
  const seen: string[] = []
  const xs = new XsHandle(host.kernel, new InProcessTransport(host.store))
  host.complete(
    'xenstore-watch',
    xs.watch('/', (path) => void seen.push(path)),
  )
  seen.length = 0
  return seen
}

const VBD_BACK = [
  'frontend',
  'frontend-id',
  'online',
  'removable',
  'bootable',
  'state',
  'dev',
  'type',
  'mode',
  'device-type',
  'params',
  'script',
  'discard-enable',
]

describe('a guest that comes and goes', () => {
  it('XW-tool-2 to XW-tool-6, XS-tree-2, XS-tree-4: nodes in the order of libxl: transaction 1, transaction 2, disks, interfaces', () => {
    const host = hostOf('rfc')
    const seen = watchAll(host)
    create(host, 'one')
    const first = (path: string) => seen.indexOf(path)
    const order = [
      '/local/domain/0/mtwatch/1',
      '/local/domain/1',
      '/libxl/1',
      '/libxl/1/device',
      '/local/domain/1/vm',
      '/local/domain/1/name',
      '/local/domain/1/cpu',
      '/local/domain/1/memory',
      '/local/domain/1/device',
      '/local/domain/1/control',
      '/local/domain/1/control/shutdown',
      '/local/domain/1/control/feature-poweroff',
      '/local/domain/1/device/suspend/event-channel',
      '/local/domain/1/data',
      '/local/domain/1/attr',
      '/libxl/1/type',
      '/local/domain/1/memory/static-max',
      '/local/domain/1/domid',
      '/local/domain/1/store/port',
      '/local/domain/1/store/ring-ref',
      '/local/domain/1/cpu/0/availability',
      '/libxl/1/device/vbd/51712/frontend',
      '/local/domain/1/device/vbd/51712',
      '/local/domain/1/device/vbd/51712/state',
      '/local/domain/0/backend/vbd/1/51712',
      '/local/domain/0/backend/vbd/1/51712/frontend',
      '/libxl/1/device/vbd/51712/params',
      '/local/domain/0/backend/vbd/1/51712/physical-device',
      '/libxl/1/device/vif/0/frontend',
      '/local/domain/0/backend/vif/1/0',
      '/local/domain/0/backend/vif/1/0/handle',
    ]
    for (const path of order) expect(first(path), path).toBeGreaterThanOrEqual(0)
    expect(order.map(first)).toEqual(order.map(first).sort((a, b) => a - b))
  })

  it('XW-tool-2, XW-tool-5, XS-tree-1: permissions: the guest reads its own, owns its frontends, reads its backends', () => {
    const host = hostOf('rfc')
    create(host, 'one')
    const perms = (path: string) => {
      const { xs } = host.toolstack
      // GET_PERMS is 3.
      return String.fromCharCode(...host.complete('x', xs.request(3, `${path}\0`)))
        .split('\0')
        .filter(Boolean)
    }
    expect(perms('/local/domain/1')).toEqual(['n0', 'r1'])
    expect(perms('/local/domain/1/control')).toEqual(['n0', 'r1'])
    expect(perms('/local/domain/1/data')).toEqual(['n1'])
    expect(perms('/local/domain/1/device/vif/0')).toEqual(['n1', 'r0'])
    expect(perms('/local/domain/0/backend/vif/1/0')).toEqual(['n0', 'r1'])
    expect(perms('/libxl/1')).toEqual(['n0'])
    expect(perms('/local/domain/0/mtwatch/1')).toEqual(['n0'])
  })

  it('XW-trace-1: the bus gets the device directory, one event for each entry in the order written, and none for parents', () => {
    const trace = new EventTrace()
    const host = hostOf('single', { observer: trace.observer })
    trace.clear()
    create(host, 'one')
    const vbd = trace.paths('xenwatch', 'gets').filter((path) => path.startsWith('backend/vbd'))
    const device = 'backend/vbd/1/51712'
    expect(vbd.slice(0, VBD_BACK.length + 1)).toEqual([device, ...VBD_BACK.map((name) => `${device}/${name}`)])
  })

  it('XW-trace-2, XW-be-3: the probe sets its watch, writes features and state 2, and watches the frontend', () => {
    const trace = new EventTrace()
    const host = hostOf('single', { observer: trace.observer })
    trace.clear()
    create(host, 'one')
    const device = 'backend/vbd/1/51712'
    const after = trace.paths('xenwatch', 'gets').slice(VBD_BACK.length + 1, VBD_BACK.length + 6)
    expect(after).toEqual([
      `${device}/physical-device`,
      `${device}/feature-max-indirect-segments`,
      `${device}/max-ring-page-order`,
      `${device}/state`,
      '/local/domain/1/device/vbd/51712/state',
    ])
  })

  it('XW-trace-3, XW-net-4, XW-blk-2: connects: disk opened by physical-device, ring mapped at 3, details and 4', () => {
    const host = hostOf('single')
    const seen = watchAll(host)
    create(host, 'one')
    host.pass(1)
    const back = '/local/domain/0/backend/vbd/1/51712'
    const front = '/local/domain/1/device/vbd/51712'
    const order = [
      `${back}/physical-device`,
      `${front}/ring-ref`,
      `${front}/event-channel`,
      `${back}/sectors`,
      `${back}/info`,
      `${back}/sector-size`,
    ]
    for (const path of order) expect(seen, path).toContain(path)
    expect(order.map((path) => seen.indexOf(path))).toEqual(
      order.map((path) => seen.indexOf(path)).sort((a, b) => a - b),
    )
    // 1 by the toolstack, 2 and 4 by the backend; 1 by the toolstack, 3 and 4 by the frontend.
    expect(seen.filter((path) => path === `${back}/state`)).toHaveLength(3)
    expect(seen.filter((path) => path === `${front}/state`)).toHaveLength(3)
    const guest = host.guest(1)
    expect([guest.blkfront!.state, guest.netfront!.state, guest.blkfront!.sectors]).toEqual([4, 4, 2048])
    expect(host.netback.vif('vif1.0')!.state).toBe(4)
  })

  it('XW-trace-5, XW-tool-8: a forced destroy: the frontend is gone, then state, then online', () => {
    const host = hostOf('single')
    createGuests(host, 1)
    const seen = watchAll(host)
    destroy(host, 1)
    const back = '/local/domain/0/backend/vbd/1/51712'
    const front = '/local/domain/1/device/vbd/51712'
    const relevant = seen.filter((path) => path.startsWith(back) || path === front)
    expect(relevant.slice(0, 3)).toEqual([front, `${back}/state`, `${back}/online`])
  })

  it('XW-trace-6, XW-trace-7: after a time-out the last device takes the empty parents with it', () => {
    const trace = new EventTrace()
    const host = hostOf('single', { observer: trace.observer })
    host.complete('xl', host.toolstack.create({ name: 'one', nics: [{}] }))
    host.pass(1)
    stall(host, 'netback')
    trace.clear()
    destroy(host, 1)
    expect(trace.paths('xenwatch', 'gets').slice(-4)).toEqual([
      'backend/vif/1/0',
      'backend/vif/1',
      'backend/vif',
      'backend',
    ])
    expect(host.bus.devices.map(({ name }) => name)).toEqual(['vif-1-0'])
    host.injector.release()
    host.pass(1)
    expect(host.bus.devices).toEqual([])
    expect(host.xenbus.reports).toEqual([])
    // The watch survived.
    expect(texts(create(host, 'two'))).toEqual([])
  })

  it('XW-acc-24: nothing of it remains: node, device, port, grant, watch or thread', () => {
    const host = hostOf('single')
    createGuests(host, 1)
    const before = inventory(host)
    expect(texts(create(host, 'two'))).toEqual([])
    host.pass(1)
    expect(differences(before, inventory(host)).length).toBeGreaterThan(20)
    expect(texts(destroy(host, 2))).toEqual([])
    host.pass(1)
    expect(differences(before, inventory(host))).toEqual([])
    expect(host.grants.mapped(2)).toBe(0)
    expect(host.xen.domain(2)).toBeUndefined()
  })

  it('XW-trace-4: a guest that closes and opens again: the device stays, and leads back to 2', () => {
    const host = hostOf('on-demand')
    createGuests(host, 1)
    const guest = host.guest(1)
    guest.kernel.kthreadRun('rmmod', 'exit', () => guest.bus.close(guest.netfront!))
    host.pass(1)
    const device = host.bus.device('backend/vif/1/0')!
    expect([device.state, guest.netfront!.state]).toEqual([6, 6])
    guest.kernel.kthreadRun('modprobe', 'init', () => guest.bus.switchState(guest.netfront!, 1))
    host.pass(1)
    expect(host.bus.device('backend/vif/1/0')).toBe(device)
    expect(device.state).toBe(4)
    guest.netfront!.send()
    host.pass(1)
    expect(guest.netfront!.unanswered).toBe(0)
  })

  it('XW-tool-9: a detach that the guest does not follow is repeated by force', () => {
    const host = hostOf('single')
    createGuests(host, 1)
    const guest = host.guest(1)
    guest.kernel.freeze()
    const outcome = host.complete('xl', host.toolstack.detach(1, 'vif', 0))
    expect(texts(outcome)).toEqual([])
    expect(outcome.ns).toBeGreaterThanOrEqual(10e9)
    expect(outcome.ns).toBeLessThan(11e9)
    expect(host.bus.device('backend/vif/1/0')).toBeUndefined()
  })

  it('XW-tool-11: destroying what does not exist says so', () => {
    expect(texts(destroy(hostOf('single'), 9))).toEqual([
      'Domain 9:Non-existant domain',
      'Domain 9:Unable to destroy guest',
      'Domain 9:Destruction of domain failed',
    ])
  })
})
