/**
 * Domains of one host on the move: saved, frozen, restored, started. format.ts says what a state holds, restore.ts what a
 * host grants it, handle.ts is a frozen source; here is what happens on the host, and in which order.
 */

import { MAX_FRAMES, MAX_IRQ, MAX_PORT, MAX_VCPUS, NR_VIRQS } from '../abi/index.js'
import {
  among,
  anything,
  options as checkOptions,
  flag,
  listOf,
  oneOf,
  ParameterError,
  type Table,
  within,
} from '../check.js'
import { type Clock, systemTime } from '../clock.js'
import type { DomainHost } from '../domain/config.js'
import type { Domain } from '../domain/domain.js'
import type { Vcpu } from '../domain/vcpu.js'
import { Errno, XenError } from '../errno.js'
import type { Domains } from '../host/domains.js'
import { DOMAIN_OPTIONS, type DomainOptions } from '../host/options.js'
import type { PollTimers } from '../host/poll_timers.js'
import type { UpcallQueue } from '../host/upcall_queue.js'
import type { World } from '../host/world.js'
import { frameRefs } from '../machine/memory.js'
import { type CheckedCooperative, type CheckedTransparent, checkSaved } from './check.js'
import { RestoreError } from './fields.js'
import type { SavedDomain, SavedTransparent, SaveMode } from './format.js'
import { granted } from './granted.js'
import { isRaised, Migration, Source, sourceOf } from './handle.js'
import type { RestoreOptions, SaveOptions } from './options.js'
import { loadRam, type RamSource, renewFrames, type SavedRun, saveRam } from './ram.js'
import { clearChannels, Restore, retire } from './restore.js'
import { saveCooperative, saveTransparent } from './save.js'

const { frames: _frames, vcpus: _vcpus, type: _type, ...grantable } = DOMAIN_OPTIONS

const RESTORE_OPTIONS: Table<RestoreOptions> = {
  ...grantable,
  replaces: anything,
  ram: among('keep'),
  maxFrames: within(1, MAX_FRAMES),
  maxVcpus: within(1, MAX_VCPUS),
  pirqs: listOf(within(0, MAX_IRQ), `integers from 0 to ${MAX_IRQ}`),
  globalVirqs: listOf(within(0, NR_VIRQS - 1), `integers from 0 to ${NR_VIRQS - 1}`),
}

/** What of the host this needs. */
export interface MovingHost {
  readonly domains: Domains
  readonly queue: UpcallQueue
  readonly timers: PollTimers
  readonly time: Clock
  /** The world that a restored domain is checked against. */
  readonly world: World
  readonly domainHost: DomainHost
  /** Puts a new domain on the host. */
  add(domain: Domain): void
  destroy(domain: Domain): void
  /** A vCPU that runs on a thread of its own now, if the domain has one. */
  runningVcpu(domain: Domain): Vcpu | undefined
}

/** Options of a save as given. @throws ParameterError */
export function readSaveOptions(
  call: string,
  options: SaveOptions & { freeze?: boolean },
): Required<SaveOptions> & { freeze: boolean } {
  const modes = among<SaveMode>('cooperative', 'transparent')
  const { mode = 'cooperative', ram = true } = checkOptions(call, options, { mode: modes, ram: flag, freeze: flag })
  return { mode, ram, freeze: options.freeze ?? mode === 'transparent' }
}

/** The migrations of one host. */
export class Moving {
  readonly #host: MovingHost
  readonly #migrations = new Map<Domain, Migration>()

  constructor(host: MovingHost) {
    this.#host = host
  }

  /** The migration that a frozen domain is the source of. */
  of(domain: Domain): Migration | undefined {
    return this.#migrations.get(domain)
  }

  /**
   * A domain as plain data. `then` runs in the same moment: no event comes between the state and what it looks at.
   * @throws XenError, see Hypervisor.saveDomain
   */
  save(call: string, domain: Domain, { mode, ram }: Required<SaveOptions>, then = () => {}): SavedDomain {
    this.#maySave(call, domain, mode)
    // RAM takes long and is copied beside senders. What they write is copied again with the tables, while they are shut out:
    // an event in one and not in the other would be lost, or a queue torn.
    const runs = ram ? saveRam(domain.memory) : null
    const { lock } = domain.hostCore
    return lock.write(() => {
      const state = mode === 'cooperative' ? saveCooperative(domain) : this.#saveTransparent(domain)
      then()
      if (!runs || !lock.hasReaders) return { ...state, ram: runs }
      const held = new Set([domain.sharedInfoGfn, ...frameRefs(domain.memory).held])
      return { ...state, ram: renewFrames(runs, domain.memory, held) }
    })
  }

  #saveTransparent(domain: Domain): SavedTransparent {
    const { timers, time } = this.#host
    const now = systemTime(time)
    return saveTransparent(domain, (vcpu) => {
      const at = timers.endOf(vcpu)
      return at === undefined ? null : at > now ? at - now : 0n
    })
  }

  #maySave(call: string, domain: Domain, mode: SaveMode): void {
    const { queue } = this.#host
    const refuse = (errno: number, found: string): never => {
      throw new XenError(call, errno, `d${domain.domid} ${found}`)
    }
    if (domain.frozen) refuse(Errno.EBUSY, domain.frozen === 'saved' ? 'is being migrated' : 'has not been started')
    if (domain.dying !== 'alive') refuse(Errno.EINVAL, `is ${domain.dying}`)
    if (domain.nextEvtchn) refuse(Errno.EBUSY, `is in the middle of a reset, at port ${domain.nextEvtchn}`)
    if (mode === 'cooperative') return
    // What a vCPU does next is on the stack here, and no state can carry that.
    if (queue.inCall) refuse(Errno.EBUSY, 'cannot be saved in the middle of a hypercall')
    if (domain.vcpus.some((vcpu) => queue.inUpcall(vcpu))) refuse(Errno.EBUSY, 'is in the middle of an upcall')
    const running = this.#host.runningVcpu(domain)
    if (running) refuse(Errno.EBUSY, `runs: vCPU ${running.vcpuId} has a thread; quiesce the domain first`)
  }

  /** Saves a domain and freezes it. */
  begin(call: string, domain: Domain, options: Required<SaveOptions>): Migration {
    let source!: Source
    const state = this.save(call, domain, options, () => {
      domain.frozen = 'saved'
      source = new Source(domain, {
        destroy: () => {
          this.#migrations.delete(domain)
          this.#host.destroy(domain)
        },
        thaw: () => {
          this.#migrations.delete(domain)
          this.#thaw(domain)
        },
      })
    })
    const migration = new Migration(source, state)
    this.#migrations.set(domain, migration)
    return migration
  }

  #thaw(domain: Domain): void {
    domain.frozen = null
    this.#host.queue.resume(domain)
  }

  /** A source was destroyed or replaced. */
  end(source: Domain, status: 'committed' | 'gone'): void {
    const migration = this.#migrations.get(source)
    if (migration) sourceOf(migration).status = status
    this.#migrations.delete(source)
    this.#host.queue.forget(source)
  }

  /** See Hypervisor.restoreDomain. */
  restore(state: unknown, options: RestoreOptions): Domain {
    const call = 'restoreDomain'
    checkOptions(call, options, RESTORE_OPTIONS)
    const checked = checkSaved(state)
    const { replaces } = options
    const filling = fillingOf(call, checked, options)
    if (replaces !== undefined && (!(replaces instanceof Migration) || this.of(sourceOf(replaces).domain) !== replaces))
      throw new ParameterError(call, 'replaces', replaces, 'a migration under way on this host')
    const source = replaces && sourceOf(replaces).domain
    const domain = this.#detached(checked, options, source)
    try {
      return this.#settle(domain, checked, options, filling)
    } catch (error) {
      // Refused: nobody has seen it. On the host it stays.
      if (this.#host.domains.get(domain.domid) !== domain) domain.dispose()
      throw error
    }
  }

  /** Gives a new domain what the state says, and puts it on the host. */
  #settle(
    domain: Domain,
    checked: CheckedCooperative | CheckedTransparent,
    options: RestoreOptions,
    filling: RamSource,
  ): Domain {
    const { world, queue, timers, time } = this.#host
    const { virqs } = world
    const { replaces, pirqs = [], globalVirqs = [] } = options
    const frozen = replaces && sourceOf(replaces)
    const source = frozen?.domain
    for (const pirq of [...(source?.pirqs.permitted ?? []), ...pirqs]) domain.pirqs.permitted.add(pirq)
    for (const virq of globalVirqs) {
      const refused = !virqs.willHandle(virq, domain.domid, source) && virqs.mayReplaceHandler(virq, source)
      if (refused) throw RestoreError.at('globalVirqs', refused)
    }
    const attach = () => {
      this.#attach(domain, replaces)
      for (const virq of globalVirqs) virqs.setHandler(domain, virq)
    }
    if (checked.mode === 'cooperative') {
      loadRam(domain.memory, filling)
      clearChannels(domain)
      if (source) {
        retire(world, source, new Set())
        virqs.closeDomExc(source)
      }
      queue.around(attach)
      return domain
    }
    const restore = new Restore(world, domain, checked, frozen ?? null, globalVirqs)
    withMemory(() => restore.prepare())
    domain.frozen = 'restored'
    queue.around(() => {
      domain.restored = restore.carryOut(attach, filling)
    })
    const now = systemTime(time)
    for (const [i, { poll }] of checked.vcpuState.entries())
      if (poll?.leftNs != null && domain.vcpus[i]!.polling) timers.arm(domain.vcpus[i]!, now + poll.leftNs)
    return domain
  }

  /** The domain that a state describes, not on the host yet, its memory untouched. */
  #detached(
    checked: CheckedCooperative | CheckedTransparent,
    options: RestoreOptions,
    source: Domain | undefined,
  ): Domain {
    const { domains, domainHost } = this.#host
    const { bits, type, vcpus, frames, sharedInfoGfn } = checked
    const given = domainOptions(options)
    const { domid = source?.domid ?? checked.domid, bits: wanted = bits } = given
    if (oneOf('restoreDomain', 'bits', wanted, [32, 64]) !== bits)
      throw new RestoreError('bits', Errno.EINVAL, `is ${bits}, and a state is not converted to ${wanted}`)
    const taken = domains.get(domid)
    if (taken && taken !== source) throw new RestoreError('domid', Errno.EEXIST, `this host has a domain ${domid}`)
    // Domain 0 is the hardware domain, which handles every VIRQ that no other domain handles.
    if (domid === 0 && given.domid !== 0 && !source)
      throw new RestoreError(
        'domid',
        Errno.EPERM,
        'is 0, and a state does not make a hardware domain; options.domid does',
      )
    const inherited = source && { privileged: source.privileged, ...source.nlevelLimits }
    const limits = granted(checked, domid, options, source)
    const kept = { privileged: false, ...inherited, sharedInfoGfn, ...defined(given), ...limits }
    return withMemory(() =>
      domains.build('restoreDomain', domainHost, { ...kept, domid, bits, type, vcpus, frames }, source),
    )
  }

  /** Puts a restored domain on the host, in the place of the source that it replaces. */
  #attach(domain: Domain, replaces: Migration | undefined): void {
    const { domains, timers, world, add } = this.#host
    if (!replaces) {
      add(domain)
      return
    }
    const { virqs } = world
    const { domain: source } = sourceOf(replaces)
    domain.target = source.target
    virqs.replace(source, domain)
    domains.remove(source.domid)
    add(domain)
    if (source.stubs) for (const other of domains) if (other.target === source) other.target = domain
    for (const vcpu of source.vcpus) timers.disarm(vcpu)
    this.end(source, 'committed')
    if (source.domid === domain.domid) return
    for (const other of this.#migrations.values()) sourceOf(other).renamed.set(source.domid, domain.domid)
    virqs.domainChanged(source.domid)
  }

  /** See Hypervisor.startDomain. */
  start(domain: Domain, options: { raised?: readonly number[] }): number {
    const call = 'startDomain'
    const { raised = [] } = checkOptions(call, options, {
      raised: listOf(within(1, MAX_PORT), `integers from 1 to ${MAX_PORT}`),
    })
    if (domain.frozen !== 'restored') throw new XenError(call, Errno.EINVAL, `d${domain.domid} does not wait for it`)
    let added = 0
    for (const port of raised) {
      if (!domain.ports.isValid(port) || !domain.ports.isUsable(port) || isRaised(domain, port)) continue
      domain.setPending(port)
      added++
    }
    this.#thaw(domain)
    return added
  }
}

/** What fills the memory. @throws ParameterError, RestoreError */
function fillingOf(
  call: string,
  { ram: runs }: { ram: SavedRun[] | null },
  { ram, memory }: RestoreOptions,
): RamSource {
  if (ram === 'keep') {
    if (!memory) throw new ParameterError(call, 'ram', ram, "'keep' only beside `memory`, which has the guest's RAM")
    return 'keep'
  }
  if (!runs)
    throw new RestoreError(
      'ram',
      Errno.EINVAL,
      "is not in the state, which was saved with ram: false: restore it with `memory` and ram: 'keep'",
    )
  return { runs, fresh: !memory }
}

/** What of the options is about the domain itself. */
function domainOptions(options: RestoreOptions): Partial<DomainOptions> {
  const { replaces, ram, maxFrames, maxVcpus, pirqs, globalVirqs, ...given } = options
  return given
}

/** Without the members that are undefined, which stand for a default. */
function defined<T extends object>(options: T): T {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T
}

/** What an engine says when it has no memory left is ENOMEM. */
function withMemory<T>(body: () => T): T {
  try {
    return body()
  } catch (error) {
    if (error instanceof RangeError) throw new RestoreError('frames', Errno.ENOMEM, error.message)
    if (error instanceof XenError && error.errno === Errno.ENOMEM && !(error instanceof RestoreError))
      throw new RestoreError('frames', Errno.ENOMEM, error.found)
    throw error
  }
}
