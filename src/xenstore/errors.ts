/** The error names of the protocol: all that a xenstore daemon can say about a failure. */

const NAMES = [
  'EINVAL',
  'EACCES',
  'EEXIST',
  'EISDIR',
  'ENOENT',
  'ENOMEM',
  'ENOSPC',
  'EIO',
  'ENOTEMPTY',
  'ENOSYS',
  'EROFS',
  'EBUSY',
  'EAGAIN',
  'EISCONN',
  'E2BIG',
  'EPERM',
  'EQUOTA',
] as const satisfies readonly XsErrorName[]

/** An error name that may stand in an ERROR reply. EQUOTA is sent by the OCaml daemon only. */
export type XsErrorName =
  | 'EINVAL'
  | 'EACCES'
  | 'EEXIST'
  | 'EISDIR'
  | 'ENOENT'
  | 'ENOMEM'
  | 'ENOSPC'
  | 'EIO'
  | 'ENOTEMPTY'
  | 'ENOSYS'
  | 'EROFS'
  | 'EBUSY'
  | 'EAGAIN'
  | 'EISCONN'
  | 'E2BIG'
  | 'EPERM'
  | 'EQUOTA'

/** Why a request is refused. Thrown inside the server, where it becomes the ERROR reply. */
export class Refusal extends Error {
  readonly code: XsErrorName

  constructor(code: XsErrorName) {
    super(code)
    this.name = 'Refusal'
    this.code = code
  }
}

// One object per name: refusals are frequent, and the stack of a new Error would cost more than the request.
const refusals = Object.fromEntries(NAMES.map((code) => [code, new Refusal(code)])) as Record<XsErrorName, Refusal>

/** Refuses the request at hand. */
export function refuse(code: XsErrorName): never {
  throw refusals[code]
}

/** The name in an ERROR reply; one that nobody knows counts as EINVAL, as for every client. */
export function errorName(text: string): XsErrorName {
  return Object.hasOwn(refusals, text) ? (text as XsErrorName) : 'EINVAL'
}

/** A request that the daemon refused, or that could not be made. `message`: operation, path, error name. */
export class XenStoreError extends Error {
  /** The protocol's error name. */
  readonly code: XsErrorName
  /** The operation, such as `READ`. */
  readonly op: string

  constructor(op: string, about: string, code: XsErrorName) {
    super(`${op}${about ? ` ${about}` : ''}: ${code}`)
    this.name = 'XenStoreError'
    this.code = code
    this.op = op
  }
}
