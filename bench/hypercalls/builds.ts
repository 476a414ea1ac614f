/**
 * The builds that are compared: this one, and a checkout of another commit that was built in its own folder. A row is
 * written against this build's types; what it uses has the same names and meaning in both.
 */

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { CheckError } from '../../src/cli/errors.js'
import type { Domain } from '../../src/index.js'

/** The main entry of a build, and its core. */
export interface Library {
  readonly main: typeof import('../../src/index.js')
  readonly core: typeof import('../../src/machine/core.js')
  /** The port operations of a domain, which are no part of the API. */
  portOps(domain: Domain): { setPending(port: number): void }
}

/** Loads the build in a folder, as its package.json exports it. @throws CheckError if there is none. */
export async function load(folder: string): Promise<Library> {
  try {
    const { exports } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
    const entry = (name: string) => import(pathToFileURL(join(folder, exports[name].default)).href)
    return { main: await entry('.'), core: await entry('./core'), portOps: await portOpsOf(folder) }
  } catch (error) {
    throw new CheckError(`${folder} has no build of this library: ${(error as Error).message}`)
  }
}

/** Behind the handle where domains have one; the domain itself in builds from before. */
async function portOpsOf(folder: string): Promise<Library['portOps']> {
  const handles = join(folder, 'dist/domain/handles.js')
  if (!existsSync(handles)) return (domain) => (domain as unknown as ReturnType<Inside>).portOps
  const { inside } = (await import(pathToFileURL(handles).href)) as { inside: Inside }
  return (domain) => inside(domain).portOps
}

type Inside = (domain: Domain) => { portOps: { setPending(port: number): void } }
