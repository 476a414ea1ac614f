/**
 * The stories that tell the designs apart. Each says who is stalled, and then tries what somebody else needs: one design
 * fails where another does not, and none is best in all of them.
 */

import type { Task } from '../dom0/kernel/index.js'
import type { Plot, Step, Story } from '../dom0/story/index.js'
import { bareSpec, diskSpec, guestConfig, nicSpec, type Outcome, type Toolstack } from '../dom0/toolstack/index.js'
import { parseDomid, XenbusState, XenbusWatch } from '../dom0/xenbus/index.js'

/** Something that somebody needs. */
const attempt = (what: string, run: (toolstack: Toolstack) => Task<Outcome>): Step => ({
  what,
  run: ({ host }) => run(host.toolstack),
})
/** Something that only sets the scene. */
const scene = (what: string, run: Step['run']): Step => ({ what, tried: false, run })

const destroy = (domid: number): Step => attempt(`destroy ${domid}`, (xl) => xl.destroy(domid))
const destroyFirst: Step = { ...destroy(1), tried: false }
const create = (name: string, ...waits: number[]): Step => ({
  what: `create ${name}`,
  *run(story) {
    const outcome = yield* story.host.toolstack.create(guestConfig(name))
    for (const seconds of waits) yield* story.pass(seconds)
    return outcome
  },
})
const createAnother = create('another')
const attachTo1 = attempt('attach a vif to 1', (xl) => xl.attach(1, nicSpec(1, 1, {})))

/** The guests that every story has. */
export const GUESTS: readonly Step[] = [
  { ...create('guest1'), tried: false },
  { ...create('guest2', 1), tried: false },
]

/** A backend of domain 1 waits for what a lower device holds; domain 1 is destroyed. */
const injected = (kind: 'netback' | 'blkback' | 'grant', about: string): Plot => ({
  name: kind,
  about,
  steps: [scene('stall', (story) => story.inject(kind)), destroyFirst, createAnother, destroy(2)],
})

const hotplug: Plot = {
  name: 'hotplug',
  about: 'a packet of vif1.0 is held, and domain 1 destroyed; devices of domain 2 come and go',
  steps: [
    scene('stall', (story) => story.inject('netback')),
    destroyFirst,
    attempt('attach a vif to 2', (xl) => xl.attach(2, nicSpec(2, 1, {}))),
    attempt('attach a vbd to 2', (xl) => xl.attach(2, diskSpec(2, { dev: 'xvdb' }))),
    attempt('detach vif 0 of 2', (xl) => xl.detach(2, 'vif', 0)),
  ],
}

/** A watch of dom0's own, about no domain: it runs in the default thread in every design (XW-domid-6). */
const defaultBlocked: Plot = {
  name: 'default-blocked',
  about: "the callback of dom0's own watch on memory/target waits for memory",
  steps: [
    scene('stall', function* (story) {
      const { kernel } = story.host
      const callback = () => story.block(kernel, 'balloon_process', 'memory')
      yield* story.register(new XenbusWatch({ node: '/local/domain/0/memory/target', callback }))
      yield* story.pass(1)
    }),
    ...[attachTo1, destroy(2), createAnother],
  ],
}

const CLOSING: readonly number[] = [XenbusState.Unknown, XenbusState.Closing, XenbusState.Closed]

/** The first probe of a domain: `on-demand` runs it in the default thread (XW-ds-4), the others in the domain's. */
const slowProbe: Plot = {
  name: 'slow-probe',
  about: "a third party's driver waits for hardware in the first probe of domain 3, which has no other device",
  steps: [
    scene('stall', function* (story) {
      addSlowDriver(story)
      const { toolstack } = story.host
      yield* toolstack.create({ name: 'bare' })
      yield* toolstack.attach(3, bareSpec(3, 'slow'))
    }),
    ...[attachTo1, destroy(2), createAnother],
  ],
}

function addSlowDriver(story: Story): void {
  const { kernel, bus } = story.host
  bus.addDriver({
    type: 'slow',
    busFrames: 'all',
    *probe(device) {
      yield* story.block(kernel, 'slow_probe', 'hardware')
      yield* bus.switchState(device, XenbusState.InitWait)
    },
    *otherendChanged(device, state) {
      if (!CLOSING.includes(state)) return
      yield* bus.switchState(device, XenbusState.Closed)
      yield* bus.unregister(device)
    },
    *remove() {},
  })
}

/** A subscriber's node of a domain, below `/tool/sick`. */
const sick = (name: string): string => `/tool/sick/1/${name}`

/** Writes below the watched node, and lets what can run do so. */
const write = (name: string): Step =>
  scene(`write ${sick(name)}`, function* (story) {
    yield* story.host.toolstack.xs.write(sick(name), '1')
    yield* story.pass(1)
  })

/**
 * A third party's watch with `getDomid` waits twice for domain 1: while its thread is UP, and after the domain was destroyed.
 * The last event comes when the thread has ended; then nothing is left that it could wait for.
 */
const lateEvent: Plot = {
  name: 'late-event',
  about: "a third party's watch waits in an event of domain 1; another one comes after domain 1 was destroyed",
  steps: [
    scene('watch', (story) =>
      story.register(
        new XenbusWatch({
          node: '/tool/sick',
          getDomid: (_watch, path) => parseDomid(path.split('/')[3]),
          *callback(_watch, path) {
            if (path.startsWith(sick(''))) yield* story.block(story.host.kernel, 'sick_changed', 'a sick device')
          },
        }),
        'domain',
      ),
    ),
    ...[write('first'), destroyFirst, write('late'), destroy(2), createAnother],
  ],
  after: [
    write('last'),
    scene('clean up', function* (story) {
      yield* story.host.toolstack.xs.rmIfExists('/tool/sick')
      yield* story.pass(1)
    }),
  ],
}

/** A guest has one thread in every design; who waits for it in dom0 has a time-out. */
const frontend: Plot = {
  name: 'frontend',
  about: "domain 1's own xenwatch waits, and so its frontend does not follow when its interface is detached",
  steps: [
    scene('stall', function* (story) {
      const { kernel, xenbus } = story.host.guest(1)
      const callback = () => story.block(kernel, 'frontend_work', 'its own work')
      const watch = new XenbusWatch({ node: 'data/ready', callback })
      kernel.kthreadRun('modprobe', 'init_module', () => xenbus.register(watch))
      yield* story.pass(1)
    }),
    attempt('detach vif 0 of 1', (xl) => xl.detach(1, 'vif', 0)),
    ...[destroy(2), createAnother],
  ],
}

/** All stories, in the order in which the matrix shows them. */
export const STORIES: readonly Plot[] = [
  injected('netback', 'a packet of vif1.0 is held, and domain 1 destroyed'),
  injected('blkback', 'a request of 1.xvda is held, and domain 1 destroyed'),
  injected('grant', 'a persistent page of 1.xvda is held, and domain 1 destroyed'),
  hotplug,
  defaultBlocked,
  slowProbe,
  lateEvent,
  frontend,
]
