/**
 * Xen's error numbers (xen/include/public/errno.h), those that devices add (EBADF, ENODEV, ENOTTY, EFBIG, ENOTCONN),
 * refusals, which operations return, and the errors that typed calls throw.
 */

export const Errno = Object.freeze({
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EIO: 5,
  ENXIO: 6,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ENOTTY: 25,
  EFBIG: 27,
  ENOSPC: 28,
  ENOSYS: 38,
  ENODATA: 61,
  ERESTART: 85,
  EOPNOTSUPP: 95,
  ENOTCONN: 107,
} as const)

/** Name of an error number, such as `EINVAL`. */
export type ErrnoName = keyof typeof Errno

const names = new Map<number, ErrnoName>(Object.entries(Errno).map(([name, value]) => [value, name as ErrnoName]))

/** Name of an error number; `errno N` for one that Xen does not use here. Takes either sign. */
export function errnoName(errno: number): string {
  return names.get(Math.abs(errno)) ?? `errno ${Math.abs(errno)}`
}

/**
 * Why an operation is refused: an error number and what was found. Nothing has changed then. It is a value: operations
 * return it, the edge of the ABI makes -errno of it, and a typed call throws it as a XenError.
 *
 * The text is built when somebody reads it, which may be after upcalls have run: a function that makes it captures
 * numbers, never an object whose state may be another by then.
 */
export class Refusal {
  /** Positive error number. */
  readonly errno: number
  readonly #text: string | (() => string)

  constructor(errno: number, text: string | (() => string)) {
    this.errno = errno
    this.#text = text
  }

  /** What was found. */
  get text(): string {
    return typeof this.#text === 'string' ? this.#text : this.#text()
  }
}

/** Takes the reason why one hypercall was refused. */
export type OnRefusal = (refusal: Refusal) => void

/** What an operation returns: 0 when it is done. */
export type Outcome = 0 | Refusal

/** Refuses: see `Refusal`. */
export const refuse = (errno: number, text: string | (() => string)): Refusal => new Refusal(errno, text)

/** The same as the register that a guest reads: the result, or -errno. */
export const toRegister = (result: number | Refusal): number => (typeof result === 'number' ? result : -result.errno)

/** An operation that Xen refused. `message`: operation, what was found, errno. */
export class XenError extends Error {
  /** Positive error number. */
  readonly errno: number
  /** Its name, such as `EINVAL`. */
  readonly code: string
  /** The operation, such as `EVTCHNOP_send`. */
  readonly op: string
  /** What was found. */
  readonly found: string

  constructor(op: string, errno: number, found: string) {
    const code = errnoName(errno)
    super(`${op}: ${found || 'refused'} (${code})`)
    this.name = 'XenError'
    this.errno = Math.abs(errno)
    this.code = code
    this.op = op
    this.found = found
  }

  /** The error for a refusal of `op`. */
  static of(op: string, refusal: Refusal): XenError {
    return new XenError(op, refusal.errno, refusal.text)
  }
}
