/** Waits that a caller gives up by a signal: what comes afterwards is undone. */

import type { AbortSignalLike } from './watcher.js'

/** Waits for `start`'s result unless the signal is aborted first; a result that comes after that goes to `late`. */
export async function unlessAborted<T>(
  signal: AbortSignalLike | undefined,
  start: () => Promise<T>,
  late: (value: T) => void,
): Promise<T> {
  if (!signal) return start()
  if (signal.aborted) throw signal.reason
  return new Promise((resolve, reject) => {
    const giveUp = () => reject(signal.reason as Error)
    signal.addEventListener('abort', giveUp)
    start().then(
      (value) => {
        signal.removeEventListener('abort', giveUp)
        if (signal.aborted) late(value)
        else resolve(value)
      },
      (error) => {
        signal.removeEventListener('abort', giveUp)
        reject(error)
      },
    )
  })
}
