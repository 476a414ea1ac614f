/** What a programmer passes to the store by mistake: a ParameterError that names the call and the parameter. */

import { describe, expect, it } from 'vitest'
import { ParameterError } from '../../src/check.js'
import {
  checkStore,
  connectInProcess,
  dumpListing,
  InProcessTransport,
  loadListing,
  saveState,
  XenStoreClient,
  XenStored,
} from '../../src/xenstore/index.js'

const NONE = [undefined, null, -1, 'x', {}, [], () => {}, Symbol('s'), Object.create(null)]
const NO_NUMBERS = [undefined, null, -1, 1.5, Number.NaN, 2 ** 53, 1n, '1', {}, Symbol('s')]

// Whatever is passed in place of what the type says.
// biome-ignore lint/suspicious/noExplicitAny: the mistakes of a program without types
const CALLS: readonly [what: string, wrong: readonly unknown[], call: (value: any) => unknown, names: string][] = [
  ['connectInProcess', NONE, (server) => connectInProcess(server), 'server'],
  ['InProcessTransport', NONE, (server) => new InProcessTransport(server, 3), 'server'],
  ['XenStoreClient', NONE, (transport) => new XenStoreClient(transport), 'transport'],
  ['dumpListing', NONE, (store) => dumpListing(store), 'store'],
  ['loadListing', NONE, (store) => loadListing(store, '/a = "b"'), 'store'],
  ['saveState', NONE, (store) => saveState(store), 'store'],
  ['checkStore', NONE, (store) => checkStore(store), 'store'],
  ['connect', NONE, (transport) => new XenStored().connect(transport), 'transport'],
  ['attachDomain', NONE, (transport) => new XenStored().attachDomain(3, transport), 'transport'],
  ['attachDomain, domid', NO_NUMBERS, (domid) => connectInProcess(new XenStored(), domid ?? null), 'domid'],
  ['introduce, domid', NO_NUMBERS, (domid) => new XenStored().introduce(domid, 1, 1), 'domid'],
  ['introduce, gfn', NO_NUMBERS, (gfn) => new XenStored().introduce(1, gfn, 1), 'gfn'],
  ['introduce, port', NO_NUMBERS, (port) => new XenStored().introduce(1, 1, port), 'port'],
]

describe('a mistake', () => {
  it.each(CALLS)('%s: names the parameter', (_, wrong, call, names) => {
    for (const value of wrong) {
      let error: unknown
      try {
        call(value)
      } catch (thrown) {
        error = thrown
      }
      expect([typeof value, error]).toEqual([typeof value, expect.any(ParameterError)])
      expect((error as Error).message).toContain(names)
    }
  })
})
