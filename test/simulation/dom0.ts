/**
 * A whole host under one design: guests created and destroyed by the toolstack, traffic, stalls, states that guests write,
 * disks that come and go, sockets, other users of xenbus and of the store, CPUs that come and go, rings with nonsense.
 */

import { seeded } from '../../src/cli/random.js'
import {
  DESIGNS,
  type Design,
  diskSpec,
  guestConfig,
  Host,
  type Job,
  LocalNetwork,
  type NetListener,
  type Outcome,
  type PvSocket,
  STALL_KINDS,
  XenbusWatch,
} from '../../src/dom0/index.js'
import { differences, inventory } from '../../src/dom0/story/inventory.js'
import { checkStore, encodeText, InProcessTransport, XS } from '../../src/xenstore/index.js'
import { InvariantChecker } from '../xenwatch/checker.js'
import { checkHypervisor } from './checks.js'
import { choose, must, type Step } from './step.js'

const MOST_GUESTS = 4
const CHECK_STORE_EVERY = 16
const SERVER = { ip: '10.0.0.1', port: 80 }
const DISK = 51728
const STATES = [0, 1, 3, 4, 5, 6, 8]
type Numbers = Step['numbers']

/** An operation of the toolstack under way. */
interface Under {
  readonly what: string
  domid: number
  readonly job: Job<Outcome>
  /** It is about nothing that is stalled or was spoilt by its guest: it has to succeed. */
  sound: boolean
}

/** A host, and what is under way on it. */
export class Dom0 {
  readonly host: Host
  readonly #checker = new InvariantChecker()
  readonly #design: Design
  readonly #network = new LocalNetwork({ bufferBytes: 4096 })
  readonly #server: NetListener
  readonly #before: Map<string, number>
  readonly #under: Under[] = []
  readonly #watches: XenbusWatch[] = []
  /** Watches whose unregistering has returned, and events that one of them got all the same (XW-unreg-4). */
  readonly #gone = new Set<XenbusWatch>()
  readonly #late: string[] = []
  readonly #clients: InProcessTransport[] = []
  readonly #sockets = new Map<number, PvSocket[]>()
  /** Guests that were stalled, or that wrote what they liked. */
  readonly #spoilt = new Set<number>()
  #steps = 0
  #names = 0

  constructor(seed: number) {
    const random = seeded(seed)
    this.#design = choose(DESIGNS, random(1000))!
    this.host = new Host({
      xenMtwatch: this.#design !== 'single',
      design: this.#design,
      maxDomid: 9,
      dom0Cpus: 2,
      observer: this.#checker.observer,
      scheduler: { choose: random, preempt: () => random(3) === 0 },
      pvcalls: { network: this.#network, policy: random(2) ? 'bounded' : 'per-socket' },
      guest: { frames: 128, bits: random(2) ? 64 : 32, levels: choose([2, 3, 'fifo'] as const, random(9))! },
    })
    const server = this.#network.bind(SERVER)
    if (typeof server === 'number') throw new Error('the server has no address')
    this.#server = server
    server.listen(1000, () => {})
    server.onConnection = () => this.#accept()
    this.#before = inventory(this.host)
  }

  /** The steps, and how often each comes. */
  static readonly weights = {
    create: 3,
    destroyGuest: 2,
    traffic: 6,
    stall: 2,
    release: 3,
    state: 2,
    disk: 2,
    watch: 3,
    client: 4,
    cutClient: 1,
    socket: 4,
    closeSocket: 2,
    cpu: 1,
    nonsense: 1,
    pass: 5,
  } as const

  step({ kind, numbers }: Step): void {
    const [a, , c] = numbers
    const guest = choose(this.#idle(), a)
    this.#do(kind as keyof typeof Dom0.weights, guest, numbers)
    this.host.pass(c % 4 ? (c % 100) / 1000 : c % 15)
    this.#steps++
  }

  #do(kind: keyof typeof Dom0.weights, domid: number | undefined, numbers: Numbers): void {
    const [, b, , d] = numbers
    if (kind === 'create') this.#create()
    else if (kind === 'release') this.host.injector.release()
    else if (kind === 'watch') this.#watch(b)
    else if (kind === 'client') this.#client(numbers)
    else if (kind === 'cutClient') this.#clients.splice(b % (this.#clients.length || 1), 1)[0]?.close()
    else if (kind === 'cpu') this.#cpu()
    else if (kind === 'pass') this.host.pass(d % 10)
    else if (domid === undefined) return
    else if (kind === 'destroyGuest') this.#begin('destroy', domid, this.host.toolstack.destroy(domid))
    else if (kind === 'traffic') this.#traffic(domid, b)
    else if (kind === 'stall') this.#stall(domid, b)
    else if (kind === 'state') this.#state(domid, b)
    else if (kind === 'disk') this.#disk(domid)
    else if (kind === 'socket') this.#connect(domid)
    else if (kind === 'closeSocket') this.#close(domid, b)
    else if (kind === 'nonsense') this.#nonsense(domid, numbers)
  }

  // --- guests --------------------------------------------------------------------------------------------------------

  /** Guests that no operation is about. */
  #idle(): number[] {
    const busy = new Set(this.#under.filter(({ job }) => !job.done).map(({ domid }) => domid))
    return this.host.domains.guests.map(({ domid }) => domid).filter((domid) => !busy.has(domid))
  }

  #begin(what: string, domid: number, task: ReturnType<Host['toolstack']['destroy']>): void {
    const stalled = this.host.injector.holding
    const sound = this.#design === 'single' ? !stalled && this.#spoilt.size === 0 : !this.#spoilt.has(domid)
    this.#under.push({ what, domid, job: this.host.start('xl', task), sound })
  }

  #create(): void {
    const { host } = this
    const creating = this.#under.some(({ what, job }) => what === 'create' && !job.done)
    if (host.domains.guests.length >= MOST_GUESTS || creating) return
    const before = new Set(host.domains.guests.map(({ domid }) => domid))
    this.#begin('create', 0, host.toolstack.create({ ...guestConfig(`guest${++this.#names}`), pvcalls: true }))
    const isNew = () => host.domains.guests.find(({ domid }) => !before.has(domid))
    for (let i = 0; i < 10_000 && !isNew(); i++) if (!host.scheduler.step()) host.pass(0.001)
    const made = isNew()
    must(made !== undefined, () => `no domain was created; zombies: ${host.domains.zombies.join(', ')}`)
    const { domid } = made!
    this.#spoilt.delete(domid)
    this.#sockets.delete(domid)
    this.#under.at(-1)!.domid = domid
  }

  #traffic(domid: number, number: number): void {
    const guest = this.host.domains.guest(domid)
    for (let i = number % 8; i-- > 0; ) {
      guest?.netfront?.send()
      guest?.blkfront?.write()
    }
  }

  #stall(domid: number, number: number): void {
    const { host } = this
    if (host.injector.holding) return
    const kind = choose(STALL_KINDS, number)!
    host.injector.arm(kind, kind === 'netback' ? `vif${domid}.0` : `${domid}.xvda`)
    this.#traffic(domid, 1)
    host.pass(0.01)
    if (host.injector.holding) this.#spoil(domid)
    else host.injector.release()
  }

  /** From here on nothing is promised to this guest; with one thread, to nobody who waits now. */
  #spoil(domid: number): void {
    this.#spoilt.add(domid)
    for (const each of this.#under)
      if (!each.job.done && (this.#design === 'single' || each.domid === domid || each.domid === 0)) each.sound = false
  }

  /** A guest may write what it likes. */
  #state(domid: number, number: number): void {
    const guest = this.host.guest(domid)
    if (!guest.netfront) return
    this.#spoil(domid)
    guest.kernel.kthreadRun('odd', 'odd', function* () {
      try {
        yield* guest.xenbus.write('device/vif/0/state', choose(STATES, number)!)
      } catch {
        // The device was taken away meanwhile.
      }
    })
  }

  #disk(domid: number): void {
    const { toolstack, bus } = this.host
    if (bus.device(`backend/vbd/${domid}/${DISK}`)) this.#begin('detach', domid, toolstack.detach(domid, 'vbd', DISK))
    else this.#begin('attach', domid, toolstack.attach(domid, diskSpec(domid, { dev: 'xvdb' })))
  }

  /** The guest writes over its own frames, then is destroyed: nobody else may notice. */
  #nonsense(domid: number, [, b, c, d]: Numbers): void {
    const { domain } = this.host.guest(domid)
    const view = domain.memory.data
    // Behind shared_info and the store's ring: rings of devices, and whatever the driver keeps there.
    const first = 4 * 4096
    for (let i = 0; i < 16; i++)
      view.setUint32(first + ((b * (i + 1) + d * i) % ((domain.memory.bytes - first) / 4)) * 4, c * i, true)
    this.#spoil(domid)
    this.#begin('destroy', domid, this.host.toolstack.destroy(domid))
    this.#under.at(-1)!.sound = false
  }

  // --- other users of dom0 -------------------------------------------------------------------------------------------

  /** Another part of the kernel registers a watch, or unregisters one. */
  #watch(number: number): void {
    const { host } = this
    const gone = this.#gone
    const old = number % 2 ? this.#watches.shift() : undefined
    if (old)
      host.start(
        'unregister',
        (function* () {
          yield* host.xenbus.unregister(old)
          gone.add(old)
        })(),
      )
    else if (this.#watches.length < 5) {
      const late = this.#late
      const watch: XenbusWatch = new XenbusWatch({
        node: '/local/domain',
        *callback(_watch, path) {
          if (gone.has(watch)) late.push(path)
          yield* host.xenbus.exists('/')
        },
      })
      this.#watches.push(watch)
      host.start('register', host.xenbus.register(watch))
    }
  }

  /** A program at the store's socket: writes, watches, begins transactions and may forget them. */
  #client([a, b, c, d]: Numbers): void {
    if (this.#clients.length < 3) {
      const transport = new InProcessTransport(this.host.store)
      transport.listen(
        () => {},
        () => {},
      )
      this.#clients.push(transport)
    }
    const client = choose(this.#clients, a)!
    const path = `/simulation/${b % 5}/${c % 5}`
    const [type, body] = choose(
      [
        [XS.WRITE, `${path}\0value ${d}`],
        [XS.RM, `${path}\0`],
        [XS.WATCH, `${path}\0token ${d % 3}\0`],
        [XS.UNWATCH, `${path}\0token ${d % 3}\0`],
        [XS.TRANSACTION_START, '\0'],
        [XS.TRANSACTION_END, 'F\0'],
        [XS.READ, `${path}\0`],
        [XS.DIRECTORY, `/simulation\0`],
        [XS.SET_PERMS, `${path}\0n${c % 4}\0r${d % 4}\0`],
      ] as const,
      d,
    )!
    client.send(encodeText(type, d, type === XS.TRANSACTION_END ? 1 + (c % 8) : 0, body))
  }

  // --- sockets -------------------------------------------------------------------------------------------------------

  /** The server echoes one piece and keeps the connection. */
  #accept(): void {
    for (let socket = this.#server.accept(); socket; socket = this.#server.accept()) {
      const end = socket
      const echo = () => {
        const bytes = new Uint8Array(512)
        for (let got = end.receive(bytes); got > 0; got = end.receive(bytes)) end.send(bytes.subarray(0, got))
      }
      end.onReadable = echo
      echo()
    }
  }

  #connect(domid: number): void {
    const { host } = this
    const guest = host.guest(domid)
    if (guest.paused || !host.pvcalls.connection(domid)) return
    const list = this.#sockets.get(domid) ?? []
    this.#sockets.set(domid, list)
    if (list.length >= 3) return
    guest.kernel.kthreadRun('program', 'program', function* () {
      try {
        const socket = yield* guest.pvcalls.connect(SERVER, { ringOrder: 1 })
        list.push(socket)
        yield* socket.send(new Uint8Array(100))
        yield* socket.receive()
      } catch {
        // The device was taken away meanwhile.
      }
    })
  }

  #close(domid: number, number: number): void {
    const list = this.#sockets.get(domid) ?? []
    const [socket] = list.splice(number % (list.length || 1), 1)
    if (!socket) return
    this.host.guest(domid).kernel.kthreadRun('program', 'program', function* () {
      try {
        yield* socket.close()
      } catch {
        // Likewise.
      }
    })
  }

  #cpu(): void {
    const { host } = this
    const { cpus } = host.kernel
    host.start('hotplug', cpus.isOnline(1) ? cpus.takeOffline(1) : cpus.bringOnline(1))
  }

  // --- what must hold ------------------------------------------------------------------------------------------------

  check(): void {
    const { host } = this
    const { violations } = this.#checker
    must(violations.length === 0, () => `${this.#design}: ${violations[0]}`)
    must(this.#late.length === 0, () => `an event for a watch that is unregistered: ${this.#late[0]}`)
    must(host.xenbus.reports.length === 0, () => `${this.#design}: ${host.xenbus.reports[0]}`)
    for (const { what, domid, job, sound } of this.#under)
      if (job.done && sound)
        must(job.result!.errors.length === 0, () => `${what} ${domid}: ${job.result!.errors[0]!.line}`)
    this.#under.splice(0, this.#under.length, ...this.#under.filter(({ job }) => !job.done))
    checkHypervisor(host.xen, 'host')
    this.#pending()
    if (this.#steps % CHECK_STORE_EVERY) return
    const faults = checkStore(host.store)
    must(faults.length === 0, () => `the store: ${faults[0]}`)
  }

  /** nr_pending counts what is queued, over all lists (XW-thr-5). */
  #pending(): void {
    const { xenbus } = this.host
    const queued = new Map<XenbusWatch, number>()
    for (const list of [xenbus.xenwatch, ...xenbus.delivery.domainLists])
      for (const { watch } of list.events) queued.set(watch, (queued.get(watch) ?? 0) + 1)
    for (const watch of xenbus.watches)
      must(
        watch.nrPending === (queued.get(watch) ?? 0),
        () => `${watch.node}: ${watch.nrPending} pending, ${queued.get(watch) ?? 0} queued`,
      )
  }

  /** All is released and destroyed. Nothing waits, and nothing is left. */
  end(): void {
    const { host } = this
    host.injector.release()
    if (!host.kernel.cpus.isOnline(1)) this.#cpu()
    host.pass(120)
    this.check()
    must(this.#under.length === 0, () => `${this.#under[0]!.what} ${this.#under[0]!.domid} has not ended`)
    for (const domid of this.#idle()) this.#begin('destroy', domid, host.toolstack.destroy(domid))
    for (const watch of this.#watches) host.start('unregister', host.xenbus.unregister(watch))
    for (const client of this.#clients) client.close()
    host.complete('xenstore-rm', host.toolstack.xs.rm('/simulation'))
    host.pass(120)
    this.check()
    must(this.#checker.open === 0, () => `${this.#checker.open} events were neither run nor purged`)
    must(this.#checker.threads === 0, () => `${this.#checker.threads} threads of domains are left`)
    const left = differences(this.#before, inventory(host)).filter((what) => !what.includes('/error'))
    must(left.length === 0, () => `left behind: ${left.join('; ')}`)
  }
}
