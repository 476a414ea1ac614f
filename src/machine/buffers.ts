/** Where the engine may have no memory left. */

/** What `make` makes; null where the engine has no memory for it, for which a hypercall returns ENOMEM. */
export function ifMemory<T>(make: () => T): T | null {
  try {
    return make()
  } catch (error) {
    if (error instanceof RangeError) return null
    throw error
  }
}
