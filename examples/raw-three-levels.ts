/**
 * Three levels with hypercalls alone: what a guest kernel in another language does, struct by struct. The guest has one
 * 64-bit vCPU. This file writes to its RAM as to any ArrayBuffer.
 */
import { Hypervisor } from 'evtchn'

const xen = Hypervisor.create({ onUpcall() {} })
const domain = xen.createDomain({ domid: 1, frames: 64, maxEvtchnPort: Infinity })
const ram = new DataView(domain.memory.memory.buffer)
const vcpu = domain.vcpu(0)

const EVENT_CHANNEL_OP = 32
const OP = { bind_ipi: 7, send: 4, query_nlevel: 64, set_nlevel_selectors: 65, register_nlevel: 66 }
const DOMID_SELF = 0x7ff0
const PAGE = 4096

/** Frames: 1 is shared_info, 2 the argument, 3 arrays, 4 selectors, 8-15 pending, 16-23 mask. */
const ARG = 2 * PAGE
const ARRAYS = 3 * PAGE
const SELECTORS = 4
const PENDING = 8
const MASK = 16

function call(op: number): void {
  const rc = xen.hypercall(vcpu, EVENT_CHANNEL_OP, [op, ARG])
  if (rc < 0) throw new Error(`event_channel_op ${op}: errno ${-rc}`)
}

// What would be granted?
ram.setUint16(ARG, DOMID_SELF, true)
call(OP.query_nlevel)
console.log(`up to ${ram.getUint32(ARG + 4, true)} levels, ${ram.getUint32(ARG + 8, true)} leaf pages per bitmap`)

// Pending frames and selectors are zero already; every port begins masked.
new Uint8Array(ram.buffer, MASK * PAGE, 8 * PAGE).fill(0xff)

// The selectors of vCPU 0: one level (level 2), 512 bytes in frame 4.
ram.setBigUint64(ARRAYS, BigInt(SELECTORS), true) // the one frame number
ram.setBigUint64(ARRAYS + 64, BigInt(ARRAYS), true) // selector_area: where that array is,
ram.setUint32(ARRAYS + 72, 1, true) //                  how many frames,
ram.setUint32(ARRAYS + 76, 0, true) //                  offset in the first
ram.setUint32(ARG, 0, true) // vcpu
ram.setUint32(ARG + 4, 3, true) // levels
ram.setUint32(ARG + 8, 8, true) // leaf pages to come
ram.setUint32(ARG + 12, 0, true)
ram.setBigUint64(ARG + 16, BigInt(ARRAYS + 64), true)
call(OP.set_nlevel_selectors)

// The leaf, and the switch.
for (let i = 0; i < 8; i++) {
  ram.setBigUint64(ARRAYS + 128 + 8 * i, BigInt(PENDING + i), true)
  ram.setBigUint64(ARRAYS + 256 + 8 * i, BigInt(MASK + i), true)
}
ram.setUint32(ARG, 3, true)
ram.setUint32(ARG + 4, 8, true)
ram.setBigUint64(ARG + 8, BigInt(ARRAYS + 128), true)
ram.setBigUint64(ARG + 16, BigInt(ARRAYS + 256), true)
ram.setUint32(ARG + 28, 0, true)
call(OP.register_nlevel)
console.log(`${ram.getUint32(ARG + 24, true)} channels`)

// A channel to oneself; its bit appears in the registered frame, not in shared_info.
ram.setUint32(ARG, 0, true)
call(OP.bind_ipi)
const port = ram.getUint32(ARG + 4, true)
ram.setUint32(ARG, port, true)
call(OP.send)
console.log(`port ${port}: leaf word 0 is 0x${ram.getBigUint64(PENDING * PAGE, true).toString(16)}`)
