/**
 * A snapshot as a file: a length of four bytes, JSON of that length, the store's bytes, the emulator's state. Both byte strings
 * are compressed, for RAM that was freed is zeros.
 */

import { gunzipSync, gzipSync } from 'node:zlib'

const LENGTH_BYTES = 4

export function writeSnapshot({ emulator, store, ...rest }) {
  const parts = [gzipSync(store), gzipSync(emulator, { level: 1 })]
  const head = Buffer.from(JSON.stringify({ ...rest, storeBytes: parts[0].length }))
  const length = Buffer.alloc(LENGTH_BYTES)
  length.writeUInt32LE(head.length)
  return Buffer.concat([length, head, ...parts])
}

/** @throws Error for a file that is no snapshot */
export function readSnapshot(bytes) {
  try {
    const end = LENGTH_BYTES + bytes.readUInt32LE(0)
    const { storeBytes, ...rest } = JSON.parse(bytes.subarray(LENGTH_BYTES, end).toString())
    if (rest.format !== 'evtchn-v86') throw new Error('another format')
    return {
      ...rest,
      store: new Uint8Array(gunzipSync(bytes.subarray(end, end + storeBytes))),
      emulator: new Uint8Array(gunzipSync(bytes.subarray(end + storeBytes))),
    }
  } catch (error) {
    throw new Error(`the file is no snapshot of npm run linux: ${error.message}`)
  }
}
