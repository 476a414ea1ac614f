/** Which form the driver takes: a list of forms in the guest's own order, and refusing rather than falling back. */

import { describe, expect, it } from 'vitest'
import { inside } from '../../src/domain/handles.js'
import {
  type BootOptions,
  type DomainOptions,
  GuestKernel,
  Hypervisor,
  type HypervisorOptions,
  ParameterError,
  XenError,
} from '../../src/index.js'
import { random as numbers } from '../random.js'

type Forms = NonNullable<BootOptions['levels']>

function boot(options: BootOptions, host: HypervisorOptions = {}, guest: Partial<DomainOptions> = {}) {
  const xen = Hypervisor.create(host)
  xen.createDomain({ domid: 0 })
  const domain = xen.createDomain({ domid: 1, frames: 4096, maxEvtchnPort: 0x7fffffff, ...guest })
  return { xen, domain, kernel: GuestKernel.boot(xen.platform(domain), options) }
}

const tried = (kernel: GuestKernel) => kernel.attempts.map(({ levels, answer }) => `${levels} ${answer}`).join(', ')

describe('a list of forms', () => {
  const rows: [string, Forms, HypervisorOptions, string][] = [
    ['takes the first', [3, 'fifo', 2], {}, '3 ok'],
    ['takes FIFO where there are no levels', [3, 'fifo', 2], { nlevel: false }, '3 ENOSYS, fifo ok'],
    ['ends with two levels', [3, 'fifo', 2], { nlevel: false, fifo: false }, '3 ENOSYS, fifo EOPNOTSUPP, 2 ok'],
    ['does not try what it does not name', [4, 'fifo'], { maxLevels: 3 }, '4 ENOSPC, fifo ok'],
    ['keeps its own order', ['fifo', 4], { fifo: false }, 'fifo EOPNOTSUPP, 4 ok'],
    ['has two levels behind its end', [4], { maxLevels: 3 }, '4 ENOSPC, 2 ok'],
    ['may end with best', [5, 'best'], { maxLevels: 3 }, '5 EINVAL, 4 ENOSPC, 3 ok'],
  ]
  it.each(rows)('NL-mig-2: %s', (_, levels, host, expected) => {
    const { kernel, domain } = boot({ levels }, host)
    expect(tried(kernel)).toBe(expected)
    expect(inside(domain).fifo ? 'fifo' : inside(domain).levels).toBe(kernel.levels)
  })

  it('NL-mig-2: resuming follows the list, so a host with FIFO alone loses no channel that FIFO holds', () => {
    const { xen, domain, kernel } = boot({ levels: [3, 'fifo', 2] })
    const last = Array.from({ length: 5000 }, (_, i) => kernel.allocUnbound(0, { name: `c${i}` })).at(-1)
    expect(last).toBe(5000)
    kernel.suspend()
    const other = Hypervisor.create({ nlevel: false })
    other.createDomain({ domid: 0 })
    const restored = other.restoreDomain(xen.saveDomain(domain), { maxEvtchnPort: 0x7fffffff })
    const report = kernel.resume(other.platform(restored))
    expect(report).toMatchObject({ levels: 'fifo', channels: 131072, lost: [] })
    expect(report.rebound).toHaveLength(5000)
  })

  it('NL-query-1: takes the first form of any list that the host grants, on any host', () => {
    const below = numbers(16)
    for (let round = 0; round < 150; round++) {
      const forms = [2, 3, 4, 'fifo'] as const
      const levels = Array.from({ length: 1 + below(4) }, () => forms[below(4)]!)
      const host = { nlevel: !!below(4), fifo: !!below(2), maxLevels: 2 + below(3) }
      const granted = (form: number | 'fifo') =>
        form === 2 || (form === 'fifo' ? host.fifo : host.nlevel && form <= host.maxLevels)
      const { kernel } = boot({ levels, nrPages: 1 }, host)
      expect(kernel.levels, JSON.stringify({ levels, host })).toBe(levels.find(granted) ?? 2)
    }
  })

  it('is copied when the guest boots', () => {
    const levels: (3 | 'fifo')[] = [3]
    const { kernel } = boot({ levels })
    levels[0] = 'fifo'
    expect(kernel.options.levels).toEqual([3])
  })

  it.each([[[]], [[3, 7]], [['FIFO']], [[[3]]]])('a list of %j is refused by a ParameterError', (levels) => {
    expect(() => boot({ levels: levels as never })).toThrow(ParameterError)
  })
})

describe('exact', () => {
  it.each<[Forms, HypervisorOptions, RegExp]>([
    [4, { maxLevels: 3 }, /4: ENOSPC.*ENOSPC/],
    ['fifo', { fifo: false }, /fifo: EOPNOTSUPP/],
    [[3, 'fifo'], { nlevel: false, fifo: false }, /3: ENOSYS, fifo: EOPNOTSUPP/],
  ])('NL-reg-2: %j is refused, not replaced, and nothing is registered', (levels, host, message) => {
    const xen = Hypervisor.create(host)
    const domain = xen.createDomain({ domid: 1, frames: 4096, maxEvtchnPort: 0x7fffffff })
    const start = () => GuestKernel.boot(xen.platform(domain), { levels, exact: true })
    expect(start).toThrow(XenError)
    expect(start).toThrow(message)
    expect(inside(domain).levels).toBe(2)
    expect(GuestKernel.boot(xen.platform(domain), { levels: 2 }).levels).toBe(2)
  })

  it('NL-query-1: takes as many pages as asked for, or none', () => {
    const options: BootOptions = { levels: 3, nrPages: 8 }
    expect(boot(options, { maxLeafPages: 3 }).kernel.attempts).toEqual([{ levels: 3, nrPages: 3, answer: 'ok' }])
    expect(() => boot({ ...options, exact: true }, { maxLeafPages: 3 })).toThrow(/3: ENOSPC/)
    expect(boot({ levels: 3, exact: true }, { maxLeafPages: 3 }).kernel.levels).toBe(3)
  })

  it('NL-mig-2: a guest that resumes falls back all the same', () => {
    const { xen, domain, kernel } = boot({ levels: 3, exact: true })
    kernel.suspend()
    const other = Hypervisor.create({ nlevel: false })
    const restored = other.restoreDomain(xen.saveDomain(domain), { maxEvtchnPort: 0x7fffffff })
    expect(kernel.resume(other.platform(restored)).levels).toBe('fifo')
  })
})

describe('the reason of an attempt', () => {
  it.each([64, 4096])("NL-sel-1: is the host's own with %i frames of guest memory", (frames) => {
    const { kernel } = boot({ levels: [4, 2] }, { maxLevels: 3 }, { frames })
    expect(tried(kernel)).toBe('4 ENOSPC, 2 ok')
  })

  it('NL-sel-1: is the lack of memory where the host grants the size', () => {
    expect(tried(boot({ levels: [4, 2] }, {}, { frames: 64 }).kernel)).toBe('4 no memory, 2 ok')
  })
})
