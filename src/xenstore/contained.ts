/**
 * Calls of functions that a user passed. What one throws is its owner's: it is reported as the platform reports an
 * unhandled rejection, and changes nothing for the daemon, the other clients, or the request at hand.
 */
export function contained(call: () => void): void {
  try {
    call()
  } catch (error) {
    void Promise.reject(error)
  }
}
