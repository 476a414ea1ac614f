/**
 * A host with many domains and a steady load of watch events, from the write into the store to the callback's end:
 *
 *     write /w/<domid>/state ─▶ store ─ring─▶ xenbus ─▶ list(s) ─▶ callback: reads the state, as a backend's does
 *
 * N domains are measured. One more gets its share of events too; it may be stalled.
 */

import { StoreHost } from '../../src/dom0/host/store_host.js'
import type { Task } from '../../src/dom0/kernel/index.js'
import { type Design, MTWATCH_NODE, XenbusWatch } from '../../src/dom0/xenbus/index.js'

/** Real time in ns, for each event: asking for it costs 50 ns. Processor time costs 850, a fifth of what an event takes. */
const now = (): number => performance.now() * 1e6

/**
 * Processor time of this process in ns, for a whole sample. All of it is one thread that never waits, so real time that is
 * longer was another's.
 */
function busy(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) * 1000
}

/** Writes between two turns of the scheduler: what arrives while dom0 is busy. */
const BURST = 64

/** One sample. */
export interface Sample {
  /** Events of the N domains per second of processor time. */
  readonly perSecond: number
  /** From the write to the callback's begin, 99th percentile, in ns. */
  readonly p99Ns: number
  /** Events of the N domains that were handled, of those that were written. */
  readonly handled: number
  readonly written: number
  /** Other work on the machine took more than a hundredth of the time. */
  readonly interrupted: boolean
}

/** A host of one design, with or without its extra domain stalled. */
export class Load {
  readonly #host: StoreHost
  readonly #domains: number
  readonly #sentNs: Float64Array
  #latencies: number[] = []
  #next = 0

  constructor(design: Design, domains: number, stalled: boolean) {
    const host = new StoreHost({ xenMtwatch: design !== 'single', design })
    this.#host = host
    this.#domains = domains
    this.#sentNs = new Float64Array(domains + 2)
    host.complete(host.xenbus.start())
    this.#makeDomains(design)
    const extra = domains + 1
    const gate = host.kernel.waitQueue()
    let closed = false
    for (let domid = 1; domid <= extra; domid++) {
      const stalls = stalled && domid === extra
      const callback = (): Task => (stalls && closed ? stall() : this.#handle(domid))
      host.complete(host.xenbus.register(watchOf(domid, callback), 'domain'))
    }
    function* stall(): Task {
      yield* gate.until(() => false, { what: 'an injected stall' })
    }
    closed = true
    host.write(`/w/${extra}/state`, 1)
    host.run()
    this.#latencies = []
  }

  #makeDomains(design: Design): void {
    const host = this.#host
    for (let domid = 1; domid <= this.#domains + 1; domid++) {
      if (design === 'rfc') host.write(`${MTWATCH_NODE}/${domid}`)
      if (design === 'talk') host.write(`/local/domain/${domid}`)
      if (design === 'on-demand') host.xenbus.delivery.get(domid)
      if (domid % BURST === 0) host.run()
    }
    if (design === 'talk') host.introduce(1)
    host.run()
  }

  *#handle(domid: number): Task {
    // The extra domain gets its events like any other, but is not measured.
    if (domid <= this.#domains) this.#latencies.push(now() - this.#sentNs[domid]!)
    yield* this.#host.xenbus.readIfExists(`/w/${domid}/state`)
  }

  /** `events` events of the N domains, each in turn, and one of the extra domain for every 64. */
  sample(events: number): Sample {
    const host = this.#host
    const domains = this.#domains
    this.#latencies = []
    const start = { real: now(), busy: busy() }
    let extra = 0
    for (let written = 0; written < events; ) {
      // Never twice the same domain in a burst: the store would merge the two.
      const burst = Math.min(BURST, domains, events - written)
      for (let i = 0; i < burst; i++) {
        const domid = 1 + (this.#next++ % domains)
        this.#sentNs[domid] = now()
        host.write(`/w/${domid}/state`, written & 7)
      }
      written += burst
      // Its share, as one of 64; with few domains it would otherwise be a large part of the load.
      if (Math.floor(written / BURST) > extra) host.write(`/w/${domains + 1}/state`, extra++ & 7)
      host.run()
    }
    const real = now() - start.real
    const ns = busy() - start.busy
    const latencies = Float64Array.from(this.#latencies).sort()
    return {
      perSecond: latencies.length / (ns / 1e9),
      p99Ns: latencies.length ? latencies[Math.floor(latencies.length * 0.99)]! : Number.NaN,
      handled: latencies.length,
      written: events,
      interrupted: real > ns * 1.01,
    }
  }
}

/** As the watch on a frontend's state: of one domain, and one queued event is enough. */
function watchOf(domid: number, callback: () => Task): XenbusWatch {
  return new XenbusWatch({
    node: `/w/${domid}/state`,
    callback,
    willHandle: (watch) => watch.nrPending === 0,
    getDomid: () => domid,
    getOwner: () => domid,
  })
}
