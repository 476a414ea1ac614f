/** What users' functions throw changes nothing for dom0: its threads live, other domains come and go. */

import { describe, expect, it } from 'vitest'
import { done, guestConfig, Host, XenbusWatch } from '../../src/dom0/index.js'
import { DOM0_HOOKS } from './dom0_hooks.js'
import { HOOK_FAULTS, Reports } from './faults.js'

/** A change reaches a watch. A domain is created with its devices, and destroyed. */
function prove(host: Host): void {
  const names = host.kernel.ps().map(({ name }) => name)
  expect(names).toEqual(expect.arrayContaining(['xenbus', 'xenwatch']))
  const seen: string[] = []
  const watch = new XenbusWatch({
    node: '/proof',
    callback: (_watch, path) => done(void seen.push(path)),
  })
  host.complete('x', host.xenbus.register(watch))
  host.complete('x', host.toolstack.xs.write('/proof/a', 1))
  host.pass(1)
  expect(seen).toEqual(['/proof', '/proof/a'])
  host.complete('x', host.xenbus.unregister(watch))
  const created = host.complete('xl', host.toolstack.create(guestConfig('proof')))
  expect(created.errors).toEqual([])
  expect(host.complete('xl', host.toolstack.destroy(created.domid)).errors).toEqual([])
  host.pass(1)
  expect(host.kernel.ps().filter(({ state }) => state === 'D')).toEqual([])
  expect(host.domains.zombies).toEqual([])
}

describe('what a user’s function throws stays with that user: dom0', () => {
  for (const [hook, row] of Object.entries(DOM0_HOOKS))
    for (const [what, fault] of Object.entries(HOOK_FAULTS))
      it(`${hook} ${what}`, () => {
        const reports = new Reports()
        let act = () => {}
        const call = () => act()
        const host = new Host({
          xenMtwatch: true,
          design: 'on-demand',
          ...row.options?.(call),
          onError: reports.onError,
        })
        act = fault.make(() => {
          // In an interrupt or a thread: a new process is all that can be begun.
          host.start('again', host.toolstack.xs.write('/again', 1))
        })
        row.run(host, call)
        host.pass(1)
        act = () => {}
        reports.check(fault.throws)
        prove(host)
      })
})
