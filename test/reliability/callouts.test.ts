/**
 * A user's function runs inside the machinery. Every hook of a host and of a guest's driver is in one table; each throws
 * once, throws always, throws a XenError, and calls back into the host. After each of that the caller has its result, every
 * fault was reported once, and two domains that have nothing to do with it exchange events.
 */

import { describe, expect, it } from 'vitest'
import { Errno, XenError } from '../../src/index.js'
import { FAULTS, type Fault, HOOKS, portsOf, World } from './hooks.js'

describe('what a user’s function throws stays with that user', () => {
  for (const [hook, row] of Object.entries(HOOKS))
    for (const [what, { fault, throws }] of Object.entries(FAULTS))
      it(`${hook} ${what}`, () => {
        let act: Fault = () => {}
        let world: World | undefined
        const call = () => world && act(world.xen)
        world = new World(row.options?.(call) ?? {})
        act = fault()
        const before = portsOf(world)
        let refused: unknown
        try {
          row.run(world, call)
        } catch (error) {
          if (!row.refuses) throw error
          refused = error
        }
        if (row.refuses && throws) {
          expect(refused).toBeInstanceOf(XenError)
          expect((refused as XenError).errno).toBe(Errno.EPERM)
          // A channel of which only the send was refused is the caller's.
          if (!/Send/.test(hook)) expect(portsOf(world), 'ports after the refusal').toBe(before)
        } else expect(refused).toBeUndefined()
        if (throws) {
          expect(world.reported.length, 'reports').toBeGreaterThan(0)
          if (what === 'throws once') expect(world.reported.length).toBe(1)
          for (const { error, where } of world.reported) {
            expect((error as Error).message).toMatch('fault of a user')
            expect(where).not.toBe('')
          }
        } else expect(world.reported).toEqual([])
        act = () => {}
        world.prove()
      })
})
