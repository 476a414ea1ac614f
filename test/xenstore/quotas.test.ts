import { expect, it } from 'vitest'
import { insideConnection } from '../../src/xenstore/handles.js'
import { C_4_23, connectInProcess, XenStored } from '../../src/xenstore/index.js'
import { WriteRate } from '../../src/xenstore/rate.js'
import { insideStore } from '../../src/xenstore/server.js'
import { OCAML_4_17, OCAML_QUOTAS } from './ocaml.js'
import { Script } from './script.js'

/** A daemon with a guest 5 that owns /g. */
function withGuest(options: ConstructorParameters<typeof Script>[0] = {}): Script {
  const s = new Script(options, 'a', 'g5')
  return s.run(['a', 0, 'MKDIR', '/g|', 'OK|'], ['a', 0, 'SET_PERMS', '/g|n5|', 'OK|'])
}

it('XS-quota-1: names of children count for the size of a directory: 425 of them', () => {
  const s = withGuest()
  for (let i = 0; i < 425; i++) expect(s.ask('g5', 0, 'MKDIR', `/g/n${i}|`)).toBe('OK|')
  s.run(['g5', 0, 'MKDIR', '/g/n425|', 'ENOSPC'], ['a', 0, 'MKDIR', '/g/n425|', 'OK|'])
})

it('XS-ox-10: node size: header, permissions, value and names must stay below 2048 bytes', () => {
  const s = withGuest()
  s.run(
    ['g5', 0, 'WRITE', `/g/x|${'v'.repeat(2048 - 24 - 8 - 1)}`, 'OK|'],
    ['g5', 0, 'WRITE', `/g/x|${'v'.repeat(2048 - 24 - 8)}`, 'ENOSPC'],
    ['g5', 0, 'SET_PERMS', '/g/x|n5|r1|', 'ENOSPC'],
    ['g5', 0, 'WRITE', `/g/y|${'v'.repeat(2048 - 24 - 8)}`, 'ENOSPC'],
    ['g5', 0, 'READ', '/g/y|', 'ENOENT'],
    ['a', 0, 'WRITE', `/g/x|${'v'.repeat(4000)}`, 'OK|'],
  )
  const o = new Script({ profile: OCAML_4_17 })
  o.run(['a', 0, 'WRITE', `/x|${'v'.repeat(2048)}`, 'E2BIG'])
})

it('XS-quota-2: nodes count for their owner; SET_PERMS by domain 0 moves the count', () => {
  const s = withGuest({ quotas: { nodes: 4 } })
  const owned = () => insideStore(s.server).store.accounts.of(5).nodes
  expect(owned()).toBe(1)
  s.run(
    ['a', 0, 'MKDIR', '/g/by-dom0|', 'OK|'],
    ['g5', 0, 'MKDIR', '/g/1/2|', 'OK|'],
    ['g5', 0, 'MKDIR', '/g/3|', 'ENOSPC'],
  )
  expect(owned()).toBe(4)
  s.run(['a', 0, 'SET_PERMS', '/g/by-dom0|b0|', 'OK|'], ['g5', 0, 'MKDIR', '/g/3|', 'OK|'])
  s.run(['a', 0, 'SET_PERMS', '/g/by-dom0|n5|', 'OK|'])
  expect(owned()).toBe(5)
  s.run(['g5', 0, 'RM', '/g/1|', 'OK|'])
  expect(owned()).toBe(3)
})

it('XS-ox-11, XS-quota-5: 129 watches in C 4.17, 127 in 4.23, 101 in OCaml', () => {
  const most = (options: ConstructorParameters<typeof Script>[0]) => {
    const s = new Script(options, 'g5', 'a')
    for (let i = 0; ; i++) {
      const answer = s.ask('g5', 0, 'WATCH', `/w${i}|t|`)
      if (answer !== 'OK|') return [i, answer]
    }
  }
  expect(most({})).toEqual([129, 'E2BIG'])
  expect(most({ profile: C_4_23 })).toEqual([127, 'ENOSPC'])
  expect(most({ profile: OCAML_4_17, quotas: OCAML_QUOTAS })).toEqual([101, 'EQUOTA'])
})

it('11 transactions of a guest, any number of domain 0', () => {
  const s = withGuest()
  for (let i = 1; i <= 11; i++) s.run(['g5', 0, 'TRANSACTION_START', '|', `${i}|`])
  s.run(['g5', 0, 'TRANSACTION_START', '|', 'ENOSPC'])
  for (let i = 1; i <= 100; i++) s.run(['a', 0, 'TRANSACTION_START', '|', `${i}|`])
})

it('a guest’s transaction touches 1024 nodes at most, then it has failed', () => {
  const s = withGuest({ quotas: { nodeSize: 100_000 } })
  s.run(['g5', 0, 'TRANSACTION_START', '|', '1|'])
  for (let i = 0; i < 1023; i++) s.send('g5', 1, 'READ', `/g/${i}|`)
  s.run(['g5', 1, 'READ', '/g/9999|', 'ENOSPC'], ['g5', 1, 'TRANSACTION_END', 'T|', 'ENOMEM'])
})

it('XS-quota-3, XS-adv-326: with 20 replies and events under way a guest is not read', () => {
  const s = withGuest()
  s.peer('g5').reading = false
  const ids = Array.from({ length: 30 }, () => s.send('g5', 0, 'READ', '/g|'))
  expect(insideStore(s.server).store.accounts.of(5).outstanding).toBe(20)
  s.peer('g5').fetch()
  expect(ids.map((id) => s.reply(id)?.text)).toEqual(Array(30).fill(''))
  expect(insideStore(s.server).store.accounts.of(5).outstanding).toBe(0)
})

it('XS-quota-3: events that others have not fetched count for the guest that caused them', () => {
  const s = withGuest()
  s.run(['a', 0, 'WATCH', '/g|t|', 'OK|', ['a /g|t|']])
  s.peer('a').reading = false
  for (let i = 0; i < 20; i++) expect(s.ask('g5', 0, 'WRITE', `/g/${i}|v`)).toBe('OK|')
  expect(insideStore(s.server).store.accounts.of(5).outstanding).toBe(20)
  const waits = s.send('g5', 0, 'READ', '/g|')
  expect(s.reply(waits)).toBeUndefined()
  s.peer('a').fetch()
  expect(s.reply(waits)?.text).toBe('')
  s.sound()
})

it('XS-quota-4: while another transaction is open a guest’s writes are limited to 200 per second', () => {
  let now = 0
  const s = withGuest({ now: () => now })
  for (let i = 0; i < 3000; i++) expect(s.ask('g5', 0, 'WRITE', '/g|v')).toBe('OK|')
  s.run(['a', 0, 'TRANSACTION_START', '|', '1|'])
  let free = 0
  while (s.ask('g5', 0, 'WRITE', '/g|v') === 'OK|') free++
  // Its own burst, the common reserve, and the one that brings it into debt, behind which the last one waits.
  expect(free).toBe(1011)
  expect(s.server.nextTick).toBe(5)
  const waiting = s.send('g5', 0, 'READ', '/g|')
  // The write that waited is served first, and costs as much again.
  for (const at of [5, 10]) {
    expect(s.reply(waiting)).toBeUndefined()
    now = at
    s.server.tick()
  }
  expect(s.reply(waiting)?.text).toBe('v')
  const rate = new WriteRate(() => now)
  for (let i = 0; i < 1012; i++) rate.debit(5)
  expect(rate.recovery(5)).toBe(10)
  now += 10
  expect(rate.inDebt(5)).toBe(false)
})

it('XS-adv-326: at the hard memory limit a guest is not read, at the soft one the embedder is told', () => {
  const told: number[] = []
  const s = withGuest({
    quotas: { memorySoft: 20_000, memoryHard: 30_000 },
    onMemoryWarning: (domid) => told.push(domid),
  })
  let wrote = 0
  while (s.ask('g5', 0, 'WRITE', `/g/${wrote}|${'v'.repeat(1900)}`) === 'OK|') wrote++
  expect(wrote).toBeGreaterThan(12)
  expect(wrote).toBeLessThan(17)
  expect(told).toEqual([5])
})

it('XS-adv-416: a request costs its guest nothing once it is handled, even if the reply waits', () => {
  const s = withGuest()
  s.peer('g5').reading = false
  s.send('g5', 0, 'WRITE', `/g/x|${'v'.repeat(1000)}`)
  const { connection } = s.peer('g5')
  expect(connection.inputBytes).toBe(0)
  expect(connection.outputBytes).toBe(16 + 3)
})

it('XS-adv-483: a domain that takes over a number begins with no usage', () => {
  const s = withGuest()
  s.run(['g5', 0, 'MKDIR', '/g/x|', 'OK|'], ['g5', 0, 'WATCH', '/g|t|', 'OK|', ['g5 /g|t|']])
  s.run(['g5', 0, 'TRANSACTION_START', '|', '1|'], ['a', 0, 'WATCH', '/g/x|t|', 'OK|', ['a /g/x|t|']])
  // Events of the old one’s requests that others have not fetched are not the new one’s.
  s.peer('a').reading = false
  s.send('g5', 0, 'WRITE', '/g/x|v')
  expect(insideStore(s.server).store.accounts.of(5).outstanding).toBe(1)
  s.peer('g5').reading = false
  s.send('g5', 0, 'READ', '/g|')
  insideStore(s.server).introductions.release(5)
  s.connect('h5')
  expect(insideStore(s.server).store.accounts.of(5)).toEqual({
    nodes: 0,
    nodeBytes: 0,
    watches: 0,
    watchBytes: 0,
    transactions: 0,
    outstanding: 0,
  })
  s.sound()
})

it('privileged clients have no quota, but what waits for one of them is bounded', async () => {
  const server = new XenStored({ outputMax: 10_000 })
  let ended = false
  const end = () => {
    ended = true
  }
  const connection = server.connect({ wake: () => {}, fail: () => {}, end })
  insideStore(server).watches.add(insideConnection('test', connection), {
    path: '/',
    token: 't',
    relative: false,
    depth: undefined,
  })
  const client = connectInProcess(server)
  for (let i = 0; i < 1000 && !ended; i++) await client.write(`/x${i}`, 'v')
  expect(ended).toBe(true)
  expect(connection.outputBytes).toBe(0)
})
