/** The parts of a machine for the scripts of this folder: npm v86, and SeaBIOS of Debian's package `seabios`. */

import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

const require = createRequire(import.meta.url)
const FIRMWARE = process.env.EVTCHN_SEABIOS ?? '/usr/share/seabios'

const read = (path) => new Uint8Array(readFileSync(path))

/** The option `files` of `V86Host.boot`. Throws an Error that says what to install. */
export async function emulatorFiles() {
  for (const name of ['bios.bin', 'vgabios.bin'])
    if (!existsSync(join(FIRMWARE, name)))
      throw new Error(
        `${join(FIRMWARE, name)} is missing: apt-get install seabios, or set EVTCHN_SEABIOS to its folder`,
      )
  const { V86 } = await import('v86')
  const build = dirname(require.resolve('v86'))
  return {
    V86,
    wasm: read(join(build, 'v86.wasm')),
    bios: read(join(FIRMWARE, 'bios.bin')),
    vgaBios: read(join(FIRMWARE, 'vgabios.bin')),
  }
}

/** Real time, for `Hypervisor.create`. */
export const clock = {
  nowNs: () => Math.round(performance.now() * 1e6),
  wallclockNs: () => BigInt(Date.now()) * 1_000_000n,
}
