/**
 * Operations of own ABIs (host/own_abi.ts): the argument is copied in, the embedder's function runs behind a wall, and what
 * it answered is written back. What a domain is put on is checked here as the library's own operations check it.
 */

import { type Args, decode, encode, getField, PAGE_SIZE, type Struct } from '../../abi/index.js'
import type { Callouts } from '../../callout.js'
import type { Caller, Domain } from '../../domain/domain.js'
import { OwnPortOps } from '../../domain/own_ops.js'
import { Errno, type Outcome, Refusal, refuse } from '../../errno.js'
import type { OwnGuest, OwnOperation, OwnWords } from '../../host/own_abi.js'
import type { World } from '../../host/world.js'
import { grantedLevels, grantedPages, registerTree } from './nlevel.js'

const { EFAULT, EIO, EBUSY, EINVAL } = Errno

/** Most elements of an array that one operation reads: a full tree's leaf pages, or a vCPU's selectors. */
const MOST_ELEMENTS = 65_536

/** Runs an own operation. */
export function ownOperation(world: World, caller: Caller, operation: OwnOperation, gva: number): Outcome {
  const { domain, vcpu } = caller
  const { struct, name } = operation
  const bytes = new Uint8Array(struct.size)
  if (!domain.memory.copyIn(vcpu.vcpuId, gva, bytes, struct.size))
    return refuse(EFAULT, () => `struct ${struct.name} cannot be read`)
  const view = new DataView(bytes.buffer)
  const args: Args = decode(struct, view)
  const failed = refuse(EIO, () => `${name} threw`)
  const outcome = world.callouts.run(`${name} of d${domain.domid}`, failed as Outcome, () =>
    outcomeOf(operation.run(new Guest(world, caller), args), name),
  )
  return outcome || writeBack(caller, struct, args, view, bytes, gva)
}

/** What an embedder's function returned, if it is an outcome at all. */
const outcomeOf = (outcome: unknown, name: string): Outcome =>
  outcome === 0 || outcome instanceof Refusal ? outcome : refuse(EIO, () => `${name} returned no outcome`)

/** Its OUT members, if it has any. The effects stay if they cannot be written (EC-op-3). */
function writeBack(
  { domain, vcpu }: Caller,
  struct: Struct,
  args: Args,
  view: DataView,
  bytes: Uint8Array,
  gva: number,
): Outcome {
  if (!Object.values(struct.fields).some(({ dir }) => dir === 'out' || dir === 'inout')) return 0
  encode(struct, view, args)
  if (domain.memory.copyOut(vcpu.vcpuId, gva, bytes, struct.size)) return 0
  return refuse(EFAULT, () => `struct ${struct.name} cannot be written`)
}

/** What the operation sees of the calling domain. */
class Guest implements OwnGuest {
  readonly #world: World
  readonly #caller: Caller

  constructor(world: World, caller: Caller) {
    this.#world = world
    this.#caller = caller
  }

  get #domain(): Domain {
    return this.#caller.domain
  }
  get domid(): number {
    return this.#domain.domid
  }
  get vcpuId(): number {
    return this.#caller.vcpu.vcpuId
  }
  get vcpus(): number {
    return this.#domain.vcpus.length
  }
  get bits() {
    return this.#domain.bits
  }
  get maxEvtchnPort(): number {
    return this.#domain.maxEvtchnPort
  }
  get maxLevels(): number {
    return grantedLevels(this.#world, this.#domain)
  }
  get maxLeafPages(): number {
    return grantedPages(this.#world, this.#domain)
  }
  get memory() {
    return this.#domain.memory
  }
  get sharedInfoGfn(): number {
    return (this.#domain.sharedInfoAt - this.#domain.memory.base) / PAGE_SIZE
  }

  readGfns(gva: number, count: number): number[] | undefined {
    return this.#read(gva, count, 8)
  }
  readU32s(gva: number, count: number): number[] | undefined {
    return this.#read(gva, count, 4)
  }

  #read(gva: number, count: number, size: 4 | 8): number[] | undefined {
    if (!(count >= 0 && count <= MOST_ELEMENTS)) return undefined
    const { domain, vcpu } = this.#caller
    const bytes = new Uint8Array(count * size)
    if (domain.bits === 32 && gva + bytes.length > 2 ** 32) return undefined
    if (!domain.memory.copyIn(vcpu.vcpuId, gva, bytes, bytes.length)) return undefined
    const view = new DataView(bytes.buffer)
    return Array.from({ length: count }, (_, i) => getField(view, { offset: i * size, size, dir: 'in' }))
  }

  refuse(errno: number, text: string): Outcome {
    return refuse(errno, text)
  }

  registerTree(tree: Parameters<OwnGuest['registerTree']>[0]): Outcome {
    return registerTree(this.#world, this.#domain, tree)
  }

  install(words: OwnWords): Outcome {
    const domain = this.#domain
    if (domain.portOps.levels !== 2)
      return refuse(EBUSY, () => `d${domain.domid} has left two levels; a reset leads back`)
    if (domain.nextEvtchn) return refuse(EBUSY, () => `a reset of d${domain.domid} is in progress`)
    const { maxEvtchns } = words
    if (!Number.isInteger(maxEvtchns) || maxEvtchns < domain.maxEvtchns)
      return refuse(
        EINVAL,
        () => `words for ${maxEvtchns} ports: at least ${domain.maxEvtchns}, which are open already`,
      )
    domain.eventLock.write(() => carryOver(domain, words, this.#world.callouts))
    return 0
  }
}

/**
 * The switch, senders outside. Bits of ports that exist go over, masks first: a port is unmasked in the new words only if it
 * was so before, and one that is pending then makes its vCPU look.
 */
function carryOver(domain: Domain, words: OwnWords, callouts: Callouts): void {
  const old = domain.portOps
  const ports = Array.from({ length: domain.maxEvtchns - 1 }, (_, i) => i + 1).filter(
    (port) => domain.ports.isValid(port) && domain.ports.state(port) !== 0,
  )
  const was = ports.map((port) => ({ port, pending: old.isPending(port), masked: old.isMasked(port) }))
  const ops = new OwnPortOps(domain, words, callouts)
  domain.useOps(ops)
  for (const { port, pending, masked } of was) {
    if (!masked) ops.unmask(port)
    if (pending) ops.setPending(port)
  }
}
