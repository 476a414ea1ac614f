/**
 * PV Calls, version "1", as data: commands, the layout of requests and responses, addresses, error numbers
 * (PV-41 to PV-45). Names are those of xen/include/public/io/pvcalls.h.
 *
 *     request, 64 bytes    0 req_id   4 cmd   8 … 63 arguments, see REQUEST
 *     response, 24 bytes   0 req_id   4 cmd   8 ret   12 pad   16 id
 */

import { integer, known, ParameterError, text } from '../../check.js'

/** Commands (PV-41). */
export const PVCALLS = { SOCKET: 0, CONNECT: 1, RELEASE: 2, BIND: 3, LISTEN: 4, ACCEPT: 5, POLL: 6 } as const

/** Version that both ends write into the store. */
export const PVCALLS_VERSION = '1'
/** Greatest order of a data ring: 512 references are what an index page has room for (PV-51). */
export const MAX_RING_ORDER = 9

/**
 * Error numbers of the protocol (PV-45): Linux', whatever the host's are. The table of the document has no ECONNREFUSED
 * and no ECONNRESET, which a backend on Linux sends all the same; so do we.
 */
export const PVCALLS_ERRNO = {
  EPERM: -1,
  EINTR: -4,
  EBADF: -9,
  EAGAIN: -11,
  ENOMEM: -12,
  EACCES: -13,
  EFAULT: -14,
  EEXIST: -17,
  EINVAL: -22,
  ENFILE: -23,
  EPIPE: -32,
  EAFNOSUPPORT: -97,
  EADDRINUSE: -98,
  EADDRNOTAVAIL: -99,
  ENETUNREACH: -101,
  ECONNRESET: -104,
  ENOBUFS: -105,
  EISCONN: -106,
  ENOTCONN: -107,
  ETIMEDOUT: -110,
  ECONNREFUSED: -111,
  EHOSTUNREACH: -113,
  ENOTSUP: -524,
} as const
/** Name of an error. */
export type PvcallsErrnoName = keyof typeof PVCALLS_ERRNO

const ERROR_NAMES = new Map<number, string>(Object.entries(PVCALLS_ERRNO).map(([name, value]) => [value, name]))

/** Name of a negative error number, for people. */
export function pvcallsErrnoName(ret: number): string {
  return ERROR_NAMES.get(ret) ?? `error ${ret}`
}

/** Families, types and protocols of sockets that exist (PV-43). */
export const AF_INET = 2
export const SOCK_STREAM = 1
export const IPPROTO_IP = 0

// --- requests and responses --------------------------------------------------------------------------------------------

/** Bytes of a slot of the command ring: a request; a response is shorter. */
export const SLOT_BYTES = 64
/** Bytes of a response. */
export const RESPONSE_BYTES = 24
/** Bytes of an address. */
const ADDRESS_BYTES = 28

/** A request; members that its command does not have are 0. */
export interface PvcallsRequest {
  req_id: number
  /** A number of `PVCALLS`, or any other from a guest that knows none. */
  cmd: number
  id: bigint
  domain: number
  type: number
  protocol: number
  addr: Uint8Array
  len: number
  flags: number
  ref: number
  evtchn: number
  reuse: number
  backlog: number
  id_new: bigint
}

/** What may be left out of a request that is made: 0 then. */
export type PvcallsFields = Partial<Omit<PvcallsRequest, 'req_id' | 'cmd'>>

type Member = keyof PvcallsFields
/** Arguments of each command: member and offset from the start of the request (PV-42). */
const REQUEST: Readonly<Record<number, readonly (readonly [Member, number])[]>> = {
  [PVCALLS.SOCKET]: [
    ['id', 8],
    ['domain', 16],
    ['type', 20],
    ['protocol', 24],
  ],
  [PVCALLS.CONNECT]: [
    ['id', 8],
    ['addr', 16],
    ['len', 44],
    ['flags', 48],
    ['ref', 52],
    ['evtchn', 56],
  ],
  [PVCALLS.RELEASE]: [
    ['id', 8],
    ['reuse', 16],
  ],
  [PVCALLS.BIND]: [
    ['id', 8],
    ['addr', 16],
    ['len', 44],
  ],
  [PVCALLS.LISTEN]: [
    ['id', 8],
    ['backlog', 16],
  ],
  [PVCALLS.ACCEPT]: [
    ['id', 8],
    ['id_new', 16],
    ['ref', 24],
    ['evtchn', 28],
  ],
  [PVCALLS.POLL]: [['id', 8]],
}
/** A command that nobody knows still has its id echoed, where every command has it. */
const UNKNOWN: readonly (readonly [Member, number])[] = [['id', 8]]

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/** Reads a request from the 64 bytes of a slot. Never fails: any bytes are some request. */
export function decodeRequest(bytes: Uint8Array): PvcallsRequest {
  const view = viewOf(bytes)
  const cmd = view.getUint32(4, true)
  const request: PvcallsRequest = {
    req_id: view.getUint32(0, true),
    cmd,
    id: 0n,
    domain: 0,
    type: 0,
    protocol: 0,
    addr: new Uint8Array(0),
    len: 0,
    flags: 0,
    ref: 0,
    evtchn: 0,
    reuse: 0,
    backlog: 0,
    id_new: 0n,
  }
  for (const [member, at] of REQUEST[cmd] ?? UNKNOWN) {
    if (member === 'addr') request.addr = bytes.slice(at, at + ADDRESS_BYTES)
    else if (member === 'id' || member === 'id_new') request[member] = view.getBigUint64(at, true)
    else if (member === 'reuse') request.reuse = view.getUint8(at)
    else request[member] = view.getUint32(at, true)
  }
  return request
}

/** The 64 bytes of a request. */
export function encodeRequest(reqId: number, cmd: number, fields: PvcallsFields): Uint8Array {
  const bytes = new Uint8Array(SLOT_BYTES)
  const view = viewOf(bytes)
  view.setUint32(0, reqId, true)
  view.setUint32(4, cmd, true)
  for (const [member, at] of REQUEST[cmd] ?? UNKNOWN) {
    if (member === 'addr') bytes.set((fields.addr ?? new Uint8Array(0)).subarray(0, ADDRESS_BYTES), at)
    else if (member === 'id' || member === 'id_new') view.setBigUint64(at, fields[member] ?? 0n, true)
    else if (member === 'reuse') view.setUint8(at, fields.reuse ?? 0)
    else view.setUint32(at, fields[member] ?? 0, true)
  }
  return bytes
}

/** A response. */
export interface PvcallsResponse {
  readonly req_id: number
  readonly cmd: number
  /** 0, or a negative error. */
  readonly ret: number
  readonly id: bigint
}

/** The 24 bytes of a response. */
export function encodeResponse({ req_id, cmd, ret, id }: PvcallsResponse): Uint8Array {
  const bytes = new Uint8Array(RESPONSE_BYTES)
  const view = viewOf(bytes)
  view.setUint32(0, req_id, true)
  view.setUint32(4, cmd, true)
  view.setInt32(8, ret, true)
  view.setBigUint64(16, id, true)
  return bytes
}

/** Reads a response. */
export function decodeResponse(bytes: Uint8Array): PvcallsResponse {
  const view = viewOf(bytes)
  return {
    req_id: view.getUint32(0, true),
    cmd: view.getUint32(4, true),
    ret: view.getInt32(8, true),
    id: view.getBigUint64(16, true),
  }
}

// --- addresses ---------------------------------------------------------------------------------------------------------

/** An address of the family AF_INET. */
export interface InetAddress {
  /** `127.0.0.1`. */
  readonly ip: string
  readonly port: number
}

/** Bytes of an AF_INET address before its padding: family, port, address. */
const INET_BYTES = 8

/** Reads an address; undefined for another family, or a length that cannot be (PV-44: -EINVAL). */
export function decodeAddress(addr: Uint8Array, len: number): InetAddress | undefined {
  if (addr.length < ADDRESS_BYTES || len < INET_BYTES || len > ADDRESS_BYTES) return undefined
  const view = viewOf(addr)
  if (view.getUint16(0, true) !== AF_INET) return undefined
  return { ip: addr.subarray(4, 8).join('.'), port: view.getUint16(2) }
}

/** The 28 bytes of an address. `call` is named if it is none. @throws ParameterError */
export function encodeAddress(address: InetAddress, call = 'encodeAddress'): Uint8Array {
  const { ip, port } = known(call, address, ['ip', 'port'], 'address')
  const parts = /^\d{1,3}(\.\d{1,3}){3}$/.test(text(call, 'address.ip', ip)) ? ip.split('.').map(Number) : []
  if (parts.length !== 4 || parts.some((part) => part > 255))
    throw new ParameterError(call, 'address.ip', ip, 'four numbers from 0 to 255, such as 127.0.0.1')
  integer(call, 'address.port', port, 0, 65535)
  const bytes = new Uint8Array(ADDRESS_BYTES)
  const view = viewOf(bytes)
  view.setUint16(0, AF_INET, true)
  view.setUint16(2, port)
  bytes.set(parts, 4)
  return bytes
}
