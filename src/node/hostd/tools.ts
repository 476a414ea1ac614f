/** Where Xen's own programs are: Debian has them below /usr/lib/xen-VERSION/bin, apart from PATH. */

import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

/** Folders with a version in their name below `lib`, the newest first. */
function versions(lib: string): string[] {
  if (!existsSync(lib)) return []
  return readdirSync(lib)
    .filter((name) => /^xen-[0-9.]+$/.test(name))
    .sort((a, b) => b.localeCompare(a, 'en', { numeric: true }))
    .map((name) => join(lib, name, 'bin'))
}

/**
 * The folder with xl, xenstored and the others; undefined: they are not installed. `EVTCHN_XEN_UTILS` names a folder that
 * Debian's package was unpacked to.
 */
export function xenToolsFolder(env: NodeJS.ProcessEnv = process.env): string | undefined {
  const unpacked = env.EVTCHN_XEN_UTILS ? versions(join(env.EVTCHN_XEN_UTILS, 'usr/lib')) : []
  return [...unpacked, ...versions('/usr/lib')].find((folder) => existsSync(join(folder, 'xl')))
}

/** How to get them. */
export const XEN_TOOLS_HINT =
  'On Debian: apt-get install xenstore-utils, then apt-get download xen-utils-4.17 and dpkg -x it to a folder that EVTCHN_XEN_UTILS names.'
