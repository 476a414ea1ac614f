/**
 * A store as text, as `xenstore-ls` prints it: for looking at one, and for filling one from somebody's report.
 *
 *     full, as with -f -p       /local/domain/1/name = "web"   (n0,r1)
 *     tree, as without          local = ""
 *                                domain = ""
 *                                 1 = ""
 *                                  name = "web"
 *
 * Either form is read, with permissions or without, and so is JSON (listing_json.ts). What is printed of a store that was filled from a listing is that
 * listing, byte by byte.
 */

import { among, options as checked, flag, type Table, text as textOption } from '../check.js'
import type { StoreDaemon } from './daemon.js'
import { isJsonListing, jsonListing, type ListedNode, readJsonListing } from './listing_json.js'
import { absolutePath, childPath, missingAbove, parentPath, pathParts } from './path.js'
import { formatPermission, type Permissions, parsePermission } from './perms.js'
import { insideStore, type XenStored } from './server.js'
import { fromLatin1, toUtf8 } from './text.js'
import { type StoreNode, walk } from './tree.js'

/** A listing that cannot be read. Nothing has changed. */
export class ListingError extends Error {
  /** The line, from 1; of a listing in JSON the number of the node. */
  readonly line: number

  constructor(line: number, problem: string) {
    super(`line ${line} of the listing: ${problem}`)
    this.name = 'ListingError'
    this.line = line
  }
}

/** Options of `dumpListing`. */
export interface DumpListingOptions {
  /** Prints what is below this node. Default '/'. */
  at?: string
  /** One path a line, names indented below their parents, or JSON for programs. Default 'full'. */
  form?: 'full' | 'tree' | 'json'
  /** Permissions, too; JSON always has them. Default true. */
  permissions?: boolean
}

/** Options of `loadListing`. */
export interface LoadListingOptions {
  /** The node below which the names at the top of a tree belong. Default '/'. */
  at?: string
}

const DUMP: Table<DumpListingOptions> = { at: textOption, form: among('full', 'tree', 'json'), permissions: flag }
const LOAD: Table<LoadListingOptions> = { at: textOption }

/** Nodes of a listing without permissions, and those that are made above it, are domain 0's. */
const PRIVATE: Permissions = [{ letter: 'n', domid: 0 }]

// --- printing ----------------------------------------------------------------------------------------------------------

/** The nodes below a path, a line each with its end; empty if there is no such node. @throws ParameterError */
export function dumpListing(store: XenStored, options: DumpListingOptions = {}): string {
  const { at = '/', form = 'full', permissions = true } = checked('dumpListing', options, DUMP)
  const top = insideStore(store).store.get(at)
  if (!top) return ''
  if (form === 'json') return jsonListing(listed(at, top))
  const above = pathParts(at).length + 1
  let text = ''
  for (const { path, node } of walk(at, top)) {
    if (path === at) continue
    const parts = pathParts(path)
    const name = form === 'full' ? path : ' '.repeat(parts.length - above) + parts.at(-1)
    const rights = permissions ? `   (${node.perms.map(formatPermission).join(',')})` : ''
    text += `${name} = "${quoted(node.value)}"${rights}\n`
  }
  return text
}

function* listed(at: string, top: StoreNode): Generator<ListedNode> {
  for (const { path, node } of walk(at, top)) if (path !== at) yield { path, value: node.value, perms: node.perms }
}

const ESCAPES: Readonly<Record<string, string>> = { '\t': 't', '\n': 'n', '\r': 'r', '\\': '\\' }

/** Printable ASCII as it is, anything else as the tools write it: `\n`, or octal, as short as what follows allows. */
function quoted(value: string): string {
  return value.replace(/[^ -[\]-~]/g, (char, at: number) => {
    const short = ESCAPES[char]
    if (short) return `\\${short}`
    const octal = char.charCodeAt(0).toString(8)
    return `\\${/[0-7]/.test(value[at + 1] ?? '') ? octal.padStart(3, '0') : octal}`
  })
}

// --- reading -----------------------------------------------------------------------------------------------------------

interface Line extends ListedNode {
  readonly number: number
}

/**
 * Fills a store. What stands at the top of the listing replaces what the store has there; nodes without permissions belong to
 * domain 0; missing parents are made. Watches fire. Returns the number of nodes.
 * @throws ListingError for a line that cannot be read; ParameterError
 */
export function loadListing(store: XenStored, text: string, options: LoadListingOptions = {}): number {
  const daemon = insideStore(store)
  const { at = '/' } = checked('loadListing', options, LOAD)
  textOption('loadListing', 'text', text)
  const lines = isJsonListing(text) ? readJson(text) : readLines(text, at)
  // A right is void for a domain that becomes known after the node was made (XS-perm-7).
  for (const { perms } of lines) for (const { domid } of perms) daemon.domains.know(domid)
  const paths = new Set(lines.map(({ path }) => path))
  const view = daemon.direct()
  for (const { path } of lines) {
    if (paths.has(parentPath(path))) continue
    if (view.get(path)) view.remove(path)
    for (const missing of missingAbove(path, (each) => view.get(each) !== undefined)) view.create(missing, '', PRIVATE)
  }
  for (const { number, path, value, perms } of lines) {
    if (!view.get(parentPath(path))) throw new ListingError(number, `${path} comes before its parent`)
    if (view.get(path)) throw new ListingError(number, `${path} is there twice`)
    view.create(path, value, knownOnly(daemon, perms))
    view.announce(path)
  }
  view.commit()
  daemon.watches.fire(view.changes, undefined)
  daemon.step()
  return lines.length
}

const knownOnly = ({ domains }: StoreDaemon, perms: Permissions): Permissions =>
  perms.map((entry) => (domains.get(entry.domid) ? entry : { ...entry, void: true }))

const readJson = (text: string): Line[] =>
  readJsonListing(text, fail).map((node, i) => ({ ...node, path: checkedPath(i + 1, node.path), number: i + 1 }))

function checkedPath(number: number, path: string): string {
  if (absolutePath(path, 0, Number.POSITIVE_INFINITY) !== path || path === '/')
    fail(number, `${path} is not the path of a node`)
  return path
}

const FORM = /^( *)(\S+) = "(.*)"(?:[ \t]+\(([^()]*)\))?$/

function readLines(text: string, at: string): Line[] {
  const lines: Line[] = []
  /** Names of the tree above the line at hand, one for each step of indentation. */
  const above: string[] = [at]
  for (const [i, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue
    const number = i + 1
    const [, indent, name, value, perms] = FORM.exec(line.replace(/\r$/, '')) ?? []
    if (name === undefined) throw new ListingError(number, 'is not NAME = "VALUE" with or without (PERMISSIONS)')
    const depth = indent!.length
    if (depth >= above.length) throw new ListingError(number, 'is indented further than its parent allows')
    const path = name.startsWith('/') ? name : childPath(above[depth]!, name)
    checkedPath(number, path)
    above.splice(depth + 1, Number.POSITIVE_INFINITY, path)
    lines.push({ number, path, value: unquoted(number, value!), perms: readPerms(number, perms) })
  }
  return lines
}

function readPerms(number: number, text: string | undefined): Permissions {
  if (text === undefined) return PRIVATE
  return text.split(',').map((each) => {
    const entry = parsePermission(each)
    return entry ?? fail(number, `${each} is not a permission, such as r5`)
  })
}

function fail(number: number, problem: string): never {
  throw new ListingError(number, problem)
}

const PLAIN: Readonly<Record<string, string>> = { t: '\t', n: '\n', r: '\r', '\\': '\\' }

/** The value's bytes, a character each. */
function unquoted(number: number, text: string): string {
  const bytes = /[^ -~]/.test(text) ? fromLatin1(toUtf8(text)) : text
  return bytes.replace(/\\([0-7]{1,3}|.?)/g, (_, code: string) => {
    const char = PLAIN[code] ?? (/^[0-7]/.test(code) ? String.fromCharCode(Number.parseInt(code, 8) & 0xff) : undefined)
    return char ?? fail(number, `\\${code} stands for no character`)
  })
}
