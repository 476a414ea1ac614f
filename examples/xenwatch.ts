/**
 * The stall of 2018. A packet of domain 1 is never freed, domain 1 is destroyed, and somebody wants another domain: first
 * with Linux's one thread for all watches, then with a thread per domain as in each of the three designs.
 */
import { DESIGNS, guestConfig, Host, type Outcome, type Task } from 'evtchn/dom0'

for (const design of DESIGNS) {
  // Time is simulated: the 30 seconds of time-outs pass at once.
  const host = new Host({ design, xenMtwatch: design !== 'single' })
  const xl = (task: Task<Outcome>): Outcome => host.complete('xl', task)
  xl(host.toolstack.create(guestConfig('first')))
  host.pass(1)

  host.injector.arm('netback', 'vif1.0')
  host.guest(1).netfront?.send()
  host.pass(1)
  xl(host.toolstack.destroy(1))

  const { ok, ns, errors } = xl(host.toolstack.create(guestConfig('second')))
  const stalled = host.kernel.ps().filter(({ state }) => state === 'D')
  console.log(`${design}: ${stalled.map(({ name, stack }) => `${name} in ${stack[0]?.split(' ')[1]}`)}`)
  console.log(`  xl create: ${ok ? 'done' : `failed, ${errors.length} lines`} after ${(ns / 1e9).toFixed(1)} s`)

  host.injector.release()
  host.pass(1)
  const again = xl(host.toolstack.create(guestConfig('third')))
  console.log(`  after the release: ${again.ok ? 'done' : 'failed'}`)
}
