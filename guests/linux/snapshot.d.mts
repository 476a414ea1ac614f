/** Types of snapshot.mjs, for tests. */
import type { V86Snapshot } from '../../src/x86/index.js'

export function writeSnapshot(snapshot: V86Snapshot): Uint8Array
export function readSnapshot(bytes: Uint8Array): V86Snapshot
