import { expect, it } from 'vitest'
import { insideConnection } from '../../src/xenstore/handles.js'
import { C_4_23, connectInProcess, type DomainState, XenStored } from '../../src/xenstore/index.js'
import { insideStore } from '../../src/xenstore/server.js'
import { OCAML_4_17 } from './ocaml.js'
import { Script } from './script.js'

/** A host whose domains can be shut down and destroyed, and whose rings lead nowhere. */
function makeHost() {
  const states = new Map<number, DomainState>([[0, { shutdown: false, dying: false }]])
  const calls: string[] = []
  return {
    states,
    calls,
    run: (domid: number) => states.set(domid, { shutdown: false, dying: false }),
    shut: (domid: number) => states.set(domid, { shutdown: true, dying: false }),
    host: {
      state: (domid: number) => states.get(domid) ?? undefined,
      connect: (domid: number, gfn: number, port: number) => {
        calls.push(`connect ${domid} ${gfn} ${port}`)
        if (port === 666) return undefined
        const page = new Uint8Array(4096)
        new Uint32Array(page.buffer).set([7, 8, 9, 10, 0, 1, 0], 512)
        return {
          page: () => page,
          channel: { notify: () => void calls.push(`notify ${domid} ${port}`), onEvent: () => {} },
          close: () => void calls.push(`close ${domid} ${port}`),
        }
      },
    },
  }
}

it('XS-dom-1, XS-dom-2: INTRODUCE maps, binds, resets, answers, and tells once', () => {
  const { host, calls, run } = makeHost()
  run(5)
  const s = new Script({ host })
  s.run(
    ['b', 0, 'WATCH', '@introduceDomain|t|', 'OK|', ['b @introduceDomain|t|']],
    ['a', 0, 'INTRODUCE', '5|100|', 'EINVAL'],
    ['a', 0, 'INTRODUCE', '5|100|0|', 'EINVAL'],
    ['a', 0, 'INTRODUCE', '5|100|-3|', 'EINVAL'],
    ['a', 0, 'INTRODUCE', '77|100|3|', 'EINVAL'],
    ['a', 0, 'INTRODUCE', '5|100|666|', 'EINVAL'],
    ['a', 0, 'IS_DOMAIN_INTRODUCED', '5|', 'F|'],
    ['a', 0, 'INTRODUCE', '5|100|3|', 'OK|', ['b @introduceDomain|t|']],
    ['a', 0, 'IS_DOMAIN_INTRODUCED', '5|', 'T|'],
  )
  expect(calls).toEqual(['connect 5 100 666', 'connect 5 100 3', 'notify 5 3'])
})

it('XS-dom-3: INTRODUCE of a known domain binds anew and drops what it had, silently', () => {
  const { host, calls, run } = makeHost()
  run(5)
  const s = new Script({ host }, 'a', 'b')
  s.run(
    ['b', 0, 'WATCH', '@introduceDomain|t|', 'OK|', ['b @introduceDomain|t|']],
    ['a', 0, 'INTRODUCE', '5|100|3|', 'OK|', ['b @introduceDomain|t|']],
  )
  const [, , guest] = s.server.connections
  const { watches, transactions } = insideStore(s.server)
  watches.add(insideConnection('test', guest!), { path: '/x', token: 't', relative: false, depth: undefined })
  transactions.start(insideConnection('test', guest!), undefined)
  calls.length = 0
  s.run(['a', 0, 'INTRODUCE', '5|101|4|', 'OK|', []])
  expect(calls).toEqual(['close 5 3', 'connect 5 101 4', 'notify 5 4'])
  expect(insideConnection('test', guest!)).toMatchObject({
    watches: new Map(),
    transactions: new Map(),
    closed: false,
  })

  const o = new Script({ host, profile: OCAML_4_17 })
  o.run(
    ['a', 0, 'INTRODUCE', '5|1|3|', 'OK|'],
    ['a', 0, 'INTRODUCE', '5|1|4|', 'EINVAL'],
    ['a', 0, 'INTRODUCE', '5|1|3|', 'OK|'],
  )
})

it('XS-dom-3: INTRODUCE of a known domain that is dying or gone is OK and maps nothing', () => {
  const { host, states, calls, run } = makeHost()
  run(5)
  const s = new Script({ host }).run(['a', 0, 'INTRODUCE', '5|100|3|', 'OK|'])
  const before = calls.filter((call) => call.startsWith('connect'))
  states.set(5, { shutdown: false, dying: true })
  s.run(['a', 0, 'INTRODUCE', '5|100|4|', 'OK|'])
  states.delete(5)
  s.run(['a', 0, 'INTRODUCE', '5|100|4|', 'OK|'])
  expect(calls.filter((call) => call.startsWith('connect'))).toEqual(before)
})

it('XS-dom-4: IS_DOMAIN_INTRODUCED knows connected domains, 0 and DOMID_SELF', () => {
  const s = new Script({}, 'a', 'g5')
  s.run(
    ['a', 0, 'IS_DOMAIN_INTRODUCED', '0|', 'T|'],
    ['a', 0, 'IS_DOMAIN_INTRODUCED', '32752|', 'T|'],
    ['a', 0, 'IS_DOMAIN_INTRODUCED', '5|', 'T|'],
    ['a', 0, 'IS_DOMAIN_INTRODUCED', '6|', 'F|'],
    ['g5', 0, 'IS_DOMAIN_INTRODUCED', '5|', 'EACCES'],
  )
})

it('XS-dom-5, XS-ox-13: RELEASE and RESUME want a connected domain other than 0', () => {
  const s = new Script({}, 'a', 'g5')
  for (const type of ['RELEASE', 'RESUME'] as const)
    s.run(['a', 0, type, '0|', 'EINVAL'], ['a', 0, type, 'x|', 'EINVAL'], ['a', 0, type, '7|', 'ENOENT'])
  s.run(['a', 0, 'RESUME', '5|', 'OK|'], ['a', 0, 'RELEASE', '5|', 'OK|'], ['a', 0, 'RELEASE', '5|', 'ENOENT'])
  expect(s.peer('g5').ended).toBe(true)
  const o = new Script({ profile: OCAML_4_17 })
  o.run(['a', 0, 'RELEASE', '0|', 'ENOENT'], ['a', 0, 'RELEASE', '7|', 'EINVAL'])
})

it('XS-dom-6: a shutdown is told once, and again after RESUME', () => {
  const { host, run, shut } = makeHost()
  run(5)
  run(6)
  const s = new Script({ host }, 'a', 'g5', 'g6')
  s.run(['a', 0, 'WATCH', '@releaseDomain|t|', 'OK|', ['a @releaseDomain|t|']])
  const changed = () => {
    s.log = []
    s.server.domainsChanged()
    return s.log.length
  }
  expect(changed()).toBe(0)
  shut(5)
  expect([changed(), changed()]).toEqual([1, 0])
  s.run(['a', 0, 'RESUME', '5|', 'OK|'])
  expect([changed(), changed()]).toEqual([1, 0])
  expect(s.peer('g5').ended).toBe(false)
})

it('XS-dom-7, XS-adv-419: the order of a death; its nodes go, they are handed to nobody', () => {
  const { host, states, run, shut } = makeHost()
  run(5)
  const s = new Script({ host }, 'a', 'g5')
  s.run(
    ['a', 0, 'WRITE', '/g/keep/deep|v', 'OK|'],
    ['a', 0, 'WRITE', '/g/his/below|v', 'OK|'],
    ['a', 0, 'SET_PERMS', '/g/his|n5|', 'OK|'],
    ['a', 0, 'SET_PERMS', '/g/keep/deep|n5|', 'OK|'],
    ['a', 0, 'SET_PERMS', '@releaseDomain|n0|r5|r6|', 'OK|'],
    ['a', 0, 'WATCH', '@releaseDomain|r|', 'OK|', ['a @releaseDomain|r|']],
    ['a', 0, 'WATCH', '/g|g|', 'OK|', ['a /g|g|']],
    ['a', 0, 'WATCH', '/g/his/below|b|', 'OK|', ['a /g/his/below|b|']],
    ['g5', 0, 'WATCH', '/g|g|', 'OK|', ['g5 /g|g|']],
  )
  s.log = []
  shut(5)
  s.server.domainsChanged()
  states.delete(5)
  s.server.domainsChanged()
  expect(s.log).toEqual([
    'a @releaseDomain|r|',
    'a /g/keep/deep|g|',
    'a /g/his/below|b|',
    'a /g/his|g|',
    'a @releaseDomain|r|',
  ])
  s.run(['a', 0, 'DIRECTORY', '/g|', 'keep|'], ['a', 0, 'DIRECTORY', '/g/keep|', ''])
  expect(
    insideStore(s.server)
      .specials.get('@releaseDomain')!
      .perms.map((entry) => entry.domid),
  ).toEqual([0, 6])
  expect(s.peer('g5').ended).toBe(true)
})

it('XS-dom-7a: the root of a dead owner falls back to domain 0', () => {
  const s = new Script({}, 'a', 'g5')
  s.run(
    ['a', 0, 'SET_PERMS', '/|r5|w6|', 'OK|'],
    ['a', 0, 'RELEASE', '5|', 'OK|'],
    ['a', 0, 'GET_PERMS', '/|', 'r0|w6|'],
  )
})

it('XS-dom-8: entries of a dead domain stay listed; 4.23 deletes them', () => {
  for (const [profile, perms] of [
    [undefined, 'n0|r5|w6|'],
    [C_4_23, 'n0|w6|'],
  ] as const) {
    const s = new Script({ ...(profile ? { profile } : {}) }, 'a', 'g5')
    s.run(['a', 0, 'WRITE', '/x/y|v', 'OK|'], ['a', 0, 'SET_PERMS', '/x/y|n0|r5|w6|', 'OK|'])
    s.run(['a', 0, 'SET_PERMS', '/x|n0|r5|w6|', 'OK|'], ['a', 0, 'RELEASE', '5|', 'OK|'])
    s.run(['a', 0, 'GET_PERMS', '/x|', perms], ['a', 0, 'GET_PERMS', '/x/y|', perms])
  }
})

it('XS-dom-9, XS-adv-325: a guest whose connection was given up is not forgotten; its death is told', () => {
  const { host, states, run } = makeHost()
  run(5)
  const s = new Script({ host }, 'a', 'g5')
  s.run(['a', 0, 'WATCH', '@releaseDomain|t|', 'OK|', ['a @releaseDomain|t|']])
  insideStore(s.server).fault(insideConnection('test', s.peer('g5').connection), 2)
  s.log = []
  s.server.domainsChanged()
  expect(s.log).toEqual([])
  s.run(['a', 0, 'IS_DOMAIN_INTRODUCED', '5|', 'T|'])
  states.delete(5)
  s.log = []
  s.server.domainsChanged()
  expect(s.log).toEqual(['a @releaseDomain|t|'])
})

it('XS-dom-10: SET_TARGET wants two connected domains', () => {
  const s = new Script({}, 'a', 'g5', 'g6')
  s.run(
    ['a', 0, 'SET_TARGET', '5|', 'EINVAL'],
    ['a', 0, 'SET_TARGET', '5|77|', 'ENOENT'],
    ['a', 0, 'SET_TARGET', '77|5|', 'ENOENT'],
    ['a', 0, 'SET_PERMS', '/|n0|r8|', 'OK|'],
    ['a', 0, 'SET_TARGET', '8|5|', 'ENOENT'],
    ['a', 0, 'SET_TARGET', '5|6|', 'OK|'],
    ['g5', 0, 'SET_TARGET', '5|6|', 'EACCES'],
  )
  s.run(['a', 0, 'RELEASE', '6|', 'OK|'])
  expect(insideConnection('test', s.peer('g5').connection).target).toBeUndefined()
})

it('XS-adv-425: connections that end while others are gone through leave nothing stale', () => {
  const { host, states, run } = makeHost()
  const server = new XenStored({ host })
  const seen: string[] = []
  for (let domid = 1; domid <= 20; domid++) {
    run(domid)
    connectInProcess(server, domid)
  }
  const watcher = server.connect({
    wake: () => {
      // In the midst of the round over all domains, the watcher releases another one of them.
      watcher.take(Number.MAX_SAFE_INTEGER)
      const next = [...Array(20).keys()].find((i) => insideStore(server).domains.get(i + 1)?.connection)
      if (next === undefined) return
      seen.push(`release ${next + 1}`)
      insideStore(server).introductions.release(next + 1)
    },
    fail: () => {},
    end: () => {},
  })
  insideStore(server).watches.add(insideConnection('test', watcher), {
    path: '@releaseDomain',
    token: 't',
    relative: false,
    depth: undefined,
  })
  for (let domid = 1; domid <= 20; domid += 2) states.delete(domid)
  server.domainsChanged()
  expect(seen.length).toBeGreaterThan(0)
  expect(server.connections).toEqual([watcher])
  expect(
    insideStore(server)
      .domains.all()
      .map(({ domid }) => domid),
  ).toEqual([0])
})

it('XS-dom-6: a dying domain without a connection keeps its nodes until it is gone', () => {
  const { host, states, run } = makeHost()
  run(5)
  const s = new Script({ host })
  s.run(['a', 0, 'WRITE', '/n|v', 'OK|'], ['a', 0, 'SET_PERMS', '/n|n5|', 'OK|'])
  states.set(5, { shutdown: true, dying: true })
  s.server.domainsChanged()
  s.run(['a', 0, 'READ', '/n|', 'v'])
  states.delete(5)
  s.server.domainsChanged()
  s.run(['a', 0, 'READ', '/n|', 'ENOENT'])
})
