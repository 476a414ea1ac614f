/** A watch of the kernel and its events (XW-base-4; the two members of the RFC: XW-rfc-1). */

import { options as checkOptions, func, type Table, text } from '../../check.js'
import type { Task } from '../kernel/index.js'

/** Runs for an event, in the thread that the design chose. It may sleep, and (un)register any watch. */
export type WatchCallback = (watch: XenbusWatch, path: string, token: string) => Task

/** What a subscriber says of its watch. */
export interface XenbusWatchOptions {
  /** The path as it is registered. */
  readonly node: string
  readonly callback: WatchCallback
  /** Is the event wanted at all? Asked in the thread `xenbus`: it must not sleep (XW-base-11). */
  readonly willHandle?: (watch: XenbusWatch, path: string, token: string) => boolean
  /** The domain that an event is about; 0 = none. It must not sleep or use the store (XW-ds-5). */
  readonly getDomid?: (watch: XenbusWatch, path: string, token: string) => number
  /** The domain that the watch belongs to as a whole; 0 = none. */
  readonly getOwner?: (watch: XenbusWatch) => number
}

/** The thread that a subscriber asks for when it registers (XW-ds-3); only the design of the session looks at it. */
export type ThreadChoice = 'default' | 'domain'

const TABLE: Table<XenbusWatchOptions> = {
  node: text,
  callback: func,
  willHandle: func,
  getDomid: func,
  getOwner: func,
}

/** What xenbus keeps of a watch, and nobody else. */
export interface WatchRecord {
  nrPending: number
  token: string
  choice: ThreadChoice
}

/** The record behind a watch. */
export let watchRecord: (watch: XenbusWatch) => WatchRecord

/** A watch. */
export class XenbusWatch {
  readonly node: string
  readonly callback: WatchCallback
  readonly willHandle: XenbusWatchOptions['willHandle']
  readonly getDomid: XenbusWatchOptions['getDomid']
  readonly getOwner: XenbusWatchOptions['getOwner']
  readonly #record: WatchRecord = { nrPending: 0, token: '', choice: 'default' }

  static {
    watchRecord = (watch) => watch.#record
  }

  /** @throws ParameterError for an option that is unknown or of the wrong type. */
  constructor(options: XenbusWatchOptions) {
    checkOptions('XenbusWatch', options, TABLE)
    this.node = options.node
    this.callback = options.callback
    this.willHandle = options.willHandle
    this.getDomid = options.getDomid
    this.getOwner = options.getOwner
  }

  /** Events that are queued on any list (XW-thr-5). */
  get nrPending(): number {
    return this.#record.nrPending
  }

  /** Set by registration; empty before. */
  get token(): string {
    return this.#record.token
  }

  /** The thread that was asked for at registration. */
  get choice(): ThreadChoice {
    return this.#record.choice
  }
}

/** An event that has arrived. */
export interface XsWatchEvent {
  readonly watch: XenbusWatch
  readonly path: string
  readonly token: string
  /** Number in order of arrival. */
  readonly seq: number
}

/** A domid as a path has it: decimal, of a guest; anything else is 0 (XW-domid-7). */
export function parseDomid(text: string | undefined): number {
  return text !== undefined && /^[1-9][0-9]{0,4}$/.test(text) && Number(text) < 0x7ff0 ? Number(text) : 0
}
