/** Unregistering a watch: from inside, from another thread, while it runs, while its events are queued. */

import { describe, expect, it } from 'vitest'
import { XenbusWatch } from '../../src/dom0/xenbus/index.js'
import { insideStore } from '../../src/xenstore/server.js'
import { ALL, MULTITHREADED } from './lab.js'
import { Gate, SmallLab } from './small_lab.js'

describe.each(ALL)('unregister, %s', (design) => {
  it('XW-base-9, XW-acc-19: from inside its own callback returns without waiting, and nothing of it is left', () => {
    const lab = new SmallLab(design)
    lab.up(2)
    let returned = false
    const watch: XenbusWatch = lab.domainWatch(2, 'a', function* (path) {
      if (path !== '/w/2/a/0') return
      yield* lab.host.xenbus.unregister(watch)
      returned = true
    })
    lab.register(watch)
    for (let i = 0; i < 5; i++) lab.host.write(`/w/2/a/${i}`)
    lab.host.run()
    expect(lab.ran).toEqual([`${design === 'single' ? 'xenwatch' : 'xen-mtwatch-2'} /w/2/a/0`])
    expect(returned).toBe(true)
    expect(watch.nrPending).toBe(0)
    expect(lab.trace.lines.filter((line) => line.includes(' loses '))).toHaveLength(4)
  })

  it('XW-base-8, XW-acc-18: while events are queued purges them, and others keep their order', () => {
    const lab = new SmallLab(design)
    for (const domid of [1, 2]) lab.up(domid)
    const gate = new Gate(lab.host)
    const shared = lab.sharedWatch()
    const others = [1, 2].map((domid) => lab.domainWatch(domid, 'x', () => gate.pass()))
    const plain = lab.plainWatch('p', () => gate.pass())
    lab.register(shared, ...others, plain)
    gate.shut()
    lab.host.write('/plain/p/first')
    lab.host.write('/w/1/x/first')
    lab.host.write('/w/2/x/first')
    for (const domid of [1, 2, 0]) {
      lab.host.write(`/shared/${domid}/a`)
      if (domid) lab.host.write(`/w/${domid}/x/second`)
      lab.host.write(`/shared/${domid}/b`)
    }
    lab.host.run()
    let done = false
    lab.host.start(
      (function* () {
        yield* lab.host.xenbus.unregister(shared)
        done = true
      })(),
    )
    lab.host.run()
    // None of its callbacks runs, so only the baseline, which waits for anybody's, has to wait.
    expect(done).toBe(design !== 'single')
    gate.open()
    expect(done).toBe(true)
    expect(shared.nrPending).toBe(0)
    expect(lab.ran.filter((run) => run.includes('/shared') && design !== 'single')).toEqual([])
    for (const domid of [1, 2]) {
      const own = lab.ran.filter((run) => run.includes(`/w/${domid}/x`)).map((run) => run.split(' ')[1])
      expect(own).toEqual([`/w/${domid}/x/first`, `/w/${domid}/x/second`])
    }
  })

  it('XW-base-8, XW-unreg-2: while its callback runs waits for it, from another thread', () => {
    const lab = new SmallLab(design)
    lab.up(1)
    const gate = new Gate(lab.host)
    const watch = lab.domainWatch(1, 'a', () => gate.pass())
    lab.register(watch)
    gate.shut()
    lab.host.write('/w/1/a')
    lab.host.run()
    let done = false
    lab.host.start(
      (function* () {
        yield* lab.host.xenbus.unregister(watch)
        done = true
      })(),
      'unregisterer',
    )
    lab.host.run()
    expect(done).toBe(false)
    expect(lab.host.kernel.find('unregisterer')!.state).toBe('D')
    gate.open()
    expect(done).toBe(true)
  })

  it('a second unregister, and one of a watch that was never registered, do nothing', () => {
    const lab = new SmallLab(design)
    const watch = lab.plainWatch('p')
    lab.unregister(watch)
    lab.register(watch)
    lab.unregister(watch)
    lab.unregister(watch)
    expect(lab.host.xenbus.reports).toEqual([])
    expect(insideStore(lab.host.store).watches.size).toBe(design === 'rfc' ? 1 : design === 'talk' ? 2 : 0)
  })

  it('a watch can be registered again, and registering it twice is refused', () => {
    const lab = new SmallLab(design)
    const watch = lab.plainWatch('p')
    lab.register(watch)
    expect(() => lab.host.complete(lab.host.xenbus.register(watch))).toThrow('is registered already')
    lab.unregister(watch)
    lab.register(watch)
    lab.host.write('/plain/p')
    lab.host.run()
    expect(lab.ran).toEqual(['xenwatch /plain/p'])
  })

  it('XW-base-7: a watch that the store refuses is not kept', () => {
    const lab = new SmallLab(design)
    const watch = new XenbusWatch({ node: '//bad', callback: lab.plainWatch('x').callback })
    const before = lab.host.xenbus.watches.length
    expect(() => lab.host.complete(lab.host.xenbus.register(watch))).toThrow('EINVAL')
    expect(lab.host.xenbus.watches).toHaveLength(before)
  })
})

describe.each(MULTITHREADED)('unregister, %s', (design) => {
  it("XW-acc-18, XW-unreg-4: from another domain's thread while it runs: waits, and no further callback runs", () => {
    const lab = new SmallLab(design)
    for (const domid of [1, 2]) lab.up(domid)
    const gate = new Gate(lab.host)
    const shared = lab.sharedWatch(() => gate.pass())
    let done = false
    const killer = lab.domainWatch(2, 'k', function* (path) {
      if (path !== '/w/2/k/now') return
      yield* lab.host.xenbus.unregister(shared)
      done = true
    })
    lab.register(shared, killer)
    gate.shut()
    for (const name of ['a', 'b', 'c']) lab.host.write(`/shared/1/${name}`)
    lab.host.run()
    lab.host.write('/w/2/k/now')
    lab.host.write('/shared/1/d')
    lab.host.run()
    expect(done).toBe(false)
    expect(lab.lists(2)[0]!.thread.state).toBe('D')
    expect(shared.nrPending).toBe(0)
    gate.open()
    expect(done).toBe(true)
    expect(lab.ran.filter((run) => run.includes('/shared/'))).toEqual(['xen-mtwatch-1 /shared/1/a'])
  })

  it('XW-unreg-3: an unrelated watch is not held up by a stalled domain thread', () => {
    const lab = new SmallLab(design)
    lab.up(1)
    const gate = new Gate(lab.host)
    const stalled = lab.domainWatch(1, 'a', () => gate.pass())
    const other = lab.plainWatch('p')
    lab.register(stalled, other)
    gate.shut()
    lab.host.write('/w/1/a')
    lab.host.run()
    lab.unregister(other)
    gate.open()
    expect(lab.host.xenbus.reports).toEqual([])
  })

  it('XW-unreg-5: two callbacks that unregister each other: the deadlock is reported, and both go on', () => {
    const lab = new SmallLab(design)
    for (const domid of [1, 2]) lab.up(domid)
    const gate = new Gate(lab.host)
    const watches: XenbusWatch[] = [1, 2].map((domid) =>
      lab.domainWatch(domid, 'a', function* (path) {
        if (!path.endsWith('/now')) return
        yield* gate.pass()
        yield* lab.host.xenbus.unregister(watches[2 - domid]!)
      }),
    )
    lab.register(...watches)
    gate.shut()
    lab.host.write('/w/1/a/now')
    lab.host.write('/w/2/a/now')
    lab.host.run()
    gate.open()
    expect(lab.host.xenbus.reports).toHaveLength(1)
    expect(lab.host.xenbus.reports[0]).toMatch(/^deadlock: d0 xen-mtwatch-[12]\[\d+\] /)
    expect(lab.host.kernel.ps().filter(({ state }) => state === 'D')).toEqual([])
  })

  it('XW-unreg-1: purges the lists of threads that are going down as well', () => {
    const lab = new SmallLab(design)
    lab.up(1)
    const gate = new Gate(lab.host)
    const shared = lab.sharedWatch()
    const stalled = lab.domainWatch(1, 'a', () => gate.pass())
    lab.register(shared, stalled)
    gate.shut()
    lab.host.write('/w/1/a')
    lab.host.write('/shared/1/x')
    lab.host.write('/shared/1/y')
    lab.host.run()
    lab.down(1)
    expect(lab.lists(1).map(({ state, length }) => [state, length])).toEqual([['down', 2]])
    lab.unregister(shared)
    expect(lab.lists(1).map(({ state, length }) => [state, length])).toEqual([['down', 0]])
    gate.open()
    expect(lab.lists(1)).toEqual([])
    expect(lab.ran).toEqual(['xen-mtwatch-1 /w/1/a'])
  })

  it('XW-unreg-1, XW-domid-8: an owner narrows the search to its own list and the default one', () => {
    const lab = new SmallLab(design)
    for (const domid of [1, 2]) lab.up(domid)
    const gate = new Gate(lab.host)
    const one = lab.domainWatch(1, 'a', () => gate.pass())
    lab.register(one)
    gate.shut()
    lab.host.write('/w/1/a/1')
    lab.host.write('/w/1/a/2')
    lab.host.run()
    let done = false
    lab.host.start(
      (function* () {
        yield* lab.host.xenbus.unregister(one)
        done = true
      })(),
    )
    lab.host.run()
    expect([one.nrPending, done]).toEqual([0, false])
    gate.open()
    expect([one.nrPending, done]).toEqual([0, true])
  })
})
