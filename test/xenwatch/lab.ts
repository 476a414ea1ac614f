/** What the tests of xenwatch share: a host with guests, a stall, and traces of events. */

import { guestConfig, Host, type HostOptions, type StallKind } from '../../src/dom0/index.js'
import type { Outcome } from '../../src/dom0/toolstack/index.js'
import type { DeliveryObserver, Design, EventThread, XsWatchEvent } from '../../src/dom0/xenbus/index.js'

export const MULTITHREADED = ['rfc', 'talk', 'on-demand'] as const
export const ALL: readonly Design[] = ['single', ...MULTITHREADED]
export const KINDS: readonly StallKind[] = ['netback', 'blkback', 'grant']

/** The three stacks of the RFC of April 2018, innermost first, down to the thread's own function. */
const STACKS: Record<StallKind, string[]> = {
  netback: ['kthread_stop', 'xenvif_disconnect_data', 'set_backend_state', 'frontend_changed'],
  blkback: [
    'kthread_stop',
    'xen_blkif_disconnect',
    'xen_blkbk_remove',
    'xenbus_dev_remove',
    '__device_release_driver',
    'device_release_driver',
    'bus_remove_device',
    'device_del',
    'device_unregister',
    'frontend_changed',
    'xenbus_otherend_changed',
    'frontend_changed',
  ],
  grant: [
    'gnttab_unmap_refs_sync',
    'free_persistent_gnts',
    'xen_blkbk_free_caches',
    'xen_blkif_disconnect',
    'xen_blkbk_remove',
    'xenbus_dev_remove',
    '__device_release_driver',
    'device_release_driver',
    'bus_remove_device',
    'device_del',
    'device_unregister',
    'frontend_changed',
    'xenbus_otherend_changed',
    'frontend_changed',
  ],
}

/** The whole stack of a stalled thread. */
export function stackOf(kind: StallKind, fn: 'xenwatch_thread' | 'mtwatch_thread'): string[] {
  return [...STACKS[kind], fn, 'kthread', 'ret_from_fork'].map((frame) => `[<0>] ${frame}`)
}

/** A host of a design; `single` is the kernel parameter left out. */
export function hostOf(design: Design, options: Partial<HostOptions> = {}): Host {
  return new Host({ xenMtwatch: design !== 'single', design, ...options })
}

/** Creates guests that connect: domain ids 1, 2, … */
export function createGuests(host: Host, count: number): void {
  for (let i = 1; i <= count; i++) {
    const outcome = create(host, `guest${i}`)
    if (!outcome.ok) throw new Error(outcome.errors.map(({ line }) => line).join('\n'))
  }
  host.pass(1)
}

export const create = (host: Host, name: string): Outcome =>
  host.complete('xl', host.toolstack.create(guestConfig(name)))
export const destroy = (host: Host, domid: number): Outcome => host.complete('xl', host.toolstack.destroy(domid))
export const list = (host: Host): string[] => host.complete('xl', host.toolstack.list())

/** Arms the injector for domain 1 and lets its guest send one thing. */
export function stall(host: Host, kind: StallKind): void {
  host.injector.arm(kind, kind === 'netback' ? 'vif1.0' : '1.xvda')
  const guest = host.guest(1)
  if (kind === 'netback') guest.netfront!.send()
  else guest.blkfront!.write()
  host.pass(1)
  if (!host.injector.holding) throw new Error('nothing was taken')
}

/** Errors as their lines without the position in the source. */
export const texts = ({ errors }: Outcome): string[] => errors.map(({ domid, text }) => `Domain ${domid}:${text}`)

/** Threads in D. */
export const inD = (host: Host): string[] =>
  host.kernel
    .ps()
    .filter(({ state }) => state === 'D')
    .map(({ name }) => name)

/** Names of dom0's threads that begin so. */
export const threadsLike = (host: Host, prefix: string): string[] =>
  host.kernel
    .ps()
    .filter(({ name }) => name.startsWith(prefix))
    .map(({ name }) => name)

/** Keeps what became of events, as lines such as `xen-mtwatch-1 runs backend/vif/1/0`. */
export class EventTrace {
  readonly lines: string[] = []
  readonly #add = (list: EventThread, what: string, { path }: XsWatchEvent) =>
    void this.lines.push(`${list.name} ${what} ${path}`)
  readonly observer: DeliveryObserver = {
    arrived: (event, on) => this.#add(on, 'gets', event),
    moved: (event, _from, to) => this.#add(to, 'is forwarded', event),
    started: (event, on) => this.#add(on, 'runs', event),
    finished: (event, on) => this.#add(on, 'ends', event),
    purged: (event, on) => this.#add(on, 'loses', event),
    dropped: (_watch, path) => void this.lines.push(`dropped ${path}`),
    threadUp: ({ name }) => void this.lines.push(`${name} is up`),
    threadDown: ({ name }) => void this.lines.push(`${name} is down`),
    threadEnded: ({ name }) => void this.lines.push(`${name} has ended`),
  }

  /** Paths that a thread did something with. */
  paths(list: string, what: string): string[] {
    const head = `${list} ${what} `
    return this.lines.filter((line) => line.startsWith(head)).map((line) => line.slice(head.length))
  }

  clear(): void {
    this.lines.length = 0
  }
}
