/** Save and restore: what a guest had begun it finds again, and a dump of the C daemon loads. */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { insideConnection } from '../../src/xenstore/handles.js'
import {
  type Connection,
  checkStore,
  connectInProcess,
  RingClientTransport,
  type RingPeer,
  restoreState,
  StoreStateError,
  saveState,
  XenStoreClient,
  XenStored,
} from '../../src/xenstore/index.js'
import { decodeRecords, encodeRecords } from '../../src/xenstore/records.js'
import { insideStore } from '../../src/xenstore/server.js'
import { walk } from '../../src/xenstore/tree.js'

/** Ring pages that outlive the daemons: each INTRODUCE or restore gets the daemon's end of the same page. */
function machine() {
  const pages = new Map<number, Uint8Array>()
  const callbacks = new Map<string, () => void>()
  const end = (domid: number, own: string, other: string): RingPeer => ({
    page: () => pages.get(domid)!,
    channel: {
      notify: () => callbacks.get(`${other}${domid}`)?.(),
      onEvent: (callback) => void callbacks.set(`${own}${domid}`, callback),
    },
    close: () => {},
  })
  return {
    daemon: () =>
      new XenStored({
        host: {
          state: () => ({ shutdown: false, dying: false }),
          connect: (domid) => {
            if (!pages.has(domid)) pages.set(domid, new Uint8Array(4096))
            return end(domid, 'daemon', 'guest')
          },
        },
      }),
    guest: (domid: number) => new XenStoreClient(new RingClientTransport(end(domid, 'guest', 'daemon'))),
  }
}

const watched = (connection: Connection) =>
  [...insideConnection('test', connection).watches.values()].map(({ path }) => path)

const tree = (daemon: XenStored) =>
  [...walk('/', insideStore(daemon).store.root)].map(({ path, node }) => [path, node.value, node.perms])

async function withGuest() {
  const { daemon, guest } = machine()
  const old = daemon()
  const dom0 = connectInProcess(old)
  old.introduce(5, 1, 9)
  await dom0.mkdir('/local/domain/5')
  await dom0.setPermissions('/local/domain/5', ['n5', 'r7'])
  await dom0.write('/b', new Uint8Array([0, 255, 10]))
  await dom0.setPermissions('@releaseDomain', ['n0', 'r5'])
  return { old, dom0, daemon, client: guest(5) }
}

describe('saveState and restoreState', () => {
  it('the tree, its permissions and the order of children are the same', async () => {
    const { old, client, daemon } = await withGuest()
    for (const name of ['z', 'a', 'm']) await client.write(name, name)
    const next = daemon()
    restoreState(next, saveState(old))
    expect(tree(next)).toEqual(tree(old))
    expect(
      insideStore(next)
        .specials.get('@releaseDomain')!
        .perms.map(({ domid }) => domid),
    ).toEqual([0, 5])
    expect(checkStore(next)).toEqual([])
    // Saved again, but for the numbers of connections, it is the same.
    const { nodes, watches } = decodeRecords(saveState(next))
    expect({ nodes, watches }).toEqual((({ nodes, watches }) => ({ nodes, watches }))(decodeRecords(saveState(old))))
  })

  it('a guest keeps its watches, relative and absolute, without setting them again', async () => {
    const { old, client, daemon } = await withGuest()
    const seen: string[] = []
    await client.watch('a', { onEvent: ({ path }) => seen.push(path) })
    await client.watch('/local/domain/5/b', { onEvent: ({ path }) => seen.push(path) })
    const next = daemon()
    restoreState(next, saveState(old))
    await connectInProcess(next).write('/local/domain/5/a/x', '1')
    await connectInProcess(next).write('/local/domain/5/b', '1')
    expect(seen).toEqual(['a', '/local/domain/5/b', 'a/x', '/local/domain/5/b'])
    await client.write('c', '1')
    expect(await client.read('c')).toBe('1')
  })

  it.each([
    ['commits', undefined, 'new'],
    ['ends in EAGAIN and is run again if a node changed before', 'other', 'other, new'],
  ])('an open transaction %s', async (_, meanwhile, result) => {
    const { old, dom0, client, daemon } = await withGuest()
    await client.write('a', '')
    let next: XenStored | undefined
    await client.transaction(async (t) => {
      const before = await t.read('a')
      await t.write('a', before ? `${before}, new` : 'new')
      await t.write('made/below', 'x')
      await t.rm('gone').catch(() => {})
      if (next) return
      if (meanwhile) await dom0.write('/local/domain/5/a', meanwhile)
      next = daemon()
      restoreState(next, saveState(old))
    })
    const check = connectInProcess(next!)
    expect(await check.read('/local/domain/5/a')).toBe(result)
    expect(await check.read('/local/domain/5/made/below')).toBe('x')
    expect(checkStore(next!)).toEqual([])
  })

  it('a domain moves with its watches and gets another number', async () => {
    const { old, client } = await withGuest()
    await client.write('device/vif/0/state', '4')
    const seen: string[] = []
    await client.watch('device', { onEvent: ({ path }) => seen.push(path) })
    const there = machine()
    const target = there.daemon()
    await connectInProcess(target).write('/local/domain/3/name', 'resident')
    const moved = restoreState(target, saveState(old, { domid: 5 }), { domid: 8 })
    expect([...moved.values()].map((each) => [each.domid, watched(each)])).toEqual([[8, ['/local/domain/8/device']]])
    const dom0 = connectInProcess(target)
    expect(await dom0.read('/local/domain/8/device/vif/0/state')).toBe('4')
    expect(await dom0.getPermissions('/local/domain/8/device')).toMatchObject([{ domid: 8 }, { domid: 7 }])
    expect(await dom0.read('/local/domain/3/name')).toBe('resident')
    expect(await dom0.exists('/local/domain/5')).toBe(false)
    expect(checkStore(target)).toEqual([])
  })

  it('refuses a stream that is damaged', async () => {
    const { old } = await withGuest()
    const bytes = saveState(old)
    const load = (change: (copy: Uint8Array) => Uint8Array) => () =>
      restoreState(new XenStored(), change(bytes.slice()))
    expect(load((copy) => copy.fill(0, 0, 1))).toThrow(StoreStateError)
    expect(load((copy) => copy.fill(9, 11, 12))).toThrow(/version 9/)
    for (let length = 0; length < bytes.length; length += 7)
      expect(
        load((copy) => copy.slice(0, length)),
        `${length} bytes`,
      ).toThrow(StoreStateError)
    expect(() => restoreState(new XenStored(), 'x' as unknown as Uint8Array)).toThrow(/restoreState: bytes/)
  })
})

describe('a dump of C xenstored 4.17.7', () => {
  const dump = new Uint8Array(readFileSync(new URL('c-xenstored-4.17.7.state', import.meta.url)))

  it('is read record by record, and written again byte for byte', () => {
    expect(encodeRecords(decodeRecords(dump))).toEqual(dump)
  })

  it('loads: nodes, void permissions, special names, rings, watches, and bytes under way', () => {
    const daemon = machine().daemon()
    const connections = restoreState(daemon, dump)
    expect(checkStore(daemon)).toEqual([])
    expect(insideStore(daemon).store.get('/local/domain/1/a/b')!.value).toBe('val\0ue')
    expect(insideStore(daemon).store.get('/local/domain/1')!.perms).toEqual([
      { letter: 'n', domid: 1 },
      { letter: 'r', domid: 5 },
      { letter: 'b', domid: 6, void: true },
    ])
    expect(insideStore(daemon).specials.get('@releaseDomain')!.perms[1]).toEqual({ letter: 'r', domid: 1 })
    const guest = [...connections.values()].find(({ domid }) => domid === 1)!
    expect([...insideConnection('test', guest).watches.values()].map(({ path, cut }) => [path, cut > 0])).toEqual([
      ['/local/domain/1/a', true],
      ['/local/domain/1', false],
    ])
    expect(insideStore(daemon).domains.get(5)!.target).toBe(1)
  })
})
