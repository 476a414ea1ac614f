/** What one frontend can pile up: a burst of writes while its thread is stalled, or is not (XW-base-12, XW-acc-20). */

import { describe, expect, it } from 'vitest'
import { ALL, create, createGuests, hostOf, stall, texts } from './lab.js'
import { SmallLab } from './small_lab.js'

describe.each(ALL)('a frontend that writes and writes, %s', (design) => {
  it('10,000 writes of its state while its thread is stalled: at most one event of that watch is queued (XW-acc-20)', () => {
    const host = hostOf(design)
    createGuests(host, 2)
    stall(host, 'netback')
    const { bus, kernel, netfront, xenbus } = host.guest(1)
    kernel.kthreadRun('rmmod', 'netif_exit', () => bus.close(netfront!))
    host.pass(0.1)
    const { otherendWatch } = host.bus.device('backend/vif/1/0')!
    let most = 0
    kernel.kthreadRun('burst', 'burst', function* () {
      for (let i = 0; i < 10_000; i++) {
        yield* xenbus.write('device/vif/0/state', 5)
        most = Math.max(most, otherendWatch!.nrPending)
      }
    })
    host.pass(1)
    expect(kernel.find('burst')).toBeUndefined()
    expect(most).toBe(1)
    const lists = [host.xenbus.xenwatch, ...host.xenbus.delivery.domainLists]
    const queued = lists.flatMap((list) => list.events.filter(({ watch }) => watch === otherendWatch))
    expect(queued).toHaveLength(1)
    if (design !== 'single') expect(texts(create(host, 'third'))).toEqual([])
    host.injector.release()
    host.pass(1)
    expect(otherendWatch!.nrPending).toBe(0)
    expect(host.bus.device('backend/vif/1/0')!.state).toBe(6)
  })

  it('100,000 writes from outside: bounded, the rest dropped, and the last state is seen (XW-base-12, XW-thr-5)', () => {
    const lab = new SmallLab(design)
    lab.up(1)
    let seen = -1
    const watch = lab.domainWatch(1, 'state', function* () {
      seen = Number(yield* lab.host.xenbus.readIfExists('/w/1/state'))
    })
    Object.assign(watch, { willHandle: (each: typeof watch) => each.nrPending === 0 })
    lab.register(watch)
    let most = 0
    const BURST = 100_000
    for (let i = 0; i < BURST; i++) {
      lab.host.write('/w/1/state', i)
      if (i % 100 === 99) {
        lab.host.run()
        most = Math.max(most, lab.lists(1)[0]?.length ?? 0, lab.host.xenbus.xenwatch.length)
      }
    }
    lab.host.run()
    expect(seen).toBe(BURST - 1)
    expect(most).toBeLessThanOrEqual(1)
    expect(lab.ran.length).toBeLessThan(BURST / 10)
    expect(watch.nrPending).toBe(0)
    expect(lab.host.xenbus.reports).toEqual([])
  })
})
