/**
 * Domains created and destroyed as libxl does it: what it writes to the store, in its order, how long it waits, and what
 * it says when that failed (XW-tool-1 to XW-tool-11). Each operation is a function for a process, `xl`.
 */

import { anything, integer, listOf, object, text } from '../../check.js'
import { XenStoreError } from '../../xenstore/index.js'
import type { Task } from '../kernel/index.js'
import { checkConfig } from './check_config.js'
import { type DeviceKind, type DeviceSpec, type DomainConfig, diskSpec, nicSpec, pvcallsSpec } from './config.js'
import { ToolstackContext, type ToolstackOptions } from './context.js'
import { DevicePaths } from './device.js'
import { addDevices, listDevices, removeDevices } from './devices.js'
import { buildDomain, makeDomain } from './domain_nodes.js'
import type { LibxlError } from './messages.js'
import type { XsHandle } from './xs.js'

/** How an operation ended. */
export interface Outcome {
  readonly domid: number
  readonly ok: boolean
  /** How long it took, in ns. */
  readonly ns: number
  readonly errors: readonly LibxlError[]
}

/** A toolstack. */
export class Toolstack {
  readonly #context: ToolstackContext

  /** @throws ParameterError for an option that is unknown or of the wrong type. */
  constructor(options: ToolstackOptions) {
    this.#context = new ToolstackContext(options)
  }

  /** Its handle to the store. */
  get xs(): XsHandle {
    return this.#context.xs
  }

  /** All errors so far, in order. */
  get errors(): readonly LibxlError[] {
    return this.#context.errors
  }

  *#operation(domid: number, body: (errors: LibxlError[]) => Task<boolean>): Task<Outcome> {
    const from = this.#context.nowNs
    const errors: LibxlError[] = []
    const ok = yield* body(errors)
    return { domid, ok, ns: this.#context.nowNs - from, errors }
  }

  // --- domains -------------------------------------------------------------------------------------------------------

  /**
   * `xl create`. A domain that cannot be created is destroyed again, twice over, as xl does.
   * @throws ParameterError at once for a configuration that makes no sense.
   */
  create(config: DomainConfig): Task<Outcome> {
    return this.#createChecked(checkConfig('Toolstack.create', config))
  }

  *#createChecked(config: DomainConfig): Task<Outcome> {
    const domid = this.#context.control.create()
    return yield* this.#operation(domid, (errors) =>
      this.#whileItIsThere(domid, errors, this.#create(domid, config, errors)),
    )
  }

  /**
   * Carries out an operation on a domain that somebody else may destroy meanwhile: the store's refusals, of a domain that is
   * gone, are one error. Others are the caller's.
   */
  *#whileItIsThere(domid: number, errors: LibxlError[], task: Task<boolean>): Task<boolean> {
    const { control } = this.#context
    try {
      return yield* task
    } catch (error) {
      const info = control.info(domid)
      if (!(error instanceof XenStoreError) || (info && !info.dying)) throw error
      this.#context.error(errors, 'initiate_domain_create', domid, `destroyed by somebody else: ${error.message}`)
      return false
    }
  }

  *#create(domid: number, config: DomainConfig, errors: LibxlError[]): Task<boolean> {
    const context = this.#context
    yield* makeDomain(context, domid, config)
    yield* buildDomain(context, domid, config)
    if (yield* this.#attachAll(domid, config, errors)) {
      context.control.unpause(domid)
      return true
    }
    yield* this.#destroy(domid, errors)
    // xl itself destroys what libxl could not create (XW-tool-11).
    yield* this.#destroyByXl(domid, errors)
    return false
  }

  /** Disks together, then the other kinds one after the other (XW-tool-4). */
  *#attachAll(domid: number, { disks = [], nics = [], pvcalls }: DomainConfig, errors: LibxlError[]): Task<boolean> {
    const context = this.#context
    const diskSpecs = disks.map((disk) => diskSpec(domid, disk))
    if (!(yield* addDevices(context, domid, diskSpecs, errors))) {
      context.error(errors, 'domcreate_launch_dm', domid, 'unable to add disk devices')
      return false
    }
    const nicSpecs = nics.map((nic, i) => nicSpec(domid, i, nic))
    if (!(yield* addDevices(context, domid, nicSpecs, errors))) {
      context.error(errors, 'domcreate_attach_devices', domid, 'unable to add nic devices')
      return false
    }
    const added = yield* addDevices(context, domid, pvcalls ? [pvcallsSpec(domid)] : [], errors)
    if (!added) context.error(errors, 'domcreate_attach_devices', domid, 'unable to add pvcalls devices')
    return added
  }

  /** `xl destroy`. @throws ParameterError at once */
  destroy(domid: number): Task<Outcome> {
    aDomain('Toolstack.destroy', domid)
    return this.#operation(domid, (errors) => this.#destroyByXl(domid, errors))
  }

  /** True if nothing was left in the way. A domain that the toolstack has given up already does not exist for it. */
  *#destroyByXl(domid: number, errors: LibxlError[]): Task<boolean> {
    const context = this.#context
    const info = context.control.info(domid)
    if (info && !info.dying) return yield* this.#destroy(domid, errors)
    context.error(errors, 'libxl__destroy_domid', domid, 'Non-existant domain')
    context.error(errors, 'domain_destroy_callback', domid, 'Unable to destroy guest')
    context.error(errors, 'domain_destroy_cb', domid, 'Destruction of domain failed')
    return false
  }

  /** XW-tool-8 to XW-tool-10. */
  *#destroy(domid: number, errors: LibxlError[]): Task<boolean> {
    const context = this.#context
    const { xs, control } = context
    control.pause(domid)
    const removed = yield* removeDevices(context, domid, yield* listDevices(context, domid), true, errors)
    if (!removed) context.error(errors, 'devices_destroy_cb', domid, 'libxl__devices_destroy failed')
    const vm = yield* xs.readIfExists(`/local/domain/${domid}/vm`)
    if (vm) yield* xs.rmIfExists(vm)
    yield* xs.rmIfExists(`/local/domain/${domid}`)
    yield* xs.rmIfExists(`/libxl/${domid}`)
    // The last operation on the store (XW-rfc-3).
    if (context.mtwatch) yield* xs.transaction((tx) => xs.pathCleanup(`/local/domain/0/mtwatch/${domid}`, tx))
    control.destroy(domid)
    return removed
  }

  // --- devices of a domain that runs ---------------------------------------------------------------------------------

  /** `xl block-attach` and `xl network-attach`. @throws ParameterError at once */
  attach(domid: number, spec: DeviceSpec): Task<Outcome> {
    aDomain('Toolstack.attach', domid)
    aSpec('Toolstack.attach', spec)
    return this.#operation(domid, (errors) =>
      this.#whileItIsThere(domid, errors, addDevices(this.#context, domid, [spec], errors)),
    )
  }

  /** `xl block-detach` and `xl network-detach`: asks first, then takes. */
  detach(domid: number, kind: DeviceKind, devid: number): Task<Outcome> {
    aDomain('Toolstack.detach', domid)
    text('Toolstack.detach', 'kind', kind)
    integer('Toolstack.detach', 'devid', devid, 0, 2 ** 31 - 1)
    const paths = [new DevicePaths(domid, kind, devid)]
    return this.#operation(domid, (errors) => removeDevices(this.#context, domid, paths, false, errors))
  }

  // --- list ----------------------------------------------------------------------------------------------------------

  /**
   * `xl list`: the hypervisor's domains, with the names that the store has. The state: running, blocked, paused, shut
   * down, crashed, dying.
   */
  *list(): Task<string[]> {
    const lines = [row('Name', 'ID', 'Mem', 'VCPUs', 'State')]
    for (const info of this.#context.control.list()) {
      const { domid, memoryMiB, vcpus, running, blocked, paused, shutdown, dying } = info
      const name = (yield* this.xs.readIfExists(`/local/domain/${domid}/name`)) ?? '(null)'
      const flags = [running && 'r', blocked && 'b', paused && 'p', shutdown && 's', false, dying && 'd']
      const state = flags.map((flag) => flag || '-').join('')
      lines.push(row(name, String(domid), String(memoryMiB), String(vcpus), state))
    }
    return lines
  }
}

const row = (name: string, id: string, memory: string, vcpus: string, state: string): string =>
  `${name.padEnd(40)} ${id.padStart(5)} ${memory.padStart(5)} ${vcpus.padStart(5)}     ${state}`

const aDomain = (call: string, domid: unknown) => integer(call, 'domid', domid, 1, 0x7fef)

function aSpec(call: string, spec: DeviceSpec): void {
  const { kind, devid, back, front } = object(call, 'spec', spec, 'a DeviceSpec, such as diskSpec returns')
  text(call, 'spec.kind', kind)
  integer(call, 'spec.devid', devid, 0, 2 ** 31 - 1)
  for (const [name, entries] of Object.entries({ back, front }))
    listOf(anything, 'entries')(call, `spec.${name}`, entries)
}
