/**
 * Upcalls: what a vCPU does when the hypervisor enters the guest. It scans until its flag stays 0, a bounded buffer a
 * round, in cyclic order of port numbers, so that no port can starve another (NL-scan-3).
 *
 *     flag 0 → scan: up to `batch` ports, pending bits cleared → their handlers → flag set meanwhile? again
 */

import { HYPERVISOR, VCPUOP } from '../abi/index.js'
import type { Binding } from './bindings.js'
import type { GuestMachine } from './machine.js'

/** The upcalls of one guest's vCPUs. */
export class Upcalls {
  readonly #machine: GuestMachine
  readonly #find: (port: number) => Binding | undefined
  /** Per vCPU: it is in its upcall, or may not be entered. */
  #held: boolean[] = []
  /** Runs once when no vCPU is in its upcall any more. */
  #afterwards: (() => void) | undefined

  /** `find` returns the binding of a port. */
  constructor(machine: GuestMachine, find: (port: number) => Binding | undefined) {
    this.#machine = machine
    this.#find = find
  }

  /** Is any vCPU in its upcall? */
  get busy(): boolean {
    return this.#held.includes(true)
  }

  /** No upcall is entered until `letGo`. */
  hold(): void {
    this.#held = Array(this.#machine.platform.vcpus).fill(true)
  }

  /**
   * Upcalls are entered again. Each vCPU scans once, for what came meanwhile; one that is offline does when it comes up, for
   * its flag stays set until then.
   */
  letGo(): void {
    this.#held.fill(false)
    for (let vcpu = 0; vcpu < this.#held.length; vcpu++) if (this.#isUp(vcpu)) this.run(vcpu)
  }

  #isUp(vcpu: number): boolean {
    const { platform, current } = this.#machine
    return vcpu === current || platform.hypercall(current, HYPERVISOR.vcpu_op, [VCPUOP.is_up, vcpu, 0]) !== 0
  }

  /** Is a vCPU in its upcall? */
  isBusy(vcpu: number): boolean {
    return this.#held[vcpu] === true
  }

  /** Runs `body` when the upcalls that are under way have ended. */
  afterwards(body: () => void): void {
    this.#afterwards = body
  }

  /**
   * The upcall of a vCPU. Returns how many events were handled. In an upcall of the same vCPU it does nothing: that one
   * continues until the flag is 0. What a handler throws is reported, and the other handlers run.
   */
  run(vcpu: number): number {
    const machine = this.#machine
    // One that does not take part yet looks when it comes up.
    if (this.#held[vcpu] || !machine.takesPart(vcpu)) return 0
    this.#held[vcpu] = true
    const before = machine.current
    machine.current = vcpu
    let handled = 0
    try {
      do handled += this.#round(vcpu)
      while (machine.upcallPending(vcpu))
    } finally {
      this.#held[vcpu] = false
      machine.current = before
    }
    if (this.#afterwards && !this.busy) {
      const body = this.#afterwards
      this.#afterwards = undefined
      machine.callouts.run('suspend after an upcall', undefined, body)
    }
    return handled
  }

  /** One scan and its handlers. */
  #round(vcpu: number): number {
    const { form, platform, options } = this.#machine
    const { memory } = platform
    const out = this.#machine.scanBuffer(vcpu)
    const count = form.round(vcpu, memory.base + out, options.batch ?? form.batch)
    let handled = 0
    // Handlers may nest upcalls of other vCPUs, which have buffers of their own; this vCPU's next scan comes after.
    for (let i = 0; i < count; i++) {
      const port = memory.data.getUint32(out + 4 * i, true)
      const binding = this.#find(port)
      if (!binding?.handler) continue
      if (form.isMasked(port)) {
        // Masked by an earlier handler of this round: the event goes back and waits for the unmask.
        form.setPending(port)
        continue
      }
      handled++
      try {
        binding.handler(port)
      } catch (error) {
        this.#machine.callouts.report(error, `handler of ${binding.name}`)
      }
    }
    return handled
  }
}
