/** Stores as text: listings from reports of real hosts, identities replaced, load and print back equal. */

import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { ParameterError } from '../../src/check.js'
import {
  checkStore,
  connectInProcess,
  type DumpListingOptions,
  dumpListing,
  ListingError,
  loadListing,
  XenStored,
} from '../../src/xenstore/index.js'
import { insideStore } from '../../src/xenstore/server.js'

const real = (name: string) => readFileSync(new URL(`listings/${name}`, import.meta.url), 'utf8')

describe('listings', () => {
  it.each([
    ['driver-domain-2022.ls', {}],
    ['pci-driver-arm-2023.ls', { permissions: false }],
    ['netback-xdp-2023.tree', { at: '/backend', form: 'tree', permissions: false }],
  ] satisfies [string, DumpListingOptions][])('XS-list-1: %s prints back equal', (name, options) => {
    const text = real(name)
    const store = new XenStored()
    const lines = text.split('\n').filter((line) => line !== '').length
    expect(loadListing(store, text, name.endsWith('.tree') ? { at: '/backend' } : {})).toBe(lines)
    // A report shows a part of a store: the parents of its tops are ours.
    const of = new Set(text.split('\n'))
    const printed = dumpListing(store, options)
      .split('\n')
      .filter((line) => of.has(line))
    expect(printed.join('\n')).toBe(text)
    expect(checkStore(store)).toEqual([])
  })

  it('XS-list-1: as JSON, every byte of a value and every permission; what is read prints back equal', () => {
    const store = new XenStored()
    const bytes = Array.from({ length: 256 }, (_, i) => `\\${i.toString(8).padStart(3, '0')}`).join('')
    loadListing(store, `/a = "${bytes}"   (n3,r4)\n/b = "plain"   (b0)\n`)
    const text = dumpListing(store, { form: 'json' })
    const { nodes } = JSON.parse(text) as { nodes: { path: string }[] }
    const hex = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, '0')).join('')
    expect(nodes.find(({ path }) => path === '/a')).toEqual({ path: '/a', hex, permissions: ['n3', 'r4'] })
    expect(nodes.find(({ path }) => path === '/b')).toEqual({ path: '/b', value: 'plain', permissions: ['b0'] })
    const second = new XenStored()
    expect(loadListing(second, text)).toBe(nodes.length)
    expect([dumpListing(second, { form: 'json' }), dumpListing(second)]).toEqual([text, dumpListing(store)])
  })

  it.each([
    ['{', 'is not JSON'],
    ['{"format":2,"nodes":[]}', 'is not of the form'],
    ['{"format":1,"nodes":[null]}', 'has no path'],
    ['{"format":1,"nodes":[{"path":"/a"}]}', 'has not one of value and hex'],
    ['{"format":1,"nodes":[{"path":"/a","hex":"0"}]}', 'has hex "0"'],
    ['{"format":1,"nodes":[{"path":"a//b","value":""}]}', 'is not the path of a node'],
    ['{"format":1,"nodes":[{"path":"/a","value":"","permissions":["q"]}]}', 'has permission "q"'],
  ])('%s is refused, and the store stays as it is', (text, message) => {
    const store = new XenStored()
    const before = dumpListing(store)
    expect(() => loadListing(store, text)).toThrow(message)
    expect(dumpListing(store)).toBe(before)
  })

  it('XS-list-1: every byte of a value, and what stands behind an octal one', () => {
    const store = new XenStored()
    const client = connectInProcess(store)
    const bytes = Uint8Array.from({ length: 512 }, (_, i) => (i % 2 ? i >> 1 : 0x30))
    return client.write('/bytes', bytes).then(async () => {
      await client.write('/quotes', '" = "a\\nb\\0"   (r1)')
      const again = new XenStored()
      loadListing(again, dumpListing(store))
      expect(dumpListing(again)).toBe(dumpListing(store))
      for (const path of ['/bytes', '/quotes'])
        expect(insideStore(again).store.get(path)!.value).toBe(insideStore(store).store.get(path)!.value)
    })
  })

  it('XS-list-1: both forms, with permissions and without', () => {
    const store = new XenStored()
    loadListing(store, '/a = "1"   (n0,r5)\n/a/b = "2"   (b7)\n/c = ""   (n0)\n')
    const dump = (options: DumpListingOptions) => dumpListing(store, options).split('\n').slice(2, -1)
    expect(dump({ form: 'tree' })).toEqual(['a = "1"   (n0,r5)', ' b = "2"   (b7)', 'c = ""   (n0)'])
    expect(dump({ permissions: false })).toEqual(['/a = "1"', '/a/b = "2"', '/c = ""'])
    expect(dumpListing(store, { at: '/a', form: 'tree', permissions: false })).toBe('b = "2"\n')
    expect(dumpListing(store, { at: '/none' })).toBe('')
  })

  it('XS-list-2: its permissions count', async () => {
    const store = new XenStored()
    loadListing(store, '/a = "1"   (n0,r5)\n')
    expect(await connectInProcess(store, 5).read('/a')).toBe('1')
    await expect(connectInProcess(store, 6).read('/a')).rejects.toMatchObject({ code: 'EACCES' })
  })

  it('XS-list-2: the top of a listing replaces what is there, the rest stays, and watches fire', async () => {
    const store = new XenStored()
    const client = connectInProcess(store)
    await client.write('/x/old/deep', 'v')
    await client.write('/y', 'v')
    const seen: string[] = []
    await client.watch('/x', { onEvent: ({ path }) => void seen.push(path) })
    loadListing(store, '/x/old = "new"\n/p/q/r = "1"\n')
    await client.read('/y')
    // Removed and made: one event stands for both, as one is queued once.
    expect(seen).toEqual(['/x', '/x/old'])
    expect(await client.ls('/x/old')).toEqual([])
    expect(await client.read('/p/q/r')).toBe('1')
    expect(await client.getPermissions('/p')).toEqual([{ letter: 'n', domid: 0 }])
    expect(checkStore(store)).toEqual([])
  })

  it.each([
    ['no value', '/a = "1"\n/b\n', 2],
    ['no path', '/a//b = "1"\n', 1],
    ['the root', '/ = "1"\n', 1],
    ['no permission', '/a = "1"   (n0,x5)\n', 1],
    ['no character', '/a = "\\\\q"\n'.replace('\\\\', '\\'), 1],
    ['a path twice', '/a = "1"\n/b = ""\n/a = "2"\n', 3],
    ['a child before its parent', '/a/b = "1"\n/a = ""\n', 1],
    ['a jump to the right', 'a = ""\n  b = ""\n', 2],
  ])('XS-list-2: %s is refused by its line, and nothing has changed', (_, text, line) => {
    const store = new XenStored()
    const before = dumpListing(store)
    let error: unknown
    try {
      loadListing(store, text)
    } catch (thrown) {
      error = thrown
    }
    expect(error).toBeInstanceOf(ListingError)
    expect(error).toMatchObject({ line })
    expect(dumpListing(store)).toBe(before)
    expect(checkStore(store)).toEqual([])
  })

  it('a wrong argument is refused by name', () => {
    const store = new XenStored()
    expect(() => loadListing(store, 5 as never)).toThrow(ParameterError)
    expect(() => dumpListing(store, { form: 'flat' as never })).toThrow(ParameterError)
  })
})
