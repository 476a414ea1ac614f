import { describe, expect, it } from 'vitest'
import { C_4_23, connectInProcess, type XenStoreClient, XenStored, XenStoreError } from '../../src/xenstore/index.js'
import { insideStore } from '../../src/xenstore/server.js'

const pair = () => {
  const server = new XenStored({ profile: C_4_23 })
  return { server, client: connectInProcess(server), other: connectInProcess(server) }
}

describe('nodes', () => {
  it('reads, writes, lists and removes', async () => {
    const { client } = pair()
    await client.write('/a/text', 'häß 😀')
    await client.write('/a/bytes', new Uint8Array([0, 255, 128]))
    await client.mkdir('/a/dir')
    expect(await client.read('/a/text')).toBe('häß 😀')
    expect([...(await client.readBytes('/a/bytes'))]).toEqual([0, 255, 128])
    expect(await client.ls('/a')).toEqual(['text', 'bytes', 'dir'])
    expect(await client.ls('/a/dir')).toEqual([])
    expect(await client.exists('/a/dir')).toBe(true)
    await client.rm('/a')
    expect(await client.exists('/a/dir')).toBe(false)
    expect(await client.readIfExists('/a/text')).toBeUndefined()
    await client.setPermissions('/tool', ['n0', { letter: 'r', domid: 5 }])
    expect(await client.getPermissions('/tool')).toEqual([
      { letter: 'n', domid: 0 },
      { letter: 'r', domid: 5 },
    ])
  })

  it('says operation, path and error name', async () => {
    const { client } = pair()
    await expect(client.read('/none')).rejects.toMatchObject({
      message: 'READ /none: ENOENT',
      code: 'ENOENT',
      op: 'READ',
    })
    await expect(client.write('/x', 'v'.repeat(5000))).rejects.toMatchObject({ code: 'E2BIG' })
    await expect(client.read('/a\0b')).rejects.toMatchObject({ code: 'EINVAL' })
    await expect(client.exists('/bad/')).rejects.toBeInstanceOf(XenStoreError)
  })

  it('XS-wire-12: lists ten thousand children, part by part, and again when the list changes between parts', async () => {
    const { client, server } = pair()
    const names = Array.from({ length: 10_000 }, (_, i) => `child-${i}`)
    for (const name of names) await client.mkdir(`/d/${name}`)
    expect(await client.ls('/d')).toEqual(names)
    const racing = client.ls('/d')
    await Promise.resolve()
    await connectInProcess(server).mkdir('/d/late')
    expect(await racing).toEqual([...names, 'late'])
  })

  it('makes many requests at the same time', async () => {
    const { client } = pair()
    const all = Array.from({ length: 500 }, (_, i) => client.write(`/n/${i % 50}`, String(i)))
    await Promise.all(all)
    expect(await client.read('/n/49')).toBe('499')
  })

  it('speaks to the daemon about domains', async () => {
    const { client, server } = pair()
    const guest = connectInProcess(server, 5)
    expect(await client.getDomainPath(5)).toBe('/local/domain/5')
    expect(await client.isIntroduced(5)).toBe(true)
    await client.setTarget(5, 0)
    await client.resume(5)
    await client.release(5)
    expect(await client.isIntroduced(5)).toBe(false)
    expect(guest.closed).toBe(true)
    await expect(guest.read('/')).rejects.toMatchObject({ code: 'EIO' })
    await expect(client.introduce(5, 1, 1)).rejects.toMatchObject({ code: 'EINVAL' })
    expect(await client.control('check')).toBe('OK')
  })
})

describe('watches', () => {
  it('by callback and by iterator; the first event tells the path itself', async () => {
    const { client, other } = pair()
    const called: string[] = []
    const callback = await client.watch('/w', { onEvent: ({ path }) => called.push(path) })
    const watch = await client.watch('/w')
    await other.write('/w/x', '1')
    await other.write('/w/x', '2')
    await other.rm('/w')
    expect(called).toEqual(['/w', '/w/x', '/w/x', '/w'])
    const seen: string[] = []
    for await (const { path } of watch) {
      seen.push(path)
      // Equal events that wait are one: /w was told first, and again at the end.
      if (seen.length === 2) break
    }
    expect(seen).toEqual(['/w', '/w/x'])
    await callback.close()
    await other.write('/w', '3')
    expect(called).toHaveLength(4)
  })

  it('what a callback throws is reported and disturbs nobody: not the writer, not the other watches', async () => {
    const { server, other } = pair()
    const reported: [string, string][] = []
    const onError = (error: unknown, where: string) => reported.push([(error as Error).message, where])
    const client = connectInProcess(server, 0, { onError })
    const seen: string[] = []
    await client.watch('/w', {
      onEvent: () => {
        throw new Error('mine')
      },
    })
    await client.watch('/w', { onEvent: ({ path }) => seen.push(path) })
    await other.write('/w/x', '1')
    expect(await other.transaction((t) => t.read('/w/x'))).toBe('1')
    expect(seen).toEqual(['/w', '/w/x'])
    const where = 'onEvent of the watch on /w'
    expect(reported).toEqual([
      ['mine', where],
      ['mine', where],
    ])
  })

  it('an event that comes later finds the iterator waiting', async () => {
    const { client, other } = pair()
    const watch = await client.watch('/w')
    const events = watch[Symbol.asyncIterator]()
    expect(await events.next()).toEqual({ done: false, value: { path: '/w' } })
    const next = events.next()
    await other.write('/w/late', 'x')
    expect(await next).toEqual({ done: false, value: { path: '/w/late' } })
    const last = events.next()
    await watch.close()
    expect((await last).done).toBe(true)
  })

  it('XS-adv-349: what nobody takes is bounded', async () => {
    const { client, other } = pair()
    const watch = await client.watch('/w')
    for (let i = 0; i < 5000; i++) await other.write(`/w/${i}`, 'x')
    await watch.close()
    let count = 0
    for await (const _ of watch) count++
    expect(count).toBeLessThanOrEqual(1024)
    expect(count).toBeGreaterThan(0)
  })

  it('ends by AbortSignal, before and after it was set', async () => {
    const { client, server } = pair()
    const gone = AbortSignal.abort(new Error('no more'))
    await expect(client.watch('/w', { signal: gone })).rejects.toThrow('no more')
    const stop = new AbortController()
    const watch = await client.watch('/w', { signal: stop.signal })
    expect(insideStore(server).watches.size).toBe(1)
    stop.abort()
    for await (const _ of watch);
    await client.read('/')
    expect(insideStore(server).watches.size).toBe(0)
  })

  it('given up while its request is under way, or just when the reply has come, is taken back at the daemon', async () => {
    // How many turns of the promises' queue lie between the request and the abort.
    for (let turns = 0; turns < 12; turns++) {
      const { client, server } = pair()
      const stop = new AbortController()
      const watch = client.watch('/w', { signal: stop.signal })
      for (let i = 0; i < turns; i++) await undefined
      stop.abort(new Error('no more'))
      await watch.catch(() => {})
      await client.read('/')
      expect([turns, insideStore(server).watches.size]).toEqual([turns, 0])
    }
  })

  it('a loop that is left takes its watch back', async () => {
    const { client, server } = pair()
    const watch = await client.watch('/w')
    for await (const _ of watch) break
    expect(insideStore(server).watches.size).toBe(0)
  })

  it('one signal for many requests and watches keeps no listener of what is over', async () => {
    const { client } = pair()
    const stop = new AbortController()
    let listeners = 0
    const { signal } = stop
    const counted = {
      aborted: false,
      reason: undefined,
      addEventListener: (type: 'abort', listener: () => void) => {
        listeners++
        signal.addEventListener(type, listener)
      },
      removeEventListener: (type: 'abort', listener: () => void) => {
        listeners--
        signal.removeEventListener(type, listener)
      },
    }
    const watch = await client.watch('/w', { signal: counted })
    await client.transaction((t) => t.write('/w/x', 'v'), { signal: counted })
    expect(listeners).toBe(1)
    await watch.close()
    expect(listeners).toBe(0)
  })

  it('a domain that is attached again, with replies on their way, gets a fresh connection', async () => {
    const { server } = pair()
    const first = connectInProcess(server, 5)
    const again = connectInProcess(server, 5)
    expect(first.closed).toBe(true)
    expect(await again.getDomainPath(5)).toBe('/local/domain/5')
  })

  it('XS-watch-14: passes a depth on', async () => {
    const { client, other } = pair()
    const seen: string[] = []
    await client.watch('/w', { depth: 1, onEvent: ({ path }) => seen.push(path) })
    await other.write('/w/a/b', 'x')
    await other.write('/w/a', 'x')
    expect(seen).toEqual(['/w', '/w/a'])
  })

  it('RESET_WATCHES ends them all', async () => {
    const { client, server } = pair()
    const watch = await client.watch('/w')
    await client.resetWatches()
    for await (const _ of watch);
    expect(insideStore(server).watches.size).toBe(0)
  })
})

describe('transactions', () => {
  it('given up while its start is under way, or at any later moment, none is left open at the daemon', async () => {
    for (let turns = 0; turns < 24; turns++) {
      const { client, server } = pair()
      const stop = new AbortController()
      const running = client.transaction((t) => t.write('/w/x', 'v'), { signal: stop.signal })
      for (let i = 0; i < turns; i++) await undefined
      stop.abort(new Error('no more'))
      await running.catch(() => {})
      await client.read('/')
      expect([turns, server.connections.map(({ openTransactions }) => openTransactions)]).toEqual([turns, [0, 0]])
    }
  })

  const increment = (client: XenStoreClient, between: () => Promise<unknown> = async () => {}) =>
    client.transaction(async (t) => {
      const count = Number(await t.read('/count'))
      await between()
      await t.write('/count', String(count + 1))
      return count
    })

  it('XS-cli-12, XS-linux-5: after a conflict the body runs again', async () => {
    const { client, other } = pair()
    await client.write('/count', '0')
    let rounds = 0
    const seen = await increment(client, async () => {
      if (rounds++ < 3) await other.write('/count', String(rounds * 10))
    })
    expect([seen, rounds, await client.read('/count')]).toEqual([30, 4, '31'])
  })

  it('many clients that count lose nothing', async () => {
    const { client, server } = pair()
    await client.write('/count', '0')
    const clients = Array.from({ length: 8 }, () => connectInProcess(server))
    await Promise.all(clients.flatMap((each) => [increment(each), increment(each), increment(each)]))
    expect(await client.read('/count')).toBe('24')
  })

  it('a body that fails is discarded; attempts and signal end the trying', async () => {
    const { client, other, server } = pair()
    await client.write('/count', '0')
    const fails = client.transaction(async (t) => {
      await t.write('/count', '5')
      throw new Error('no')
    })
    await expect(fails).rejects.toThrow('no')
    expect(await client.read('/count')).toBe('0')
    const always = (options: object) =>
      client.transaction(async (t) => {
        await t.read('/count')
        await other.write('/count', 'x')
        await t.write('/count', 'y')
      }, options)
    await expect(always({ attempts: 3 })).rejects.toMatchObject({ code: 'EAGAIN' })
    const stop = new AbortController()
    setTimeout(() => stop.abort(new Error('enough')), 5)
    const endless = (async () => {
      for (;;) {
        await always({ signal: stop.signal, attempts: 1 }).catch((error) => {
          if (error.code !== 'EAGAIN') throw error
        })
        await new Promise((resolve) => setTimeout(resolve, 1))
      }
    })()
    await expect(endless).rejects.toThrow('enough')
    expect(server.connections.every(({ openTransactions }) => openTransactions === 0)).toBe(true)
  })
})

it('closing fails what is under way and ends the watches', async () => {
  const { client } = pair()
  const watch = await client.watch('/w')
  client.close()
  await expect(client.read('/')).rejects.toMatchObject({ code: 'EIO' })
  let count = 0
  for await (const _ of watch) count++
  expect(count).toBe(1)
})
