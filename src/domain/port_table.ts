/**
 * The port table of a domain: port objects in buckets, as Xen has them (spec 2.1, 2.2; xen/common/event_channel.c). They
 * lie in the host's private memory, where the host core reads them (src/machine/host_layout.ts).
 *
 *     domain record: VALID, DIRECTORY ──▶ u32[], bucket p >> 6 ──▶ 64 objects of 8 words:
 *       0 state, slot of a notifier in Xen << 8 · 1 notify vCPU · 2 remote domid | pirq | virq
 *       3 remote port | next PIRQ port · 4 previous PIRQ port · 5 FIFO priority · 6 saved pending
 *       7 last queue: vCPU << 16 | priority
 *
 * The table grows bucket by bucket and never shrinks while the domain lives: "valid" means p < validEvtchns and nothing
 * else (EC-port-6, EC-XSA-338). A bucket is complete before the count is published (EC-XSA-340). Everything here is
 * private to the hypervisor (EC-port-3). Which ports are free is summarised, so that the lowest free one and the next
 * open one are found without probing (NL-port-1, NL-dump-4).
 */

import { ECS } from '../abi/index.js'
import { ifMemory } from '../machine/buffers.js'
import { BUCKET_BYTES, DOMAIN, DOMAIN_BYTES, PORT, PORT_SHIFT, PORTS_PER_BUCKET } from '../machine/host_layout.js'
import { PrivateMemory } from '../machine/private_memory.js'
import { Summary } from './summary.js'

/** Port objects of a bucket (EC-port-7). */
export const EVTCHNS_PER_BUCKET = PORTS_PER_BUCKET

// Words of a port object and of the domain's record.
const STATE = PORT.STATE >> 2
const NOTIFY = PORT.NOTIFY >> 2
const A = PORT.REMOTE >> 2
const B = PORT.REMOTE_PORT >> 2
const C = PORT.PREVIOUS >> 2
const PRIORITY = PORT.PRIORITY >> 2
const SAVED = PORT.SAVED >> 2
const LASTQ = PORT.LASTQ >> 2
const VALID = DOMAIN.VALID >> 2
const DIRECTORY = DOMAIN.DIRECTORY >> 2

/** The low byte of the state word; the slot of a notifier is above it. */
const STATE_MASK = 0xff
const CONSUMER_SHIFT = 8

/** Buckets that the first directory has room for: 1,024 ports, as many as most domains may have. */
const FIRST_DIRECTORY = 16

/** The port objects of one domain, with typed accessors. Ports are not range-checked: ask `isValid` first. */
export class PortTable {
  #memory: PrivateMemory
  /** Word index of the domain's record. */
  #record: number
  readonly #used = new Summary()
  #active = 0
  /** The Xen-attached ones among the active. */
  xenEvtchns = 0
  /** Directories that were outgrown: a sender on another thread may still read one. */
  readonly #directories: { at: number; bytes: number }[] = []

  /** `record`: where the domain's record is. Without one the table stands alone. */
  constructor(memory = PrivateMemory.create(DOMAIN_BYTES, false), record = memory.take(DOMAIN_BYTES)) {
    this.#memory = memory
    this.#record = record >>> 2
    if (!this.grow(0)) throw new RangeError('there is no memory for the first ports')
    this.#set(0, STATE, ECS.RESERVED) // port 0, for ever and uncounted (EC-port-9)
    this.#used.add(0)
  }

  /** Number of port objects that exist (EC-port-6). */
  get validEvtchns(): number {
    return this.#memory.words[this.#record + VALID]!
  }
  /** Only destruction lowers it, to make the ports above invalid (EC-die-3). */
  set validEvtchns(count: number) {
    // Beside senders that look at it without the hypervisor's leave: after the bucket that it tells of.
    Atomics.store(this.#memory.words, this.#record + VALID, count)
  }
  /** Ports that are taken, without port 0 (EC-port-20). */
  get activeEvtchns(): number {
    return this.#active
  }

  isValid(port: number): boolean {
    return port < this.validEvtchns
  }

  /**
   * Creates every bucket up to the one of `port`, publishing each when it is complete (EC-port-8). False: the engine has
   * no memory for another; those that are published stay.
   */
  grow(port: number): boolean {
    return this.isValid(port) || this.#growTo(port)
  }

  #growTo(port: number): boolean {
    while (!this.isValid(port)) {
      const index = this.validEvtchns / PORTS_PER_BUCKET
      const made = ifMemory(() => {
        this.#used.grow((index + 1) * PORTS_PER_BUCKET)
        this.#makeRoom(index)
        const bucket = this.#memory.take(BUCKET_BYTES)
        this.#memory.words[this.#directory + index] = bucket
        return true
      })
      if (!made) return false
      this.validEvtchns += PORTS_PER_BUCKET
    }
    return true
  }

  /** A directory with room for bucket `index`: complete before it is published. */
  #makeRoom(index: number): void {
    const have = this.#directories.at(-1)
    if (have && index < have.bytes >> 2) return
    const bytes = have ? have.bytes * 2 : FIRST_DIRECTORY * 4
    const at = this.#memory.take(bytes)
    const { words } = this.#memory
    if (have) words.copyWithin(at >> 2, have.at >> 2, (have.at + have.bytes) >> 2)
    words[this.#record + DIRECTORY] = at
    this.#directories.push({ at, bytes })
  }

  /** Gives all objects back: the domain has left the host. From here on no port exists. */
  dispose(): void {
    // All that were ever made, for teardown lowers the count of those that are valid.
    const { words } = this.#memory
    const directory = this.#directory
    const room = this.#directories.at(-1)!.bytes >> 2
    for (let i = 0; i < room && words[directory + i]; i++) this.#memory.give(words[directory + i]!, BUCKET_BYTES)
    for (const { at, bytes } of this.#directories) this.#memory.give(at, bytes)
    this.#memory = PrivateMemory.plain(new Int32Array(DOMAIN_BYTES >> 2))
    this.#record = 0
  }

  /** Word index of the directory. */
  get #directory(): number {
    return this.#memory.words[this.#record + DIRECTORY]! >>> 2
  }

  /** Takes a port: it counts as active while its state is still FREE; `giveBack` or a state follows (EC-port-13). */
  take(port: number): void {
    this.#used.add(port)
    this.#active++
  }

  /** Gives a port back, freed or never used (EC-port-18). */
  giveBack(port: number): void {
    this.#used.delete(port)
    this.#active--
  }

  /** The lowest port >= from that is not taken; may lie just beyond the objects that exist. */
  lowestFree(from: number): number {
    return this.#used.gap(from)
  }

  /** The lowest port >= from that is taken, or -1. */
  nextUsed(from: number): number {
    return this.#used.next(from)
  }

  #get(port: number, word: number): number {
    const { words } = this.#memory
    const bucket = words[(words[this.#record + DIRECTORY]! >>> 2) + (port >> 6)]!
    return words[(bucket >>> 2) + ((port & 63) << (PORT_SHIFT - 2)) + word]!
  }
  #set(port: number, word: number, value: number): void {
    const { words } = this.#memory
    const bucket = words[(words[this.#record + DIRECTORY]! >>> 2) + (port >> 6)]!
    words[(bucket >>> 2) + ((port & 63) << (PORT_SHIFT - 2)) + word] = value
  }

  /** ECS_* of the port. */
  state(port: number): number {
    return this.#get(port, STATE) & STATE_MASK
  }
  setState(port: number, state: number): void {
    this.#set(port, STATE, (this.#get(port, STATE) & ~STATE_MASK) | state)
  }
  /** notify_vcpu_id. */
  notifyVcpu(port: number): number {
    return this.#get(port, NOTIFY)
  }
  setNotifyVcpu(port: number, vcpu: number): void {
    this.#set(port, NOTIFY, vcpu)
  }
  /** 0 = the guest's own, 1…7 = slot of a notification function in Xen. */
  consumer(port: number): number {
    return this.#get(port, STATE) >> CONSUMER_SHIFT
  }
  setConsumer(port: number, slot: number): void {
    this.#set(port, STATE, (slot << CONSUMER_SHIFT) | this.state(port))
  }
  /** Usable (EC-port-2): the guest owns it and it is bound to something. */
  isUsable(port: number): boolean {
    const word = this.#get(port, STATE)
    return word > ECS.RESERVED && word <= STATE_MASK
  }

  /** Remote domid of an UNBOUND or INTERDOMAIN port. */
  remoteDomid(port: number): number {
    return this.#get(port, A)
  }
  /** Remote port of an INTERDOMAIN port. */
  remotePort(port: number): number {
    return this.#get(port, B)
  }
  setUnbound(port: number, remoteDomid: number): void {
    this.#set(port, A, remoteDomid)
    this.setState(port, ECS.UNBOUND)
  }
  setInterdomain(port: number, remoteDomid: number, remotePort: number): void {
    this.#set(port, A, remoteDomid)
    this.#set(port, B, remotePort)
    this.setState(port, ECS.INTERDOMAIN)
  }
  /** Number of the VIRQ or PIRQ that the port is bound to. */
  irq(port: number): number {
    return this.#get(port, A)
  }
  setIrq(port: number, state: number, irq: number): void {
    this.#set(port, A, irq)
    this.setState(port, state)
  }
  /** The list of a vCPU's PIRQ ports, linked by port numbers (EC-pirq-9). */
  nextPirqPort(port: number): number {
    return this.#get(port, B)
  }
  setNextPirqPort(port: number, next: number): void {
    this.#set(port, B, next)
  }
  prevPirqPort(port: number): number {
    return this.#get(port, C)
  }
  setPrevPirqPort(port: number, prev: number): void {
    this.#set(port, C, prev)
  }

  /** FIFO priority, 0 … 15; used at the next linking (EC-prio-5). */
  priority(port: number): number {
    return this.#get(port, PRIORITY)
  }
  setPriority(port: number, priority: number): void {
    this.#set(port, PRIORITY, priority)
  }
  /** An event came while the port's word did not exist (EC-fifo-3). Xen never takes the mark back (EC-expand-7). */
  savedPending(port: number): boolean {
    // After the page was published, for a sender looks the other way round.
    const { words } = this.#memory
    const bucket = words[(words[this.#record + DIRECTORY]! >>> 2) + (port >> 6)]!
    return Atomics.load(words, (bucket >>> 2) + ((port & 63) << (PORT_SHIFT - 2)) + SAVED) !== 0
  }
  setSavedPending(port: number): void {
    this.#set(port, SAVED, 1)
  }
  /** vCPU << 16 | priority of the queue that the port was last linked on; survives close and reset (EC-fifo-14). */
  lastQueue(port: number): number {
    return this.#get(port, LASTQ)
  }
  setLastQueue(port: number, queue: number): void {
    this.#set(port, LASTQ, queue)
  }

  /** FREE again: notify vCPU and consumer back to 0 (EC-close-9). */
  setFree(port: number): void {
    this.#set(port, STATE, ECS.FREE)
    this.#set(port, NOTIFY, 0)
  }
}
