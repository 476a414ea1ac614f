import { expect, it } from 'vitest'
import { insideStore } from '../../src/xenstore/server.js'
import { OCAML_4_17 } from './ocaml.js'
import { type Row, Script, script } from './script.js'

const start = (who: string, id: number): Row => [who, 0, 'TRANSACTION_START', '|', `${id}|`]
const end = (who: string, id: number, reply = 'OK|', events?: string[]): Row =>
  [who, id, 'TRANSACTION_END', 'T|', reply, ...(events ? [events] : [])] as Row

it('XS-tx-1, XS-ox-7: numbers are the connection’s own, 1, 2, 3; no transaction inside another', () => {
  const s = script('a b', start('a', 1), start('a', 2), start('b', 1), end('a', 1), start('a', 3))
  s.run(['a', 2, 'TRANSACTION_START', '|', 'EBUSY'], ['a', 1, 'TRANSACTION_START', '|', 'ENOENT'])
  s.run(['b', 3, 'READ', '/|', 'ENOENT'])
  new Script({ profile: OCAML_4_17 }).run(['a', 7, 'READ', '/|', 'EIO'])
})

it('XS-tx-2: own writes are visible inside, and only there', () => {
  script(
    'a b',
    ['a', 0, 'WRITE', '/x|old', 'OK|'],
    start('a', 1),
    ['a', 1, 'WRITE', '/x|new', 'OK|'],
    ['a', 1, 'MKDIR', '/made/below|', 'OK|'],
    ['a', 1, 'READ', '/x|', 'new'],
    ['a', 1, 'DIRECTORY', '/made|', 'below|'],
    ['a', 1, 'DIRECTORY', '/|', 'tool|x|made|'],
    ['b', 0, 'READ', '/x|', 'old'],
    ['a', 0, 'READ', '/made|', 'ENOENT'],
    end('a', 1),
    ['b', 0, 'READ', '/x|', 'new'],
    ['b', 0, 'DIRECTORY', '/made|', 'below|'],
  )
})

it('XS-tx-3: a node is taken over at its first access; the store as a whole is no snapshot', () => {
  script(
    'a b',
    ['a', 0, 'WRITE', '/x|1', 'OK|'],
    ['a', 0, 'WRITE', '/y|1', 'OK|'],
    start('a', 1),
    ['a', 1, 'READ', '/x|', '1'],
    ['b', 0, 'WRITE', '/x|2', 'OK|'],
    ['b', 0, 'WRITE', '/y|2', 'OK|'],
    ['a', 1, 'READ', '/x|', '1'],
    ['a', 1, 'READ', '/y|', '2'],
    end('a', 1, 'EAGAIN'),
    // What was changed before its first access is no conflict.
    start('a', 2),
    ['b', 0, 'WRITE', '/x|3', 'OK|'],
    ['a', 2, 'READ', '/x|', '3'],
    end('a', 2),
  )
})

it('XS-tx-4: any accessed node that changed makes a conflict, one that was looked for in vain too', () => {
  const conflict = (inside: Row, outside: Row, reply = 'EAGAIN') =>
    script('a b', ['a', 0, 'WRITE', '/d/k|v', 'OK|'], start('a', 1), inside, outside, end('a', 1, reply))
  conflict(['a', 1, 'READ', '/d/k|', 'v'], ['b', 0, 'WRITE', '/d/k|v', 'OK|'])
  conflict(['a', 1, 'READ', '/none|', 'ENOENT'], ['b', 0, 'WRITE', '/none|v', 'OK|'])
  conflict(['a', 1, 'DIRECTORY', '/d|', 'k|'], ['b', 0, 'MKDIR', '/d/l|', 'OK|'])
  conflict(['a', 1, 'GET_PERMS', '/d/k|', 'n0|'], ['b', 0, 'SET_PERMS', '/d/k|n0|', 'OK|'])
  conflict(['a', 1, 'WRITE', '/d/new|', 'OK|'], ['b', 0, 'MKDIR', '/d/other|', 'OK|'])
  conflict(['a', 1, 'RM', '/d/k|', 'OK|'], ['b', 0, 'MKDIR', '/d/other|', 'OK|'])
  conflict(['a', 1, 'READ', '/d/k|', 'v'], ['b', 0, 'RM', '/d|', 'OK|'])
  conflict(['a', 1, 'RM', '/|', 'EINVAL'], ['b', 0, 'MKDIR', '/top|', 'OK|'])
  conflict(['a', 1, 'READ', '/d|', ''], ['b', 0, 'WRITE', '/d/k|v', 'OK|'], 'OK|')
  conflict(['a', 1, 'WATCH', '/d|t|', 'OK|', ['a /d|t|']], ['b', 0, 'MKDIR', '/d/x|', 'OK|', ['a /d/x|t|']], 'OK|')
})

it('XS-tx-4a: what others removed stays readable inside; RM below a parent that does not list the node is EIO', () => {
  script(
    'a b',
    ['a', 0, 'WRITE', '/d/k|v', 'OK|'],
    start('a', 1),
    ['a', 1, 'READ', '/d/k|', 'v'],
    ['a', 1, 'DIRECTORY', '/d|', 'k|'],
    ['b', 0, 'RM', '/d|', 'OK|'],
    ['a', 1, 'READ', '/d/k|', 'v'],
    ['a', 1, 'RM', '/d/k|', 'OK|'],
    ['a', 1, 'WRITE', '/d/k|w', 'OK|'],
    ['a', 1, 'DIRECTORY', '/d|', 'k|'],
    ['a', 1, 'RM', '/d|', 'EIO'],
    // It is gone inside all the same; only its parent's list was in the way.
    ['a', 1, 'READ', '/d/k|', 'ENOENT'],
    ['a', 1, 'RM', '/d|', 'OK|'],
    end('a', 1, 'EAGAIN'),
    ['a', 0, 'READ', '/d/k|', 'ENOENT'],
  )
})

it('XS-tx-4a: RM of a node with a listed child that others removed is EIO, and takes what is before the child', () => {
  script(
    'a b',
    ['a', 0, 'WRITE', '/d/k|v', 'OK|'],
    ['a', 0, 'WRITE', '/d/l|v', 'OK|'],
    ['a', 0, 'WRITE', '/d/m|v', 'OK|'],
    start('a', 1),
    ['a', 1, 'READ', '/d/k|', 'v'],
    ['a', 1, 'DIRECTORY', '/d|', 'k|l|m|'],
    ['b', 0, 'RM', '/d/l|', 'OK|'],
    ['a', 1, 'RM', '/d|', 'EIO'],
    ['a', 1, 'READ', '/d/k|', 'ENOENT'],
    ['a', 1, 'READ', '/d/m|', 'v'],
    end('a', 1, 'EAGAIN'),
    ['a', 0, 'DIRECTORY', '/d|', 'k|m|'],
  )
})

it('XS-tx-9: a creation that fails half-way leaves no parents inside either', () => {
  const s = new Script({ quotas: { nodeSize: 120 } }, 'a', 'g1')
  s.run(['a', 0, 'WRITE', '/home|', 'OK|'], ['a', 0, 'SET_PERMS', '/home|n1|', 'OK|'], start('g1', 1))
  s.run(['g1', 1, 'WRITE', `/home/made/below|${'v'.repeat(100)}`, 'ENOSPC'])
  s.run(['g1', 1, 'READ', '/home/made|', 'ENOENT'], ['g1', 1, 'DIRECTORY', '/home|', ''])
  s.run(['g1', 1, 'RM', '/home/made/other|', 'ENOENT'], end('g1', 1, 'ENOMEM'))
})

it('XS-tx-9: a commit that takes nodes from an owner that died since is ENOMEM, too', () => {
  const alive = new Set([0, 5, 6])
  const s = new Script({
    host: {
      state: (domid) => (alive.has(domid) ? { shutdown: false, dying: false } : undefined),
      connect: () => undefined,
    },
  })
  s.run(['a', 0, 'WRITE', '/n|', 'OK|'], ['a', 0, 'SET_PERMS', '/n|n5|', 'OK|'], start('a', 1), start('a', 2))
  s.run(['a', 1, 'SET_PERMS', '/n|n6|', 'OK|'], ['a', 2, 'WRITE', '/n|v', 'OK|'])
  alive.delete(5)
  s.server.domainsChanged()
  // A WRITE leaves the accounts alone: that commit finds only that the node is gone.
  s.run(end('a', 1, 'ENOMEM'), end('a', 2, 'EAGAIN'))
})

it('XS-watch-8: at a commit the rights before the transaction count, those in between do not', () => {
  const s = new Script({}, 'a', 'g1')
  s.run(['g1', 0, 'WATCH', '/n|t|', 'OK|', ['g1 /n|t|']], ['a', 0, 'WRITE', '/n|', 'OK|'], start('a', 1))
  s.run(['a', 1, 'SET_PERMS', '/n|r0|', 'OK|'], ['a', 1, 'SET_PERMS', '/n|n0|', 'OK|'], end('a', 1))
  s.run(['a', 0, 'SET_PERMS', '/n|r0|', 'OK|', ['g1 /n|t|']], start('a', 2))
  s.run(['a', 2, 'SET_PERMS', '/n|n0|', 'OK|'], end('a', 2, 'OK|', ['g1 /n|t|']))
})

it('XS-watch-8: of a node removed at a commit only its own rights count; outside, its parent’s too', () => {
  const s = new Script({}, 'a', 'g1')
  s.run(['a', 0, 'WRITE', '/d/k|', 'OK|'], ['a', 0, 'WRITE', '/d/l|', 'OK|'], ['a', 0, 'SET_PERMS', '/d|r0|', 'OK|'])
  s.run(['g1', 0, 'WATCH', '/d|t|', 'OK|', ['g1 /d|t|']], start('a', 1))
  s.run(['a', 1, 'RM', '/d/k|', 'OK|'], end('a', 1), ['a', 0, 'RM', '/d/l|', 'OK|', ['g1 /d/l|t|']])
})

it('XS-tx-5: what follows from that, as it was observed', () => {
  const two = (first: Row, second: Row, reply: string) =>
    script(
      'a b',
      ['a', 0, 'WRITE', '/d/k|v', 'OK|'],
      start('a', 1),
      start('b', 1),
      first,
      second,
      end('a', 1),
      end('b', 1, reply),
    )
  two(['a', 1, 'WRITE', '/d/k|1', 'OK|'], ['b', 1, 'WRITE', '/d/k|2', 'OK|'], 'EAGAIN')
  two(['a', 1, 'WRITE', '/d/k|1', 'OK|'], ['b', 1, 'MKDIR', '/d/k|', 'OK|'], 'EAGAIN')
  two(['a', 1, 'MKDIR', '/d/x|', 'OK|'], ['b', 1, 'MKDIR', '/d/y|', 'OK|'], 'EAGAIN')
  two(['a', 1, 'WRITE', '/d/k|1', 'OK|'], ['b', 1, 'WRITE', '/d/k2|', 'OK|'], 'OK|')
  two(['a', 1, 'MKDIR', '/d/k|', 'OK|'], ['b', 1, 'READ', '/d/k|', 'v'], 'OK|')
})

it('XS-tx-6: F discards; any answer to T ends the transaction; a wrong letter does not', () => {
  script(
    'a b',
    start('a', 1),
    ['a', 1, 'WRITE', '/x|v', 'OK|'],
    ['a', 1, 'TRANSACTION_END', 'X|', 'EINVAL'],
    ['a', 1, 'TRANSACTION_END', 'T', 'EINVAL'],
    ['a', 1, 'READ', '/x|', 'v'],
    ['a', 1, 'TRANSACTION_END', 'F|', 'OK|'],
    ['a', 1, 'TRANSACTION_END', 'F|', 'ENOENT'],
    ['a', 0, 'READ', '/x|', 'ENOENT'],
    ['a', 0, 'TRANSACTION_END', 'T|', 'ENOENT'],
    ['a', 0, 'TRANSACTION_END', 'X|', 'EINVAL'],
    start('a', 2),
    ['a', 2, 'READ', '/x|', 'ENOENT'],
    ['b', 0, 'WRITE', '/x|v', 'OK|'],
    end('a', 2, 'EAGAIN'),
    end('a', 2, 'ENOENT'),
  )
})

it('XS-tx-7: one event per node that a request changed, in order of first access, at the commit', () => {
  script(
    'a b',
    ['a', 0, 'WRITE', '/w/old/x|v', 'OK|'],
    ['b', 0, 'WATCH', '/w|t|', 'OK|', ['b /w|t|']],
    ['b', 0, 'WATCH', '/w/old/x|x|', 'OK|', ['b /w/old/x|x|']],
    start('a', 1),
    ['a', 1, 'READ', '/w/late|', 'ENOENT'],
    ['a', 1, 'WRITE', '/w/p/q|1', 'OK|'],
    ['a', 1, 'WRITE', '/w/late|1', 'OK|'],
    ['a', 1, 'WRITE', '/w/p/q|2', 'OK|'],
    ['a', 1, 'WRITE', '/w/gone|2', 'OK|'],
    ['a', 1, 'RM', '/w/gone|', 'OK|'],
    // The top before what is below it, unlike outside.
    ['a', 1, 'RM', '/w/old|', 'OK|'],
    end('a', 1, 'OK|', ['b /w/late|t|', 'b /w/p/q|t|', 'b /w/old|t|', 'b /w/old/x|x|']),
  )
})

it('XS-tx-7: a subtree event replaces an exact one, and not the other way round', () => {
  script(
    'a b',
    ['a', 0, 'WRITE', '/w/x|v', 'OK|'],
    ['b', 0, 'WATCH', '/w|t|', 'OK|', ['b /w|t|']],
    start('a', 1),
    ['a', 1, 'RM', '/w|', 'OK|'],
    ['a', 1, 'WRITE', '/w/x|again', 'OK|'],
    end('a', 1, 'OK|', ['b /w|t|', 'b /w/x|t|']),
    start('a', 2),
    ['a', 2, 'WRITE', '/w/x|v', 'OK|'],
    ['a', 2, 'RM', '/w|', 'OK|'],
    end('a', 2, 'OK|', ['b /w/x|t|', 'b /w|t|']),
  )
})

it('XS-tx-8: the events of a commit are queued before its OK', () => {
  script(
    'a',
    ['a', 0, 'WATCH', '/w|t|', 'OK|', ['*', 'a /w|t|']],
    start('a', 1),
    ['a', 1, 'WRITE', '/w|v', 'OK|'],
    end('a', 1, 'OK|', ['a /w|t|', '*']),
  )
})

it('XS-tx-9, XS-adv-414, XS-adv-415: nodes are counted at the commit, and outside nothing is left of a refused one', () => {
  const s = new Script({ quotas: { nodes: 5 } }, 'a', 'g5')
  s.run(['a', 0, 'MKDIR', '/g|', 'OK|'], ['a', 0, 'SET_PERMS', '/g|n5|', 'OK|'])
  s.run(
    start('g5', 1),
    ['g5', 1, 'WRITE', '/g/1/2/3/4/5/6|v', 'OK|'],
    end('g5', 1, 'ENOSPC'),
    ['g5', 0, 'WRITE', '/g/1/2/3/4/5/6|v', 'ENOSPC'],
    ['a', 0, 'DIRECTORY', '/g|', ''],
  )
  expect(insideStore(s.server).store.accounts.of(5).nodes).toBe(1)
  // Over the quota only by the sum of two transactions: refused at the commit.
  s.run(start('g5', 2), start('g5', 3), ['g5', 2, 'WRITE', '/g/1/2|v', 'OK|'], ['g5', 0, 'WRITE', '/g|v', 'OK|'])
  s.run(['a', 0, 'MKDIR', '/h|', 'OK|'], ['a', 0, 'SET_PERMS', '/h|n5|', 'OK|'], ['a', 0, 'MKDIR', '/i|', 'OK|'])
  s.run(['a', 0, 'SET_PERMS', '/i|n5|', 'OK|'], ['g5', 3, 'WRITE', '/h/1/2|v', 'OK|'])
  s.run(['g5', 0, 'MKDIR', '/i/1|', 'OK|'], end('g5', 3, 'ENOSPC'), end('g5', 2, 'ENOSPC'))
  // A creation that is refused inside leaves the transaction alive; one that was half done does not.
  s.run(['g5', 0, 'MKDIR', '/i/2|', 'OK|'], start('g5', 4), ['g5', 4, 'WRITE', '/g/x|v', 'ENOSPC'])
  s.run(['g5', 4, 'WRITE', '/g|kept', 'OK|'], end('g5', 4, 'OK|'), ['g5', 0, 'READ', '/g|', 'kept'])
  s.run(start('g5', 5), ['g5', 5, 'WRITE', `/g|${'v'.repeat(2048)}`, 'ENOSPC'], end('g5', 5, 'ENOMEM'))
})

it('XS-tx-10: WATCH and UNWATCH take effect at once', () => {
  script(
    'a b',
    start('a', 1),
    ['a', 1, 'WATCH', '/w|t|', 'OK|', ['a /w|t|']],
    ['a', 77, 'WATCH', '/w|u|', 'OK|', ['a /w|u|']],
    ['b', 0, 'WRITE', '/w|v', 'OK|', ['a /w|t|', 'a /w|u|']],
    ['a', 77, 'UNWATCH', '/w|u|', 'OK|'],
    ['a', 1, 'TRANSACTION_END', 'F|', 'OK|'],
    ['b', 0, 'WRITE', '/w|v', 'OK|', ['a /w|t|']],
  )
})

it('XS-tx-11, XS-adv-484: RESET_WATCHES inside a transaction leaves a clean state', () => {
  script(
    'a g5',
    start('g5', 1),
    start('g5', 2),
    ['g5', 1, 'READ', '/|', 'EACCES'],
    ['g5', 1, 'RESET_WATCHES', '|', 'OK|'],
    ['g5', 1, 'READ', '/|', 'ENOENT'],
    ['g5', 2, 'TRANSACTION_END', 'T|', 'ENOENT'],
    start('g5', 3),
  )
})

it('XS-adv-421: a commit is all or nothing; made and removed inside leaves the accounts right', () => {
  const s = new Script({}, 'a', 'g5')
  s.run(['a', 0, 'MKDIR', '/g|', 'OK|'], ['a', 0, 'SET_PERMS', '/g|n5|', 'OK|'])
  s.run(
    start('g5', 1),
    ['g5', 1, 'WRITE', '/g/a/b/c|v', 'OK|'],
    ['g5', 1, 'RM', '/g/a|', 'OK|'],
    ['g5', 1, 'WRITE', '/g/a/x|v', 'OK|'],
    ['g5', 1, 'RM', '/g/a/x|', 'OK|'],
    ['g5', 1, 'WRITE', '/g/k|v', 'OK|'],
    end('g5', 1),
    ['g5', 0, 'DIRECTORY', '/g|', 'a|k|'],
    ['g5', 0, 'DIRECTORY', '/g/a|', ''],
  )
  expect(insideStore(s.server).store.accounts.of(5).nodes).toBe(3)
})

it('a node that was removed and made again stands behind its siblings, empty', () => {
  script(
    'a',
    ['a', 0, 'WRITE', '/d/x/below|v', 'OK|'],
    ['a', 0, 'MKDIR', '/d/y|', 'OK|'],
    start('a', 1),
    ['a', 1, 'RM', '/d/x|', 'OK|'],
    ['a', 1, 'MKDIR', '/d/x|', 'OK|'],
    ['a', 1, 'DIRECTORY', '/d|', 'y|x|'],
    ['a', 1, 'DIRECTORY', '/d/x|', ''],
    end('a', 1),
    ['a', 0, 'DIRECTORY', '/d|', 'y|x|'],
    ['a', 0, 'DIRECTORY', '/d/x|', ''],
  )
})

it('XS-adv-440: nodes that went outside while a transaction was open do not upset the accounts', () => {
  const s = new Script({}, 'a', 'g5')
  s.run(['a', 0, 'MKDIR', '/g/x|', 'OK|'], ['a', 0, 'SET_PERMS', '/g/x|n5|', 'OK|'])
  s.run(start('a', 1), ['a', 1, 'RM', '/g/x|', 'OK|'], ['a', 0, 'RM', '/g/x|', 'OK|'], end('a', 1, 'EAGAIN'))
  s.run(start('a', 2), ['a', 2, 'SET_PERMS', '/g|n5|', 'OK|'], ['a', 2, 'SET_PERMS', '/g|n0|', 'OK|'], end('a', 2))
  expect(insideStore(s.server).store.accounts.of(5).nodes).toBe(0)
})

it('XS-tx-9: a commit that made a node is held against the quota, even if it removes as many', () => {
  const s = new Script({ quotas: { nodes: 5 } }, 'a', 'g5')
  s.run(
    ['a', 0, 'WRITE', '/g/1|', 'OK|'],
    ['a', 0, 'SET_PERMS', '/g|n5|', 'OK|'],
    ['a', 0, 'SET_PERMS', '/g/1|n5|', 'OK|'],
  )
  s.run(start('g5', 1), start('g5', 2), ['g5', 1, 'RM', '/g/1|', 'OK|'], ['g5', 1, 'WRITE', '/g/2|', 'OK|'])
  s.run(['g5', 2, 'RM', '/g/1|', 'OK|'])
  // Others give it more nodes meanwhile, up to the quota and over it.
  for (const path of ['/h', '/i', '/j', '/k'])
    s.run(['a', 0, 'MKDIR', `${path}|`, 'OK|'], ['a', 0, 'SET_PERMS', `${path}|n5|`, 'OK|'])
  s.run(end('g5', 1, 'ENOSPC'), end('g5', 2))
})
