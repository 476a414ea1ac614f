/** Domain threads: made, told to go while busy, their domid used again, ending themselves; counts and mistakes. */

import { describe, expect, it } from 'vitest'
import { MTWATCH_NODE, type OnDemandDelivery } from '../../src/dom0/xenbus/index.js'
import { MULTITHREADED } from './lab.js'
import { Gate, SmallLab } from './small_lab.js'

/** Domain 1 with a stalled callback and three more events queued. */
function stalledWithThree(design: (typeof MULTITHREADED)[number]) {
  const lab = new SmallLab(design)
  lab.up(1)
  const gate = new Gate(lab.host)
  const shared = lab.sharedWatch(() => gate.pass())
  lab.register(shared)
  gate.shut()
  for (const name of ['stalled', 'a', 'b', 'c']) lab.host.write(`/shared/1/${name}`)
  lab.host.run()
  return { lab, gate, shared }
}

describe.each(MULTITHREADED)('domain threads, %s', (design) => {
  it('XW-acc-16, XW-life-2, XW-life-3: a domain destroyed while its thread is stalled: DOWN, busy, and what is queued still runs', () => {
    const { lab, gate, shared } = stalledWithThree(design)
    lab.down(1)
    expect(lab.lists(1).map(({ state, length, current }) => [state, length, current?.path])).toEqual([
      ['down', 3, '/shared/1/stalled'],
    ])
    lab.host.write('/shared/1/late')
    lab.host.run()
    // With on-demand it has no live thread now; the other designs keep it from the default thread.
    const own = ['stalled', 'a', 'b', 'c'].map((name) => `xen-mtwatch-1 /shared/1/${name}`)
    const expected =
      design === 'on-demand'
        ? [own[0]!, 'xenwatch /shared/1/late', ...own.slice(1)]
        : [...own, 'xen-mtwatch-1 /shared/1/late']
    expect(lab.ran).toEqual(design === 'on-demand' ? expected.slice(0, 2) : expected.slice(0, 1))
    gate.open()
    expect(lab.ran).toEqual(expected)
    expect(lab.lists(1)).toEqual([])
    expect(lab.host.kernel.find('xen-mtwatch-1')).toBeUndefined()
    expect(shared.nrPending).toBe(0)
    expect(lab.host.xenbus.reports).toEqual([])
  })

  it('XW-acc-17, XW-life-1, XW-life-5: its domid used again: a second thread, and nothing of the new guest goes by the old list', () => {
    const { lab, gate } = stalledWithThree(design)
    lab.down(1)
    lab.up(1)
    const [old, fresh] = lab.lists(1)
    expect([old!.state, fresh!.state, old!.thread === fresh!.thread]).toEqual(['down', 'up', false])
    expect(lab.host.kernel.threads.filter(({ name }) => name === 'xen-mtwatch-1')).toHaveLength(2)
    lab.trace.clear()
    lab.host.write('/shared/1/new')
    lab.host.run()
    expect(fresh!.current!.path).toBe('/shared/1/new')
    expect(old!.length).toBe(3)
    gate.open()
    expect(lab.lists(1)).toEqual([fresh])
    expect(lab.ran.map((run) => run.split('/').at(-1))).toEqual(
      ['stalled', 'new', 'a', 'b', 'c'].sort(inOrderOf(lab.ran)),
    )
    lab.down(1)
    expect(lab.lists(1)).toEqual([])
    expect(lab.host.xenbus.reports).toEqual([])
  })

  it('XW-life-5: a third one while two drain: each ends with its own events', () => {
    const { lab, gate } = stalledWithThree(design)
    for (let i = 0; i < 2; i++) {
      lab.down(1)
      lab.up(1)
      lab.host.write(`/shared/1/again${i}`)
      lab.host.run()
    }
    expect(lab.lists(1).map(({ state }) => state)).toEqual(['down', 'down', 'up'])
    gate.open()
    expect(lab.lists(1).map(({ state }) => state)).toEqual(['up'])
    expect(lab.ran).toHaveLength(6)
  })

  it('XW-life-4: a thread that ends itself does not wait for itself', () => {
    const lab = new SmallLab(design)
    lab.up(1)
    let endedInside = false
    const watch = lab.domainWatch(1, 'a', function* (path) {
      if (!path.endsWith('/last')) return
      const { xenbus } = lab.host
      if (design === 'on-demand') xenbus.delivery.put(lab.lists(1)[0]!)
      if (design === 'rfc') yield* xenbus.rm(`${MTWATCH_NODE}/1`)
      if (design === 'talk') {
        yield* xenbus.rm('/local/domain/1')
        lab.host.release(1)
      }
      endedInside = true
    })
    lab.register(watch)
    lab.host.write('/w/1/a/last')
    lab.host.write('/w/1/a/behind')
    lab.host.run()
    expect(endedInside).toBe(true)
    expect(lab.ran).toEqual(['xen-mtwatch-1 /w/1/a/last', 'xen-mtwatch-1 /w/1/a/behind'])
    expect(lab.lists(1)).toEqual([])
  })

  it('XW-rfc-4, XW-ds-2: making a thread twice makes one', () => {
    const lab = new SmallLab(design)
    lab.up(1)
    lab.up(1)
    expect(lab.lists(1)).toHaveLength(1)
    lab.down(1)
    if (design === 'on-demand') {
      expect(lab.lists(1)).toHaveLength(1)
      lab.host.xenbus.delivery.put(lab.lists(1)[0]!)
      lab.host.run()
    }
    expect(lab.lists(1)).toEqual([])
  })

  it('XW-thr-1: each event of a domain runs in its thread, in order of arrival, one at a time', () => {
    const lab = new SmallLab(design)
    let running = 0
    const watch = lab.domainWatch(3, 'a', function* () {
      expect(++running).toBe(1)
      yield* lab.host.xenbus.exists('/w')
      running--
    })
    lab.up(3)
    lab.register(watch)
    for (let i = 0; i < 50; i++) {
      lab.host.write(`/w/3/a/${i}`)
      if (i % 7 === 0) lab.host.run()
    }
    lab.host.run()
    expect(lab.ran).toEqual(Array.from({ length: 50 }, (_, i) => `xen-mtwatch-3 /w/3/a/${i}`))
  })

  it('XW-life-7, XW-acc-23: suspend and resume leave threads as they are, and every watch fires once', () => {
    const lab = new SmallLab(design)
    lab.up(1)
    const watches = [lab.domainWatch(1, 'a'), lab.plainWatch('p')]
    lab.register(...watches)
    const [thread] = lab.lists(1)
    lab.host.complete(
      (function* () {
        yield* lab.host.xenbus.suspend()
        yield* lab.host.xenbus.resume(lab.host.newRing())
      })(),
    )
    expect(lab.lists(1)).toEqual([thread])
    expect(lab.ran.sort()).toEqual(['xen-mtwatch-1 /w/1/a', 'xenwatch /plain/p'])
  })
})

/** Old and new thread run side by side: compares by the order in which they did. */
const inOrderOf = (ran: readonly string[]) => {
  const names = ran.map((run) => run.split('/').at(-1)!)
  return (a: string, b: string) => names.indexOf(a) - names.indexOf(b)
}

describe('rfc', () => {
  it('XW-rfc-4: nodes that were there before the kernel, and one event at the parent for several, are settled', () => {
    const lab = new SmallLab('rfc')
    for (const domid of [3, 4, 5]) lab.host.write(`${MTWATCH_NODE}/${domid}`)
    lab.host.run()
    lab.host.rm(MTWATCH_NODE)
    lab.host.run()
    expect(lab.host.xenbus.delivery.domainLists).toEqual([])
    lab.host.write(`${MTWATCH_NODE}/7`)
    lab.host.write(MTWATCH_NODE, 'touched')
    lab.host.write(`${MTWATCH_NODE}/not-a-domid`)
    lab.host.write(`${MTWATCH_NODE}/0`)
    lab.host.run()
    expect(lab.host.xenbus.delivery.domainLists.map(({ domid }) => domid)).toEqual([7])
    expect(lab.host.xenbus.reports).toEqual([])
  })

  it('XW-trace-10: a node that was removed and made before the event is looked at keeps its thread', () => {
    const lab = new SmallLab('rfc')
    lab.up(2)
    const [list] = lab.lists(2)
    lab.host.rm(`${MTWATCH_NODE}/2`)
    lab.host.write(`${MTWATCH_NODE}/2`)
    lab.host.run()
    expect(lab.lists(2)).toEqual([list])
  })

  it('XW-rfc-4: a node that is missing when its event is looked at makes nothing', () => {
    const lab = new SmallLab('rfc')
    lab.host.write(`${MTWATCH_NODE}/2`)
    lab.host.rm(`${MTWATCH_NODE}/2`)
    lab.host.run()
    expect(lab.host.xenbus.delivery.domainLists).toEqual([])
  })
})

describe('talk', () => {
  it('XW-acc-11, XW-talk-1: two domains introduced before the listing: one event makes both threads', () => {
    const lab = new SmallLab('talk')
    const gate = new Gate(lab.host)
    const plain = lab.plainWatch('p', () => gate.pass())
    lab.register(plain)
    gate.shut()
    lab.host.write('/plain/p')
    lab.host.run()
    for (const domid of [3, 4]) {
      lab.host.write(`/local/domain/${domid}`)
      lab.host.introduce(domid)
    }
    lab.host.run()
    gate.open()
    const up = lab.trace.lines.filter((line) => line.endsWith('is up'))
    expect(up).toEqual(['xen-mtwatch-3 is up', 'xen-mtwatch-4 is up'])
    const first = lab.trace.lines.indexOf('xenwatch ends @introduceDomain')
    expect(lab.trace.lines.indexOf('xen-mtwatch-4 is up')).toBeLessThan(first)
  })

  it('XW-talk-3, XS-wire-12: a listing of more than 4096 bytes is read in parts', () => {
    const lab = new SmallLab('talk')
    for (let domid = 1; domid <= 1500; domid++) lab.host.write(`/local/domain/${domid}`)
    lab.host.introduce(1500)
    lab.host.run()
    expect(lab.host.xenbus.delivery.domainLists).toHaveLength(1500)
    lab.host.rm('/local/domain/777')
    lab.host.release(1500)
    lab.host.run()
    expect(lab.lists(777)).toEqual([])
    expect(lab.host.xenbus.delivery.domainLists).toHaveLength(1499)
  })
})

describe('on-demand', () => {
  it('XW-life-6: put() below zero is reported, and harms nobody', () => {
    const lab = new SmallLab('on-demand')
    const delivery = lab.host.xenbus.delivery as OnDemandDelivery
    const reference = delivery.get(5)
    delivery.get(5)
    delivery.put(reference)
    expect(delivery.count(5)).toBe(1)
    delivery.put(reference)
    delivery.put(reference)
    delivery.put(undefined)
    lab.host.run()
    expect(lab.host.xenbus.reports).toEqual([
      'put() of xen-mtwatch-5 without a get()',
      'put() of no thread without a get()',
    ])
    expect(lab.lists(5)).toEqual([])
    // A domid whose object is DOWN gets a new one.
    const again = delivery.get(5)
    expect(again).not.toBe(reference)
    expect(delivery.count(5)).toBe(1)
  })

  it('XW-ds-3: a subscriber that chooses the default thread gets it', () => {
    const lab = new SmallLab('on-demand')
    lab.up(1)
    const watch = lab.domainWatch(1, 'a')
    lab.host.complete(lab.host.xenbus.register(watch, 'default'))
    lab.host.write('/w/1/a/x')
    lab.host.run()
    expect(lab.ran).toEqual(['xenwatch /w/1/a', 'xenwatch /w/1/a/x'])
  })

  it('XW-ds-4, XW-thr-1: events that are on the default list when the thread is made move to it, behind the callback that made it', () => {
    const lab = new SmallLab('on-demand')
    const { xenbus } = lab.host
    const gate = new Gate(lab.host)
    const shared = lab.sharedWatch(function* (path) {
      if (path !== '/shared/1/make') return
      xenbus.delivery.get(1)
      yield* gate.pass()
    })
    lab.register(shared)
    gate.shut()
    for (const path of ['1/make', '1/a', '2/b', '1/c']) lab.host.write(`/shared/${path}`)
    lab.host.run()
    lab.host.write('/shared/1/d')
    lab.host.run()
    expect(lab.ran).toEqual(['xenwatch /shared/1/make'])
    expect(lab.lists(1)[0]!.events.map(({ path }) => path)).toEqual(['/shared/1/a', '/shared/1/c', '/shared/1/d'])
    gate.open()
    expect(lab.ran.filter((run) => run.includes('/shared/1/'))).toEqual([
      'xenwatch /shared/1/make',
      'xen-mtwatch-1 /shared/1/a',
      'xen-mtwatch-1 /shared/1/c',
      'xen-mtwatch-1 /shared/1/d',
    ])
  })
})
