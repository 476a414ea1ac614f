/**
 * Buffers for state that vCPUs share: a SharedArrayBuffer where the platform has one, so that a hypercall can run on the
 * caller's own thread when vCPUs move to workers; an ordinary buffer in a page that is not cross-origin isolated.
 */

/** `length` zeroed 32-bit integers. */
export function sharedInts(length: number): Int32Array {
  const bytes = length * 4
  return new Int32Array(typeof SharedArrayBuffer === 'function' ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes))
}

/** What `make` makes; null where the engine has no memory for it, which a hypercall answers with ENOMEM. */
export function ifMemory<T>(make: () => T): T | null {
  try {
    return make()
  } catch (error) {
    if (error instanceof RangeError) return null
    throw error
  }
}
