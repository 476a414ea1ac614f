/**
 * The stories that tell the designs apart. Each says who is stalled, and then tries what somebody else needs: one design
 * fails where another does not, and none is best in all of them.
 */

import { bareSpec, diskSpec, nicSpec } from '../dom0/toolstack/index.js'
import { parseDomid, XenbusState, XenbusWatch } from '../dom0/xenbus/index.js'
import type { Story, Telling } from './story.js'

/** A backend of domain 1 waits for what a lower device holds; domain 1 is destroyed. */
function injected(kind: 'netback' | 'blkback' | 'grant', about: string): Story {
  return {
    name: kind,
    about,
    tell(telling) {
      const { toolstack } = telling.host
      telling.inject(kind)
      telling.xl(toolstack.destroy(1))
      telling.attempt('create another', telling.create('another'))
      telling.attempt('destroy 2', toolstack.destroy(2))
    },
  }
}

const hotplug: Story = {
  name: 'hotplug',
  about: 'a packet of vif1.0 is held, and domain 1 destroyed; devices of domain 2 come and go',
  tell(telling) {
    const { toolstack } = telling.host
    telling.inject('netback')
    telling.xl(toolstack.destroy(1))
    telling.attempt('attach a vif to 2', toolstack.attach(2, nicSpec(2, 1, {})))
    telling.attempt('attach a vbd to 2', toolstack.attach(2, diskSpec(2, { dev: 'xvdb' })))
    telling.attempt('detach vif 0 of 2', toolstack.detach(2, 'vif', 0))
  },
}

/** A watch of dom0's own, about no domain: it runs in the default thread in every design (XW-domid-6). */
const defaultBlocked: Story = {
  name: 'default-blocked',
  about: "the callback of dom0's own watch on memory/target waits for memory",
  tell(telling) {
    const { toolstack, kernel } = telling.host
    telling.register(
      new XenbusWatch({
        node: '/local/domain/0/memory/target',
        callback: () => telling.block(kernel, 'balloon_process', 'memory'),
      }),
    )
    telling.host.pass(1)
    telling.attempt('attach a vif to 1', toolstack.attach(1, nicSpec(1, 1, {})))
    telling.attempt('destroy 2', toolstack.destroy(2))
    telling.attempt('create another', telling.create('another'))
  },
}

const CLOSING: readonly number[] = [XenbusState.Unknown, XenbusState.Closing, XenbusState.Closed]

/** The first probe of a domain: `on-demand` runs it in the default thread (XW-ds-4), the others in the domain's. */
const slowProbe: Story = {
  name: 'slow-probe',
  about: "a third party's driver waits for hardware in the first probe of domain 3, which has no other device",
  tell(telling) {
    const { toolstack, kernel, bus } = telling.host
    bus.addDriver({
      type: 'slow',
      busFrames: 'all',
      *probe(device) {
        yield* telling.block(kernel, 'slow_probe', 'hardware')
        yield* bus.switchState(device, XenbusState.InitWait)
      },
      *otherendChanged(device, state) {
        if (!CLOSING.includes(state)) return
        yield* bus.switchState(device, XenbusState.Closed)
        yield* bus.unregister(device)
      },
      *remove() {},
    })
    telling.xl(toolstack.create({ name: 'bare' }))
    telling.xl(toolstack.attach(3, bareSpec(3, 'slow')))
    telling.attempt('attach a vif to 1', toolstack.attach(1, nicSpec(1, 1, {})))
    telling.attempt('destroy 2', toolstack.destroy(2))
    telling.attempt('create another', telling.create('another'))
  },
}

/** A subscriber's node of a domain, below `/tool/sick`. */
const sick = (name: string): string => `/tool/sick/1/${name}`

/** Writes below the watched node, and lets what can run do so. */
function write(telling: Telling, name: string): void {
  telling.xl(telling.host.toolstack.xs.write(sick(name), '1'))
  telling.host.pass(1)
}

/**
 * A third party's watch with `getDomid` waits twice for domain 1: while its thread is UP, and after the domain was destroyed.
 * The last event comes when the thread has ended; then nothing is left that it could wait for.
 */
const lateEvent: Story = {
  name: 'late-event',
  about: "a third party's watch waits in an event of domain 1; another one comes after domain 1 was destroyed",
  tell(telling) {
    const { toolstack, kernel, scheduler } = telling.host
    telling.register(
      new XenbusWatch({
        node: '/tool/sick',
        getDomid: (_watch, path) => parseDomid(path.split('/')[3]),
        *callback(_watch, path) {
          if (!path.startsWith(sick(''))) return
          telling.note(`${path} in ${scheduler.current?.name}`)
          yield* telling.block(kernel, 'sick_changed', 'a sick device')
        },
      }),
      'domain',
    )
    write(telling, 'first')
    telling.xl(toolstack.destroy(1))
    write(telling, 'late')
    telling.attempt('destroy 2', toolstack.destroy(2))
    telling.attempt('create another', telling.create('another'))
  },
  after(telling) {
    write(telling, 'last')
    telling.xl(telling.host.toolstack.xs.rmIfExists('/tool/sick'))
    telling.host.pass(1)
  },
}

/** A guest has one thread in every design; who waits for it in dom0 has a time-out. */
const frontend: Story = {
  name: 'frontend',
  about: "domain 1's own xenwatch waits, and so its frontend does not follow when its interface is detached",
  tell(telling) {
    const { toolstack } = telling.host
    const { kernel, xenbus } = telling.host.guest(1)
    const watch = new XenbusWatch({
      node: 'data/ready',
      callback: () => telling.block(kernel, 'frontend_work', 'its own work'),
    })
    kernel.kthreadRun('modprobe', 'init_module', () => xenbus.register(watch))
    telling.host.pass(1)
    telling.attempt('detach vif 0 of 1', toolstack.detach(1, 'vif', 0))
    telling.attempt('destroy 2', toolstack.destroy(2))
    telling.attempt('create another', telling.create('another'))
  },
}

/** All stories, in the order in which the matrix shows them. */
export const STORIES: readonly Story[] = [
  injected('netback', 'a packet of vif1.0 is held, and domain 1 destroyed'),
  injected('blkback', 'a request of 1.xvda is held, and domain 1 destroyed'),
  injected('grant', 'a persistent page of 1.xvda is held, and domain 1 destroyed'),
  hotplug,
  defaultBlocked,
  slowProbe,
  lateEvent,
  frontend,
]
