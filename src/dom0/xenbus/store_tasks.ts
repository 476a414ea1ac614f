/**
 * The store's requests as kernel functions: what xs_read, xs_write and the others are to a kernel thread, and libxenstore
 * to a process. How a request travels is the subclass's: over a ring, or over a socket.
 */

import { asks, fromLatin1, XS } from '../../xenstore/parts.js'
import type { Task } from '../kernel/index.js'

/** Number of a transaction; 0 = none. */
export type TransactionId = number

/** A way to the store for code that runs in threads. */
export abstract class StoreTasks {
  /**
   * One request and its reply, both as text of one character per byte.
   * @throws XenStoreError with the daemon's answer.
   */
  abstract request(type: number, body: string, tx?: TransactionId): Task<Uint8Array>

  *#ask(ask: asks.Ask, tx: TransactionId = 0): Task<Uint8Array> {
    return yield* this.request(ask.type, asks.textOf(ask), tx)
  }

  /** Carries out a request that takes several messages. */
  *#talk<T>(talk: asks.Talk<T>, tx: TransactionId): Task<T> {
    let step = talk.next()
    while (!step.done) {
      let body: Uint8Array
      try {
        body = yield* this.#ask(step.value, tx)
      } catch (error) {
        step = talk.throw(error)
        continue
      }
      step = talk.next(body)
    }
    return step.value
  }

  /** Value of a node. @throws XenStoreError */
  *read(path: string, tx: TransactionId = 0): Task<string> {
    return fromLatin1(yield* this.#ask(asks.read(path), tx))
  }

  /** Value of a node, or undefined if there is none. */
  *readIfExists(path: string, tx: TransactionId = 0): Task<string | undefined> {
    try {
      return yield* this.read(path, tx)
    } catch (error) {
      if (asks.isRefusal(error, 'ENOENT')) return undefined
      throw error
    }
  }

  /** Is there such a node? */
  *exists(path: string, tx: TransactionId = 0): Task<boolean> {
    return (yield* this.readIfExists(path, tx)) !== undefined
  }

  *write(path: string, value: string | number, tx: TransactionId = 0): Task {
    yield* this.#ask(asks.write(path, String(value)), tx)
  }

  *mkdir(path: string, tx: TransactionId = 0): Task {
    yield* this.#ask(asks.mkdir(path), tx)
  }

  *rm(path: string, tx: TransactionId = 0): Task {
    yield* this.#ask(asks.rm(path), tx)
  }

  *setPermissions(path: string, perms: readonly string[], tx: TransactionId = 0): Task {
    yield* this.#ask(asks.setPermissions(path, perms), tx)
  }

  /** Names of a node's children; a list of more than 4096 bytes part by part (XW-talk-3). */
  directory(path: string, tx: TransactionId = 0): Task<string[]> {
    return this.#talk(asks.children(path), tx)
  }

  /** Names of a node's children; none if there is no such node. */
  *directoryIfExists(path: string, tx: TransactionId = 0): Task<string[]> {
    try {
      return yield* this.directory(path, tx)
    } catch (error) {
      if (asks.isRefusal(error, 'ENOENT')) return []
      throw error
    }
  }

  /** Sets a watch on the connection itself; events go where the subclass takes them. */
  *watchPath(path: string, token: string): Task {
    yield* this.#ask(asks.watch(path, token))
  }

  *unwatchPath(path: string, token: string): Task {
    yield* this.#ask(asks.unwatch(path, token))
  }

  /** INTRODUCE: connects a domain by its ring. */
  *introduce(domid: number, gfn: number, port: number): Task {
    yield* this.#ask(asks.numbers(XS.INTRODUCE, domid, gfn, port))
  }

  *startTransaction(): Task<TransactionId> {
    return Number.parseInt(fromLatin1(yield* this.#ask(asks.startTransaction())), 10)
  }

  /** Commits or discards. False: EAGAIN, nothing was done. */
  *endTransaction(tx: TransactionId, commit: boolean): Task<boolean> {
    try {
      yield* this.#ask(asks.endTransaction(commit ? 'commit' : 'discard'), tx)
      return true
    } catch (error) {
      if (asks.isRefusal(error, 'EAGAIN')) return false
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
      if (!asks.isRefusal(error, 'ENOENT')) throw error
    }
  }
}
