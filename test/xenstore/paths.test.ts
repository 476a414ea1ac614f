import { expect, it } from 'vitest'
import { C_4_23 } from '../../src/xenstore/index.js'
import { insideStore } from '../../src/xenstore/server.js'
import { Script, script } from './script.js'

it('XS-path-1: only some characters, no empty part, no slash at the end', () => {
  const s = new Script()
  for (const path of ['', '/a/', '//', '//a', '/a//b', '/a b', '/a!', '/ä', 'a/', '@', '/a\n'])
    s.run(['a', 0, 'READ', `${path}|`, 'EINVAL'])
  s.run(['a', 0, 'WRITE', '/AZaz09-_@/x@y|v', 'OK|'], ['a', 0, 'READ', '/|', ''])
})

it('XS-path-2: a relative path begins at the home of the domain; a socket is at home in domain 0', () => {
  script(
    'a g5',
    ['a', 0, 'WRITE', 'name|dom0', 'OK|'],
    ['a', 0, 'READ', '/local/domain/0/name|', 'dom0'],
    ['a', 0, 'MKDIR', '/local/domain/5|', 'OK|'],
    ['a', 0, 'SET_PERMS', '/local/domain/5|n5|', 'OK|'],
    ['g5', 0, 'WRITE', 'data/x|mine', 'OK|'],
    ['a', 0, 'READ', '/local/domain/5/data/x|', 'mine'],
  )
})

it('XS-path-3, XS-adv-323, XS-ox-12: the limit holds for the final absolute path, without the home it begins with', () => {
  const long = 'x'.repeat(2048)
  script(
    'a',
    ['a', 0, 'MKDIR', `${long}|`, 'OK|'],
    ['a', 0, 'MKDIR', `${long}y|`, 'EINVAL'],
    ['a', 0, 'MKDIR', `/local/domain/77/${long}|`, 'OK|'],
    ['a', 0, 'MKDIR', `/${'x'.repeat(2047)}|`, 'OK|'],
    ['a', 0, 'MKDIR', `/${long}|`, 'EINVAL'],
  )
  const dev = new Script({ profile: C_4_23 }, 'a', 'g5')
  dev.run(
    ['a', 0, 'MKDIR', `/${long}${long.slice(0, 1000)}|`, 'OK|'],
    ['a', 0, 'MKDIR', `/${long}${long.slice(0, 1024)}|`, 'EINVAL'],
    ['g5', 0, 'READ', `/${long}|`, 'EINVAL'],
  )
  new Script({ quotas: { pathMax: 1024 } }).run(['a', 0, 'MKDIR', `/${'x'.repeat(1024)}|`, 'EINVAL'])
})

it('XS-path-4, XS-ox-16: names with @ are for watches, two of them for permissions', () => {
  const s = script(
    'a',
    ['a', 0, 'WATCH', '@any|t|', 'OK|', ['a @any|t|']],
    ['a', 0, 'UNWATCH', '@any|t|', 'OK|'],
    ['a', 0, 'SET_PERMS', '@releaseDomain|n0|r5|', 'OK|'],
    ['a', 0, 'SET_PERMS', '@other|n0|', 'EINVAL'],
  )
  for (const type of ['READ', 'DIRECTORY', 'GET_PERMS', 'MKDIR', 'RM'] as const)
    s.run(['a', 0, type, '@releaseDomain|', 'EINVAL'])
  s.run(['a', 0, 'WRITE', '@x|v', 'EINVAL'])
  new Script({ profile: C_4_23 }).run(['a', 0, 'GET_PERMS', '@releaseDomain|', 'r0|'])
})

it('XS-path-5, XS-ox-2: children are listed in order of creation, however many and whatever went', () => {
  const s = script('a', ['a', 0, 'MKDIR', '/d/z|', 'OK|'], ['a', 0, 'MKDIR', '/d/a|', 'OK|'])
  s.run(['a', 0, 'WRITE', '/d/m|', 'OK|'], ['a', 0, 'DIRECTORY', '/d|', 'z|a|m|'])
  s.run(['a', 0, 'RM', '/d/z|', 'OK|'], ['a', 0, 'MKDIR', '/d/z|', 'OK|'], ['a', 0, 'DIRECTORY', '/d|', 'a|m|z|'])
  s.run(['a', 0, 'READ', '/d|', ''], ['a', 0, 'DIRECTORY', '/d/a|', ''])
  const names: string[] = []
  for (let i = 0; i < 300; i++) {
    const name = `n${(i * 7919) % 300}`
    names.push(name)
    s.send('a', 0, 'MKDIR', `/many/${name}|`)
    if (i % 3 === 2) {
      const [gone] = names.splice(Math.floor(i / 2) % names.length, 1)
      s.send('a', 0, 'RM', `/many/${gone}|`)
    }
    s.send('a', 0, 'WRITE', `/many/${names[0]}/deep|x`)
    expect(s.ask('a', 0, 'DIRECTORY', '/many|')).toBe(names.map((each) => `${each}|`).join(''))
  }
  s.sound()
})

it('XS-path-6: WRITE and MKDIR make what is missing above; MKDIR of a node leaves it alone', () => {
  script(
    'a b',
    ['b', 0, 'WATCH', '/w|t|', 'OK|', ['b /w|t|']],
    ['a', 0, 'WRITE', '/w/x/y|v', 'OK|', ['b /w/x/y|t|']],
    ['a', 0, 'READ', '/w/x|', ''],
    ['a', 0, 'MKDIR', '/w/x/y|', 'OK|'],
    ['a', 0, 'READ', '/w/x/y|', 'v'],
  )
})

it('XS-path-7, XS-ox-17: RM takes all below with it; of a missing node it is OK below an existing parent', () => {
  script(
    'a',
    ['a', 0, 'WRITE', '/w/x/y/z|v', 'OK|'],
    ['a', 0, 'RM', '/w/x|', 'OK|'],
    ['a', 0, 'READ', '/w/x/y/z|', 'ENOENT'],
    ['a', 0, 'RM', '/w/x|', 'OK|'],
    ['a', 0, 'RM', '/w/x/y|', 'ENOENT'],
    ['a', 0, 'RM', '/|', 'EINVAL'],
  )
})

it('XS-path-8: a fresh store has three nodes of domain 0', () => {
  script(
    'a',
    ['a', 0, 'DIRECTORY', '/|', 'tool|'],
    ['a', 0, 'DIRECTORY', '/tool|', 'xenstored|'],
    ['a', 0, 'DIRECTORY', '/tool/xenstored|', ''],
    ['a', 0, 'GET_PERMS', '/|', 'n0|'],
    ['a', 0, 'GET_PERMS', '/tool/xenstored|', 'n0|'],
  )
})

it('XS-path-9: every change of value, children or permissions moves the generation', () => {
  const s = new Script()
  const generation = () => Number(s.ask('a', 0, 'DIRECTORY_PART', '/d|0|').split('|')[0])
  s.send('a', 0, 'WRITE', '/d|v')
  let last = generation()
  const moves = (type: 'WRITE' | 'MKDIR' | 'RM' | 'SET_PERMS' | 'READ', payload: string, moved: boolean) => {
    s.send('a', 0, type, payload)
    if (moved) expect(generation()).toBeGreaterThan(last)
    else expect(generation()).toBe(last)
    last = generation()
  }
  moves('WRITE', '/d|v', true)
  moves('MKDIR', '/d/c|', true)
  moves('WRITE', '/d/c|x', false)
  moves('MKDIR', '/d/c|', false)
  moves('SET_PERMS', '/d|n0|', true)
  moves('RM', '/d/c|', true)
  moves('RM', '/d/c|', false)
  moves('READ', '/d|', false)
})

it('XS-adv-418: depth that a guest makes is no recursion', () => {
  const s = new Script({ quotas: { nodes: 5000, pathMax: 3000 } }, 'a', 'g5')
  s.run(['a', 0, 'MKDIR', '/g|', 'OK|'], ['a', 0, 'SET_PERMS', '/g|n5|', 'OK|'])
  const deep = `/g${'/d'.repeat(1400)}`
  s.run(['g5', 0, 'MKDIR', `${deep}|`, 'OK|'], ['a', 0, 'CONTROL', 'check|', 'OK|'])
  s.run(
    ['a', 0, 'TRANSACTION_START', '|', '1|'],
    ['a', 1, 'RM', '/g/d|', 'OK|'],
    ['a', 1, 'TRANSACTION_END', 'T|', 'OK|'],
  )
  s.run(['g5', 0, 'MKDIR', `${deep}|`, 'OK|'], ['a', 0, 'RM', '/g|', 'OK|'])
  expect(insideStore(s.server).store.accounts.of(5).nodes).toBe(0)
})
