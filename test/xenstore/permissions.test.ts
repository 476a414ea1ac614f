import { expect, it } from 'vitest'
import { C_4_23, parsePermission } from '../../src/xenstore/index.js'
import { OCAML_4_17 } from './ocaml.js'
import { Script } from './script.js'

/** A node with these permissions, made by domain 0. */
function node(s: Script, path: string, perms: string): Script {
  return s.run(['a', 0, 'WRITE', `${path}|v`, 'OK|'], ['a', 0, 'SET_PERMS', `${path}|${perms}`, 'OK|'])
}

it('XS-perm-6: reads an entry as C’s strtol does, to its end', () => {
  for (const [text, domid] of [
    ['b12', 12],
    ['b+1', 1],
    ['b 1', 1],
    ['b-1', -1],
    ['b0x1f', 31],
    ['b010', 8],
    ['b4294967297', 1],
  ] as const)
    expect(parsePermission(text), text).toEqual({ letter: 'b', domid })
  for (const text of ['x1', 'r', 'r1 ', 'R1', 'r08', 'r0x', 'r1x', ''])
    expect(parsePermission(text), text).toBeUndefined()
})

it('XS-perm-1: entry 0 is owner and default; of further entries the first match counts', () => {
  const s = new Script({}, 'a', 'g5', 'g6', 'g7')
  node(s, '/x', 'r0|n5|b6|b5|')
  s.run(
    ['g5', 0, 'READ', '/x|', 'EACCES'],
    ['g6', 0, 'WRITE', '/x|6', 'OK|'],
    ['g7', 0, 'READ', '/x|', '6'],
    ['g7', 0, 'WRITE', '/x|7', 'EACCES'],
  )
})

it('XS-perm-2: domain 0, sockets, the owner and its device model have all rights', () => {
  const s = new Script({}, 'a', 'b', 'g5', 'g6', 'g7')
  node(s, '/x', 'n5|')
  node(s, '/y', 'n0|b5|')
  s.run(['g6', 0, 'READ', '/x|', 'EACCES'], ['g6', 0, 'READ', '/y|', 'EACCES'])
  s.run(['a', 0, 'SET_TARGET', '6|5|', 'OK|'])
  s.run(
    ['g6', 0, 'READ', '/x|', 'v'],
    ['g6', 0, 'SET_PERMS', '/x|r5|', 'OK|'],
    ['g6', 0, 'WRITE', '/y|6', 'OK|'],
    ['g7', 0, 'WRITE', '/x|7', 'EACCES'],
    ['b', 0, 'WRITE', '/x|b', 'OK|'],
  )
})

it('XS-perm-3: which right each request needs', () => {
  const s = new Script({}, 'a', 'g5')
  node(s, '/r', 'r0|')
  node(s, '/w', 'w0|')
  node(s, '/n', 'n0|')
  node(s, '/w/below', 'n0|')
  for (const type of ['READ', 'DIRECTORY', 'GET_PERMS'] as const) {
    s.run(['g5', 0, type, '/w|', 'EACCES'], ['g5', 0, type, '/n|', 'EACCES'])
    expect(s.ask('g5', 0, type, '/r|')).not.toBe('EACCES')
  }
  s.run(['g5', 0, 'DIRECTORY_PART', '/n|0|', 'EACCES'])
  for (const path of ['/r', '/n'])
    s.run(
      ['g5', 0, 'WRITE', `${path}|x`, 'EACCES'],
      ['g5', 0, 'MKDIR', `${path}|`, 'EACCES'],
      ['g5', 0, 'MKDIR', `${path}/new|`, 'EACCES'],
      ['g5', 0, 'RM', `${path}|`, 'EACCES'],
      ['g5', 0, 'SET_PERMS', `${path}|r0|`, 'EACCES'],
    )
  s.run(
    ['g5', 0, 'WRITE', '/w|x', 'OK|'],
    ['g5', 0, 'MKDIR', '/w|', 'OK|'],
    ['g5', 0, 'WRITE', '/w/new/er|x', 'OK|'],
    ['g5', 0, 'SET_PERMS', '/w|r0|', 'EACCES'],
    // Only the node is asked, neither its parent nor what is below.
    ['g5', 0, 'RM', '/w|', 'OK|'],
    ['g5', 0, 'WATCH', '/n/hidden|t|', 'OK|', ['g5 /n/hidden|t|']],
  )
})

it('XS-perm-4: a missing node is only admitted to those who could know', () => {
  const s = new Script({}, 'a', 'g5')
  node(s, '/n', 'n0|')
  node(s, '/r', 'r0|')
  s.run(
    ['g5', 0, 'READ', '/n/x/y|', 'EACCES'],
    ['g5', 0, 'READ', '/r/x/y|', 'ENOENT'],
    ['g5', 0, 'RM', '/r/x|', 'EACCES'],
    ['g5', 0, 'RM', '/n/x|', 'EACCES'],
    ['a', 0, 'READ', '/n/x|', 'ENOENT'],
  )
})

it('XS-perm-5, XS-ox-8: a new node inherits the list; a guest becomes the owner', () => {
  const s = new Script({}, 'a', 'g5')
  node(s, '/b', 'b6|r7|')
  node(s, '/n', 'n5|')
  s.run(
    ['g5', 0, 'WRITE', '/b/x/y|v', 'OK|'],
    ['a', 0, 'GET_PERMS', '/b/x|', 'b5|r7|'],
    ['a', 0, 'GET_PERMS', '/b/x/y|', 'b5|r7|'],
    ['a', 0, 'MKDIR', '/n/x|', 'OK|'],
    ['a', 0, 'GET_PERMS', '/n/x|', 'n5|'],
  )
  const o = node(new Script({ profile: OCAML_4_17 }, 'a', 'g5'), '/b', 'b6|')
  o.run(['g5', 0, 'MKDIR', '/b/x|', 'OK|'], ['a', 0, 'GET_PERMS', '/b/x|', 'b6|'])
})

it('XS-perm-6, XS-adv-352, XS-ox-9: the errors of SET_PERMS', () => {
  const host = {
    state: (domid: number) => (domid < 10 ? { shutdown: false, dying: false } : undefined),
    connect: () => undefined,
  }
  const s = new Script({ host }, 'a', 'g5')
  node(s, '/g', 'n5|')
  node(s, '/d', 'n0|')
  s.run(
    ['a', 0, 'SET_PERMS', '/g|', 'EINVAL'],
    ['a', 0, 'SET_PERMS', '/g|x5|', 'EINVAL'],
    ['a', 0, 'SET_PERMS', '/g|n5|r', 'EINVAL'],
    ['a', 0, 'SET_PERMS', '/g|n5|r1|r2|r3|r4|r6|', 'OK|'],
    ['g5', 0, 'SET_PERMS', '/g|n5|r1|r2|r3|r4|r6|', 'ENOSPC'],
    ['g5', 0, 'SET_PERMS', '/g|n5|r1|r2|r3|r4|', 'OK|'],
    ['a', 0, 'SET_PERMS', '/g|n77|', 'ENOENT'],
    ['g5', 0, 'SET_PERMS', '/g|n77|', 'ENOENT'],
    ['g5', 0, 'SET_PERMS', '/g|n6|', 'EPERM'],
    ['g5', 0, 'SET_PERMS', '/d|n0|', 'EACCES'],
    ['a', 0, 'SET_PERMS', '/none|n0|', 'ENOENT'],
  )
  const o = node(new Script({ profile: OCAML_4_17 }, 'a', 'g5'), '/g', 'n5|')
  o.run(['g5', 0, 'SET_PERMS', '/g|n6|', 'EACCES'])
})

it('XS-perm-7, XS-adv-322, XS-adv-417: an entry does not mean a later domain of the same number', () => {
  const alive = new Set([5])
  const host = {
    state: (domid: number) => (domid === 0 || alive.has(domid) ? { shutdown: false, dying: false } : undefined),
    connect: () => undefined,
  }
  const s = new Script({ host }, 'a', 'g5')
  node(s, '/x', 'n0|r5|r6|')
  node(s, '/y', 'n0|r5|')
  s.run(['g5', 0, 'READ', '/x|', 'v'], ['a', 0, 'GET_PERMS', '/x|', 'n0|r5|r6|'])
  alive.delete(5)
  s.server.domainsChanged()
  s.run(['a', 0, 'GET_PERMS', '/x|', 'n0|r5|r6|'])
  alive.add(5).add(6)
  s.connect('h5')
  s.connect('g6')
  s.run(['h5', 0, 'READ', '/x|', 'EACCES'], ['g6', 0, 'READ', '/x|', 'EACCES'])
  // A write stores the mark: the entry does not come back to life with the node's new generation.
  s.run(['a', 0, 'WRITE', '/x|w', 'OK|'], ['h5', 0, 'READ', '/x|', 'EACCES'], ['g6', 0, 'READ', '/x|', 'EACCES'])
  // Nor with a new child.
  s.run(['a', 0, 'MKDIR', '/y/c|', 'OK|'], ['h5', 0, 'READ', '/y|', 'EACCES'], ['h5', 0, 'READ', '/y/c|', 'EACCES'])
  s.run(['a', 0, 'MKDIR', '/x/c|', 'OK|'], ['h5', 0, 'DIRECTORY', '/x/c|', 'EACCES'])
  s.run(['a', 0, 'SET_PERMS', '/x|n0|r5|', 'OK|'], ['h5', 0, 'READ', '/x|', 'w'])
})

it('XS-perm-7: nor does one that a transaction carries across the death of the domain', () => {
  const alive = new Set([5])
  const host = {
    state: (domid: number) => (domid === 0 || alive.has(domid) ? { shutdown: false, dying: false } : undefined),
    connect: () => undefined,
  }
  const s = new Script({ host }, 'a', 'g5')
  s.run(['a', 0, 'WRITE', '/x|v', 'OK|'], ['a', 0, 'WRITE', '/y|v', 'OK|'])
  s.run(['a', 0, 'TRANSACTION_START', '|', '1|'], ['a', 1, 'SET_PERMS', '/x|n0|r5|', 'OK|'])
  s.run(['a', 0, 'TRANSACTION_START', '|', '2|'], ['a', 2, 'SET_PERMS', '/y|n5|', 'OK|'])
  alive.delete(5)
  s.server.domainsChanged()
  alive.add(5)
  s.connect('h5')
  s.run(['a', 1, 'TRANSACTION_END', 'T|', 'OK|'], ['h5', 0, 'READ', '/x|', 'EACCES'])
  s.run(['a', 2, 'TRANSACTION_END', 'T|', 'EAGAIN'], ['a', 0, 'GET_PERMS', '/y|', 'n0|'])
})

it('XS-perm-8: permissions of the special names open them to guests', () => {
  const s = new Script({}, 'a', 'g5', 'g6')
  s.run(
    ['g5', 0, 'WATCH', '@introduceDomain|t|', 'OK|', ['g5 @introduceDomain|t|']],
    ['g6', 0, 'WATCH', '@introduceDomain|t|', 'OK|', ['g6 @introduceDomain|t|']],
    ['g5', 0, 'SET_PERMS', '@introduceDomain|n0|r5|', 'EACCES'],
    ['a', 0, 'SET_PERMS', '@introduceDomain|n0|r5|', 'OK|'],
  )
  s.log = []
  s.connect('g7')
  expect(s.log).toEqual(['g5 @introduceDomain|t|'])

  const dev = new Script({ profile: C_4_23 }, 'a', 'g5', 'g6')
  dev.run(['g5', 0, 'WATCH', '@releaseDomain|t|', 'OK|', ['g5 @releaseDomain|t|']])
  dev.run(['a', 0, 'RELEASE', '6|', 'OK|', ['g5 @releaseDomain|t|']])
})

it('XS-adv-353: the root is judged as any other node', () => {
  const s = new Script({}, 'a', 'g5')
  s.run(
    ['g5', 0, 'READ', '/|', 'EACCES'],
    ['g5', 0, 'DIRECTORY', '/|', 'EACCES'],
    ['g5', 0, 'WRITE', '/|x', 'EACCES'],
    ['g5', 0, 'MKDIR', '/x|', 'EACCES'],
    ['g5', 0, 'SET_PERMS', '/|b5|', 'EACCES'],
    ['g5', 0, 'RM', '/|', 'EACCES'],
    ['a', 0, 'SET_PERMS', '/|r0|', 'OK|'],
    ['g5', 0, 'DIRECTORY', '/|', 'tool|'],
  )
})
