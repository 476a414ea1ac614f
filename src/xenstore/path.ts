/** Paths: which are valid, what a relative one means, and how a path is taken apart. */

/** Longest absolute path of the interface. */
const ABS_PATH_MAX = 3072

// No empty part, so neither `//` nor a `/` at the end (XS-path-1). `@` is an ordinary character behind the first.
const VALID = /^\/?[\w@-]+(?:\/[\w@-]+)*$/
const DOMAIN_PATH = /^\/local\/domain\/\d+\//

/** Names that stand for something other than a node. */
export const INTRODUCE_DOMAIN = '@introduceDomain'
/** Fired when a domain shuts down, and again when it is gone. */
export const RELEASE_DOMAIN = '@releaseDomain'

/** Home of a domain, its number unsigned. */
export function domainPath(domid: number): string {
  return `/local/domain/${domid >>> 0}`
}

/** True for a path that stands for an event rather than a node. */
export function isSpecial(path: string): boolean {
  return path.charCodeAt(0) === 0x40
}

/** The absolute form of a path that a domain gave (XS-path-2), or undefined if it is not valid (XS-path-1, XS-path-3). */
export function absolutePath(given: string, domid: number, pathMax: number): string | undefined {
  const first = given.charCodeAt(0)
  const path = first === 0x2f || first === 0x40 ? given : `/local/domain/${domid}/${given}`
  if (path === '/') return path
  // A name that stands for an event may have any characters (XS-path-4).
  if (path.length > ABS_PATH_MAX || (first !== 0x40 && !VALID.test(path))) return undefined
  if (path.length > pathMax) {
    const home = DOMAIN_PATH.exec(path)
    if (path.length - (home ? home[0].length : 0) > pathMax) return undefined
  }
  return path
}

/** Path of the parent. The root is its own parent. */
export function parentPath(path: string): string {
  const cut = path.lastIndexOf('/')
  return cut <= 0 ? '/' : path.slice(0, cut)
}

/** Last part of a path. */
export function baseName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1)
}

/** Path of a child. */
export function childPath(path: string, name: string): string {
  return path === '/' ? `/${name}` : `${path}/${name}`
}

/** Parts of an absolute path; none for the root. */
export function pathParts(path: string): string[] {
  return path === '/' ? [] : path.slice(1).split('/')
}

/** The ancestors of a path that do not exist, the topmost first. */
export function missingAbove(path: string, exists: (path: string) => boolean): string[] {
  const missing: string[] = []
  for (let at = parentPath(path); !exists(at); at = parentPath(at)) missing.unshift(at)
  return missing
}
