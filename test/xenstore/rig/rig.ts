/**
 * The rig: the same steps to a real daemon and to ours, and what each client received compared message by message.
 *
 *     step ─┬─▶ our daemon, in this process ──▶ stream of each client ─┐
 *           └─▶ real daemon, over the shim ───▶ stream of each client ─┴─ equal?
 *
 * After each step every message that ours sent must have come from the real one too, or it is waited for; at the end a
 * barrier flushes out what only the real one sent, and the two trees are compared node by node. Generation numbers
 * differ, for the real daemon lives through many sequences; they are compared by the order in which they appear.
 */

import { encodeText, splitStrings, typeName, type XenStoredOptions, XS } from '../../../src/xenstore/index.js'
import { toLatin1 } from '../../../src/xenstore/text.js'
import { clean } from './clean.js'
import { type Difference, outcome } from './difference.js'
import type { RequestStep, Step } from './operations.js'
import { OurSide } from './our_side.js'
import { type RealOptions, RealSide } from './real_side.js'
import { DOMAINS, DYING, type Message, RUNS } from './side.js'

const SOCKETS = ['s0', 's1', 's2']
/** Domains that exist when a sequence begins. */
const AT_FIRST = [1, 2, 3, 4, 5, 6]
/** Ids of the rig's own requests. */
const PING = 888_888
const TREE = 777_777
/** The clock moves on by this at each step, so that the limit of writes per second is never reached. */
const STEP_MS = 20
/** A reply that has not come by then does not come. */
const PATIENCE_MS = 1500

/** How the two are set up. */
export interface RigOptions extends RealOptions {
  readonly ours?: XenStoredOptions
  /** The real daemon is started anew for each sequence: it would not survive the deaths between them. */
  readonly fresh?: boolean
  /** Names a difference that is known and is passed over; `end`: and the sequence is worth no more. */
  readonly known?: (difference: Difference) => 'pass' | 'end' | undefined
}

/** What was compared. */
export interface Counts {
  sequences: number
  requests: number
  events: number
}

/** A guest or a socket, and the transactions that it named. */
interface Client {
  readonly name: string
  readonly domid: number
  readonly labels: Map<string, number>
  stalled: boolean
  /** Its domain is gone, or its ring. */
  gone: boolean
}

/** A real daemon, and ours anew for each sequence. */
export class Rig {
  readonly counts: Counts = { sequences: 0, requests: 0, events: 0 }
  readonly #options: RigOptions
  #real: RealSide
  #ours: OurSide
  #clients = new Map<string, Client>()
  #generations = { real: new Map<string, number>(), ours: new Map<string, number>() }
  #now = 0

  constructor(options: RigOptions) {
    this.#options = options
    this.#real = new RealSide(options)
    this.#ours = new OurSide(options.ours ?? {})
  }

  start(): Promise<void> {
    return this.#real.start()
  }
  stop(): void {
    this.#real.stop()
  }

  // --- between sequences ---------------------------------------------------------------------------------------------

  async #reset(): Promise<void> {
    if (this.#real.dead || this.#options.fresh) {
      this.#real.stop()
      this.#real = new RealSide(this.#options)
      await this.#real.start()
    }
    for (const name of this.#clients.keys()) this.#real.close(name)
    this.#clients.clear()
    this.#generations = { real: new Map(), ours: new Map() }
    this.#ours = new OurSide(this.#options.ours ?? {})
    this.#advance(60_000)
    await clean(this.#real)
    this.#real.clearRings()
    for (const domid of AT_FIRST) this.#setState(domid, RUNS)
    for (const name of SOCKETS) await this.#openSocket(name)
  }

  #advance(ms: number): void {
    this.#now += ms
    this.#real.setClock(this.#now)
    this.#ours.setClock(this.#now)
  }

  #setState(domid: number, state: number): void {
    this.#real.setState(domid, state)
    this.#ours.setState(domid, state)
  }

  async #openSocket(name: string): Promise<void> {
    await this.#real.openSocket(name)
    await this.#ours.openSocket(name)
    this.#clients.set(name, { name, domid: 0, labels: new Map(), stalled: false, gone: false })
  }

  // --- steps ---------------------------------------------------------------------------------------------------------

  /** Runs a sequence; returns the first difference. */
  async run(steps: readonly Step[]): Promise<Difference | undefined> {
    await this.#reset()
    this.counts.sequences++
    for (const [at, step] of steps.entries()) {
      this.#advance(step.kind === 'wait' ? step.ms : STEP_MS)
      const thrown = await this.#step(step, at)
      if (this.#real.dead) return this.#died(at, step)
      const difference = thrown ?? this.#compare(steps, at, 'so far')
      if (difference) return this.#judge(difference)
    }
    await this.#barrier()
    if (this.#real.dead) return this.#died(steps.length, undefined)
    const difference = this.#compare(steps, steps.length, 'all') ?? (await this.#compareTrees())
    return difference && this.#judge(difference)
  }

  #judge(difference: Difference): Difference | undefined {
    return this.#options.known?.(difference) === 'end' ? undefined : difference
  }

  #died(at: number, step: Step | undefined): Difference {
    const who = step?.kind === 'request' ? step.who : ''
    return { at, who, step, real: this.#real.dead, ours: undefined, kind: `the real daemon died: ${this.#real.dead}` }
  }

  get #someStalled(): boolean {
    return [...this.#clients.values()].some(({ stalled }) => stalled)
  }

  async #step(step: Step, at: number): Promise<Difference | undefined> {
    if (this.#someStalled || step.kind === 'wait') {
      this.#ours.tick()
      await this.#ping('s2', step.kind === 'wait' ? 3 : 1)
    }
    try {
      if (step.kind === 'request') await this.#request(step, at)
      else if (step.kind === 'state') await this.#state(step.domid, step.state, step.virq)
      else if (step.kind === 'reopen') await this.#reopen(step.who)
      else if (step.kind !== 'wait') await this.#stall(step.who, step.kind === 'stall')
    } catch (error) {
      const ours = String((error as Error).stack)
      return { at, who: '', step, real: undefined, ours, kind: `ours threw: ${(error as Error).message}` }
    }
    return undefined
  }

  async #state(domid: number, state: number, virq: boolean): Promise<void> {
    this.#setState(domid, state)
    if (!virq) return
    await this.#real.domainsChanged()
    this.#ours.domainsChanged()
    // All domains are looked at, this one and those that changed silently before.
    for (const client of this.#clients.values()) {
      const now = client.domid ? this.#ours.state(client.domid) : RUNS
      if (!now || now & DYING) client.gone = true
    }
    await this.#ping('s0', 2)
    await this.#settle()
  }

  async #reopen(who: string): Promise<void> {
    this.#real.close(who)
    this.#ours.close(who)
    await this.#ping(who === 's0' ? 's1' : 's0', 2)
    await this.#openSocket(who)
  }

  async #stall(who: string, stalled: boolean): Promise<void> {
    const client = this.#clients.get(who)
    if (!client || client.gone) return
    client.stalled = stalled
    this.#ours.stall(who, stalled)
    this.#real.stall(who, stalled)
    if (!stalled) await this.#settle()
  }

  async #request(step: RequestStep, at: number): Promise<void> {
    const client = this.#clients.get(step.who)
    if (!client || client.gone || this.#real.stream(step.who).closed) return
    this.counts.requests++
    const tx = typeof step.tx === 'string' ? (client.labels.get(step.tx) ?? 0) : (step.tx ?? 0)
    const bytes = encodeText(step.type, at + 1, tx >>> 0, step.payload)
    const before = this.#ours.stream(step.who).log.length
    this.#ours.send(step.who, bytes)
    await this.#real.send(step.who, bytes)
    await this.#settle(client.stalled ? 0 : PATIENCE_MS)
    if (this.#someStalled) await this.#ping(step.who === 's2' ? 's1' : 's2', 3)
    const reply = this.#ours
      .stream(step.who)
      .log.slice(before)
      .find(({ reqId, type }) => reqId === at + 1 && type !== XS.WATCH_EVENT)
    if (reply && reply.type !== XS.ERROR) this.#follow(client, step, reply)
  }

  /** What a request changes for the rig itself. */
  #follow(client: Client, { type, label, payload }: RequestStep, reply: Message): void {
    if (type === XS.TRANSACTION_START && label) client.labels.set(label, Number.parseInt(reply.body, 10))
    const domid = Number.parseInt(payload, 10)
    const name = `g${domid}`
    const guest = this.#clients.get(name)
    if (type === XS.RELEASE && guest) guest.gone = true
    if (type !== XS.INTRODUCE || !(domid > 0 && domid < DOMAINS)) return
    if (guest && !guest.gone) {
      guest.labels.clear()
      this.#real.stream(name).restart()
      this.#ours.stream(name).restart()
      return
    }
    this.#real.openRing(name, domid)
    this.#ours.openRing(name, domid)
    this.#clients.set(name, { name, domid, labels: new Map(), stalled: false, gone: false })
  }

  // --- comparing -----------------------------------------------------------------------------------------------------

  /** Waits until every client that fetches has got from the real daemon what it got from ours. */
  #settle(ms = PATIENCE_MS): Promise<boolean> {
    return this.#real.until(
      () =>
        [...this.#clients.values()].every(({ name, stalled }) => {
          const real = this.#real.stream(name)
          return stalled || real.closed || real.log.length >= this.#ours.stream(name).log.length
        }),
      ms,
    )
  }

  /** Requests without effect: when they are answered, the daemon's loop has gone round. */
  async #ping(name: string, times: number): Promise<void> {
    const stream = this.#real.stream(name)
    await this.#real.eventsTaken()
    for (let i = 0; i < times; i++) {
      const bytes = encodeText(XS.GET_DOMAIN_PATH, PING, 0, '1\0')
      this.#ours.send(name, bytes)
      await this.#real.send(name, bytes)
      const wanted = this.#ours.stream(name).log.length
      await this.#real.until(() => stream.log.at(-1)?.reqId === PING && stream.log.length >= wanted, PATIENCE_MS)
    }
  }

  async #barrier(): Promise<void> {
    for (const client of this.#clients.values())
      if (client.stalled) {
        client.stalled = false
        this.#ours.stall(client.name, false)
        this.#real.stall(client.name, false)
      }
    await this.#settle()
    for (const { name, gone } of this.#clients.values())
      if (!gone && !this.#real.stream(name).closed && !this.#ours.stream(name).closed) await this.#ping(name, 1)
    await this.#settle()
  }

  #compare(steps: readonly Step[], at: number, how: 'so far' | 'all'): Difference | undefined {
    for (const { name, stalled } of this.#clients.values()) {
      const real = this.#real.stream(name)
      const ours = this.#ours.stream(name)
      for (;;) {
        const a = real.log[real.seen]
        const b = ours.log[ours.seen]
        if (!a && !b) break
        // A message more from the real one: ours may be to come. One less: it did not come in time.
        if (how === 'so far' && ((a && !b) || (stalled && !a))) break
        if (a?.type === XS.WATCH_EVENT) this.counts.events++
        const difference = this.#differs(name, steps, at, a, b)
        if (difference && this.#options.known?.(difference) !== 'pass') return difference
        real.seen++
        ours.seen++
      }
      if (how === 'all' && real.closed !== ours.closed)
        return {
          at,
          who: name,
          step: undefined,
          real: real.closed ? 'closed' : 'open',
          ours: ours.closed ? 'closed' : 'open',
          kind: 'a closed socket',
        }
    }
    return undefined
  }

  #differs(
    who: string,
    steps: readonly Step[],
    at: number,
    real: Message | undefined,
    ours: Message | undefined,
  ): Difference | undefined {
    const a = real && this.#plain(real, 'real')
    const b = ours && this.#plain(ours, 'ours')
    if (a && b && a.type === b.type && a.reqId === b.reqId && a.txId === b.txId && a.body === b.body) return undefined
    const reply = [a, b].find((message) => message && message.type !== XS.WATCH_EVENT)
    const step = reply && steps[reply.reqId - 1]
    const about =
      step?.kind === 'request' ? `${typeName(step.type)}${step.tx === undefined ? '' : ' in a transaction'}` : 'event'
    const client = who.startsWith('g') ? 'guest' : 'socket'
    const same = outcome(a) === outcome(b) ? ', other text' : ''
    return {
      at,
      who,
      step,
      real: a,
      ours: b,
      kind: `${about} of a ${client}: ${outcome(a)}, ours ${outcome(b)}${same}`,
    }
  }

  /** A message with its generation number replaced by its place in the order of first appearance. */
  #plain(message: Message, side: 'real' | 'ours'): Message {
    if (message.type !== XS.DIRECTORY_PART) return message
    const cut = message.body.indexOf('\0')
    const generation = message.body.slice(0, cut)
    const seen = this.#generations[side]
    if (!seen.has(generation)) seen.set(generation, seen.size)
    return { ...message, body: `#${seen.get(generation)}${message.body.slice(cut)}` }
  }

  async #compareTrees(): Promise<Difference | undefined> {
    const name = SOCKETS.find((each) => !this.#real.stream(each).closed && !this.#ours.stream(each).closed)
    if (!name) return undefined
    const real = this.#real.stream(name)
    const ours = this.#ours.stream(name)
    for (let level = ['/']; level.length; ) {
      const from = { real: real.log.length, ours: ours.log.length }
      const requests = level.flatMap((path) =>
        (['DIRECTORY', 'READ', 'GET_PERMS'] as const).map((type) => ({ type, path })),
      )
      for (const { type, path } of requests) {
        const bytes = encodeText(XS[type], TREE, 0, `${path}\0`)
        this.#ours.send(name, bytes)
        await this.#real.send(name, bytes)
      }
      await this.#real.until(() => real.log.length - from.real >= ours.log.length - from.ours, 20_000)
      this.counts.requests += requests.length
      const next: string[] = []
      for (const [i, { type, path }] of requests.entries()) {
        const a = real.log[from.real + i]
        const b = ours.log[from.ours + i]
        const kind = `the tree at the end: ${type}: ${outcome(a)}, ours ${outcome(b)}`
        if (a?.type !== b?.type || a?.body !== b?.body)
          return { at: -1, who: path, step: undefined, real: a, ours: b, kind }
        if (type === 'DIRECTORY' && a?.type === XS.DIRECTORY)
          for (const child of splitStrings(toLatin1(a.body)) ?? [])
            next.push(path === '/' ? `/${child}` : `${path}/${child}`)
      }
      level = next
    }
    return undefined
  }
}
