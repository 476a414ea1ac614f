/**
 * The requests of a client, written once for all clients: what each payload holds, and the one request that takes several
 * messages. How a message travels is the client's affair: by promise (client.ts), or by a kernel task over a ring or a
 * socket (dom0/).
 */

import { text } from '../check.js'
import { XenStoreError } from './errors.js'
import { fromLatin1 } from './text.js'
import { joinStrings, splitStrings, typeName, XS } from './wire.js'

/** One request. */
export interface Ask {
  readonly type: number
  /** Strings of the payload, each with its nul behind it. */
  readonly strings: readonly string[]
  /** What follows them without a nul. */
  readonly value?: string | Uint8Array
}

/** A request that takes several messages: it yields asks and gets each reply's payload, or the refusal thrown into it. */
export type Talk<T> = Generator<Ask, T, Uint8Array>

function ask(type: number, ...strings: string[]): Ask {
  for (const [i, each] of strings.entries()) text(typeName(type), i === 0 ? 'path' : `argument ${i + 1}`, each)
  // A nul inside a string would make two strings of it.
  if (strings.some((each) => each.includes('\0'))) throw new XenStoreError(typeName(type), strings[0]!, 'EINVAL')
  return { type, strings }
}

/** What an error names: the path, or the arguments. */
export function aboutOf({ type, strings }: Ask): string {
  return type === XS.CONTROL || type === XS.INTRODUCE || type === XS.SET_TARGET ? strings.join(' ') : strings[0]!
}

export const read = (path: string): Ask => ask(XS.READ, path)
export const write = (path: string, value: string | Uint8Array): Ask => ({ ...ask(XS.WRITE, path), value })
export const mkdir = (path: string): Ask => ask(XS.MKDIR, path)
export const rm = (path: string): Ask => ask(XS.RM, path)
export const getPermissions = (path: string): Ask => ask(XS.GET_PERMS, path)
export const setPermissions = (path: string, perms: readonly string[]): Ask => ask(XS.SET_PERMS, path, ...perms)
export const watch = (path: string, token: string, depth?: number): Ask =>
  ask(XS.WATCH, path, token, ...(depth === undefined ? [] : [String(depth)]))
export const unwatch = (path: string, token: string): Ask => ask(XS.UNWATCH, path, token)
export const startTransaction = (): Ask => ask(XS.TRANSACTION_START, '')
export const endTransaction = (end: 'commit' | 'discard'): Ask => ask(XS.TRANSACTION_END, end === 'commit' ? 'T' : 'F')
export const resetWatches = (): Ask => ask(XS.RESET_WATCHES, '')
export const control = (command: readonly string[]): Ask => ask(XS.CONTROL, ...command)
/** A request whose arguments are numbers. */
export const numbers = (type: number, ...values: number[]): Ask => ask(type, ...values.map(String))

/** Names of a node's children; a list of more than 4096 bytes comes part by part (XS-wire-12). */
export function* children(path: string): Talk<string[]> {
  try {
    return splitStrings(yield ask(XS.DIRECTORY, path)) ?? []
  } catch (error) {
    if (!isRefusal(error, 'E2BIG')) throw error
  }
  for (;;) {
    const names = yield* parts(path)
    if (names) return names
  }
}

/** The list by DIRECTORY_PART; undefined if it changed meanwhile. */
function* parts(path: string): Talk<string[] | undefined> {
  let generation: string | undefined
  for (let text = ''; ; ) {
    const body = fromLatin1(yield ask(XS.DIRECTORY_PART, path, String(text.length)))
    const cut = body.indexOf('\0') + 1
    if (generation !== undefined && generation !== body.slice(0, cut)) return undefined
    generation = body.slice(0, cut)
    // The last part ends in one more empty string: two nuls, or a single one if there are no names.
    const part = body.slice(cut)
    const last = part === '\0' || part.endsWith('\0\0')
    text += last ? part.slice(0, -1) : part
    if (last) return text === '' ? [] : text.slice(0, -1).split('\0')
  }
}

/** Strings and value as text; a value of bytes becomes one character per byte. */
export function textOf({ strings, value }: Ask): string {
  const head = joinStrings(strings)
  if (value === undefined) return head
  return head + (typeof value === 'string' ? value : fromLatin1(value))
}

/** Did the daemon refuse with this error name? */
export function isRefusal(error: unknown, code: XenStoreError['code']): boolean {
  return error instanceof XenStoreError && error.code === code
}
