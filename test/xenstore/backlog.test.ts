/** Output that nobody reads, over all clients of domain 0. */

import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { connectSocket, serveSocket } from '../../src/node/xenstored_socket.js'
import {
  type Connection,
  checkStore,
  connectInProcess,
  encodeText,
  type Transport,
  XenStored,
  XS,
} from '../../src/xenstore/index.js'
import { temporary } from './real.js'

/** A client of domain 0 that watches everything and reads nothing. */
function sleeper(store: XenStored, watches: number, held?: () => number) {
  const state = { ended: false }
  const transport: Transport = {
    wake: () => {},
    fail: () => {},
    end: () => {
      state.ended = true
    },
    ...(held && { held }),
  }
  const connection: Connection = store.connect(transport)
  for (let i = 0; i < watches; i++)
    store.receive(connection, encodeText(XS.WATCH, i, 0, `/\0${'t'.repeat(1000)}${i}\0`))
  return {
    connection,
    get ended() {
      return state.ended
    },
  }
}

const waiting = (store: XenStored) => store.connections.reduce((sum, { outputBytes }) => sum + outputBytes, 0)

describe('output over all clients', () => {
  it('XS-sock-5: never is more waiting than the limit, whatever a single request causes', async () => {
    const store = new XenStored({ outputTotal: 1 << 20 })
    for (let i = 0; i < 50; i++) sleeper(store, 5)
    const writer = connectInProcess(store)
    let most = 0
    for (let i = 0; i < 100; i++) {
      await writer.write(`/f/${i}`, 'v')
      most = Math.max(most, waiting(store))
    }
    // One request that removes 100 nodes, with 5 events each for everybody who is left.
    await writer.rm('/f')
    most = Math.max(most, waiting(store))
    expect(most).toBeLessThanOrEqual(1 << 20)
    expect(most).toBeGreaterThan(1 << 19)
    expect(store.connections.length).toBeLessThan(51)
    expect(checkStore(store)).toEqual([])
  })

  it('XS-sock-5: the client that holds most is cut off first', async () => {
    const store = new XenStored({ outputTotal: 200_000 })
    const small = sleeper(store, 1)
    const large = sleeper(store, 20)
    const middle = sleeper(store, 5)
    const writer = connectInProcess(store)
    for (let i = 0; i < 1000 && !large.ended; i++) await writer.write(`/x${i}`, 'v')
    expect([small.ended, large.ended, middle.ended]).toEqual([false, true, false])
    for (let i = 0; i < 1000 && !middle.ended; i++) await writer.write(`/y${i}`, 'v')
    expect([small.ended, middle.ended]).toEqual([false, true])
    expect(await writer.read('/x0')).toBe('v')
  })

  it('XS-sock-5: what a transport has taken and holds counts', async () => {
    const store = new XenStored({ outputTotal: 100_000 })
    let held = 90_000
    const holder = sleeper(store, 1, () => held)
    const other = sleeper(store, 9)
    const writer = connectInProcess(store)
    for (let i = 0; i < 1000 && !holder.ended; i++) await writer.write(`/x${i}`, 'v')
    expect([holder.ended, other.ended]).toEqual([true, false])
    held = 0
  })

  it('XS-sock-5: a figure that a transport told long ago cuts off nobody', async () => {
    const store = new XenStored({ outputTotal: 100_000 })
    let held = 80_000
    const holder = sleeper(store, 0, () => held)
    store.receive(holder.connection, encodeText(XS.READ, 1, 0, '/\0'))
    held = 0
    const other = sleeper(store, 1)
    const writer = connectInProcess(store)
    for (let i = 0; i < 40; i++) await writer.write(`/x${i}`, 'v')
    expect(waiting(store)).toBeGreaterThan(20_000)
    expect([holder.ended, other.ended]).toEqual([false, false])
  })

  it('XS-sock-5: guests have quotas instead, and no part of the total', async () => {
    const store = new XenStored({ outputTotal: 10_000 })
    const guests = [1, 2, 3].map((domid) => {
      const state = { ended: false }
      const end = () => {
        state.ended = true
      }
      const connection = store.attachDomain(domid, { wake: () => {}, fail: () => {}, end })
      for (let i = 0; i < 5; i++)
        store.receive(connection, encodeText(XS.WATCH, i, 0, `@introduceDomain\0${'t'.repeat(2000)}${i}\0`))
      return state
    })
    expect(guests.map(({ ended }) => ended)).toEqual([false, false, false])
  })

  it('XS-sock-5: on sockets, bytes that wait in the process count, and the others are served', async () => {
    using place = temporary()
    const path = join(place.path, 's')
    const store = new XenStored({ outputTotal: 4 << 20 })
    const listening = await serveSocket(store, path)
    const sockets: Socket[] = []
    for (let i = 0; i < 20; i++) {
      const socket = connect(path)
      await new Promise((resolve) => socket.once('connect', resolve))
      socket.pause()
      for (let k = 0; k < 5; k++) socket.write(encodeText(XS.WATCH, k, 0, `/f\0${'t'.repeat(3000)}${k}\0`))
      sockets.push(socket)
    }
    const writer = await connectSocket(path)
    let most = 0
    for (let i = 0; i < 400; i++) {
      await writer.write(`/f/${i}`, 'v')
      most = Math.max(most, waiting(store))
    }
    expect(most).toBeLessThanOrEqual(4 << 20)
    expect(store.connections.length).toBeLessThan(21)
    expect(await writer.read('/f/399')).toBe('v')
    for (const socket of sockets) socket.destroy()
    writer.close()
    await listening.close()
    expect(store.connections).toEqual([])
  }, 30_000)
})
