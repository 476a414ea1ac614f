/** One move, from pending events on the first host to the last of them on whichever host the guest ends. */

import {
  type Domain,
  errnoName,
  type GuestKernel,
  type Migration,
  RestoreError,
  type SavedDomain,
  type SaveMode,
} from '../../index.js'
import { abiName } from '../abi.js'
import { CheckError } from '../errors.js'
import { pick, seeded } from '../random.js'
import { type Destination, Machine, type Outcome, Source, type Workload } from './workload.js'

const nowNs = (): number => performance.now() * 1e6

/** A move under way. */
interface Move {
  readonly source: Source
  readonly outcome: Outcome
  readonly migration: Migration
  /** The state as it travels. */
  readonly text: string
  /** Channels that are pending or were signalled while frozen. */
  readonly signalled: readonly number[]
}

/** Moves the guest of a workload. @throws CheckError if an event of a transparent move is lost. */
export function move(work: Workload, mode: SaveMode, to: Destination): Outcome {
  const moving = save(work, mode, to)
  const { source, outcome, migration, text } = moving
  const target = to === 'same host' ? source.machine : new Machine(work.host)
  const peer = to === 'same host' ? source.dom0 : waitingDom0(target, work, mode)
  const start = nowNs()
  let restored: Domain
  try {
    const options = to === 'same host' ? { replaces: migration } : work.domain
    restored = target.xen.restoreDomain(JSON.parse(text) as SavedDomain, options)
  } catch (error) {
    if (!(error instanceof RestoreError)) throw error
    outcome.restoreNs = nowNs() - start
    refuse(moving, error)
    return outcome
  }
  outcome.restoreNs = nowNs() - start
  resume(moving, target, restored, peer)
  finish(moving, peer)
  return outcome
}

/** Events are raised, the guest is frozen and saved, more events are raised. */
function save(work: Workload, mode: SaveMode, to: Destination): Move {
  const source = new Source(work)
  const { kernel, dom0, machine } = source
  const random = seeded(work.seed)
  const pending = pick(work.channels, work.pending, random)
  const raised = pick(work.channels, work.raised, random)
  for (const i of pending) {
    kernel.mask(source.guestPorts[i]!)
    dom0.send(source.ends[i]!)
  }
  if (mode === 'cooperative') kernel.suspend()

  const began = nowNs()
  const migration = machine.xen.beginMigration(machine.xen.domain(1)!, { mode })
  const text = JSON.stringify(migration.state)
  const saveNs = nowNs() - began
  for (const i of raised) dom0.send(source.ends[i]!)
  const ramBytes = (migration.state.ram ?? []).reduce((sum, { bytes }) => sum + bytes.length, 0)
  const outcome: Outcome = {
    mode,
    to,
    channels: work.channels,
    stateBytes: text.length,
    ramFrames: Math.floor(ramBytes / 4096),
    saveNs,
    restoreNs: 0,
    resumeNs: 0,
    levels: kernel.levels,
    attempts: [],
    connected: work.channels,
    lost: 0,
    lostNames: [],
    pending: pending.length,
    raised: raised.length,
    delivered: 0,
    missing: 0,
    rescanned: 0,
  }
  return { source, outcome, migration, text, signalled: [...pending, ...raised] }
}

/** The target's dom0; in transparent mode its backends wait with the ports that the guest's state names. */
function waitingDom0(target: Machine, { channels, host }: Workload, mode: SaveMode): GuestKernel {
  const dom0 = target.dom0(host.nlevel ? channels : 0)
  const waiting = mode === 'transparent' ? Math.min(channels, dom0.channels - 1) : 0
  for (let i = 0; i < waiting; i++) dom0.allocUnbound(1, { handler: () => {} })
  return dom0
}

/** The target refused: the guest continues where it was, with everything it had. */
function refuse(moving: Move, error: RestoreError): void {
  const { source, outcome, migration } = moving
  outcome.refused = error.message
  migration.abort()
  source.machine.xen.resumeDomain(source.machine.xen.domain(1)!)
  if (outcome.mode === 'cooperative') source.kernel.cancelSuspend()
  finish(moving, source.dom0)
}

/** The guest continues on the target. */
function resume({ source, outcome, migration }: Move, target: Machine, restored: Domain, peer: GuestKernel): void {
  const { kernel } = source
  const late = migration.status === 'frozen' ? migration.commit() : { raised: [] }
  target.attach(1, kernel)
  const start = nowNs()
  if (outcome.mode === 'cooperative') cooperate(source, target, restored, peer, outcome)
  else {
    kernel.moveTo(target.xen.platform(restored))
    target.xen.startDomain(target.xen.domain(1)!, late)
    const { connected, unbound } = restored.restored!
    outcome.connected = connected.length
    outcome.lost = unbound.length
    outcome.lostNames = unbound.map(({ port }) => kernel.nameOf(port) ?? `port ${port}`)
  }
  outcome.resumeNs = nowNs() - start
  outcome.levels = kernel.levels
}

/** The guest registers and binds again; dom0 connects to what there is; the guest looks at every channel once. */
function cooperate(source: Source, target: Machine, domain: Domain, dom0: GuestKernel, outcome: Outcome): void {
  const { kernel } = source
  const report = kernel.resume(target.xen.platform(domain))
  outcome.attempts = report.attempts.map(({ levels, answer }) => `${abiName(levels)}: ${answer}`)
  outcome.lost = report.lost.length
  outcome.lostNames = report.lost.map(({ name, errno }) => `${name} (${errnoName(errno)})`)
  const byPort = new Map(source.guestPorts.map((port, i) => [port, i]))
  source.ends.fill(0)
  outcome.connected = 0
  for (const { oldPort, port } of report.rebound) {
    if (outcome.connected >= dom0.channels - 1) break
    source.ends[byPort.get(oldPort)!] = dom0.bindInterdomain(1, port, { handler: () => {} })
    outcome.connected++
  }
  outcome.rescanned = kernel.rescan()
}

/** Unmasks, counts where the events went, then signals every channel that is connected and sees it arrive. */
function finish({ source, outcome, signalled }: Move, dom0: GuestKernel): void {
  const { kernel, guestPorts, ends, ran } = source
  // After a cooperative move the channels are new ones, and not masked.
  const masked = outcome.mode === 'cooperative' && outcome.refused === undefined ? [] : guestPorts
  for (const port of masked) if (kernel.nameOf(port) && kernel.isMasked(port)) kernel.unmask(port)
  const all = new Set(signalled)
  for (const i of all) if (ran[i]) outcome.delivered++
  outcome.missing = all.size - outcome.delivered
  if (outcome.mode === 'transparent' && outcome.missing)
    throw new CheckError(
      `evtchn migrate: inconsistent: ${outcome.missing} events were lost by a transparent move to the ${outcome.to}`,
    )
  const before = ran.slice()
  let sent = 0
  for (const end of ends) {
    if (!end || !dom0.nameOf(end)) continue
    dom0.send(end)
    sent++
  }
  const arrived = ran.reduce((sum, runs, i) => sum + runs - before[i]!, 0)
  if (arrived !== outcome.connected)
    throw new CheckError(
      `evtchn migrate: inconsistent: ${sent} channels were signalled afterwards, and ${arrived} of ` +
        `${outcome.connected} delivered`,
    )
}
