/** What a host has: taken before and after something, it shows what was left behind. */

import type { Host } from '../host/host.js'
import type { Task } from '../kernel/index.js'

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

/** What of an inventory lives as long as the design likes. */
const THREADS = ['domain threads', 'threads']

/** What is left since `before`. How long the threads of an own design live is its affair. */
export function leftovers(before: ReadonlyMap<string, number>, host: Host, own: boolean): string[] {
  const after = inventory(host)
  if (own) for (const what of THREADS) after.set(what, before.get(what)!)
  return differences(before, after)
}

/** What there is more or less of, in words. */
export function differences(before: ReadonlyMap<string, number>, after: ReadonlyMap<string, number>): string[] {
  return [...new Set([...before.keys(), ...after.keys()])]
    .filter((what) => (before.get(what) ?? 0) !== (after.get(what) ?? 0))
    .map((what) => `${what}: ${after.get(what) ?? 0} instead of ${before.get(what) ?? 0}`)
}
