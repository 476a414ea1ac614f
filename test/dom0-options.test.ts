/**
 * Options of what stands on event channels: dom0's host, its scheduler, toolstack, xenbus, pvcalls and the TCP host. A
 * misspelt name or a wrong value ends in a message that names the call, the option, what was given and what is allowed;
 * nothing has changed then.
 */
import { describe, expect, it } from 'vitest'
import {
  guestConfig,
  Host,
  Kernel,
  LocalNetwork,
  Scheduler,
  Toolstack,
  Xenbus,
  XenbusWatch,
} from '../src/dom0/index.js'
import { ParameterError } from '../src/index.js'
import { connectSocket, TcpHost, TcpNetwork } from '../src/node/index.js'

const kernel = () => new Kernel(new Scheduler(), 'd0')
const peer = { page: () => new Uint8Array(4096), channel: { notify() {}, onEvent() {} }, close() {} }
const parts = { transport: { send() {}, listen() {} }, control: { create: () => 1, info() {}, destroy() {} } }
const noop = function* () {}

/** Messages begin with what each says; `bad` is put in among options that are fine. */
type Row = [given: string, value: unknown, said: string, run: (bad: never) => unknown]

const host = (bad: object) => new Host(bad)
const tcpHost = (bad: object) => new TcpHost(bad)
const create = (bad: object) => new Host().toolstack.create({ name: 'a', ...bad })

const MISSPELT: Row[] = [
  ['xen_mtwatch', true, 'Host: xen_mtwatch (true) is not an option; did you mean xenMtwatch?', host],
  ['desing', 'rfc', 'Host: desing ("rfc") is not an option; did you mean design?', host],
  ['guest', { frame: 9 }, 'Host: guest.frame (9) is not an option; did you mean guest.frames?', host],
  ['pvcalls', { maxWorkers: 2 }, 'Host: pvcalls.maxWorkers (2) is not an option', host],
  ['scheduler', { chose: noop }, 'Host: scheduler.chose (a function) is not an option; did you mean', host],
  ['preemt', 1, 'Scheduler: preemt (1) is not an option; did you mean preempt?', (bad) => new Scheduler(bad)],
  ['bufferbytes', 1, 'LocalNetwork: bufferbytes (1) is not an option; did you mean', (bad) => new LocalNetwork(bad)],
  [
    'mtwach',
    true,
    'Xenbus: mtwach (true) is not an option',
    (bad: object) => new Xenbus({ kernel: kernel(), peer, ...bad }),
  ],
  [
    'mtwach',
    true,
    'Toolstack: mtwach (true) is not an option; did you mean mtwatch?',
    (bad: object) => new Toolstack({ kernel: kernel(), ...parts, ...bad } as never),
  ],
  [
    'getDomId',
    noop,
    'XenbusWatch: getDomId (a function) is not an option; did you mean getDomid?',
    (bad: object) => new XenbusWatch({ node: 'a', callback: noop, ...bad }),
  ],
  ['disk', [], 'Toolstack.create: disk (a list of 0) is not an option; did you mean disks?', create],
  ['nics', [{ bridg: 'b' }], 'Toolstack.create: nics[0].bridg ("b") is not an option; did you mean', create],
  ['polcy', 'bounded', 'TcpHost: polcy ("bounded") is not an option; did you mean policy?', tcpHost],
  [
    'linger',
    1,
    'TcpNetwork: linger (1) is not an option; did you mean lingerMs?',
    (bad: object) => new TcpNetwork({ kick() {}, ...bad }),
  ],
]

const WRONG: Row[] = [
  ['xenMtwatch', 1, 'Host: xenMtwatch is 1; allowed: true, false', host],
  ['design', 'rcf', 'Host: design is "rcf"; allowed: single, rfc, talk, on-demand, or a function', host],
  ['dom0Cpus', 0, 'Host: dom0Cpus is 0; allowed: an integer from 1 to', host],
  ['maxDomid', 40_000, 'Host: maxDomid is 40000; allowed: an integer from 1 to', host],
  ['clock', {}, 'Host: clock.nowNs is undefined; allowed: a function', host],
  ['guest', { bits: 16 }, 'Host: guest.bits is 16; allowed: 32, 64', host],
  ['guest', { levels: 6 }, 'Host: guest.levels is 6; allowed: 2, 3', host],
  ['guest', null, 'Host: guest is null; allowed: an object', host],
  ['pvcalls', { network: {} }, 'Host: pvcalls.network.connect is undefined; allowed: a function', host],
  ['choose', 3, 'Scheduler: choose is 3; allowed: a function', (bad) => new Scheduler(bad)],
  ['bufferBytes', 0, 'LocalNetwork: bufferBytes is 0; allowed: an integer from 1 to', (bad) => new LocalNetwork(bad)],
  ['name', '', 'Toolstack.create: name is ""; allowed: a text that is not empty', create],
  ['name', undefined, 'Toolstack.create: name is undefined; allowed: a text', create],
  ['disks', [{ dev: 'sda' }], 'Toolstack.create: disks[0].dev is "sda"; allowed: xvda to xvdp', create],
  ['disks', [{}], 'Toolstack.create: disks[0].dev is undefined; allowed: a text', create],
  ['nics', [{ mac: '1:2' }], 'Toolstack.create: nics[0].mac is "1:2"; allowed: six bytes in hex', create],
  ['memoryMiB', 0.5, 'Toolstack.create: memoryMiB is 0.5; allowed: an integer from 1', create],
  ['cpus', 0, 'TcpHost: cpus is 0; allowed: an integer from 1 to 128', tcpHost],
  ['kick', undefined, 'TcpNetwork: kick is undefined; allowed: a function', (bad) => new TcpNetwork(bad)],
]

const refusal = (run: () => unknown): Error => {
  try {
    run()
  } catch (error) {
    return error as Error
  }
  throw new Error('nothing was thrown')
}

describe('a misspelt option', () => {
  it.each(MISSPELT)('%s: %j: is told with the name that was meant', (name, value, said, run) => {
    const error = refusal(() => run({ [name]: value } as never))
    expect(error).toBeInstanceOf(ParameterError)
    expect(error.message).toContain(said)
  })
})

describe('a wrong value', () => {
  it.each(WRONG)('%s: %j: is told with what is allowed', (name, value, said, run) => {
    const error = refusal(() => run({ [name]: value } as never))
    expect(error).toBeInstanceOf(ParameterError)
    expect(error.message).toContain(said)
  })
})

describe('what is refused', () => {
  it('leaves no domain, although a configuration is refused before its task has run', () => {
    const host = new Host()
    expect(() => host.toolstack.create({ name: 'a', disks: [{ dev: 'sda' }] })).toThrow(ParameterError)
    expect([host.domains.guest(1), host.xen.domain(1)]).toEqual([undefined, undefined])
  })

  it('is no name for guestConfig', () => {
    expect(() => guestConfig(7 as never)).toThrow('guestConfig: name is 7; allowed: a text')
  })

  it('is an option of a wait that does not exist, in the thread that would wait', () => {
    const host = new Host()
    const wait = host.kernel.waitQueue()
    const misspelt = { timeoutNS: 5 } as never
    expect(() =>
      host.complete(
        'p',
        wait.until(() => false, misspelt),
      ),
    ).toThrow('until: timeoutNS (5) is not an option; did you mean timeoutNs?')
  })

  it('is an option of a client of the daemon, before it connects', async () => {
    await expect(connectSocket('/nowhere', { onerror: noop } as never)).rejects.toThrow(
      'connectSocket: onerror (a function) is not an option; did you mean onError?',
    )
  })

  it('is a program that is no generator function', async () => {
    const host = new TcpHost()
    try {
      const said = /TcpHost.guest: program is .*; allowed: a generator function/
      await expect(host.guest((async () => 1) as never)).rejects.toThrow(said)
      await expect(host.guest((() => undefined) as never)).rejects.toThrow(said)
      await expect(host.guest(7 as never)).rejects.toThrow('TcpHost.guest: program is 7; allowed: a function')
    } finally {
      host.close()
    }
  })

  it('are options of sockets that do not exist', () => {
    const host = new Host({ guest: { frames: 256 } })
    expect(host.complete('xl', host.toolstack.create({ name: 'a', pvcalls: true })).ok).toBe(true)
    host.pass(1)
    const { pvcalls } = host.guest(1)
    const at = { ip: '10.0.0.1', port: 80 }
    const run = (task: unknown) => refusal(() => host.complete('p', task as never)).message
    expect(run(pvcalls.connect(at, { order: 3 } as never))).toContain('connect: order (3) is not an option')
    expect(run(pvcalls.listen(at, { backlogs: 3 } as never))).toContain('did you mean backlog?')
    expect(run(pvcalls.listen({ ...at, port: 1.5 }))).toContain('listen: address.port is 1.5; allowed: an integer')
    expect(run(pvcalls.connect({ port: 80 } as never))).toContain('connect: address.ip is undefined; allowed: a text')
  })
})
