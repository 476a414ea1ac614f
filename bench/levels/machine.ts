/** The C compiler behind the C program: without it a time of that program means nothing. */

import { spawnSync } from 'node:child_process'
import { hasNative } from './contenders/native.js'

/** Version of the C compiler; undefined if there was none. */
export function compiler(): string | undefined {
  if (!hasNative()) return undefined
  return spawnSync(process.env.CC || 'cc', ['--version'], { encoding: 'utf8' })
    .stdout.split('\n')[0]!
    .trim()
}

/** For the screen. */
export const describe = (cc: string | undefined): string =>
  `V8 ${process.versions.v8}, ${cc === undefined ? 'no C compiler' : `${cc}, -O2 without and with -march=native`}`
