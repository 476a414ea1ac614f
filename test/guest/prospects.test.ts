/** What a guest expects of each form: the channels that it names exist, and the form that it chooses is worth its frames. */

import { describe, expect, it } from 'vitest'
import { EVTCHNOP, HYPERVISOR } from '../../src/abi/index.js'
import {
  type BootOptions,
  type DomainOptions,
  Errno,
  GuestKernel,
  Hypervisor,
  type HypervisorOptions,
} from '../../src/index.js'

const FRAMES = 4096

function boot(options: BootOptions, guest: Partial<DomainOptions> = {}, host: HypervisorOptions = {}) {
  const xen = Hypervisor.create(host)
  xen.createDomain({ domid: 0 })
  const domain = xen.createDomain({ domid: 1, frames: FRAMES, ...guest })
  return { xen, domain, kernel: GuestKernel.boot(xen.platform(domain), options) }
}

/** Ports that can be opened, and port 0. */
function opened({ kernel }: { kernel: GuestKernel }): number {
  for (let count = 1; ; count++)
    try {
      kernel.allocUnbound(0)
    } catch {
      return count
    }
}

describe('the channels that a driver names', () => {
  const rows: [Partial<DomainOptions>, BootOptions][] = [
    [{}, { levels: 2 }],
    [{ maxEvtchnPort: 499, bits: 32 }, { levels: 2 }],
    [{ maxEvtchnPort: Infinity }, { levels: 2 }],
    [{ maxEvtchnPort: Infinity, bits: 32 }, { levels: 2 }],
    [{ nlevelAllowed: false }, { levels: 2 }],
    [{}, { levels: 3 }],
    [{ maxEvtchnPort: 5000 }, { levels: 3 }],
    [{ maxEvtchnPort: Infinity, bits: 32 }, { levels: 3 }],
    [{}, { levels: 'fifo' }],
    [{ maxEvtchnPort: 5000 }, { levels: 'fifo' }],
    [{ maxEvtchnPort: 5000 }, { levels: 'best' }],
    [{ maxEvtchnPort: 0 }, {}],
  ]
  it.each(rows)('NL-query-2, NL-reg-6: are those that it can open: %j, %j', (guest, options) => {
    const machine = boot(options, guest)
    expect(opened(machine)).toBe(machine.kernel.channels)
  })

  it('EC-port-7: are 131,072 on FIFO without a limit', () => {
    expect(boot({ levels: 'fifo' }, { maxEvtchnPort: Infinity }).kernel.channels).toBe(131_072)
  })
})

describe('the best form', () => {
  /** Limit of the domain, width, and what is taken with how many leaf pages. */
  const rows: [number, 32 | 64, HypervisorOptions, string][] = [
    [1023, 64, {}, '2 of 0 pages'],
    [4095, 64, {}, '2 of 0 pages'],
    [4096, 64, {}, '3 of 1 pages'],
    [32_768, 64, {}, '3 of 2 pages'],
    [100_000, 64, {}, '3 of 4 pages'],
    [262_143, 64, {}, '3 of 8 pages'],
    [262_144, 64, {}, '4 of 9 pages'],
    [1023, 32, {}, '2 of 0 pages'],
    [1024, 32, {}, '3 of 1 pages'],
    [32_768, 32, {}, '4 of 2 pages'],
    [5000, 64, { maxLevels: 2 }, 'fifo of 0 pages'],
    [4094, 64, { maxLevels: 2 }, '2 of 0 pages'],
  ]
  it.each(rows)(
    'NL-form-1, NL-query-2: for ports up to %i and %i bits holds no more frames than it must',
    (maxEvtchnPort, bits, host, expected) => {
      const { kernel } = boot({ levels: 'best' }, { maxEvtchnPort, bits }, host)
      const { levels, nrPages, answer } = kernel.attempts.at(-1)!
      expect(`${levels} of ${nrPages} pages`).toBe(expected)
      expect([answer, kernel.channels]).toEqual(['ok', maxEvtchnPort + 1])
    },
  )

  it('NL-form-1, NL-query-2: is the default', () => {
    expect(boot({}).kernel.options.levels).toBe('best')
    expect(boot({}, { maxEvtchnPort: 9999 }).kernel.levels).toBe(3)
  })

  it('NL-form-1, NL-query-2: costs a domain of 1,024 channels no frame that two levels do not cost', () => {
    const free = (levels: BootOptions['levels']) => boot({ levels: levels! }).kernel.frames.available
    expect(free('best')).toBe(free(2))
    expect(free(3)).toBeLessThan(free(2))
  })
})

describe('a host that has never heard of query_nlevel2', () => {
  /** Refuses what it does not know, as an older host of N levels. */
  function bootThere(options: BootOptions, guest: Partial<DomainOptions>) {
    const xen = Hypervisor.create()
    const platform = xen.platform(xen.createDomain({ domid: 1, frames: FRAMES, ...guest }))
    const asked: number[] = []
    const older = {
      ...platform,
      hypercall: (...[vcpu, nr, args, onRefusal]: Parameters<typeof platform.hypercall>) => {
        if (nr === HYPERVISOR.event_channel_op) asked.push(args[0]!)
        const unknown = nr === HYPERVISOR.event_channel_op && args[0] === EVTCHNOP.query_nlevel2
        return unknown ? -Errno.ENOSYS : platform.hypercall(vcpu, nr, args, onRefusal)
      },
    }
    return { kernel: GuestKernel.boot(older, options), asked }
  }

  it('NL-query-2: is asked query_nlevel, and the geometry stands for what it does not say', () => {
    const { kernel, asked } = bootThere({ levels: 'best' }, { maxEvtchnPort: 1023 })
    expect(asked).toContain(EVTCHNOP.query_nlevel)
    // The limit is in what registering returns (NL-reg-6).
    expect([kernel.levels, kernel.channels]).toEqual([4, 1024])
    expect(bootThere({ levels: 2 }, {}).kernel.channels).toBe(4096)
    expect(bootThere({ levels: 'fifo' }, {}).kernel.channels).toBe(131_072)
  })
})

describe('a guest of three levels that resumes on a host with FIFO alone', () => {
  it.each<[BootOptions]>([[{ levels: 3 }], [{ levels: 'best' }], [{}]])(
    'NL-mig-2: loses nothing that FIFO holds: %j',
    (options) => {
      const { xen, domain, kernel } = boot(options, { maxEvtchnPort: 199_999 })
      expect(kernel.levels).toBe(3)
      for (let i = 0; i < 6000; i++) kernel.allocUnbound(0, { name: `c${i}` })
      kernel.suspend()
      const other = Hypervisor.create({ nlevel: false })
      other.createDomain({ domid: 0 })
      const restored = other.restoreDomain(xen.saveDomain(domain), { maxEvtchnPort: 199_999 })
      expect(kernel.resume(other.platform(restored))).toMatchObject({ levels: 'fifo', channels: 131_072, lost: [] })
    },
  )

  it('NL-mig-2: stays on two levels where these hold as many', () => {
    const { xen, domain, kernel } = boot({ levels: 3 })
    kernel.suspend()
    const other = Hypervisor.create({ maxLevels: 2 })
    expect(kernel.resume(other.platform(other.restoreDomain(xen.saveDomain(domain))))).toMatchObject({ levels: 2 })
  })
})
