/** Every hook of a store and of its clients, each with what makes it run. */

import { memoryRing } from '../../src/dom0/host/store_host.js'
import {
  connectInProcess,
  encodeText,
  InProcessTransport,
  RingClientTransport,
  type RingPeer,
  type Transport,
  XenStoreClient,
  XenStored,
  type XenStoredOptions,
  XS,
} from '../../src/xenstore/index.js'
import type { Act, Reports } from './faults.js'

/** A store with a domain 0, and whatever the hook belongs to: domain 7. */
export class StoreWorld {
  readonly store: XenStored
  readonly dom0: XenStoreClient
  readonly reports: Reports
  timeMs = 0

  constructor(reports: Reports, options: XenStoredOptions) {
    this.reports = reports
    this.store = new XenStored({ ...options, onError: reports.onError })
    this.dom0 = connectInProcess(this.store)
  }

  /** A client of domain 7, with a home. */
  async guest(): Promise<XenStoreClient> {
    const guest = connectInProcess(this.store, 7, { onError: this.reports.onError })
    await this.dom0.mkdir('/local/domain/7')
    await this.dom0.setPermissions('/local/domain/7', ['n7'])
    return guest
  }
}

export interface StoreRow {
  /** Members of options and interfaces that the row stands for. */
  readonly hooks: readonly string[]
  options?(act: Act): XenStoredOptions
  run(world: StoreWorld, act: Act): Promise<void>
}

const alive = { shutdown: false, dying: false }

/** A ring whose daemon's end has a function replaced. */
function ringWith(change: (server: RingPeer) => RingPeer): { options: XenStoredOptions; client: RingPeer } {
  const { server, client } = memoryRing()
  const host = { state: () => alive, connect: (domid: number) => (domid === 7 ? change(server) : memoryRing().server) }
  return { options: { host }, client }
}

/** A row for a function of the daemon's end of a ring: a guest makes requests over it. */
function ringRow(hook: string, change: (act: Act) => (server: RingPeer) => RingPeer): StoreRow {
  let client: RingPeer
  return {
    hooks: [hook],
    options: (act) => {
      const made = ringWith(change(act))
      client = made.client
      return made.options
    },
    async run({ store, dom0 }) {
      await dom0.introduce(7, 1, 1)
      const transport = new RingClientTransport(client)
      const guest = new XenStoreClient(transport)
      void guest.read('/').catch(() => {})
      void guest.write('x', '1').catch(() => {})
      await dom0.introduce(7, 1, 1).catch(() => {})
      await dom0.release(7)
      store.domainsChanged()
    },
  }
}

/** A row for a function of a way to a client. */
function transportRow(method: keyof Transport, run: (world: StoreWorld, transport: Transport) => void): StoreRow {
  return {
    hooks: [`Transport.${method}`],
    async run(world, act) {
      const transport: Transport = { wake: () => {}, fail: () => {}, restart: () => {}, end: () => {}, [method]: act }
      run(world, transport)
    },
  }
}

const HIGH = { memorySoft: 1 }

export const STORE_HOOKS: Readonly<Record<string, StoreRow>> = {
  'onEvent of a watch': {
    hooks: ['WatchOptions.onEvent'],
    async run(world, act) {
      const guest = await world.guest()
      await guest.watch('/local/domain/7', { onEvent: act })
      await world.dom0.write('/local/domain/7/a', '1')
      await world.dom0.transaction((t) => t.write('/local/domain/7/b', '1'))
    },
  },
  onMemoryWarning: {
    hooks: ['XenStoredOptions.onMemoryWarning'],
    options: (act) => ({ quotas: HIGH, onMemoryWarning: act }),
    run: async (world) => {
      const guest = await world.guest()
      await guest.write('a', 'x'.repeat(100))
      await guest.read('a')
    },
  },
  onMemoryReport: {
    hooks: ['XenStoredOptions.onMemoryReport'],
    options: (act) => ({ onMemoryReport: act }),
    run: async ({ dom0 }) => void (await dom0.control('memreport')),
  },
  onLog: {
    hooks: ['XenStoredOptions.onLog'],
    options: (act) => ({ onLog: act }),
    run: async ({ dom0 }) => {
      await dom0.control('log', 'on')
      await dom0.control('print', 'here')
      await dom0.write('/a', '1')
    },
  },
  later: {
    hooks: ['XenStoredOptions.later'],
    options: (act) => ({
      later: (step) => {
        act()
        queueMicrotask(step)
      },
    }),
    run: async ({ store, dom0 }) => {
      // More than a share of turns at once: watchers of one change.
      const watchers = Array.from({ length: 100 }, () => connectInProcess(store))
      for (const watcher of watchers) void watcher.watch('/w', { onEvent: () => {} })
      await dom0.write('/w', '1')
      await new Promise((resolve) => setImmediate(resolve))
      while (store.step());
    },
  },
  now: {
    hooks: ['XenStoredOptions.now'],
    options: (act) => ({
      now: () => {
        act()
        return 5
      },
    }),
    run: async (world) => {
      const guest = await world.guest()
      await guest.watch('/local/domain/7')
      await world.dom0.write('/local/domain/7/a', '1')
      world.store.tick()
      void world.store.nextTick
    },
  },
  'trace.record': {
    hooks: ['TraceSink.record'],
    options: (act) => ({ trace: { record: act } }),
    run: async ({ dom0 }) => void (await dom0.write('/a', '1')),
  },
  'host.state': {
    hooks: ['DomainHost.state'],
    options: (act) => ({
      host: {
        state: () => {
          act()
          return alive
        },
        connect: () => memoryRing().server,
      },
    }),
    run: async ({ dom0, store }) => {
      await dom0.introduce(7, 1, 1).catch(() => {})
      await dom0.introduce(7, 1, 1).catch(() => {})
      store.domainsChanged()
    },
  },
  'host.connect': {
    hooks: ['DomainHost.connect'],
    options: (act) => ({
      host: {
        state: () => alive,
        connect: () => {
          act()
          return memoryRing().server
        },
      },
    }),
    run: async ({ dom0 }) => void (await dom0.introduce(7, 1, 1).catch(() => {})),
  },
  'page of a ring': ringRow('RingPeer.page', (act) => (server) => ({
    ...server,
    page: () => {
      act()
      return server.page()
    },
  })),
  'close of a ring': ringRow('RingPeer.close', (act) => (server) => ({ ...server, close: act })),
  'channel.notify': ringRow('EventChannelEnd.notify', (act) => (server) => ({
    ...server,
    channel: {
      ...server.channel,
      notify: () => {
        act()
        server.channel.notify()
      },
    },
  })),
  'channel.onEvent': ringRow('EventChannelEnd.onEvent', (act) => (server) => ({
    ...server,
    channel: {
      ...server.channel,
      onEvent: (callback) => {
        act()
        server.channel.onEvent(callback)
      },
    },
  })),
  'channel.notify of a guest’s end': {
    hooks: [],
    async run({ store, reports }, act) {
      const { client } = memoryRing()
      void store
      const notify = () => {
        act()
        client.channel.notify()
      }
      const peer = { ...client, channel: { ...client.channel, notify } }
      const guest = new XenStoreClient(new RingClientTransport(peer, { onError: reports.onError }))
      void guest.write('a', '1').catch(() => {})
      guest.close()
    },
  },
  'transport.wake': transportRow('wake', ({ store }, transport) => {
    store.receive(store.connect(transport), encodeText(XS.READ, 1, 0, '/\0'))
  }),
  'transport.fail': transportRow('fail', ({ store }, transport) => {
    store.receive(store.connect(transport), encodeText(XS.READ, 1, 0, '/\0').fill(0xff))
  }),
  'transport.end': transportRow('end', ({ store }, transport) => store.disconnect(store.connect(transport))),
  'transport.held': {
    hooks: ['Transport.held'],
    async run({ store }, act) {
      const held = () => {
        act()
        return 0
      }
      const transport = { wake: () => {}, fail: () => {}, held, end: () => {} }
      store.receive(store.connect(transport), encodeText(XS.READ, 1, 0, '/\0'))
    },
  },
  'transport.restart': {
    hooks: ['Transport.restart'],
    options: () => ({ host: { state: () => ({ shutdown: false, dying: true }), connect: () => memoryRing().server } }),
    async run({ store, dom0 }, act) {
      store.attachDomain(7, { wake: () => {}, fail: () => {}, restart: act, end: () => {} })
      await dom0.introduce(7, 1, 1)
    },
  },
  'send of a client’s transport': {
    hooks: ['ClientTransport.send'],
    async run({ store, reports }, act) {
      const inner = new InProcessTransport(store, 7)
      const send = (bytes: Uint8Array) => {
        act()
        inner.send(bytes)
      }
      const client = new XenStoreClient(
        { send, listen: (...to) => inner.listen(...to), close: () => inner.close() },
        { onError: reports.onError },
      )
      // It is the client's own: the request that could not be sent says so.
      await client.getDomainPath(7).catch((error) => reports.onError(error, 'the request'))
      client.close()
    },
  },
}
