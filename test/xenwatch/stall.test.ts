/** The failure of the RFC of April 2018 with one thread: each of its three stalls, whom it hits, and that it heals at once. */

import { describe, expect, it } from 'vitest'
import { create, createGuests, destroy, EventTrace, hostOf, inD, KINDS, list, stackOf, stall, texts } from './lab.js'

const BACKEND = '/local/domain/0/backend'
const REPORT = [
  'libxl: error: libxl_device.c:1080:device_backend_callback: Domain 2:unable to add device with path /local/domain/0/backend/vbd/2/51712',
  'libxl: error: libxl_create.c:1278:domcreate_launch_dm: Domain 2:unable to add disk devices',
  'libxl: error: libxl_device.c:1080:device_backend_callback: Domain 2:unable to remove device with path /local/domain/0/backend/vbd/2/51712',
  'libxl: error: libxl_domain.c:1073:devices_destroy_cb: Domain 2:libxl__devices_destroy failed',
  'libxl: error: libxl_domain.c:1000:libxl__destroy_domid: Domain 2:Non-existant domain',
  'libxl: error: libxl_domain.c:959:domain_destroy_callback: Domain 2:Unable to destroy guest',
  'libxl: error: libxl_domain.c:886:domain_destroy_cb: Domain 2:Destruction of domain failed',
]

describe.each(KINDS)('one thread, a stall in %s', (kind) => {
  const device = kind === 'netback' ? `${BACKEND}/vif/1/0` : `${BACKEND}/vbd/1/51712`

  it('XW-acc-1, XW-acc-22, XW-obs-1, XW-obs-2: destroying the guest fails after 10 s, and a zombie stays', () => {
    const host = hostOf('single')
    createGuests(host, 1)
    stall(host, kind)
    const outcome = destroy(host, 1)
    expect(outcome.ns).toBeGreaterThanOrEqual(10e9)
    expect(outcome.ns).toBeLessThan(11e9)
    const said = texts(outcome)
    expect(said[0]).toBe(`Domain 1:unable to remove device with path ${device}`)
    expect(said.at(-1)).toBe('Domain 1:libxl__devices_destroy failed')
    // Behind a stalled disk the guest's own interface waits in the same list.
    if (kind === 'netback') expect(said).toHaveLength(2)
    else expect(said[1]).toBe(`Domain 1:unable to remove device with path ${BACKEND}/vif/1/0`)
    expect(list(host)[2]).toMatch(/^\(null\) +1 +0 +1 +--p--d$/)
  })

  it('XW-acc-3, XW-stall-1 to XW-stall-3, XW-stall-5, XW-obs-4: xenwatch is in D with the stack on record', () => {
    const host = hostOf('single')
    createGuests(host, 1)
    stall(host, kind)
    destroy(host, 1)
    expect(inD(host)).toEqual(['xenwatch'])
    expect(host.kernel.find('xenwatch')!.stack).toEqual(stackOf(kind, 'xenwatch_thread'))
  })

  it('XW-acc-2, XW-obs-3, XW-trace-8: creating another guest fails with the lines of the report, after 20 s', () => {
    const host = hostOf('single')
    createGuests(host, 1)
    stall(host, kind)
    destroy(host, 1)
    const outcome = create(host, 'second')
    expect(outcome.errors.map(({ line }) => line)).toEqual(REPORT)
    expect(outcome.errors.map(({ ns }) => Math.round((ns - outcome.errors[0]!.ns) / 1e9))).toEqual([
      0, 0, 10, 10, 10, 10, 10,
    ])
    expect(outcome.ns).toBeGreaterThanOrEqual(20e9)
    expect(host.xen.domain(2)).toBeUndefined()
    expect(list(host)).toHaveLength(3)
  })

  it('XW-acc-4, XW-acc-26, XW-trace-9: after the release all queued events run in order of arrival, and all is well', () => {
    const trace = new EventTrace()
    const host = hostOf('single', { observer: trace.observer })
    createGuests(host, 1)
    stall(host, kind)
    destroy(host, 1)
    create(host, 'second')
    trace.clear()
    const waiting = host.xenbus.xenwatch.events.map(({ path }) => path)
    expect(waiting.length).toBeGreaterThan(20)
    host.injector.release()
    host.pass(1)
    expect(trace.paths('xenwatch', 'runs').filter((path) => waiting.includes(path))).toEqual(
      waiting.filter((path) => trace.paths('xenwatch', 'runs').includes(path)),
    )
    expect(trace.paths('xenwatch', 'runs').length + trace.paths('xenwatch', 'loses').length).toBeGreaterThanOrEqual(
      waiting.length,
    )
    expect(inD(host)).toEqual([])
    expect(host.bus.devices).toEqual([])
    expect(list(host)).toHaveLength(2)
    const again = create(host, 'second')
    expect(texts(again)).toEqual([])
    expect(host.xenbus.reports).toEqual([])
  })
})

describe('one thread, a stolen packet', () => {
  it('XW-inj-1 to XW-inj-3, XW-inj-6: the injector takes exactly one packet, and the statistics lack one', () => {
    const host = hostOf('single')
    createGuests(host, 1)
    const { netfront } = host.guest(1)
    for (let i = 0; i < 100; i++) {
      netfront!.send()
      host.pass(0.001)
    }
    host.injector.vifname = 'vif1.0\n'
    host.injector.eavesdrop = '1'
    for (let i = 0; i < 20; i++) {
      netfront!.send()
      host.pass(0.001)
    }
    const vif = host.netback.vif('vif1.0')!
    expect(vif.stats).toEqual({ tx_zerocopy_sent: 120, tx_zerocopy_success: 0, tx_zerocopy_fail: 119 })
    expect(vif.inflightPackets).toBe(1)
    expect(host.injector.log).toHaveLength(1)
    expect(host.injector.log[0]).toMatch(/^vif1\.0: packet intercepted: domid=1 gref=\d+$/)
    host.injector.eavesdrop = '0'
    host.pass(0.001)
    expect(host.netback.vif('vif1.0')!.stats).toEqual({
      tx_zerocopy_sent: 120,
      tx_zerocopy_success: 1,
      tx_zerocopy_fail: 119,
    })
    expect(netfront!.unanswered).toBe(0)
  })

  it('XW-inj-6: an interface whose name only contains the written text is left alone', () => {
    const host = hostOf('single')
    createGuests(host, 1)
    host.injector.vifname = 'vif1'
    host.injector.eavesdrop = '1'
    host.guest(1).netfront!.send()
    host.pass(0.1)
    expect(host.injector.holding).toBe(false)
  })

  it('XW-acc-25, XW-trace-4: a guest that unloads its driver stalls xenwatch as well, undestroyed', () => {
    const host = hostOf('single')
    createGuests(host, 2)
    stall(host, 'netback')
    const { bus, netfront, kernel } = host.guest(1)
    kernel.kthreadRun('rmmod', 'netif_exit', () => bus.close(netfront!))
    host.pass(1)
    expect(host.kernel.find('xenwatch')!.stack).toEqual(stackOf('netback', 'xenwatch_thread'))
    expect(host.xen.domain(1)!.dying).toBe('alive')
    expect(texts(create(host, 'third'))[0]).toContain('unable to add device')
  })

  it('XW-acc-5, XW-base-8, XW-base-13: whoever unregisters a watch waits until the release', () => {
    const host = hostOf('single')
    createGuests(host, 2)
    const watch = host.xenbus.watches.find(({ node }) => node.includes('/2/'))
    stall(host, 'netback')
    destroy(host, 1)
    const job = host.start('another', host.xenbus.unregister(watch!))
    host.pass(100)
    expect(job.done).toBe(false)
    expect(job.thread.state).toBe('D')
    expect(job.thread.waiting!.what).toBe('xenwatch_mutex')
    host.injector.release()
    host.pass(1)
    expect(job.done).toBe(true)
  })
})
