/** What the embedder's functions throw changes nothing for the store, its other clients, or the request at hand. */

import { describe, expect, it } from 'vitest'
import { checkStore, connectInProcess, XenStored } from '../../src/xenstore/index.js'
import { HOOK_FAULTS, Reports } from './faults.js'
import { STORE_HOOKS, StoreWorld } from './store_hooks.js'

/** Another client does all that clients do, and the store and its accounts are sound. */
async function prove({ store }: StoreWorld): Promise<void> {
  const other = connectInProcess(store)
  const seen: string[] = []
  const watch = await other.watch('/other', { onEvent: ({ path }) => seen.push(path) })
  await other.write('/other/x', '1')
  await other.transaction((t) => t.write('/other/y', '2'))
  expect(await other.read('/other/y')).toBe('2')
  expect(seen).toEqual(['/other', '/other/x', '/other/y'])
  await watch.close()
  await other.rm('/other')
  other.close()
  expect(checkStore(store)).toEqual([])
}

describe('what a user’s function throws stays with that user: the store', () => {
  for (const [hook, row] of Object.entries(STORE_HOOKS))
    for (const [what, fault] of Object.entries(HOOK_FAULTS))
      it(`${hook} ${what}`, async () => {
        const reports = new Reports()
        let act = () => {}
        const call = () => act()
        const world = new StoreWorld(reports, row.options?.(call) ?? {})
        act = fault.make(() => void world.dom0.write('/again', '1'))
        await row.run(world, call)
        reports.check(fault.throws)
        act = () => {}
        await prove(world)
      })

  it('a domain lives on while the hypervisor’s word on it cannot be had', async () => {
    let fails = false
    const state = () => {
      if (fails) throw new Error('fault of a user')
      return { shutdown: false, dying: false }
    }
    const store = new XenStored({ host: { state, connect: () => undefined }, onError: () => {} })
    const dom0 = connectInProcess(store)
    const guest = connectInProcess(store, 7)
    fails = true
    store.domainsChanged()
    expect(guest.closed).toBe(false)
    await expect(dom0.introduce(8, 1, 1)).rejects.toThrow('EINVAL')
    fails = false
    expect(await dom0.isIntroduced(7)).toBe(true)
    expect(await dom0.isIntroduced(8)).toBe(false)
  })

  it('a clock that tells no time stands still', () => {
    const reports = new Reports()
    let told: unknown = 10
    const store = new XenStored({ now: () => told as number, onError: reports.onError })
    for (told of [Number.NaN, undefined, 'now']) store.tick()
    expect(reports.all.map(({ where }) => where)).toEqual(['now', 'now', 'now'])
  })
})
