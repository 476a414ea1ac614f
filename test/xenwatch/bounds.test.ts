/** What one frontend can pile up: a burst of writes while its thread is stalled, or is not (XW-base-12, XW-acc-20). */

import { describe, expect, it } from 'vitest'
import { ALL, create, createGuests, hostOf, stall, texts } from './lab.js'
import { Gate, SmallLab } from './small_lab.js'

const BURST = 100_000
/** Events that arrive between two turns of the scheduler. */
const AT_ONCE = 50

describe.each(ALL)('a frontend that writes and writes, %s', (design) => {
  it('XW-acc-20: 10,000 writes of its state while its thread is stalled: at most one event of that watch is queued', () => {
    const host = hostOf(design)
    createGuests(host, 2)
    stall(host, 'netback')
    const { bus, kernel, netfront, xenbus } = host.guest(1)
    kernel.kthreadRun('rmmod', 'netif_exit', () => bus.close(netfront!))
    host.pass(0.1)
    const { otherend } = host.bus.device('backend/vif/1/0')!
    const otherendWatch = host.xenbus.watches.find(({ node }) => node === `${otherend}/state`)
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

  it('XW-base-12, XW-thr-5: a burst of 100,000 events while its thread is stalled: one queued, the rest dropped, the last state seen', () => {
    let dropped = 0
    const lab = new SmallLab(design, { observer: { dropped: () => void dropped++ } })
    for (const domid of [1, 2]) lab.up(domid)
    const gate = new Gate(lab.host)
    let seen = ''
    const watch = lab.domainWatch(1, 'state', function* () {
      yield* gate.pass()
      seen = (yield* lab.host.xenbus.readIfExists('/w/1/state')) ?? ''
    })
    Object.assign(watch, { willHandle: (each: typeof watch) => each.nrPending === 0 })
    const other = lab.domainWatch(2, 'state')
    lab.register(watch, other)
    dropped = 0
    gate.shut()
    let most = 0
    for (let sent = 0; sent < BURST; ) {
      // Different paths, for the store tells equal ones once as long as they wait.
      for (let i = 0; i < AT_ONCE; i++, sent++) lab.host.write(`/w/1/state/${i}`)
      lab.host.run()
      most = Math.max(
        most,
        watch.nrPending,
        lab.host.xenbus.xenwatch.length,
        ...lab.lists(1).map(({ length }) => length),
      )
    }
    expect(most).toBe(1)
    // One runs and one is queued.
    expect(dropped).toBe(BURST - 2)
    // The other domain is told at once, unless there is but one thread.
    lab.host.write('/w/2/state')
    lab.host.run()
    expect(lab.ran.includes('xen-mtwatch-2 /w/2/state')).toBe(design !== 'single')
    lab.host.write('/w/1/state', 'last')
    gate.open()
    expect(seen).toBe('last')
    expect(lab.ran.filter((run) => run.includes('/w/1/'))).toHaveLength(2)
    expect(watch.nrPending).toBe(0)
    expect(lab.host.xenbus.reports).toEqual([])
  })
})
