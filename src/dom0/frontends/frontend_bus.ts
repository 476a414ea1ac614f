/**
 * A guest's bus of frontends, small: finds the devices below `device`, follows the backend's state, and lets a driver act.
 * It uses the guest's own xenbus, with its threads `xenbus` and `xenwatch`, over the guest's own ring.
 */

import type { Kernel, Task } from '../kernel/index.js'
import { isAnswer, parseState, type Xenbus, XenbusState, XenbusWatch } from '../xenbus/index.js'

/** A page that a guest lends. */
export interface GrantedPage {
  readonly gref: number
  /** Its 4096 bytes as they are now. */
  readonly bytes: () => Uint8Array
}

/** What a frontend stands on: its kernel's event channels and pages. */
export interface GuestHost {
  readonly domid: number
  readonly kernel: Kernel
  readonly xenbus: Xenbus
  allocUnbound(remoteDomid: number, name: string, handler: () => void): number
  close(port: number): void
  send(port: number): void
  /** Grants a fresh page to dom0: its reference and its bytes. */
  grantPage(): GrantedPage
  /** Grants fresh pages, neighbours if there are such. @throws Error if there are not so many. */
  grantPages(count: number): GrantedPage[]
  /** Takes pages back that the backend has unmapped. */
  endGrants(pages: readonly GrantedPage[]): void
}

/** A frontend. */
export interface Frontend {
  /** Relative: `device/vif/0`. */
  readonly nodename: string
  /** Relative to the host; absolute. */
  readonly backend: string
  /** Own state, as last written. */
  readonly state: number
  /** The backend's state is now this. */
  backendChanged(state: number): Task
}

/** Makes a frontend of a type. */
export type FrontendDriver = (bus: FrontendBus, nodename: string, backend: string) => Frontend

/** The bus. */
export class FrontendBus {
  readonly host: GuestHost
  readonly #drivers: Readonly<Record<string, FrontendDriver>>
  readonly #states = new WeakMap<Frontend, number>()
  readonly #devices = new Map<string, { frontend: Frontend; watch: XenbusWatch }>()

  constructor(host: GuestHost, drivers: Readonly<Record<string, FrontendDriver>>) {
    this.host = host
    this.#drivers = drivers
  }

  /** Frontends by node. */
  get frontends(): readonly Frontend[] {
    return [...this.#devices.values()].map(({ frontend }) => frontend)
  }

  /** Begins to look for devices. */
  *start(): Task {
    const watch = new XenbusWatch({
      node: 'device',
      willHandle: (each) => each.nrPending === 0,
      callback: () => this.#scan(),
    })
    yield* this.host.xenbus.register(watch)
  }

  *#list(path: string): Task<string[]> {
    try {
      return yield* this.host.xenbus.directory(path)
    } catch (error) {
      if (isAnswer(error, 'ENOENT') || isAnswer(error, 'EACCES')) return []
      throw error
    }
  }

  *#scan(): Task {
    const present = new Set<string>()
    for (const type of yield* this.#list('device'))
      if (Object.hasOwn(this.#drivers, type))
        for (const id of yield* this.#list(`device/${type}`)) {
          const nodename = `device/${type}/${id}`
          present.add(nodename)
          if (!this.#devices.has(nodename)) yield* this.#found(type, nodename)
        }
    for (const [nodename, { watch }] of this.#devices) {
      if (present.has(nodename)) continue
      this.#devices.delete(nodename)
      yield* this.host.xenbus.unregister(watch)
    }
  }

  *#found(type: string, nodename: string): Task {
    const backend = yield* this.host.xenbus.readIfExists(`${nodename}/backend`)
    if (!backend) return
    const frontend = this.#drivers[type]!(this, nodename, backend)
    const watch = new XenbusWatch({
      node: `${backend}/state`,
      willHandle: (each) => each.nrPending === 0,
      callback: () => this.#backendChanged(frontend),
    })
    this.#devices.set(nodename, { frontend, watch })
    yield* this.host.xenbus.register(watch)
  }

  *#backendChanged(frontend: Frontend): Task {
    let value: string | undefined
    try {
      value = yield* this.host.xenbus.readIfExists(`${frontend.backend}/state`)
    } catch (error) {
      if (!isAnswer(error, 'EACCES')) throw error
    }
    yield* frontend.backendChanged(parseState(value))
  }

  /** The state of a frontend, as last written; at first Initialising. */
  stateOf(frontend: Frontend): number {
    return this.#states.get(frontend) ?? XenbusState.Initialising
  }

  /** Writes a frontend's state. */
  *switchState(frontend: Frontend, state: number): Task {
    if (frontend.state === state) return
    this.#states.set(frontend, state)
    yield* this.host.xenbus.write(`${frontend.nodename}/state`, state)
  }

  /** Unloads a driver: Closing, and Closed as soon as the backend follows (XW-trace-4). */
  *close(frontend: Frontend): Task {
    yield* this.switchState(frontend, XenbusState.Closing)
  }
}
