/**
 * What a terminated thread leaves behind: queue locks, and one event that it was in the middle of raising. The thread wrote
 * into its line which one that is (assembly/host/ports.ts: begins), so the rest of the way is gone here. Where it is not
 * known whether a step was taken, it is taken again: an event may come twice, and none is lost.
 *
 *     leaf set ─ climb ─ flag ─ kick                          levels: climb again, kick again
 *     LINKED ─ link or head ─ STAGE 2 ─ tail ─ READY ─ kick   FIFO: by STAGE, and by what the tail's word says
 */

import { EVTCHN_FIFO_LINK_BITS, EVTCHN_FIFO_LINKED, EVTCHN_FIFO_MAX_QUEUES, EVTCHN_FIFO_PENDING } from '../abi/index.js'
import type { Domain } from '../domain/domain.js'
import { upcallDeliverable } from '../domain/upcall.js'
import type { HostCore } from '../machine/host_core.js'
import { DOMAIN, HYPERVISOR_THREAD, STAGE_LINKED, THREAD, THREAD_SHIFT } from '../machine/host_layout.js'
import type { Domains } from './domains.js'

/** Low bits of a queue lock: the thread that holds it. */
const HOLDER = 0xff

/** Breaks the queue locks of a thread that is gone, and those that this thread gave up on a trap. */
export function freeLocks({ memory }: HostCore, thread: number, domains: Domains): void {
  for (const domain of domains) {
    const { fifo } = domain
    if (!fifo) continue
    for (let vcpu = 0; vcpu < domain.vcpus.length; vcpu++)
      for (let queue = 0; queue < EVTCHN_FIFO_MAX_QUEUES; queue++) {
        const at = fifo.lockAt(vcpu, queue) >>> 2
        const holder = Atomics.load(memory.words, at) & HOLDER
        if (holder !== thread && holder !== HYPERVISOR_THREAD) continue
        Atomics.store(memory.words, at, 0)
        Atomics.notify(memory.words, at)
      }
  }
}

/** Brings the event that a thread was raising to its vCPU. The thread is gone, and its locks are free. */
export function lastEvent(core: HostCore, thread: number, domains: Domains): void {
  const { words } = core.memory
  const line = thread << THREAD_SHIFT
  const record = words[(line + THREAD.RAISING) >>> 2]! >>> 0
  const port = words[(line + THREAD.RAISING_PORT) >>> 2]!
  const stage = words[(line + THREAD.STAGE) >>> 2]!
  if (!record) return
  const domain = domains.get(words[(record + DOMAIN.DOMID) >>> 2]!)
  // It may have left since: the thread was not inside when it was terminated.
  if (domain?.record !== record || domain.dying !== 'alive') return
  if (!domain.ports.isValid(port) || !domain.ports.isUsable(port)) return
  if (domain.fifo) core.lock.write(() => relink(domain, port, stage === STAGE_LINKED))
  else domain.finish(core.calls.climbAgain(record, port), port)
  const vcpu = domain.vcpus[domain.ports.notifyVcpu(port)]!
  if (upcallDeliverable(domain, vcpu)) domain.kick(vcpu)
  domain.checkPollers(port)
}

/** A FIFO event that may be linked half way. */
function relink(domain: Domain, port: number, linked: boolean): void {
  const { core, ports, portOps } = domain
  const fifo = domain.fifo!
  const word = fifo.wordAt(port)
  if (word < 0) return
  const has = (at: number, bit: number) => core.bitTest(at, bit) === 1
  if (!has(word, EVTCHN_FIFO_LINKED)) {
    if (has(word, EVTCHN_FIFO_PENDING)) portOps.setPending(port)
    return
  }
  const last = ports.lastQueue(port)
  const [vcpu, priority] = [last >>> 16, last & 0xff]
  const tail = fifo.tail(vcpu, priority)
  const tailAt = tail ? fifo.wordAt(tail) : -1
  const alive = tailAt >= 0 && tail !== port && has(tailAt, EVTCHN_FIFO_LINKED)
  const follows = alive && (core.fifoWord(tailAt) & (2 ** EVTCHN_FIFO_LINK_BITS - 1)) === port
  if (linked || follows) fifo.setTail(vcpu, priority, port)
  else {
    // On no queue: a tail that names it is from before, and LINKED goes, for else no raise would link it again.
    if (tail === port) fifo.setTail(vcpu, priority, 0)
    core.bitClear(word, EVTCHN_FIFO_LINKED)
    portOps.setPending(port)
    return
  }
  const block = fifo.blockAt(vcpu)
  const { info } = domain.vcpus[vcpu]!
  if (block >= 0 && info >= 0 && core.fifoReady(block, priority, info)) domain.kick(domain.vcpus[vcpu]!)
}
