/** Where a result comes from: without it a time means nothing. */

import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { arch, cpus, release, type } from 'node:os'
import { hasNative } from './contenders/native.js'

export interface Machine {
  readonly cpu: string
  readonly cores: number
  readonly system: string
  readonly node: string
  readonly v8: string
  readonly evtchn: string
  /** Version of the C compiler; none if there is none. */
  readonly cc?: string
}

export function machine(): Machine {
  const [first] = cpus()
  // From build/bench/bench/levels.
  const { version } = JSON.parse(readFileSync(new URL('../../../../package.json', import.meta.url), 'utf8'))
  const cc = hasNative() ? spawnSync(process.env.CC || 'cc', ['--version'], { encoding: 'utf8' }).stdout : ''
  return {
    cpu: first?.model.trim() || 'unknown processor',
    cores: cpus().length,
    system: `${type()} ${release()} ${arch()}`,
    node: process.versions.node,
    v8: process.versions.v8,
    evtchn: version,
    ...(cc ? { cc: cc.split('\n')[0]!.trim() } : {}),
  }
}

/** Two lines for the screen. */
export function describe(m: Machine): string {
  const first = `${m.cpu}, ${m.cores} core${m.cores === 1 ? '' : 's'}, ${m.system}`
  const cc = m.cc ? `${m.cc}, -O2` : 'no C compiler'
  return `${first}\nevtchn ${m.evtchn}, node ${m.node}, V8 ${m.v8}, ${cc}`
}
