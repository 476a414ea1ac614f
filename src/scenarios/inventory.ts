/** What a host has: taken before and after something, it shows what was left behind. */

import type { Host } from '../dom0/host/host.js'
import type { Task } from '../dom0/kernel/index.js'

/** What a host has when nothing runs; taken before and after. */
export function inventory(host: Host): Map<string, number> {
  return new Map([
    ...host.complete('xenstore-ls', storePaths(host)).map((path) => [path, 1] as const),
    ['domains', host.xen.domids().length],
    ['devices', host.bus.devices.length],
    ['watches', host.xenbus.watches.length],
    ['ports of dom0', host.dom0.openPorts],
    ['interfaces', host.netback.vifs.length + host.blkback.blkifs.length],
    ['domain threads', host.xenbus.delivery.domainLists.length],
    ['queued events', queuedEvents(host)],
    ['threads', host.kernel.threads.filter(({ name }) => !name.startsWith('kworker')).length],
  ])
}

/** Directories that the first domain leaves behind, empty. */
const KEPT = ['/vm', '/libxl']

/** All nodes of the store. */
function* storePaths({ toolstack: { xs } }: Host): Task<string[]> {
  const found: string[] = []
  for (const open = ['']; open.length; ) {
    const path = open.pop()!
    for (const name of yield* xs.directory(path || '/')) {
      const child = `${path}/${name}`
      open.push(child)
      if (!KEPT.includes(child)) found.push(`node ${child}`)
    }
  }
  return found
}

/** Events on all lists of dom0's xenwatch. */
export function queuedEvents({ xenbus }: Host): number {
  return [xenbus.xenwatch, ...xenbus.delivery.domainLists].reduce((sum, list) => sum + list.length, 0)
}

/** What there is more or less of, in words. */
export function differences(before: ReadonlyMap<string, number>, after: ReadonlyMap<string, number>): string[] {
  return [...new Set([...before.keys(), ...after.keys()])]
    .filter((what) => (before.get(what) ?? 0) !== (after.get(what) ?? 0))
    .map((what) => `${what}: ${after.get(what) ?? 0} instead of ${before.get(what) ?? 0}`)
}
