/**
 * A store as JSON, for programs:
 *
 *     { "format": 1, "nodes": [
 *       { "path": "/a", "value": "text", "permissions": ["n0", "r5"] },
 *       { "path": "/b", "hex": "00ff", "permissions": ["n0"] } ] }
 *
 * A value that is not UTF-8 has `hex` in the place of `value`: JSON has no bytes.
 */

import { formatPermission, type Permissions, parsePermission } from './perms.js'
import { fromLatin1, fromUtf8, toLatin1, toUtf8 } from './text.js'

/** One node of a listing. The value has one character a byte. */
export interface ListedNode {
  readonly path: string
  readonly value: string
  readonly perms: Permissions
}

const hexOf = (value: string): string => [...toLatin1(value)].map((byte) => byte.toString(16).padStart(2, '0')).join('')
const fromHex = (hex: string): string => hex.replace(/../g, (byte) => String.fromCharCode(Number.parseInt(byte, 16)))
const utf8 = (text: string): string => fromLatin1(toUtf8(text))

/** Prints nodes, a line each, so that two dumps can be compared by lines. */
export function jsonListing(nodes: Iterable<ListedNode>): string {
  const lines = [...nodes].map(({ path, value, perms }) => {
    const text = fromUtf8(toLatin1(value))
    const shown = utf8(text) === value ? { value: text } : { hex: hexOf(value) }
    return `    ${JSON.stringify({ path, ...shown, permissions: perms.map(formatPermission) })}`
  })
  return `{\n  "format": 1,\n  "nodes": [\n${lines.join(',\n')}\n  ]\n}\n`
}

/** Does a text look like the JSON form? */
export const isJsonListing = (text: string): boolean => /^\s*\{/.test(text)

/** Reads nodes; `fail` is told the number of the node, from 1, and what is wrong with it. */
export function readJsonListing(text: string, fail: (number: number, problem: string) => never): ListedNode[] {
  let given: unknown
  try {
    given = JSON.parse(text)
  } catch (error) {
    fail(1, `is not JSON: ${(error as Error).message}`)
  }
  const { format, nodes } = given as { format?: unknown; nodes?: unknown }
  if (format !== 1 || !Array.isArray(nodes)) fail(1, 'is not of the form { "format": 1, "nodes": […] }')
  return (nodes as unknown[]).map((node, i) => readNode(node, (problem) => fail(i + 1, problem)))
}

function readNode(node: unknown, fail: (problem: string) => never): ListedNode {
  const { path, value, hex, permissions = ['n0'] } = Object(node) as Record<string, unknown>
  if (typeof path !== 'string') fail('has no path')
  if ((typeof value === 'string') === (typeof hex === 'string')) fail('has not one of value and hex')
  if (typeof hex === 'string' && !/^([0-9a-f]{2})*$/i.test(hex)) fail(`has hex ${JSON.stringify(hex)}`)
  if (!Array.isArray(permissions) || !permissions.length) fail('has no list of permissions')
  const perms = (permissions as unknown[]).map(
    (each) => parsePermission(String(each)) ?? fail(`has permission ${JSON.stringify(each)}, not one such as r5`),
  )
  return { path: utf8(path as string), value: typeof hex === 'string' ? fromHex(hex) : utf8(value as string), perms }
}
