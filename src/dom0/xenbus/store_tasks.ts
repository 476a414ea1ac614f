/**
 * The store's requests as kernel functions: what xs_read, xs_write and the others are to a kernel thread, and libxenstore
 * to a process. How a request travels is the subclass's: over a ring, or over a socket.
 */

import { splitStrings, XenStoreError, XS } from '../../xenstore/index.js'
import type { Task } from '../kernel/index.js'

/** Number of a transaction; 0 = none. */
export type TransactionId = number

/** Bytes as text of one character each: paths and numbers are ASCII. */
export function bytesToText(bytes: Uint8Array): string {
  let text = ''
  for (const byte of bytes) text += String.fromCharCode(byte)
  return text
}

/** Strings with their nuls. */
const joined = (...strings: string[]): string => `${strings.join('\0')}\0`

/** A way to the store for code that runs in threads. */
export abstract class StoreTasks {
  /**
   * One request and its reply, both as text of one character per byte.
   * @throws XenStoreError with the daemon's answer.
   */
  abstract request(type: number, body: string, tx?: TransactionId): Task<Uint8Array>

  /** Value of a node. @throws XenStoreError */
  *read(path: string, tx: TransactionId = 0): Task<string> {
    return bytesToText(yield* this.request(XS.READ, joined(path), tx))
  }

  /** Value of a node, or null if there is none. */
  *readIfExists(path: string, tx: TransactionId = 0): Task<string | null> {
    try {
      return yield* this.read(path, tx)
    } catch (error) {
      if (isAnswer(error, 'ENOENT')) return null
      throw error
    }
  }

  /** Is there such a node? */
  *exists(path: string, tx: TransactionId = 0): Task<boolean> {
    return (yield* this.readIfExists(path, tx)) !== null
  }

  *write(path: string, value: string | number, tx: TransactionId = 0): Task {
    yield* this.request(XS.WRITE, `${path}\0${value}`, tx)
  }

  *mkdir(path: string, tx: TransactionId = 0): Task {
    yield* this.request(XS.MKDIR, joined(path), tx)
  }

  *rm(path: string, tx: TransactionId = 0): Task {
    yield* this.request(XS.RM, joined(path), tx)
  }

  *setPermissions(path: string, perms: readonly string[], tx: TransactionId = 0): Task {
    yield* this.request(XS.SET_PERMS, joined(path, ...perms), tx)
  }

  /** Names of a node's children; a list of more than 4096 bytes part by part (XW-talk-3). */
  *directory(path: string, tx: TransactionId = 0): Task<string[]> {
    try {
      return splitStrings(yield* this.request(XS.DIRECTORY, joined(path), tx)) ?? []
    } catch (error) {
      if (!isAnswer(error, 'E2BIG')) throw error
    }
    for (;;) {
      const names = yield* this.#parts(path, tx)
      if (names) return names
    }
  }

  /** Names of a node's children; none if there is no such node. */
  *directoryIfExists(path: string, tx: TransactionId = 0): Task<string[]> {
    try {
      return yield* this.directory(path, tx)
    } catch (error) {
      if (isAnswer(error, 'ENOENT')) return []
      throw error
    }
  }

  /** The list by DIRECTORY_PART; null if it changed meanwhile (XS-wire-12). */
  *#parts(path: string, tx: TransactionId): Task<string[] | null> {
    let generation: string | null = null
    for (let text = ''; ; ) {
      const body = bytesToText(yield* this.request(XS.DIRECTORY_PART, joined(path, String(text.length)), tx))
      const cut = body.indexOf('\0')
      if (generation !== null && generation !== body.slice(0, cut)) return null
      generation = body.slice(0, cut)
      const part = body.slice(cut + 1)
      // One more empty string marks the end of the list.
      const last = part === '\0' || part.endsWith('\0\0')
      text += last ? part.slice(0, -1) : part
      if (last) return text === '' ? [] : text.slice(0, -1).split('\0')
    }
  }

  /** Sets a watch on the connection itself; events go where the subclass takes them. */
  *watchPath(path: string, token: string): Task {
    yield* this.request(XS.WATCH, joined(path, token))
  }

  *unwatchPath(path: string, token: string): Task {
    yield* this.request(XS.UNWATCH, joined(path, token))
  }

  /** INTRODUCE: connects a domain by its ring. */
  *introduce(domid: number, gfn: number, port: number): Task {
    yield* this.request(XS.INTRODUCE, joined(String(domid), String(gfn), String(port)))
  }

  *startTransaction(): Task<TransactionId> {
    return Number.parseInt(bytesToText(yield* this.request(XS.TRANSACTION_START, '\0')), 10)
  }

  /** Commits or discards. False: EAGAIN, nothing was done. */
  *endTransaction(tx: TransactionId, commit: boolean): Task<boolean> {
    try {
      yield* this.request(XS.TRANSACTION_END, commit ? 'T\0' : 'F\0', tx)
      return true
    } catch (error) {
      if (isAnswer(error, 'EAGAIN')) return false
      throw error
    }
  }

  /** Runs `body` in a transaction until it can be committed (EAGAIN repeats). If it fails, nothing is done. */
  *transaction<T>(body: (tx: TransactionId) => Task<T>): Task<T> {
    for (;;) {
      const tx = yield* this.startTransaction()
      let result: T
      try {
        result = yield* body(tx)
      } catch (error) {
        yield* this.endTransaction(tx, false)
        throw error
      }
      if (yield* this.endTransaction(tx, true)) return result
    }
  }

  /** Removes a node and every parent that is left without children, as libxl and xenstore-rm -t do. */
  *pathCleanup(path: string, tx: TransactionId): Task {
    yield* this.rmIfExists(path, tx)
    for (let at = path.lastIndexOf('/'); at > 0; at = path.lastIndexOf('/', at - 1)) {
      const parent = path.slice(0, at)
      const value = yield* this.readIfExists(parent, tx)
      if (value !== '') return
      if ((yield* this.directory(parent, tx)).length) return
      yield* this.rmIfExists(parent, tx)
    }
  }

  /** RM; a node that is not there, nor its parent, is no failure. */
  *rmIfExists(path: string, tx: TransactionId = 0): Task {
    try {
      yield* this.rm(path, tx)
    } catch (error) {
      if (!isAnswer(error, 'ENOENT')) throw error
    }
  }
}

/** Is this the daemon's answer `code`? */
export function isAnswer(error: unknown, code: XenStoreError['code']): boolean {
  return error instanceof XenStoreError && error.code === code
}
