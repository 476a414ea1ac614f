/**
 * The port table of a domain: port objects in buckets, as Xen has them (spec 2.1, 2.2; xen/common/event_channel.c).
 *
 *     bucket p >> 6 → 64 objects of 8 integers:
 *       0 state · 1 notify vCPU · 2 Xen consumer · 3 remote domid | pirq | virq · 4 remote port | next PIRQ port
 *       5 previous PIRQ port · 6 FIFO priority, bit 8 saved pending · 7 last queue: vCPU << 16 | priority
 *
 * The table grows bucket by bucket and never shrinks while the domain lives: "valid" means p < validEvtchns and nothing
 * else (EC-port-6, EC-XSA-338). A bucket is complete before the count is published (EC-XSA-340). Everything here is
 * private to the hypervisor (EC-port-3). Which ports are free is summarised, so that the lowest free one and the next
 * open one are found without probing (NL-port-1, NL-dump-4).
 */

import { ECS } from '../abi/index.js'
import { ifMemory, sharedInts } from '../machine/buffers.js'
import { Summary } from './summary.js'

/** Port objects of a bucket (EC-port-7). */
export const EVTCHNS_PER_BUCKET = 64
const WORDS = 8

const STATE = 0
const NOTIFY = 1
const CONSUMER = 2
const A = 3
const B = 4
const C = 5
const FIFO = 6
const LASTQ = 7

const PRIORITY = 0xff
const SAVED_PENDING = 0x100

const VALID = 0
const ACTIVE = 1
const XEN = 2

/** The port objects of one domain, with typed accessors. Ports are not range-checked: ask `isValid` first. */
export class PortTable {
  readonly #buckets: Int32Array[] = []
  readonly #counts = sharedInts(3)
  readonly #used = new Summary()

  constructor() {
    this.grow(0)
    this.#buckets[0]![STATE] = ECS.RESERVED // port 0, for ever and uncounted (EC-port-9)
    this.#used.add(0)
  }

  /** Number of port objects that exist (EC-port-6). */
  get validEvtchns(): number {
    return this.#counts[VALID]!
  }
  /** Only destruction lowers it, to make the ports above invalid (EC-die-3). */
  set validEvtchns(count: number) {
    this.#counts[VALID] = count
  }
  /** Ports that are taken, without port 0 (EC-port-20). */
  get activeEvtchns(): number {
    return this.#counts[ACTIVE]!
  }
  /** The Xen-attached ones among them. */
  get xenEvtchns(): number {
    return this.#counts[XEN]!
  }
  set xenEvtchns(count: number) {
    this.#counts[XEN] = count
  }

  isValid(port: number): boolean {
    return port < this.#counts[VALID]!
  }

  /**
   * Creates every bucket up to the one of `port`, publishing each when it is complete (EC-port-8). False: the engine has
   * no memory for another; those that are published stay.
   */
  grow(port: number): boolean {
    while (!this.isValid(port)) {
      const index = this.#counts[VALID]! / EVTCHNS_PER_BUCKET
      const made = ifMemory(() => {
        this.#buckets[index] = sharedInts(EVTCHNS_PER_BUCKET * WORDS)
        this.#used.grow((index + 1) * EVTCHNS_PER_BUCKET)
        return true
      })
      if (!made) return false
      this.#counts[VALID]! += EVTCHNS_PER_BUCKET
    }
    return true
  }

  /** Takes a port: it counts as active while its state is still FREE; `giveBack` or a state follows (EC-port-13). */
  take(port: number): void {
    this.#used.add(port)
    this.#counts[ACTIVE]!++
  }

  /** Gives a port back, freed or never used (EC-port-18). */
  giveBack(port: number): void {
    this.#used.delete(port)
    this.#counts[ACTIVE]!--
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
    return this.#buckets[port >> 6]![((port & 63) << 3) | word]!
  }
  #set(port: number, word: number, value: number): void {
    this.#buckets[port >> 6]![((port & 63) << 3) | word] = value
  }

  /** ECS_* of the port. */
  state(port: number): number {
    return this.#get(port, STATE)
  }
  setState(port: number, state: number): void {
    this.#set(port, STATE, state)
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
    return this.#get(port, CONSUMER)
  }
  setConsumer(port: number, slot: number): void {
    this.#set(port, CONSUMER, slot)
  }
  /** Usable (EC-port-2): the guest owns it and it is bound to something. */
  isUsable(port: number): boolean {
    return this.#get(port, CONSUMER) === 0 && this.#get(port, STATE) > ECS.RESERVED
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
    this.#set(port, STATE, ECS.UNBOUND)
  }
  setInterdomain(port: number, remoteDomid: number, remotePort: number): void {
    this.#set(port, A, remoteDomid)
    this.#set(port, B, remotePort)
    this.#set(port, STATE, ECS.INTERDOMAIN)
  }
  /** Number of the VIRQ or PIRQ that the port is bound to. */
  irq(port: number): number {
    return this.#get(port, A)
  }
  setIrq(port: number, state: number, irq: number): void {
    this.#set(port, A, irq)
    this.#set(port, STATE, state)
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
    return this.#get(port, FIFO) & PRIORITY
  }
  setPriority(port: number, priority: number): void {
    this.#set(port, FIFO, (this.#get(port, FIFO) & ~PRIORITY) | priority)
  }
  /** An event came while the port's word did not exist (EC-fifo-3). Xen never takes the mark back (EC-expand-7). */
  savedPending(port: number): boolean {
    return (this.#get(port, FIFO) & SAVED_PENDING) !== 0
  }
  setSavedPending(port: number): void {
    this.#set(port, FIFO, this.#get(port, FIFO) | SAVED_PENDING)
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
    this.#set(port, CONSUMER, 0)
  }
}
