/** Types of emulator.mjs, for tests. */
import type { Clock } from '../src/index.js'
import type { V86Files } from '../src/x86/index.js'

export const clock: Clock
export function emulatorFiles(): Promise<V86Files>
