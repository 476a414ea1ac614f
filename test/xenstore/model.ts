/**
 * The plain model: a list of paths in order of creation, each with its value and permissions, and what requests do to it,
 * one after the other. It knows no generations, no sharing and no conflicts: whatever a daemon commits must be what this
 * does at the moment of the commit.
 */

interface Entry {
  value: string
  perms: string
}

/** A request of a script, on a node. */
export interface Op {
  kind: 'READ' | 'WRITE' | 'MKDIR' | 'RM' | 'DIRECTORY' | 'GET_PERMS' | 'SET_PERMS'
  path: string
  value: string
}

/** What a request told the watches: the path, and whether also those above it. */
export interface Told {
  path: string
  exact: boolean
}

const parentOf = (path: string) => path.slice(0, path.lastIndexOf('/')) || '/'

export class Model {
  nodes = new Map<string, Entry>([['/', { value: '', perms: 'n0|' }]])
  constructor() {
    for (const path of ['/tool', '/tool/xenstored']) this.nodes.set(path, { value: '', perms: 'n0|' })
  }

  children(path: string): string[] {
    return [...this.nodes.keys()].filter((each) => each !== '/' && parentOf(each) === path)
  }
  /** Nodes at and below a path, each after what is below it. */
  below(path: string): string[] {
    return [...this.children(path).flatMap((each) => this.below(each)), path]
  }

  /** Nodes that the last request changed or whose children it changed. */
  touched: string[] = []

  /** Runs a request; returns its reply and what it tells. */
  run({ kind, path, value }: Op): { reply: string; told: Told[] } {
    const entry = this.nodes.get(path)
    this.touched = []
    const done = (...told: Told[]) => ({ reply: 'OK|', told })
    const answer = (reply: string) => ({ reply, told: [] })
    if (kind === 'WRITE' || kind === 'MKDIR') {
      if (entry && kind === 'MKDIR') return done()
      this.touched = [path]
      if (entry) entry.value = value
      else this.#make(path, kind === 'WRITE' ? value : '')
      return done({ path, exact: false })
    }
    if (kind === 'RM') {
      if (path === '/') return answer('EINVAL')
      if (!entry) return answer(this.nodes.has(parentOf(path)) ? 'OK|' : 'ENOENT')
      const gone = this.below(path)
      this.touched = [...gone, parentOf(path)]
      for (const each of gone) this.nodes.delete(each)
      return done(...gone.map((each) => ({ path: each, exact: each !== path })))
    }
    if (!entry) return answer('ENOENT')
    if (kind === 'READ') return answer(entry.value)
    if (kind === 'GET_PERMS') return answer(entry.perms)
    if (kind === 'DIRECTORY')
      return answer(
        this.children(path)
          .map((each) => `${each.split('/').at(-1)}|`)
          .join(''),
      )
    this.touched = [path]
    entry.perms = `${value === 'x' ? 'r0' : 'n0'}|r${value.length}|`
    return done({ path, exact: false })
  }

  #make(path: string, value: string): void {
    const above = parentOf(path)
    this.touched.push(above)
    if (!this.nodes.has(above)) this.#make(above, '')
    this.nodes.set(path, { value, perms: this.nodes.get(above)!.perms })
  }

  /** Runs a transaction's requests; what it tells: each node once, a subtree for an exact one, none that nobody ever saw. */
  commit(ops: readonly Op[]): { replies: string[]; told: Told[] } {
    const before = new Set(this.nodes.keys())
    const told = new Map<string, boolean>()
    const touched = new Set<string>()
    const replies = ops.map((op) => {
      const result = this.run(op)
      for (const path of this.touched) touched.add(path)
      for (const { path, exact } of result.told) told.set(path, (told.get(path) ?? true) && exact)
      return result.reply
    })
    this.touched = [...touched]
    const seen = [...told].filter(([path]) => before.has(path) || this.nodes.has(path))
    return { replies, told: seen.map(([path, exact]) => ({ path, exact })) }
  }
}
