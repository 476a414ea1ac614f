/** A host whose private memory runs out. */

import { vi } from 'vitest'
import { PrivateMemory } from '../../src/machine/private_memory.js'

/** Gives `n` more blocks of private memory and then none, until `enough`. `before` looks on at each. */
export function memoryFor(n: number, before: (bytes: number) => void = () => {}): void {
  const take = PrivateMemory.prototype.take
  vi.spyOn(PrivateMemory.prototype, 'take').mockImplementation(function (this: PrivateMemory, bytes) {
    before(bytes)
    if (n-- <= 0) throw new RangeError('WebAssembly.Memory.grow(): Maximum memory size exceeded')
    return take.call(this, bytes)
  })
}

/** There is memory again. */
export const enough = (): void => void vi.restoreAllMocks()
