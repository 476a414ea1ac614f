import { expect, it } from 'vitest'
import { insideConnection } from '../../src/xenstore/handles.js'
import { C_4_23, checkStore } from '../../src/xenstore/index.js'
import { insideStore } from '../../src/xenstore/server.js'
import { OCAML_4_17 } from './ocaml.js'
import { Script, script } from './script.js'

it('XS-watch-1: connection, absolute path and token make a watch', () => {
  script(
    'a b',
    ['a', 0, 'WATCH', 'x|t|', 'OK|', ['a x|t|']],
    ['a', 0, 'WATCH', '/local/domain/0/x|t|', 'EEXIST'],
    ['a', 0, 'WATCH', 'x|t|', 'EEXIST'],
    ['b', 0, 'WATCH', 'x|t|', 'OK|', ['b x|t|']],
    ['a', 0, 'WATCH', 'x||', 'OK|', ['a x||']],
    ['a', 0, 'WATCH', 'x|', 'EINVAL'],
    ['a', 0, 'WATCH', 'x|t', 'EINVAL'],
    ['a', 0, 'WATCH', 'x|t|0|', 'EINVAL'],
    ['a', 0, 'WATCH', '', 'EINVAL'],
  )
})

it('XS-watch-2: first the reply, then one event with the path as it was given', () => {
  script(
    'a g5',
    ['a', 0, 'WATCH', '/none/such|t|', 'OK|', ['*', 'a /none/such|t|']],
    ['g5', 0, 'WATCH', '/tool|t|', 'OK|', ['*', 'g5 /tool|t|']],
    ['a', 0, 'WATCH', 'rel|t|', 'OK|', ['*', 'a rel|t|']],
  )
})

it('XS-watch-3: a change concerns the watches on its path and above; of missing parents nobody hears', () => {
  script(
    'a b',
    ['a', 0, 'WATCH', '/w|top|', 'OK|', ['a /w|top|']],
    ['a', 0, 'WATCH', '/w/a|mid|', 'OK|', ['a /w/a|mid|']],
    ['a', 0, 'WATCH', '/w/a/b/c/d|low|', 'OK|', ['a /w/a/b/c/d|low|']],
    ['a', 0, 'WATCH', '/w/ab|other|', 'OK|', ['a /w/ab|other|']],
    ['b', 0, 'WRITE', '/w/a/b/c|v', 'OK|', ['a /w/a/b/c|top|', 'a /w/a/b/c|mid|']],
    ['b', 0, 'WRITE', '/w/a/b/c|v', 'OK|', ['a /w/a/b/c|top|', 'a /w/a/b/c|mid|']],
    ['b', 0, 'MKDIR', '/w/a/n|', 'OK|', ['a /w/a/n|top|', 'a /w/a/n|mid|']],
    ['b', 0, 'MKDIR', '/w/a/n|', 'OK|'],
    ['b', 0, 'SET_PERMS', '/w/a|r0|', 'OK|', ['a /w/a|top|', 'a /w/a|mid|']],
    ['b', 0, 'READ', '/w/a|', ''],
  )
})

it('XS-watch-4, XS-ox-4: RM tells the nodes below, deepest first, to those who watch just them, then the top', () => {
  const rows = [
    ['a', 0, 'WRITE', '/w/a/b|v', 'OK|'],
    ['a', 0, 'WRITE', '/w/c|v', 'OK|'],
    ['b', 0, 'WATCH', '/|r|', 'OK|', ['b /|r|']],
    ['b', 0, 'WATCH', '/w|t|', 'OK|', ['b /w|t|']],
    ['b', 0, 'WATCH', '/w/a|t|', 'OK|', ['b /w/a|t|']],
    ['b', 0, 'WATCH', '/w/a/b|t|', 'OK|', ['b /w/a/b|t|']],
    ['b', 0, 'WATCH', '/w/c|t|', 'OK|', ['b /w/c|t|']],
  ] as const
  const all = rows.map((row) => [...row]) as unknown as Parameters<typeof script>[1][]
  script('a b', ...all, ['a', 0, 'RM', '/w|', 'OK|', ['b /w/a/b|t|', 'b /w/a|t|', 'b /w/c|t|', 'b /w|r|', 'b /w|t|']])
  const o = new Script({ profile: { ...OCAML_4_17, watchOrder: 'registration' } }).run(...all)
  o.run(['a', 0, 'RM', '/w|', 'OK|', ['b /w|r|', 'b /w|t|', 'b /w/a|t|', 'b /w/a/b|t|', 'b /w/c|t|']])
})

it('XS-watch-5: the reported path is relative if the watch was', () => {
  script(
    'a g5',
    ['a', 0, 'MKDIR', '/local/domain/5|', 'OK|'],
    ['a', 0, 'SET_PERMS', '/local/domain/5|n5|', 'OK|'],
    ['g5', 0, 'WATCH', 'd|rel|', 'OK|', ['g5 d|rel|']],
    ['g5', 0, 'WATCH', '/local/domain/5/d|abs|', 'OK|', ['g5 /local/domain/5/d|abs|']],
    ['g5', 0, 'WRITE', 'd/x|v', 'OK|', ['g5 d/x|rel|', 'g5 /local/domain/5/d/x|abs|', '*']],
  )
})

it('XS-watch-6, XS-ox-3: connections in order of creation, watches in order of registration', () => {
  const rows: Parameters<typeof script>[1][] = [
    ['b', 0, 'WATCH', '/w|2|', 'OK|', ['b /w|2|']],
    ['a', 0, 'WATCH', '/w/x|1|', 'OK|', ['a /w/x|1|']],
    ['a', 0, 'WATCH', '/w|0|', 'OK|', ['a /w|0|']],
    ['b', 0, 'WATCH', '/|9|', 'OK|', ['b /|9|']],
  ]
  script('a b c', ...rows, ['c', 0, 'WRITE', '/w/x|v', 'OK|', ['a /w/x|1|', 'a /w/x|0|', 'b /w/x|2|', 'b /w/x|9|']])
  const o = new Script({ profile: OCAML_4_17 }, 'a', 'b', 'c').run(...rows)
  o.run(['c', 0, 'WRITE', '/w/x|v', 'OK|', ['a /w/x|0|', 'a /w/x|1|', 'b /w/x|9|', 'b /w/x|2|']])
})

it('XS-watch-7: the events of a change are queued before its OK', () => {
  script(
    'a',
    ['a', 0, 'WATCH', '/w|t|', 'OK|', ['*', 'a /w|t|']],
    ['a', 0, 'WRITE', '/w|v', 'OK|', ['a /w|t|', '*']],
    ['a', 0, 'SET_PERMS', '/w|r0|', 'OK|', ['a /w|t|', '*']],
    ['a', 0, 'RM', '/w|', 'OK|', ['a /w|t|', '*']],
  )
})

it('XS-watch-8, XS-adv-115: events only for those who may read the node or its parent', () => {
  const s = new Script({}, 'a', 'g5')
  s.run(
    ['a', 0, 'WRITE', '/open/x|v', 'OK|'],
    ['a', 0, 'WRITE', '/shut/x|v', 'OK|'],
    ['a', 0, 'SET_PERMS', '/open|r0|', 'OK|'],
    ['g5', 0, 'WATCH', '/|t|', 'OK|', ['g5 /|t|']],
    ['a', 0, 'WRITE', '/open|v', 'OK|', ['g5 /open|t|']],
    // The parent may be read, the node not.
    ['a', 0, 'WRITE', '/open/x|v', 'OK|', ['g5 /open/x|t|']],
    ['a', 0, 'WRITE', '/open/x/y|v', 'OK|', []],
    ['a', 0, 'WRITE', '/shut/x|v', 'OK|', []],
    // The rights before a SET_PERMS count, and those after.
    ['a', 0, 'SET_PERMS', '/shut/x|r0|', 'OK|', ['g5 /shut/x|t|']],
    ['a', 0, 'WRITE', '/shut/x|w', 'OK|', ['g5 /shut/x|t|']],
    ['a', 0, 'SET_PERMS', '/shut/x|n0|', 'OK|', ['g5 /shut/x|t|']],
    ['a', 0, 'SET_PERMS', '/shut/x|n0|', 'OK|', []],
    // A removal is judged by the rights that the node had.
    ['a', 0, 'SET_PERMS', '/shut/x|r0|', 'OK|', ['g5 /shut/x|t|']],
    ['a', 0, 'RM', '/shut/x|', 'OK|', ['g5 /shut/x|t|']],
    ['a', 0, 'RM', '/shut|', 'OK|', []],
  )
})

it('XS-watch-9: special names concern only those who may read them; other @ names never fire', () => {
  const s = new Script({}, 'a', 'g5', 'g6')
  s.run(
    ['a', 0, 'WATCH', '@introduceDomain|i|', 'OK|', ['a @introduceDomain|i|']],
    ['a', 0, 'WATCH', '@releaseDomain|r|', 'OK|', ['a @releaseDomain|r|']],
    ['a', 0, 'WATCH', '@whatever|w|', 'OK|', ['a @whatever|w|']],
    ['g5', 0, 'WATCH', '@releaseDomain|r|', 'OK|', ['g5 @releaseDomain|r|']],
    ['a', 0, 'RELEASE', '6|', 'OK|', ['a @releaseDomain|r|']],
  )
  s.log = []
  s.connect('g7')
  expect(s.log).toEqual(['a @introduceDomain|i|'])
})

it('XS-watch-10: an event that is still waiting is not queued again, but for special names', () => {
  const s = new Script({}, 'a', 'b', 'g5')
  s.run(
    ['b', 0, 'WATCH', '/w|t|', 'OK|', ['b /w|t|']],
    ['b', 0, 'WATCH', '/w|u|', 'OK|', ['b /w|u|']],
    ['b', 0, 'WATCH', '@releaseDomain|r|', 'OK|', ['b @releaseDomain|r|']],
  )
  s.peer('b').reading = false
  for (let i = 0; i < 5; i++) s.run(['a', 0, 'WRITE', '/w|v', 'OK|'], ['a', 0, 'WRITE', '/w/x|v', 'OK|'])
  s.run(['a', 0, 'RELEASE', '5|', 'OK|'])
  s.connect('h6')
  s.run(['a', 0, 'RELEASE', '6|', 'OK|'])
  s.log = []
  s.peer('b').fetch()
  const twice = 'b @releaseDomain|r|'
  expect(s.log).toEqual(['b /w|t|', 'b /w|u|', 'b /w/x|t|', 'b /w/x|u|', twice, twice])
  s.run(['a', 0, 'WRITE', '/w|v', 'OK|', ['b /w|t|', 'b /w|u|']])
})

it('XS-watch-10: one of which a part is sent already is still waiting', () => {
  const s = new Script()
  s.run(['b', 0, 'WATCH', '/w|t|', 'OK|', ['b /w|t|']])
  s.peer('b').reading = false
  s.run(['a', 0, 'WRITE', '/w|v', 'OK|'])
  const { output } = insideConnection('test', s.peer('b').connection)
  expect(output.copy(new Uint8Array(100), 0, 5)).toBe(5)
  const left = output.bytes
  s.run(['a', 0, 'WRITE', '/w|v', 'OK|'])
  expect(output.bytes).toBe(left)
})

it('XS-watch-11: UNWATCH removes the watch; what is queued is still told', () => {
  const s = new Script()
  s.run(['b', 0, 'WATCH', '/w|t|', 'OK|', ['b /w|t|']])
  s.peer('b').reading = false
  s.run(['a', 0, 'WRITE', '/w|v', 'OK|'])
  const id = s.send('b', 0, 'UNWATCH', '/w|t|')
  s.log = []
  s.peer('b').fetch()
  expect(s.log).toEqual(['b /w|t|', '* b'])
  expect(s.reply(id)?.text).toBe('OK|')
  s.run(
    ['a', 0, 'WRITE', '/w|v', 'OK|', []],
    ['b', 0, 'UNWATCH', '/w|t|', 'ENOENT'],
    ['b', 0, 'UNWATCH', '/not/valid/|t|', 'ENOENT'],
    ['b', 0, 'UNWATCH', '/w|', 'EINVAL'],
  )
})

it('XS-watch-12, XS-adv-330: RESET_WATCHES drops watches and transactions in every register', () => {
  const s = new Script({}, 'a', 'g5')
  for (let i = 0; i < 50; i++) s.send('g5', 0, 'WATCH', `/w${i}|t|`)
  s.send('g5', 0, 'TRANSACTION_START', '|')
  s.run(['g5', 0, 'RESET_WATCHES', '|', 'OK|'])
  expect(insideStore(s.server).watches.size).toBe(0)
  expect(insideStore(s.server).store.accounts.of(5)).toMatchObject({ watches: 0, watchBytes: 0, transactions: 0 })
  s.run(['g5', 1, 'READ', '/|', 'ENOENT'], ['g5', 0, 'WATCH', '/w1|t|', 'OK|', ['g5 /w1|t|']])
})

it('XS-watch-13: an event that a guest does not fetch is dropped after 20 s, unless it has begun', () => {
  let now = 0
  const s = new Script({ now: () => now }, 'a', 'g5')
  s.run(['a', 0, 'SET_PERMS', '/|r0|', 'OK|'], ['g5', 0, 'WATCH', '/|t|', 'OK|', ['g5 /|t|']])
  s.peer('g5').reading = false
  s.run(['a', 0, 'WRITE', '/x|v', 'OK|'], ['a', 0, 'WRITE', '/y|v', 'OK|'])
  const { output } = insideConnection('test', s.peer('g5').connection)
  output.copy(new Uint8Array(9), 0, 3)
  expect(s.server.nextTick).toBe(20_000)
  now = 19_999
  s.server.tick()
  expect(output.bytes).toBe(2 * (16 + 5) - 3)
  now = 20_000
  s.server.tick()
  expect(output.bytes).toBe(16 + 5 - 3)
  expect(s.server.nextTick).toBe(20_000)
})

it('XS-watch-14, XS-ox-18: depth says how far below changes are reported', () => {
  const s = new Script({ profile: C_4_23 }, 'a', 'b', 'g5')
  s.run(
    ['a', 0, 'WATCH', '/w|0|0|', 'OK|', ['a /w|0|']],
    ['a', 0, 'WATCH', '/w|1|1|', 'OK|', ['a /w|1|']],
    ['a', 0, 'WATCH', '/w|all|', 'OK|', ['a /w|all|']],
    ['a', 0, 'WATCH', '/w|x|-1|', 'EINVAL'],
    ['b', 0, 'WRITE', '/w|v', 'OK|', ['a /w|0|', 'a /w|1|', 'a /w|all|']],
    ['b', 0, 'WRITE', '/w/a|v', 'OK|', ['a /w/a|1|', 'a /w/a|all|']],
    ['b', 0, 'WRITE', '/w/a/b|v', 'OK|', ['a /w/a/b|all|']],
    ['a', 0, 'WATCH', '@releaseDomain|plain|', 'OK|', ['a @releaseDomain|plain|']],
    ['a', 0, 'WATCH', '@releaseDomain|deep|1|', 'OK|', ['a @releaseDomain|deep|']],
    ['a', 0, 'RELEASE', '5|', 'OK|', ['a @releaseDomain|plain|', 'a @releaseDomain/5|deep|']],
  )
})

it('XS-watch-15, XS-sock-4: a watch dies with its connection, transactions too, without events', () => {
  const s = new Script()
  s.run(['a', 0, 'WATCH', '/w|t|', 'OK|', ['a /w|t|']], ['b', 0, 'WATCH', '/w|t|', 'OK|', ['b /w|t|']])
  s.run(['b', 0, 'TRANSACTION_START', '|', '1|'], ['b', 1, 'WRITE', '/w|v', 'OK|'])
  s.log = []
  s.server.disconnect(s.peer('b').connection)
  expect(s.log).toEqual([])
  expect(checkStore(s.server)).toEqual([])
  s.run(['a', 0, 'READ', '/w|', 'ENOENT'], ['a', 0, 'WRITE', '/w|v', 'OK|', ['a /w|t|']])
})
