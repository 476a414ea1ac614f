/** The ring: through this library's own event channels, and against guests that write what they like. */

import { describe, expect, it } from 'vitest'
import {
  C_4_23,
  checkStore,
  encodeText,
  type Profile,
  REQUESTS,
  RESPONSES,
  RingClientTransport,
  XenStoreClient,
  XS,
} from '../../src/xenstore/index.js'
import { insideStore } from '../../src/xenstore/server.js'
import { fromLatin1 } from '../../src/xenstore/text.js'
import { OCAML_4_17 } from './ocaml.js'
import { home, Machine } from './ring-machine.js'

describe('a guest, its ring, its event channel and the daemon', () => {
  it('XS-ring-3, XS-ring-4: a request travels memory, send, upcall, server, ring, send, upcall', async () => {
    const machine = new Machine()
    const dom0 = await home(machine, 5)
    const guest = machine.client(5)
    expect(machine.sends).toBe(0)
    await guest.write('name', 'linux')
    // Request written; read as header, rest; answered as one piece; taken.
    expect(machine.sends).toBe(5)
    expect(await dom0.read('/local/domain/5/name')).toBe('linux')
    await expect(guest.read('/')).rejects.toMatchObject({ code: 'EACCES' })
  })

  it('XS-ring-1, XS-ring-5: messages wrap, and larger ones than the ring take turns', async () => {
    const machine = new Machine({ quotas: { nodeSize: 5000 } })
    await home(machine, 5)
    const guest = machine.client(5)
    for (const size of [0, 1, 500, 1007, 1008, 1009, 1024, 2048, 4000, 4090]) {
      const value = Array.from({ length: size }, (_, i) => String.fromCharCode(97 + (i % 26))).join('')
      await guest.write('v', value)
      expect(await guest.read('v')).toBe(value)
    }
  })

  it('XS-ring-1, XS-ring-6: indexes run freely modulo 2³²', async () => {
    const machine = new Machine()
    await home(machine, 5)
    const { peer, ring, port } = machine.guest(5)
    const guest = new XenStoreClient(new RingClientTransport(peer))
    machine.introduce(5, port)
    expect(['req_cons', 'req_prod', 'rsp_cons', 'rsp_prod'].map((word) => ring.get(word as 'req_cons'))).toEqual([
      0, 0, 0, 0,
    ])
    for (const word of ['req_cons', 'req_prod', 'rsp_cons', 'rsp_prod'] as const) ring.set(word, 0xffff_ff00)
    for (let i = 0; i < 50; i++) await guest.write('x', `value ${i}`)
    expect(ring.get('req_prod')).toBeLessThan(10_000)
    expect(await guest.read('x')).toBe('value 49')
  })

  it('XS-ring-4: a guest that notifies as little as Linux does is served', () => {
    const machine = new Machine()
    const { peer, ring, port } = machine.guest(5)
    machine.introduce(5, port)
    let replies = ''
    let received = 0
    const take = () => {
      for (;;) {
        const full = (ring.get('rsp_prod') - ring.get('rsp_cons')) >>> 0 === 1024
        const bytes = ring.read(RESPONSES, 1024) as Uint8Array
        if (!bytes.length) return
        received += bytes.length
        replies += fromLatin1(bytes)
        if (full) peer.channel.notify()
      }
    }
    peer.channel.onEvent(take)
    const request = encodeText(XS.GET_DOMAIN_PATH, 9, 0, '5\0')
    for (let i = 0; i < 500; i++) {
      const drained = ring.get('req_cons') === ring.get('req_prod')
      let at = 0
      while (at < request.length)
        at += ring.write(REQUESTS, (to, where, max) => {
          const piece = request.subarray(at, at + max)
          to.set(piece, where)
          return piece.length
        })
      if (drained) peer.channel.notify()
    }
    expect(replies.split('/local/domain/5\0')).toHaveLength(501)
    expect(received).toBe(500 * (16 + 16))
  })

  it('XS-quota-3: what a guest may not ask yet stays in its ring, and goes on when it reads', () => {
    const machine = new Machine()
    const { peer, ring, port } = machine.guest(5)
    machine.introduce(5, port)
    peer.channel.onEvent(() => {})
    ring.write(REQUESTS, (to, at) => {
      for (let i = 0; i < 30; i++) to.set(encodeText(XS.READ, i, 0, '/local/domain/5/none\0'), at + i * 37)
      return Math.min(1024, 27 * 37)
    })
    // Fill the response ring, so that replies wait behind it.
    ring.set('rsp_prod', 1024)
    peer.channel.notify()
    expect(insideStore(machine.server).store.accounts.of(5).outstanding).toBe(20)
    expect((ring.get('req_prod') - ring.get('req_cons')) >>> 0).toBe(7 * 37)
    ring.set('rsp_cons', 1024)
    peer.channel.notify()
    expect(insideStore(machine.server).store.accounts.of(5).outstanding).toBe(0)
    expect((ring.get('rsp_prod') - 1024) >>> 0).toBe(27 * (16 + 7))
  })

  it('XS-ring-7: the features are those of the daemon, and no bit is taken away', () => {
    const shown = (profile: Profile | undefined, before = 0) => {
      const machine = new Machine(profile ? { profile } : {})
      const { ring, port } = machine.guest(5)
      ring.set('server_features', before)
      machine.introduce(5, port)
      return ring.get('server_features')
    }
    expect([shown(undefined), shown(OCAML_4_17), shown(C_4_23), shown(OCAML_4_17, 8)]).toEqual([0, 1, 14, 9])
  })

  it('XS-dom-1: a guest that waits for its connection is told', () => {
    const machine = new Machine()
    const { peer, ring, port } = machine.guest(5)
    let told = 0
    peer.channel.onEvent(() => {
      told++
    })
    ring.set('connection', 1)
    for (const word of ['req_cons', 'req_prod', 'rsp_cons', 'rsp_prod'] as const) ring.set(word, 77)
    machine.introduce(5, port)
    expect([told, ring.get('connection'), ring.get('req_prod'), ring.get('rsp_cons')]).toEqual([1, 0, 0, 0])
  })

  it('XS-ring-9: reconnection drops all that was begun and starts both queues anew', async () => {
    const machine = new Machine({ profile: OCAML_4_17 })
    await home(machine, 5)
    const { peer, ring, port } = machine.guest(5)
    machine.introduce(5, port)
    const begun = new XenStoreClient(new RingClientTransport(peer))
    await begun.watch('x')
    begun.transaction(() => new Promise(() => {})).catch(() => {})
    await begun.read('/').catch(() => {})
    expect(insideStore(machine.server).store.accounts.of(5)).toMatchObject({ watches: 1, transactions: 1 })
    ring.write(REQUESTS, (to, at) => {
      to.set([1, 2, 3, 4, 5], at)
      return 5
    })
    ring.set('connection', 1)
    peer.channel.notify()
    expect(insideStore(machine.server).store.accounts.of(5)).toMatchObject({ watches: 0, transactions: 0 })
    expect([ring.get('connection'), ring.get('req_prod'), ring.get('rsp_prod')]).toEqual([0, 0, 0])
    const again = new XenStoreClient(new RingClientTransport(peer))
    await again.write('y', 'v')
    expect(await again.read('y')).toBe('v')
  })

  it('XS-dom-7: a guest dies: its port is closed, its page let go, its death told', async () => {
    const machine = new Machine()
    const dom0 = await home(machine, 5)
    const seen: string[] = []
    await dom0.watch('@releaseDomain', { onEvent: ({ path }) => seen.push(path) })
    const guest = machine.client(5)
    await guest.write('x', 'v')
    const ports = machine.xen.domain(0)!
    machine.xen.destroyDomain(machine.xen.domain(5)!)
    machine.server.domainsChanged()
    expect(seen).toEqual(['@releaseDomain', '@releaseDomain'])
    expect(await dom0.exists('/local/domain/5')).toBe(false)
    expect(ports.eventChannelOp('status', { dom: 0, port: 1 }).status).toBe(0)
    const next = machine.client(5)
    await expect(next.read('/local/domain/5')).rejects.toMatchObject({ code: 'EACCES' })
  })

  it('two guests and dom0 share the store; each hears of what it may read', async () => {
    const machine = new Machine()
    const dom0 = await home(machine, 5)
    await home(machine, 6)
    const [five, six] = [machine.client(5), machine.client(6)]
    const seen: string[] = []
    await six.watch('/local/domain/5', { onEvent: ({ path }) => seen.push(path) })
    await five.write('secret', '1')
    await five.write('open', '1')
    await five.setPermissions('open', ['n5', 'r6'])
    await five.write('open', '2')
    expect(seen).toEqual(['/local/domain/5', '/local/domain/5/open', '/local/domain/5/open'])
    expect(await six.read('/local/domain/5/open')).toBe('2')
    await dom0.transaction(async (t) => t.write('/local/domain/6/from', await t.read('/local/domain/5/secret')))
    expect(await six.read('from')).toBe('1')
    expect(checkStore(machine.server)).toEqual([])
  })
})
