/**
 * What is timed, each row in a process of its own: a thousand operations a sample, then untimed what makes the next
 * thousand start alike.
 *
 *     core        leafSet and climb, called from JavaScript
 *     port operation  the host core: the port, its vCPU and selectors, then the core
 *     hypercall   registers → argument in guest memory → operation → result
 *     driver      GuestKernel, which writes the argument and makes the hypercall
 *     delivered   the hypercall, the receiver's upcall, its scan, one handler call
 */

import type { Library } from './builds.js'
import { type Pair, pair, type Wanted } from './pair.js'

/** Operations of a sample. */
export const OPERATIONS = 1000

/** One row, set up. */
export interface Measured {
  /** Makes the operations of a sample. */
  run(): void
  /** Brings everything back to where it was. */
  reset(): void
}

/** A row of the table. */
export interface RowKind {
  readonly name: string
  readonly make: (library: Library) => Measured
}

const EVENT_CHANNEL_OP = 32
const OP = { bind_interdomain: 0, close: 3, send: 4, status: 5, alloc_unbound: 6, bind_vcpu: 8, unmask: 9 } as const

/** Raw operations on ports, one after another; the list of registers is the caller's own and used again. */
function raw({ xen, sender }: Pair, op: keyof typeof OP, write: (index: number) => void): () => void {
  const args = [OP[op], sender.argument]
  const { vcpu } = sender
  return () => {
    for (let i = 0; i < OPERATIONS; i++) {
      write(i)
      const rc = xen.hypercall(vcpu, EVENT_CHANNEL_OP, args)
      if (rc < 0) throw new Error(`EVTCHNOP_${op}: ${rc}`)
    }
  }
}

/** The core alone: a leaf and its selector, two levels. */
function core({ core: { coreOf, createMemory } }: Library): Measured {
  const memory = createMemory(16, false)
  const guest = coreOf(memory)
  const words = new Uint32Array(memory.buffer)
  const [info, sel, pending, mask] = [0, 8, 4096, 8192]
  return {
    run: () => {
      for (let i = 1; i <= OPERATIONS; i++)
        if (guest.leafSet(pending, mask, i) === 2) guest.climb2x64(i, info, sel, 0, 0, 0)
    },
    reset: () => void words.fill(0, 0, 2048),
  }
}

function sends(wanted: Wanted, how: 'raw' | 'driver' | 'handle' | 'typed'): RowKind['make'] {
  return (library) => {
    const both = pair(library, wanted)
    const { sender, receiver } = both
    const { ports } = sender
    const each = (one: (port: number) => void) => () => {
      for (let i = 0; i < OPERATIONS; i++) one(ports[i]!)
    }
    const vcpu = sender.vcpu
    const run = {
      raw: () => raw(both, 'send', (i) => sender.data.setUint32(sender.argument, ports[i]!, true)),
      driver: () => each((port) => sender.kernel.send(port)),
      handle: () => {
        const handle = both.handle()
        return each((port) => handle.notify(port))
      },
      typed: () => each((port) => void vcpu.eventChannelOp('send', { port })),
    }[how]()
    return { run, reset: () => receiver.drain(OPERATIONS) }
  }
}

/** What a send ends in: the receiver's port is raised. */
function portOperation(library: Library): Measured {
  const { receiver } = pair(library, { levels: 2 })
  const ops = library.portOps(receiver.domain)
  const { ports } = receiver
  return {
    run: () => {
      for (let i = 0; i < OPERATIONS; i++) ops.setPending(ports[i]!)
    },
    reset: () => receiver.drain(OPERATIONS),
  }
}

/** A send whose upcall is taken at once. */
function delivered(how: 'raw' | 'driver'): RowKind['make'] {
  return (library) => {
    const both = pair(library, { levels: 2, upcalls: true })
    const { sender, receiver } = both
    const port = sender.ports[0]!
    const run =
      how === 'raw'
        ? raw(both, 'send', () => sender.data.setUint32(sender.argument, port, true))
        : () => {
            for (let i = 0; i < OPERATIONS; i++) sender.kernel.send(port)
          }
    return { run, reset: () => receiver.expect(OPERATIONS) }
  }
}

function unmask(library: Library): Measured {
  const both = pair(library, { levels: 2 })
  const { sender } = both
  const mask = () => {
    for (const port of sender.ports) sender.kernel.mask(port)
  }
  mask()
  const run = raw(both, 'unmask', (i) => sender.data.setUint32(sender.argument, sender.ports[i]!, true))
  return { run, reset: mask }
}

function allocUnbound(library: Library): Measured {
  const both = pair(library, { levels: 2, channels: 0 })
  const { data, argument } = both.sender
  const run = raw(both, 'alloc_unbound', () => {
    data.setUint32(argument, (1 << 16) | 0x7ff0, true)
    data.setUint32(argument + 4, 0, true)
  })
  return { run, reset: both.closeAll }
}

function bindInterdomain(library: Library): Measured {
  const both = pair(library, { levels: 2, channels: 0 })
  const { data, argument } = both.sender
  let offered = both.offer(OPERATIONS)
  const run = raw(both, 'bind_interdomain', (i) => {
    data.setUint32(argument, 1, true)
    data.setUint32(argument + 4, offered[i]!, true)
    data.setUint32(argument + 8, 0, true)
  })
  const reset = () => {
    both.closeAll()
    offered = both.offer(OPERATIONS)
  }
  return { run, reset }
}

function onPorts(op: 'status' | 'bind_vcpu' | 'close'): RowKind['make'] {
  return (library) => {
    const both = pair(library, { levels: 2, channels: op === 'close' ? 0 : OPERATIONS })
    const { data, argument } = both.sender
    let ports: ArrayLike<number> = op === 'close' ? both.allocate(OPERATIONS) : both.sender.ports
    const run = raw(both, op, (i) => {
      data.setUint32(argument, op === 'status' ? 0x7ff0 : ports[i]!, true)
      data.setUint32(argument + 4, op === 'status' ? ports[i]! : 0, true)
    })
    const reset = () => {
      if (op === 'close') ports = both.allocate(OPERATIONS)
    }
    return { run, reset }
  }
}

function driver(op: 'allocUnbound' | 'bindInterdomain'): RowKind['make'] {
  return (library) => {
    const both = pair(library, { levels: 2, channels: 0, upcalls: true })
    const { kernel } = both.sender
    const handler = { handler: () => {} }
    let offered = both.offer(OPERATIONS)
    let made: number[] = []
    const run = () => {
      for (let i = 0; i < OPERATIONS; i++)
        made.push(
          op === 'allocUnbound' ? kernel.allocUnbound(1, handler) : kernel.bindInterdomain(1, offered[i]!, handler),
        )
    }
    const reset = () => {
      for (const port of made) kernel.close(port)
      made = []
      both.closeAll()
      offered = both.offer(OPERATIONS)
    }
    return { run, reset }
  }
}

/** All rows, in the order of the table. */
export const ROWS: readonly RowKind[] = [
  { name: 'core', make: core },
  { name: 'port operation', make: portOperation },
  { name: 'hypercall send, 2 levels', make: sends({ levels: 2 }, 'raw') },
  { name: 'hypercall send, 3 levels', make: sends({ levels: 3 }, 'raw') },
  { name: 'hypercall send, FIFO', make: sends({ levels: 'fifo' }, 'raw') },
  { name: 'hypercall unmask', make: unmask },
  { name: 'GuestKernel.send, 2 levels', make: sends({ levels: 2 }, 'driver') },
  { name: 'GuestKernel.send, FIFO', make: sends({ levels: 'fifo' }, 'driver') },
  { name: 'EvtchnHandle.notify', make: sends({ levels: 2 }, 'handle') },
  { name: "eventChannelOp('send')", make: sends({ levels: 2 }, 'typed') },
  { name: 'delivered to a handler, hypercall send', make: delivered('raw') },
  { name: 'delivered to a handler, GuestKernel.send', make: delivered('driver') },
  { name: 'hypercall alloc_unbound', make: allocUnbound },
  { name: 'hypercall bind_interdomain', make: bindInterdomain },
  { name: 'hypercall status', make: onPorts('status') },
  { name: 'hypercall bind_vcpu', make: onPorts('bind_vcpu') },
  { name: 'hypercall close', make: onPorts('close') },
  { name: 'GuestKernel.allocUnbound', make: driver('allocUnbound') },
  { name: 'GuestKernel.bindInterdomain', make: driver('bindInterdomain') },
]
