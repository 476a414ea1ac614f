/**
 * The three FIFO operations on a hypervisor without FIFO (EC-op-6): whatever is in the struct, the guest learns that it
 * has to stay on its bitmaps, and nothing changes. With FIFO: test/fifo.
 */

import { describe, expect, it } from 'vitest'
import { inside } from '../../src/domain/handles.js'
import { END, FREE_GFN, host, NOWHERE } from './raw.js'

const BLOCK = { control_gfn: FREE_GFN, offset: 0, vcpu: 0 }

describe.each([64, 32] as const)('without FIFO, %i-bit', (bits) => {
  it('EC-op-2: structs that cannot be read are EFAULT here too', () => {
    const { d1 } = host(bits, { fifo: false })
    for (const op of ['init_control', 'expand_array', 'set_priority'] as const)
      expect(d1.answer(op, {}, { at: NOWHERE })).toBe('EFAULT')
    expect(d1.answer('expand_array', {}, { at: END - 7 })).toBe('EFAULT')
  })

  it('EC-op-6: init_control and expand_array are not supported (EOPNOTSUPP), and the guest stays on two levels', () => {
    const { d1 } = host(bits, { fifo: false })
    expect(d1.answer('init_control', BLOCK)).toBe('EOPNOTSUPP')
    expect(d1.answer('expand_array', { array_gfn: FREE_GFN })).toBe('EOPNOTSUPP')
    expect(d1.answer('expand_array', { array_gfn: 2 ** 40 })).toBe('EOPNOTSUPP')
    expect(inside(d1.domain).levels).toBe(2)
  })

  it('EC-prio-1 before EC-prio-2: a port that is not valid (EINVAL), then an ABI without priorities (ENOSYS)', () => {
    const { d1 } = host(bits, { fifo: false })
    expect(d1.answer('set_priority', { port: 64, priority: 99 })).toBe('EINVAL')
    expect(d1.answer('set_priority', { port: 9, priority: 99 })).toBe('ENOSYS')
    expect(d1.answer('set_priority', { port: d1.ipi(), priority: 3 })).toBe('ENOSYS')
  })
})
