/** Waits for the signal that ends a daemon. */

/** Resolves at SIGTERM or SIGINT. */
export function signalled(): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      process.off('SIGTERM', done)
      process.off('SIGINT', done)
      resolve()
    }
    process.on('SIGTERM', done)
    process.on('SIGINT', done)
  })
}
