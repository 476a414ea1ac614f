/** What the parts of a thread share. */

import type { Callouts } from '../callout.js'
import type { Clock } from '../clock.js'
import type { OnRefusal } from '../errno.js'
import type { HostExports } from '../machine/host_core.js'
import type { MailRegister } from '../machine/mailbox.js'

/** Who makes a call. */
export interface CallingVcpu {
  readonly domid: number
  readonly vcpuId: number
}

/** What a vCPU uses of its thread. */
export interface ThreadInside {
  readonly calls: HostExports
  /** The private memory as words: what lies there when the thread is attached. */
  readonly words: Int32Array
  /** Address of the thread's line. */
  readonly line: number
  readonly callouts: Callouts
  readonly clock: Clock | undefined
  /** A call for the hypervisor's thread; sleeps until it is answered. */
  forward(call: number, vcpu: CallingVcpu, registers: readonly MailRegister[], onRefusal?: OnRefusal): number
  /** Takes messages that have come; true: there was one of the hypervisor's. */
  receive(): boolean
  /** Tells the hypervisor's thread to look. */
  ring(): void
  /** All vCPUs that are to stop do so. */
  stopAll(): void
}
