/** What a device of hostd is: what a connection hands it, one call for each thing that a program does with its fd. */

import { Errno, XenError } from '../../errno.js'
import type { Hosting } from './hosting.js'
import type { NativeDomain } from './native_domain.js'

/** An answer: a result, or a payload, or both. */
export type Answer = number | Uint8Array | { readonly rc: number; readonly payload: Uint8Array }

/** What a device works with. */
export interface DeviceContext {
  readonly host: Hosting
  /** The domain that the program runs in. */
  readonly domain: NativeDomain
  /** Sends bytes that the program's read() gets. */
  readonly send: (bytes: Uint8Array) => void
}

/** One open device. A method that is missing is ENOTTY, or nothing to do. Refusals are thrown as XenError. */
export interface Device {
  /** An ioctl by number, with its argument's bytes, of process `pid`. */
  ioctl?(nr: number, argument: Buffer, pid: number): Answer
  /** Frames of the machine for `pages` pages from byte `offset` of the device on, which are mapped at `address`. */
  mmap?(offset: number, pages: number, address: bigint): readonly number[]
  munmap?(address: bigint): void
  /** write(): a port to unmask. */
  port?(port: number): void
  /** write(): a message for the store. */
  message?(message: Buffer): void
  /** A small file's text. */
  file?(path: string): string
  /** The program has closed it, or is gone. */
  close?(): void
}

/** Refuses a call, as errno and as text for the trace. */
export function fail(op: string, errno: number, found: string): never {
  throw new XenError(op, errno, found)
}

/** Refuses an ioctl that the device does not know. */
export const noIoctl = (device: string, nr: number, errno: number = Errno.ENOTTY): never =>
  fail(device, errno, `ioctl ${nr} does not exist`)

/** Frames as the bytes of an mmap's answer. */
export function frameList(frames: readonly number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(frames).buffer)
}
