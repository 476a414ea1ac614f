/**
 * A trace and faults for hosts that were given none: how `evtchn trace SCRIPT` and `--trace` reach hosts that they do not
 * make. Nothing sets them but the command. The key is a registered symbol, so that a second copy of the package, which a
 * script may have loaded, finds them as well.
 */

import type { Faults } from './faults.js'
import type { TraceSink } from './trace.js'

/** What hosts are watched by. */
export interface Ambient {
  trace?: TraceSink | undefined
  faults?: Faults | undefined
}

const KEY = Symbol.for('evtchn.ambient')

/** What is set; empty unless the command set something. */
export const ambient = (): Ambient => (globalThis as { [KEY]?: Ambient })[KEY] ?? {}

/** Sets what hosts that are made from now on are watched by. */
export function setAmbient(given: Ambient | undefined): void {
  ;(globalThis as { [KEY]?: Ambient | undefined })[KEY] = given
}
