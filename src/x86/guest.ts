/** A guest that runs in an emulator: its domain, its consoles, and how it ends. */

import type { ConsoleRing } from '../dom0/io/index.js'
import type { Domain } from '../domain/handles.js'
import type { V86Emulator } from './emulator.js'
import type { Machine } from './machine.js'

/** What becomes of a guest's words and of its end. */
interface GuestEvents {
  readonly onShutdown: ((reason: number) => void) | undefined
  readonly onConsoleIo: ((text: string) => void) | undefined
  readonly onError: (error: unknown, where: string) => void
}

/** One guest. Made by `V86Host.boot`. */
export class V86Guest {
  readonly domain: Domain
  /** The guest's Xen console (hvc0 in Linux). */
  readonly console: ConsoleRing
  /** @internal */
  readonly machine: Machine
  readonly #events: GuestEvents

  /** @internal */
  constructor(domain: Domain, machine: Machine, console: ConsoleRing, events: GuestEvents) {
    this.domain = domain
    this.machine = machine
    this.console = console
    this.#events = events
  }

  /** The emulator, for its serial line, screen and devices. */
  get emulator(): V86Emulator {
    return this.machine.emulator
  }

  #call(where: string, body: () => void): void {
    try {
      body()
    } catch (error) {
      this.#events.onError(error, where)
    }
  }

  /** @internal The domain was shut down: its processor must not go on. */
  stopped(reason: number): void {
    void this.emulator.stop()
    this.#call('onShutdown', () => this.#events.onShutdown?.(reason))
  }

  /** @internal */
  wrote(text: string): void {
    this.#call('onConsoleIo', () => this.#events.onConsoleIo?.(text))
  }
}
