/**
 * What decides whether a domain's vCPUs run: alive or dying, frozen for a move, paused, shut down. The host core's record has
 * what of it a send looks at, and vCPUs on threads of their own are told of every change.
 */

import type { HostCore } from '../machine/host_core.js'
import { STATUS_DYING, STATUS_FROZEN } from '../machine/host_layout.js'
import type { Dying } from './config.js'
import { setDomainStatus } from './record.js'
import type { Vcpu } from './vcpu.js'

/** The part of a domain that says whether it runs. */
export abstract class Running {
  abstract readonly hostCore: HostCore
  abstract readonly record: number
  abstract readonly vcpus: readonly Vcpu[]
  /** Its records were given back. */
  protected disposed = false
  #dying: Dying = 'alive'
  #frozen: 'saved' | 'restored' | null = null
  #pauseCount = 0
  #shutdownCode = -1
  #quiesced = 0

  /** Alive, being torn down, or dead (EC-die-1). */
  get dying(): Dying {
    return this.#dying
  }
  set dying(dying: Dying) {
    this.#dying = dying
    this.#setStatus(STATUS_DYING, dying !== 'alive')
    this.#changed()
  }

  /**
   * The domain stands still, between being saved and the end of its migration or between being restored and started: its
   * hypercalls return EAGAIN, its upcalls wait. Events for it are kept.
   */
  get frozen(): 'saved' | 'restored' | null {
    return this.#frozen
  }
  set frozen(frozen: 'saved' | 'restored' | null) {
    this.#frozen = frozen
    this.#setStatus(STATUS_FROZEN, frozen !== null)
    this.#changed()
  }

  /** Pauses by the domain's controller, counted. */
  get pauseCount(): number {
    return this.#pauseCount
  }
  set pauseCount(count: number) {
    this.#pauseCount = count
    this.#changed()
  }

  /** Reason of SCHEDOP_shutdown; -1 = running. */
  get shutdownCode(): number {
    return this.#shutdownCode
  }
  set shutdownCode(code: number) {
    this.#shutdownCode = code
    this.#changed()
  }

  /** Its vCPUs on threads are to park: how many wait for that, or rely on it. */
  get quiesced(): number {
    return this.#quiesced
  }
  set quiesced(count: number) {
    this.#quiesced = count
    this.#changed()
  }

  /** One of its vCPUs runs on a thread of its own, or may still. */
  get onThreads(): boolean {
    return this.vcpus.some((vcpu) => vcpu.thread !== 0)
  }

  #changed(): void {
    for (const vcpu of this.vcpus) vcpu.onChange?.()
  }

  #setStatus(bit: number, on: boolean): void {
    if (!this.disposed) setDomainStatus(this.hostCore, this.record, bit, on)
  }
}
