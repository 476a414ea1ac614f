/** A hostile guest on its ring: nonsense in indexes and requests hurts that guest alone. */

import { describe, expect, it } from 'vitest'
import {
  checkStore,
  connectInProcess,
  encodeText,
  REQUESTS,
  RESPONSES,
  type Ring,
  XS,
} from '../../src/xenstore/index.js'
import { insideStore } from '../../src/xenstore/server.js'
import { fromLatin1 } from '../../src/xenstore/text.js'
import { random } from '../random.js'
import { seedOr } from '../settings.js'
import { Machine } from './ring-machine.js'

describe('a hostile guest', () => {
  const hostile = () => {
    const machine = new Machine()
    const { peer, ring, port } = machine.guest(5)
    machine.introduce(5, port)
    return { machine, peer, ring }
  }
  const put = (ring: Ring, bytes: Uint8Array) =>
    ring.write(REQUESTS, (to, at) => {
      to.set(bytes, at)
      return bytes.length
    })

  it('XS-ring-1, XS-ring-2, XS-ring-8, XS-adv-420: indexes more than 1024 apart are an error, whatever their sign', async () => {
    for (const [cons, prod] of [
      [0, 1025],
      [1, 0],
      [0, 0xffff_ffff],
      [0x8000_0000, 0],
      [0, 0x8000_0000],
      [0xffff_ffff, 0x7fff_ffff],
    ]) {
      const { machine, peer, ring } = hostile()
      ring.set('req_cons', cons!)
      ring.set('req_prod', prod!)
      peer.channel.notify()
      expect(ring.get('error')).toBe(2)
      expect(machine.server.connections[0]!.ignored).toBe(true)
      const dom0 = connectInProcess(machine.server)
      expect(await dom0.isIntroduced(5)).toBe(true)
    }
    const { machine, peer, ring } = hostile()
    ring.set('rsp_cons', 1)
    put(ring, encodeText(XS.READ, 1, 0, '/\0'))
    peer.channel.notify()
    expect(ring.get('error')).toBe(2)
    expect(checkStore(machine.server)).toEqual([])
  })

  it('XS-wire-6, XS-ring-8: a header that announces too much is error 3, and nothing more is read', () => {
    const { machine, peer, ring } = hostile()
    put(ring, encodeText(XS.WATCH, 1, 0, '/x\0t\0'))
    peer.channel.notify()
    expect(insideStore(machine.server).watches.size).toBe(1)
    const header = encodeText(XS.READ, 1, 0, '')
    header[15] = 0x80
    put(ring, header)
    peer.channel.notify()
    expect(ring.get('error')).toBe(3)
    expect(insideStore(machine.server).watches.size).toBe(0)
    const before = ring.get('req_cons')
    put(ring, encodeText(XS.READ, 1, 0, '/\0'))
    peer.channel.notify()
    expect(ring.get('req_cons')).toBe(before)
    expect(checkStore(machine.server)).toEqual([])
  })

  it('XS-adv-484: an error inside a transaction leaves a clean state, and INTRODUCE a working connection', async () => {
    const { machine, peer, ring } = hostile()
    put(ring, encodeText(XS.TRANSACTION_START, 1, 0, '\0'))
    peer.channel.notify()
    put(ring, encodeText(XS.WRITE, 2, 1, '/x\0v'))
    ring.set('req_prod', 5000)
    peer.channel.notify()
    expect(insideStore(machine.server).store.accounts.of(5)).toMatchObject({ transactions: 0, outstanding: 0 })
    expect(checkStore(machine.server)).toEqual([])
    const again = machine.client(5)
    expect(await again.getDomainPath(5)).toBe('/local/domain/5')
  })

  it('half a message, for ever, is held and costs its length', async () => {
    const { machine, peer, ring } = hostile()
    put(ring, encodeText(XS.WRITE, 1, 0, `/x\0${'v'.repeat(900)}`).subarray(0, 700))
    for (let i = 0; i < 1000; i++) peer.channel.notify()
    expect(machine.server.connections[0]!.inputBytes).toBe(700)
    expect(await connectInProcess(machine.server).ls('/')).toEqual(['tool'])
  })

  it('a guest that changes the page while it is read gains nothing: what was read is a copy', () => {
    const { machine, peer, ring } = hostile()
    const page = peer.page()
    put(ring, encodeText(XS.GET_DOMAIN_PATH, 1, 0, '5\0'))
    peer.channel.onEvent(() => {
      page.fill(0xff, 0, 1024)
    })
    peer.channel.notify()
    expect(ring.get('error')).toBe(0)
    expect(fromLatin1(ring.read(RESPONSES, 1024) as Uint8Array).slice(16)).toBe('/local/domain/5\0')
    expect(machine.server.connections[0]!.ignored).toBe(false)
  })

  it('XS-adv-326, XS-adv-425: random words and bytes in the page, for ten thousand rounds and new guests', () => {
    const machine = new Machine()
    const next = random(seedOr(99))
    const words = ['req_cons', 'req_prod', 'rsp_cons', 'rsp_prod', 'connection', 'error', 'server_features'] as const
    let { peer, ring, port } = machine.guest(5)
    machine.introduce(5, port)
    for (let round = 0; round < 10_000; round++) {
      const what = next(10)
      if (what < 6) put(ring, encodeText(next(30), round, next(3), ['/x\0', 'a\0v', '/\0t\0', '\0', 'T\0'][next(5)]!))
      else if (what < 7) ring.set(words[next(7)]!, next(2) ? next(2 ** 32) : next(2000))
      else if (what < 8) peer.page()[next(4096)] = next(256)
      else ring.read(RESPONSES, 1024)
      peer.channel.notify()
      if (!insideStore(machine.server).domains.get(5)!.connection!.ignored) continue
      if (next(2)) {
        machine.xen.destroyDomain(machine.xen.domain(5)!)
        machine.server.domainsChanged()
        ;({ peer, ring, port } = machine.guest(5))
      } else ({ peer, ring, port } = machine.guest(5))
      machine.introduce(5, port)
    }
    expect(checkStore(machine.server)).toEqual([])
    expect(machine.server.connections.length).toBe(1)
  })
})
