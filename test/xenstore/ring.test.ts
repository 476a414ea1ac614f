/** The ring: through this library's own event channels, and against guests that write what they like. */

import { describe, expect, it } from 'vitest'
import { inside } from '../../src/domain/handles.js'
import { Hypervisor, type Vcpu } from '../../src/index.js'
import {
  C_4_23,
  checkStore,
  connectInProcess,
  type DomainHost,
  type EventChannelEnd,
  encodeText,
  type Profile,
  REQUESTS,
  RESPONSES,
  Ring,
  RingClientTransport,
  type RingPeer,
  XenStoreClient,
  XenStored,
  type XenStoredOptions,
  XS,
} from '../../src/xenstore/index.js'
import { insideStore } from '../../src/xenstore/server.js'
import { fromLatin1 } from '../../src/xenstore/text.js'
import { random } from '../random.js'
import { seedOr } from '../settings.js'
import { OCAML_4_17 } from './ocaml.js'

const PAGE = 4096
const RING_GFN = 3

/** A host where every domain has its memory, and events go through hypercalls and upcalls. */
class Machine {
  readonly xen: Hypervisor
  readonly server: XenStored
  readonly #handlers = new Map<Vcpu, Map<number, () => void>>()
  sends = 0

  constructor(options: Omit<XenStoredOptions, 'host'> = {}) {
    this.xen = Hypervisor.create({ onUpcall: (vcpu) => this.#upcall(vcpu) })
    this.xen.createDomain({ domid: 0 })
    const host: DomainHost = {
      state: (domid) => {
        const domain = this.xen.domain(domid)
        return domain ? { shutdown: inside(domain).shutdownCode >= 0, dying: domain.dying !== 'alive' } : null
      },
      connect: (domid, gfn, port) => {
        const domain = this.xen.domain(domid)
        if (!domain || domain.memory.frame(gfn) < 0) return null
        const bound = this.xen.domain(0)!.eventChannelOp('bind_interdomain', { remote_dom: domid, remote_port: port })
        return this.#peer(0, domid, gfn, Number(bound.local_port))
      },
    }
    this.server = new XenStored({ ...options, host })
  }

  /** Two-level events of a 64-bit guest: pending bits that are not masked, low to high. */
  #upcall(vcpu: Vcpu): void {
    const domain = this.xen.domain(vcpu.domid)!
    const { memory, sharedInfoGfn } = domain
    const view = new DataView(memory.memory.buffer, memory.base + sharedInfoGfn * PAGE, PAGE)
    while (view.getUint8(0)) {
      view.setUint8(0, 0)
      view.setBigUint64(8, 0n, true)
      for (let word = 0; word < 64; word++) {
        let pending = view.getBigUint64(2048 + word * 8, true)
        view.setBigUint64(2048 + word * 8, 0n, true)
        for (let bit = 0; pending; bit++, pending >>= 1n)
          if (pending & 1n) this.#handlers.get(vcpu)?.get(word * 64 + bit)?.()
      }
    }
  }

  #peer(domid: number, memoryOf: number, gfn: number, port: number): RingPeer {
    const vcpu = this.xen.domain(domid)!.vcpu(0)
    const { memory } = this.xen.domain(memoryOf)!
    const handlers = this.#handlers.get(vcpu) ?? new Map<number, () => void>()
    this.#handlers.set(vcpu, handlers)
    const channel: EventChannelEnd = {
      notify: () => {
        this.sends++
        if (this.xen.domain(domid)?.dying === 'alive') vcpu.eventChannelOp('send', { port })
      },
      onEvent: (callback) => void handlers.set(port, callback),
    }
    const close = () => {
      handlers.delete(port)
      if (this.xen.domain(domid)?.dying === 'alive') vcpu.eventChannelOp('close', { port })
    }
    return { page: () => memory.view().subarray(gfn * PAGE, (gfn + 1) * PAGE), channel, close }
  }

  /** Boots a guest: memory, an unbound port for domain 0, INTRODUCE. */
  guest(domid: number): { peer: RingPeer; ring: Ring; port: number } {
    if (!this.xen.domain(domid)) this.xen.createDomain({ domid })
    const { port } = this.xen.domain(domid)!.eventChannelOp('alloc_unbound', { dom: domid, remote_dom: 0 })
    const peer = this.#peer(domid, domid, RING_GFN, Number(port))
    return { peer, ring: new Ring(peer.page), port: Number(port) }
  }

  introduce(domid: number, port: number): void {
    this.server.introduce(domid, RING_GFN, port)
  }

  /** A guest with a client. */
  client(domid: number): XenStoreClient {
    const { peer, port } = this.guest(domid)
    const client = new XenStoreClient(new RingClientTransport(peer))
    this.introduce(domid, port)
    return client
  }
}

const home = async (machine: Machine, domid: number) => {
  const dom0 = connectInProcess(machine.server)
  if (!machine.xen.domain(domid)) machine.xen.createDomain({ domid })
  await dom0.mkdir(`/local/domain/${domid}`)
  await dom0.setPermissions(`/local/domain/${domid}`, [`n${domid}`])
  return dom0
}

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
