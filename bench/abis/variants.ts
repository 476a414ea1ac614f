/**
 * The variants of the argument beside two levels, N levels and FIFO: what each costs to register and to use. Calls, pages and
 * frames are counted, not timed. Times are the port operation and the driver's upcall, samples of all entrants interleaved.
 */

import { HYPERVISOR } from '../../src/abi/index.js'
import { CheckError } from '../../src/cli/errors.js'
import { type Random, seeded } from '../../src/cli/random.js'
import { summarize } from '../../src/cli/statistics.js'
import { inside } from '../../src/domain/handles.js'
import { type BootOptions, GuestKernel, Hypervisor, type OwnAbi } from '../../src/index.js'
import { contiguousLevels, liuLevels, raoLevels } from '../../src/variants/index.js'

const CHANNELS = 1000
const PENDING = 256
/** event_channel_op that register something: FIFO's, N levels', and those of own ABIs. Asking is not counted. */
const REGISTERS = (cmd: number) => [11, 12, 65, 66].includes(cmd) || cmd >= 128

/** One entrant. */
interface Entrant {
  readonly name: string
  readonly levels: NonNullable<BootOptions['levels']>
  readonly abi?: OwnAbi
  /** Leaf pages, for those that the driver lays out: one is enough for these channels. */
  readonly nrPages?: number
  readonly hostPages?: () => number
}

function entrants(): Entrant[] {
  const liu = liuLevels({ nrPages: 1 })
  const rao = raoLevels()
  const contiguous = contiguousLevels()
  return [
    { name: '2 levels', levels: 2 },
    { name: '3 levels', levels: 3, nrPages: 1 },
    { name: liu.form.name, levels: liu.form, abi: liu.abi },
    { name: rao.form.name, levels: rao.form, abi: rao.abi, hostPages: () => rao.hostPages },
    { name: contiguous.form.name, levels: contiguous.form, abi: contiguous.abi },
    { name: 'FIFO', levels: 'fifo' },
  ]
}

/** What one entrant costs. */
export interface VariantRow {
  readonly name: string
  readonly calls: number
  readonly hostPages: number
  readonly guestFrames: number
  readonly channels: number
  /** What a transparent move makes of it: the levels that the target has, or the errno. */
  readonly moves: string
  readonly sendNs: number
  readonly consumeNs: number
}

/** A guest of one entrant with its channels, and the counts of its registration. */
class Contender {
  readonly entrant: Entrant
  readonly calls: number
  readonly guestFrames: number
  readonly kernel: GuestKernel
  readonly moves: string
  readonly send: number[] = []
  readonly consume: number[] = []
  readonly #ports: number[]
  readonly #raise: (port: number) => void
  #handled = 0

  constructor(entrant: Entrant) {
    this.entrant = entrant
    const { abi, levels, nrPages } = entrant
    const xen = Hypervisor.create({ ...(abi && { abis: [abi] }), onUpcall: () => {} })
    const make = (domid: number) => xen.createDomain({ domid, frames: 128, maxEvtchnPort: Number.POSITIVE_INFINITY })
    const domain = make(1)
    const platform = xen.platform(domain)
    let calls = 0
    const counting = {
      ...platform,
      hypercall: (...args: Parameters<typeof platform.hypercall>) => {
        const rc = platform.hypercall(...args)
        // What is refused has registered nothing: the driver tries whether an earlier kernel left FIFO behind.
        if (rc >= 0 && args[1] === HYPERVISOR.event_channel_op && REGISTERS(args[2][0]!)) calls++
        return rc
      },
    }
    this.kernel = GuestKernel.boot(counting, { levels, exact: true, ...(nrPages && { nrPages }) })
    const free = GuestKernel.boot(xen.platform(make(2)), { levels: 2 }).frames.available
    const handler = () => void this.#handled++
    this.#ports = Array.from({ length: CHANNELS }, () => this.kernel.bindIpi({ handler }))
    this.calls = calls
    this.guestFrames = free - this.kernel.frames.available
    const ops = inside(domain).portOps
    this.#raise = (port) => ops.setPending(port)
    this.moves = moved(xen, entrant)
  }

  /** One sample: random ports raised, then handled. Each event comes once, or the bench ends. */
  sample(random: Random): void {
    const ports = new Set<number>()
    while (ports.size < PENDING) ports.add(this.#ports[random(CHANNELS)]!)
    const list = [...ports]
    this.#handled = 0
    const from = performance.now()
    for (const port of list) this.#raise(port)
    const raised = performance.now()
    this.kernel.upcall(0)
    const done = performance.now()
    if (this.#handled !== PENDING)
      throw new CheckError(`${this.entrant.name}: ${PENDING} events were raised and ${this.#handled} handled`)
    this.send.push(((raised - from) * 1e6) / PENDING)
    this.consume.push(((done - raised) * 1e6) / PENDING)
  }
}

/** A guest of this kind moved to a host of N levels, in transparent mode. */
function moved(xen: Hypervisor, { levels }: Entrant): string {
  const domain = xen.createDomain({ domid: 3, frames: 128, maxEvtchnPort: Number.POSITIVE_INFINITY })
  GuestKernel.boot(xen.platform(domain), { levels })
  try {
    const there = Hypervisor.create()
    const state = xen.saveDomain(domain, { mode: 'transparent', freeze: false })
    const restored = inside(there.restoreDomain(state, { maxEvtchnPort: Number.POSITIVE_INFINITY }))
    return restored.fifo ? 'as FIFO' : `as ${restored.levels} levels`
  } catch (error) {
    return (error as Error).message
  }
}

/** Runs all entrants, `samples` of each. */
export function variants(samples: number, seed: number): VariantRow[] {
  const random = seeded(seed)
  const all = entrants().map((each) => new Contender(each))
  for (let i = 0; i < samples + 10; i++) for (const each of all) each.sample(random)
  return all.map(({ entrant, calls, guestFrames, kernel, moves, send, consume }) => ({
    name: entrant.name,
    calls,
    // Two domains of this kind are on the host.
    hostPages: (entrant.hostPages?.() ?? 0) / 2,
    guestFrames,
    channels: kernel.channels,
    moves,
    // The first are the engine compiling.
    sendNs: summarize(send.slice(10)).median,
    consumeNs: summarize(consume.slice(10)).median,
  }))
}
