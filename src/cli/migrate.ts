/**
 * `evtchn migrate`: both answers to "who makes the channels again?" on one workload. A guest with channels to dom0 is
 * moved while some of its events are pending and others are raised: cooperatively to the target, transparently to the
 * target, and transparently on its own host. Every event is accounted for, on whichever host the guest ends.
 */

import { type Bits, fullTree } from '../abi/index.js'
import type { Domain } from '../domain/domain.js'
import type { Vcpu } from '../domain/vcpu.js'
import { GuestKernel } from '../guest/index.js'
import type { DomainOptions, HypervisorOptions } from '../host/options.js'
import { Hypervisor } from '../hypervisor.js'
import { RestoreError } from '../migration/fields.js'
import type { SaveMode } from '../migration/format.js'
import { nowNs, realClock } from '../node/clock.js'
import {
  ABIS,
  type Abi,
  abiName,
  CheckError,
  choice,
  type Form,
  formOf,
  helpText,
  mostChannels,
  type OptionSpecs,
  parse,
  UsageError,
  type Values,
  whole,
} from './options.js'
import { seeded } from './random.js'
import { bytes, count, duration, Screen, table } from './screen.js'

const SPECS: OptionSpecs = {
  channels: {
    type: 'string',
    value: 'N',
    help: 'channels between dom0 and the guest, or all that the ABI has',
    default: '20000',
  },
  levels: { type: 'string', value: '2|3|4', help: 'levels that the guest asks for', default: '3' },
  abi: { type: 'string', value: '2|3|4|fifo', help: 'the same, or FIFO queues; beside it --levels counts for nothing' },
  bits: { type: 'string', value: '32|64', help: 'word width of the guest', default: '64' },
  frames: { type: 'string', value: 'N', help: 'RAM of the guest in 4 KiB frames', default: '2048' },
  pending: { type: 'string', value: 'N', help: 'channels with an event pending when it is saved', default: '1000' },
  raised: { type: 'string', value: 'N', help: 'channels that are signalled while it is frozen', default: '500' },
  'target-levels': { type: 'string', value: '2|3|4|5', help: 'deepest tree that the target grants' },
  'target-pages': { type: 'string', value: 'N', help: 'leaf pages that the target grants' },
  'target-max-port': { type: 'string', value: 'N', help: 'highest port number of the guest on the target' },
  'target-frames': { type: 'string', value: 'N', help: 'RAM that the target has left, in 4 KiB frames' },
  older: { type: 'boolean', help: 'the target has never heard of N levels' },
  'no-fifo': { type: 'boolean', help: 'the target has no FIFO event channels' },
  'not-allowed': { type: 'boolean', help: 'the target does not allow the guest more than two levels' },
  seed: { type: 'string', value: 'N', help: 'for the choice of channels', default: '1' },
  json: { type: 'boolean', help: 'print the results as JSON instead' },
}
const ABOUT = `Moves a guest with its channels to another host in both modes, and to its own host transparently, and tells
what each saved, lost, re-bound and refused, and where every event went. A refusal is a result, not a failure. Exit
code 1: an event of a transparent move is missing, or a channel that was kept does not deliver.`

/** What is moved, and where. */
interface Workload {
  channels: number
  abi: Abi
  bits: Bits
  frames: number
  pending: number
  raised: number
  seed: number
  host: HypervisorOptions
  domain: Partial<DomainOptions>
}

/** What became of one move. */
interface Outcome {
  mode: SaveMode
  to: 'target' | 'same host'
  /** Why the target refused; null = moved. */
  refused: string | null
  channels: number
  stateBytes: number
  ramFrames: number
  saveNs: number
  restoreNs: number
  /** Cooperative: the guest's resume and the peers' re-connecting. Transparent: the guest's first upcall included. */
  resumeNs: number
  levels: number | 'fifo'
  attempts: string[]
  /** Channels that are connected afterwards, and those that are not, the first and the last by name. */
  connected: number
  lost: number
  lostNames: string[]
  /** Channels with events when it was saved, and signalled while it was frozen. */
  pending: number
  raised: number
  /** Of these, those whose handler ran at last; the others'. */
  delivered: number
  missing: number
  /** Handlers that the re-scan ran. */
  rescanned: number
}

/** RAM of dom0, on every host; what the options say is beside it. */
const DOM0_FRAMES = 2048

/** A host whose upcalls go to the kernels on it. */
class Machine {
  readonly xen: Hypervisor
  readonly #kernels = new Map<number, GuestKernel>()

  constructor(options: HypervisorOptions) {
    const onUpcall = (vcpu: Vcpu) => void this.#kernels.get(vcpu.domid)?.upcall(vcpu.vcpuId)
    this.xen = Hypervisor.create({ clock: realClock, onUpcall, ...options })
  }

  attach(domid: number, kernel: GuestKernel): GuestKernel {
    this.#kernels.set(domid, kernel)
    return kernel
  }

  boot(options: DomainOptions, levels: Form): GuestKernel {
    const domain = this.xen.createDomain(options)
    return this.attach(domain.domid, GuestKernel.boot(this.xen.platform(domain), { levels }))
  }

  /** dom0, with as many levels as channels need. */
  dom0(channels: number): GuestKernel {
    return this.boot({ domid: 0, frames: DOM0_FRAMES }, channels < 4096 ? 2 : 3)
  }
}

/** The guest on its first host: connected, nothing pending. `ran` counts what its handlers saw, by channel. */
class Source {
  readonly machine = new Machine({})
  readonly dom0: GuestKernel
  readonly kernel: GuestKernel
  readonly ran: Uint32Array
  readonly guestPorts: number[] = []
  readonly ends: number[] = []

  constructor({ channels, abi, bits, frames }: Workload) {
    this.dom0 = this.machine.dom0(channels)
    this.kernel = this.machine.boot({ domid: 1, bits, frames, maxEvtchnPort: -1 }, formOf(abi))
    if (this.kernel.levels !== formOf(abi))
      throw new UsageError(`evtchn migrate: ${abiName(abi)} do not fit in --frames ${frames}.`)
    this.ran = new Uint32Array(channels)
    for (let i = 0; i < channels; i++) {
      const port = this.kernel.allocUnbound(0, { name: `vif${i}`, handler: () => void this.ran[i]!++ })
      this.guestPorts.push(port)
      this.ends.push(this.dom0.bindInterdomain(1, port, { handler: () => {} }))
    }
    this.ran.fill(0)
  }

  get domain(): Domain {
    return this.machine.xen.domain(1)!
  }
}

/** `n` of the channels, at random. */
function pick(channels: number, n: number, random: (n: number) => number): number[] {
  const all = Array.from({ length: channels }, (_, i) => i)
  for (let i = 0; i < n; i++) {
    const j = i + random(channels - i)
    ;[all[i], all[j]] = [all[j]!, all[i]!]
  }
  return all.slice(0, n)
}

function move(work: Workload, mode: SaveMode, to: Outcome['to']): Outcome {
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
  const migration = machine.xen.beginMigration(1, { mode })
  const text = JSON.stringify(migration.state)
  const saveNs = nowNs() - began
  for (const i of raised) dom0.send(source.ends[i]!)

  const outcome: Outcome = {
    mode,
    to,
    refused: null,
    channels: work.channels,
    stateBytes: text.length,
    ramFrames: migration.state.ram.reduce((sum, { base64 }) => sum + Math.floor((base64.length * 3) / 4 / 4096), 0),
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
  const target = to === 'same host' ? machine : new Machine(work.host)
  const there =
    to === 'same host' ? dom0 : waitingDom0(target, mode === 'transparent' ? work.channels : 0, work.channels)
  const start = nowNs()
  let restored: Domain
  try {
    const options = to === 'same host' ? { replaces: migration } : work.domain
    restored = target.xen.restoreDomain(JSON.parse(text), options)
  } catch (error) {
    if (!(error instanceof RestoreError)) throw error
    outcome.refused = error.message
    outcome.restoreNs = nowNs() - start
    migration.abort()
    machine.xen.resumeDomain(1)
    if (mode === 'cooperative') kernel.cancelSuspend()
    finish(source, dom0, source.ends, [...pending, ...raised], outcome)
    return outcome
  }
  outcome.restoreNs = nowNs() - start
  const late = migration.status === 'frozen' ? migration.commit() : { raised: [] }
  target.attach(1, kernel)
  const resumed = nowNs()
  if (mode === 'cooperative') cooperate(source, target, restored, there, outcome)
  else {
    kernel.moveTo(target.xen.platform(restored))
    target.xen.startDomain(1, late)
    outcome.connected = restored.restored!.connected.length
    outcome.lost = restored.restored!.unbound.length
    outcome.lostNames = restored.restored!.unbound.map(({ port }) => kernel.nameOf(port) ?? `port ${port}`)
  }
  outcome.resumeNs = nowNs() - resumed
  outcome.levels = kernel.levels
  finish(source, there, source.ends, [...pending, ...raised], outcome)
  return outcome
}

/** The target's dom0; in transparent mode its backends wait with the ports that the guest's state names. */
function waitingDom0(target: Machine, waiting: number, channels: number): GuestKernel {
  const dom0 = target.dom0(target.xen.world.limits.nlevel ? channels : 0)
  const most = Math.min(waiting, dom0.channels - 1)
  for (let i = 0; i < most; i++) dom0.allocUnbound(1, { handler: () => {} })
  return dom0
}

/** The guest registers and binds again; dom0 connects to what there is; the guest looks at every channel once. */
function cooperate(source: Source, target: Machine, domain: Domain, dom0: GuestKernel, outcome: Outcome): void {
  const { kernel } = source
  const report = kernel.resume(target.xen.platform(domain))
  outcome.attempts = report.attempts.map(
    ({ levels, answer }) => `${levels === 'fifo' ? 'FIFO' : `${levels} levels`}: ${answer}`,
  )
  outcome.lost = report.lost.length
  outcome.lostNames = report.lost.map(({ name, reason }) => `${name} (${reason})`)
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
function finish(
  { kernel, guestPorts, ran }: Source,
  dom0: GuestKernel,
  ends: readonly number[],
  signalled: readonly number[],
  outcome: Outcome,
): void {
  const gone = new Set(outcome.mode === 'cooperative' && !outcome.refused ? [] : guestPorts)
  for (const port of gone) if (kernel.nameOf(port) && kernel.isMasked(port)) kernel.unmask(port)
  const all = new Set(signalled)
  for (const i of all) if (ran[i]) outcome.delivered++
  outcome.missing = all.size - outcome.delivered
  if (outcome.mode === 'transparent' && outcome.missing)
    throw new CheckError(
      `evtchn migrate: ${outcome.missing} events were lost by a transparent move to the ${outcome.to}`,
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
      `evtchn migrate: ${sent} channels were signalled afterwards, and ${arrived} of ${outcome.connected} delivered`,
    )
}

/** The limits of the target, from the options. */
function readTarget(values: Values): Pick<Workload, 'host' | 'domain'> {
  const given = (name: string, min: number, max: number) =>
    values[name] === undefined ? undefined : whole('migrate', values, name, min, max)
  const maxLevels = given('target-levels', 2, 5)
  const maxLeafPages = given('target-pages', 0, 1024)
  const maxFrames = given('target-frames', 0, 2 ** 30)
  const maxEvtchnPort = given('target-max-port', 0, 2 ** 31 - 1)
  return {
    host: {
      nlevel: values.older !== true,
      fifo: values['no-fifo'] !== true,
      ...(maxLevels !== undefined && { maxLevels }),
      ...(maxLeafPages !== undefined && { maxLeafPages }),
      ...(maxFrames !== undefined && { maxFrames: maxFrames + DOM0_FRAMES }),
    },
    domain: {
      nlevelAllowed: values['not-allowed'] !== true,
      ...(maxEvtchnPort !== undefined && { maxEvtchnPort }),
    },
  }
}

/** The subcommand. */
export const migrate = {
  summary: 'move a guest in both modes and tell what each saved, lost, re-bound and refused',
  run(argv: string[]): number {
    const values = parse('migrate', SPECS, argv)
    if (values.help) {
      process.stdout.write(helpText('migrate', ABOUT, SPECS))
      return 0
    }
    const bits = Number(choice('migrate', values, 'bits', ['32', '64'])) as Bits
    const abi =
      values.abi === undefined
        ? choice('migrate', values, 'levels', ['2', '3', '4'])
        : choice('migrate', values, 'abi', ABIS)
    const most = Math.min(mostChannels(abi, bits), fullTree(64, 3) - 1)
    const given = values.channels === SPECS.channels!.default ? String(Math.min(20_000, most)) : values.channels
    const channels = whole('migrate', { channels: given }, 'channels', 1, most)
    const work: Workload = {
      channels,
      abi,
      bits,
      frames: whole('migrate', values, 'frames', 16, 2 ** 18),
      pending: whole('migrate', { ...values, pending: cap(values.pending, channels, '1000') }, 'pending', 0, channels),
      raised: whole('migrate', { ...values, raised: cap(values.raised, channels, '500') }, 'raised', 0, channels),
      seed: whole('migrate', values, 'seed', 0, 2 ** 32 - 1),
      ...readTarget(values),
    }
    const screen = new Screen(values.json === true)
    const outcomes = (
      [
        ['cooperative', 'target'],
        ['transparent', 'target'],
        ['transparent', 'same host'],
      ] as const
    ).map(([mode, to]) => {
      screen.progress(`moving ${count(channels)} channels, ${mode}, to the ${to}`)
      return move(work, mode, to)
    })
    print(screen, work, outcomes)
    if (values.json) process.stdout.write(`${JSON.stringify({ workload: work, outcomes }, null, 2)}\n`)
    return 0
  },
}

/** A default that is more than there are channels means all of them; what was given is taken at its word. */
const cap = (given: Values[string], channels: number, preset: string) =>
  given === preset ? String(Math.min(channels, Number(preset))) : given

function print(screen: Screen, { channels, abi, bits, frames }: Workload, outcomes: readonly Outcome[]): void {
  screen.line(
    `${count(channels)} channels, ${abiName(abi)}, ${bits} bits, ${bytes(frames * 4096)} of RAM, ` +
      `${count(outcomes[0]!.pending)} channels pending, ${count(outcomes[0]!.raised)} signalled while frozen`,
  )
  const name = (each: Outcome) => `${each.mode}, ${each.to}`
  screen.heading('What was saved, and how long it took')
  screen.block(
    table(
      ['mode', 'state', 'RAM frames', 'save', 'restore', 'resume'],
      outcomes.map((each) => [
        name(each),
        bytes(each.stateBytes),
        count(each.ramFrames),
        duration(each.saveNs),
        duration(each.restoreNs),
        each.refused ? '–' : duration(each.resumeNs),
      ]),
    ),
  )
  screen.heading('What became of the channels and the events')
  screen.block(
    table(
      ['mode', 'result', 'levels', 'connected', 'lost', 'events', 'arrived', 'missing', 're-scanned'],
      outcomes.map((each) => [
        name(each),
        each.refused ? 'refused' : 'moved',
        each.levels === 'fifo' ? 'FIFO' : String(each.levels),
        count(each.connected),
        count(each.lost),
        count(each.delivered + each.missing),
        count(each.delivered),
        count(each.missing),
        each.mode === 'cooperative' && !each.refused ? count(each.rescanned) : '–',
      ]),
    ),
  )
  screen.line()
  for (const each of outcomes) {
    if (each.refused) screen.line(`${name(each)}: ${each.refused}; the source runs on with everything it had`)
    if (each.attempts.length) screen.line(`${name(each)}: the guest asked for ${each.attempts.join('; ')}`)
    if (each.lost) screen.line(`${name(each)}: lost ${each.lostNames[0]} … ${each.lostNames.at(-1)}`)
  }
}
