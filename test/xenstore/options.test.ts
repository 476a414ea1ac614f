/** Options of the daemon, the client and the socket: a mistake names call, option, value and what is allowed. */
import { describe, expect, it } from 'vitest'
import { connectSocket, serveSocket } from '../../src/node/xenstored_socket.js'
import { C_4_17, connectInProcess, XenStored } from '../../src/xenstore/index.js'

/** What JavaScript passes, whatever the types say. */
const make = (options: unknown) => new XenStored(options as ConstructorParameters<typeof XenStored>[0])

describe('XenStored', () => {
  it.each([
    [{ profil: C_4_17 }, /XenStored: .*profil.*profile/],
    [{ profile: 'c-4.17' }, /XenStored: profile is "c-4.17"; allowed: a profile such as C_4_17/],
    [{ profile: {} }, /XenStored: profile.overLong is undefined/],
    [{ profile: { ...C_4_17, childorder: 'creation' } }, /profile.childorder.*profile.childOrder/],
    [{ quotas: { node: 5 } }, /quotas.node.*quotas.nodes/],
    [{ quotas: { nodes: '5' } }, /XenStored: quotas.nodes is "5"; allowed: an integer/],
    [{ quotas: { nodes: -1 } }, /quotas.nodes is -1/],
    [{ host: { state: () => null } }, /XenStored: host.connect is undefined; allowed: a function/],
    [{ now: 5 }, /XenStored: now is 5; allowed: a function/],
    [{ outputMax: 0 }, /outputMax is 0/],
    [{ onMemoryWarning: true }, /onMemoryWarning is true; allowed: a function/],
    [null, /XenStored: options is null/],
  ])('refuses %j', (options, message) => {
    expect(() => make(options)).toThrow(message)
  })
})

describe('the client', () => {
  const client = connectInProcess(new XenStored()) as unknown as Record<
    string,
    (...args: unknown[]) => Promise<unknown>
  >

  it.each([
    ['write', ['/tool/x', 5], /write: value is 5; allowed: a string or a Uint8Array/],
    ['read', [undefined], /READ: path is undefined; allowed: a text/],
    ['watch', ['/x', { onevent: () => {} }], /watch: .*onevent.*onEvent/],
    ['watch', ['/x', { depth: -1 }], /watch: depth is -1/],
    ['transaction', [5], /transaction: body is 5; allowed: a function/],
    ['transaction', [() => {}, { attempt: 1 }], /transaction: .*attempt.*attempts/],
  ])('refuses a wrong argument of %s', async (method, args, message) => {
    await expect(client[method]!(...args)).rejects.toThrow(message)
  })
})

describe('the socket', () => {
  it('refuses what is no daemon, and no path', async () => {
    await expect(serveSocket({} as XenStored, '/tmp/x')).rejects.toThrow(/serveSocket: daemon .*allowed: a XenStored/)
    await expect(serveSocket(new XenStored(), '')).rejects.toThrow(/serveSocket: path is ""/)
    await expect(connectSocket(5 as unknown as string)).rejects.toThrow(/connectSocket: path is 5; allowed: a text/)
  })
})
