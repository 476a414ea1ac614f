/**
 * Real threads against each other: senders, a receiver and the hypervisor, each on a thread of its own, and a count for every
 * port of what was sent and what was seen.
 *
 *     sender     sent[port] + 1, then send; now and then all rest, and the run goes on when nothing is left to see
 *     receiver   scans, masks, unmasks, blocks, polls; its handler: seen[port] := sent[port]
 *     hypervisor (this thread) serves, closes and binds ports while they are sent on, changes priorities, pauses
 *
 * At a rest each port has seen = sent, or an event was lost (I4), and nobody sleeps with its flag set (I5). A port that is
 * closed keeps its pending bit at 0, whoever sends (I2). Bind raises the port once, so what was sent while it was closed counts
 * as seen then (EC-inter-8).
 */

import { Worker } from 'node:worker_threads'

/** Words of the counts: header, then sent and seen by port. */
export const WORDS = { stop: 0, rest: 1, resting: 2, sends: 3, ready: 4, wakes: 5, header: 16 }
export const MOST_PORTS = 1024

/** Longest time that a rest may take: on a busy machine a thread may not run for a second. */
const PATIENCE_MS = Number(process.env.STRESS_PATIENCE_MS ?? 20_000)

/** Calls of the hypervisor's that may take a second, for want of a processor. */
const MOST_STALLS = 3

/** A small generator of random numbers (mulberry32). */
export function random(seed) {
  let state = seed >>> 0
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) % below
  }
}

/**
 * One run. `levels`: 2, 3, … or 'fifo'; `bits`: 32 or 64; `sends`: about so many; `dist`: the library that is tested.
 * @returns what happened; `failure` is undefined if nothing was lost.
 */
export async function stress({ levels, bits, sends, senders = 2, ports = 16, seed = 1, dist, churn = true }) {
  const { Hypervisor } = await import(new URL('index.js', dist).href)
  // The hypervisor's own object: a look at a closed port is no part of the public face.
  const { insideDomain } = await import(new URL('domain/handles.js', dist).href)
  const words = new Int32Array(new SharedArrayBuffer((WORDS.header + 2 * MOST_PORTS) * 4))
  const errors = []
  const xen = Hypervisor.create({ threads: 8, onError: (error, where) => errors.push(`${where}: ${error.message}`) })
  const receiver = xen.createDomain({ domid: 1, shared: true, bits, frames: 512 })
  const domains = Array.from({ length: senders }, (_, i) => xen.createDomain({ domid: 2 + i, shared: true }))
  const ends = domains.flatMap((domain) =>
    Array.from({ length: ports }, () => ({
      domid: domain.domid,
      port: domain.eventChannelOp('alloc_unbound', { dom: domain.domid, remote_dom: 1 }).port,
    })),
  )
  const worker = (role, vcpu, more) =>
    new Worker(new URL('stress_worker.mjs', import.meta.url), {
      workerData: { role, words, dist: dist.href, handle: xen.attach([vcpu]), ...more },
    })
  const workers = [worker('receiver', receiver.vcpu(0), { levels, ends, seed })]
  const failed = new Promise((_, reject) => {
    for (const each of workers) each.on('error', reject)
  })
  failed.catch(() => {})
  const inner = insideDomain(receiver)
  const run = new Run({ xen, receiver, inner, words, ends, levels, churn, next: random(seed), errors, failed })
  try {
    await run.until(() => Atomics.load(words, WORDS.ready) === 1, 'the receiver is ready')
    for (const [i, domain] of domains.entries()) {
      const mine = ends.flatMap(({ domid, port }, at) => (domid === domain.domid ? [{ port, at }] : []))
      const each = worker('sender', domain.vcpu(0), { mine, seed: seed + 1 + i, senders })
      each.on('error', (error) => run.fail(error.message))
      workers.push(each)
    }
    await run.go(sends, senders)
  } catch (error) {
    run.failure ??= error.message
  }
  Atomics.store(words, WORDS.stop, 1)
  Atomics.store(words, WORDS.rest, 0)
  Atomics.notify(words, WORDS.rest)
  await Promise.all(workers.map((each) => each.terminate()))
  const { failure, rests, cycles } = run
  return { failure, rests, cycles, sends: Atomics.load(words, WORDS.sends) >>> 0, errors }
}

class Run {
  failure
  rests = 0
  cycles = 0
  stalls = 0
  #host
  #priority = 0

  constructor(host) {
    this.#host = host
  }

  fail(text) {
    this.failure ??= text
  }

  /** Serves until something is so. */
  async until(done, what) {
    const { xen, failed } = this.#host
    const end = Date.now() + PATIENCE_MS
    while (!done()) {
      xen.service()
      if (this.failure) throw new Error(this.failure)
      if (Date.now() > end) throw new Error(`not in ${PATIENCE_MS} ms: ${what}`)
      await Promise.race([failed, new Promise((resolve) => setImmediate(resolve))])
    }
  }

  async go(sends, senders) {
    const { words, churn, next, errors } = this.#host
    let last = 0
    while (Atomics.load(words, WORDS.sends) >>> 0 < sends) {
      if (churn) this.#churn(next)
      await this.until(() => true, '')
      const now = Atomics.load(words, WORDS.sends) >>> 0
      if (now - last > 200 + next(5000)) {
        await this.rest(senders)
        last = now
      }
    }
    await this.rest(senders)
    if (errors.length) throw new Error(errors[0])
  }

  /** All senders stop; then everything that was sent has been seen, and they go on. */
  async rest(senders) {
    const { words } = this.#host
    Atomics.store(words, WORDS.rest, 1)
    await this.until(() => Atomics.load(words, WORDS.resting) === senders, 'all senders rest')
    await this.until(() => this.#unseen().length === 0, 'everything that was sent is seen').catch((error) => {
      throw new Error(`${error.message}; ${this.#lost()}`)
    })
    this.rests++
    Atomics.store(words, WORDS.rest, 0)
    Atomics.notify(words, WORDS.rest)
    await this.until(() => Atomics.load(words, WORDS.resting) === 0, 'all senders go on')
  }

  #unseen() {
    const { words, ends } = this.#host
    return ends.flatMap((_, at) => {
      const sent = Atomics.load(words, WORDS.header + at)
      return sent === Atomics.load(words, WORDS.header + MOST_PORTS + at) ? [] : [at]
    })
  }

  #lost() {
    const { receiver } = this.#host
    const { blocked, upcallPending, upcallMask } = receiver.vcpu(0)
    const ports = this.#unseen().map((at) => `port ${at + 1} (bits ${this.#bits(at + 1)})`)
    return `lost on ${ports.length} ports, ${ports.slice(0, 4)}; receiver blocked ${blocked}, flag ${upcallPending}, mask ${upcallMask}`
  }

  /** Closes one of the receiver's ports, looks at its bit for a while, and binds it again. */
  #churn(next) {
    const start = performance.now()
    this.#closeAndBind(next)
    // The writer sleeps a second at most, so a lost wake-up of the lock is a stall. A busy machine makes one, not three.
    if (performance.now() - start > 950 && ++this.stalls === MOST_STALLS)
      this.fail(`the delivery lock has stalled for a second, ${MOST_STALLS} times`)
  }

  #closeAndBind(next) {
    const { receiver, ends, levels, errors } = this.#host
    const at = next(ends.length)
    const local = at + 1
    if (levels === 'fifo') {
      this.#priority = (this.#priority + 1) % 16
      receiver.eventChannelOp('set_priority', { port: 1 + next(ends.length), priority: this.#priority })
    }
    if (levels === 'fifo' && next(4)) return
    const stray = () => this.#bit(local)
    receiver.eventChannelOp('close', { port: local })
    for (let look = 0; look < 20 + next(200); look++) if (stray()) this.fail(`the closed port ${local} has an event`)
    const end = Date.now() + PATIENCE_MS
    // Still on a queue: not free yet, and the receiver takes it off (EC-bug-7).
    while (levels === 'fifo' && this.#linked(local) && Date.now() < end) this.#host.xen.service()
    const { local_port } = receiver.eventChannelOp('bind_interdomain', {
      remote_dom: ends[at].domid,
      remote_port: ends[at].port,
    })
    if (local_port !== local) errors.push(`port ${local} came back as ${local_port}`)
    this.cycles++
  }

  /** Is the bit of a port set, whatever the port is? */
  #bit(port) {
    return this.#bits(port) & 1
  }
  #bits(port) {
    const { hostCore, record } = this.#host.inner
    return hostCore.calls.bits(record, port)
  }
  #linked(port) {
    return this.#host.inner.portOps.isBusy(port)
  }
}
