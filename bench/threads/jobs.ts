/** What a thread of the bench is given. */

import type { VcpuThreadHandle } from '../../src/vcpu/index.js'

export interface Job {
  readonly role: 'ping' | 'pong' | 'message ping' | 'message pong' | 'call' | 'send' | 'drain'
  readonly words: Int32Array
  readonly handle?: VcpuThreadHandle
  readonly rounds: number
  readonly port: number
  /** Looks for its event without sleeping. */
  readonly spins: boolean
}
