/** Xen's own daemons and libraries on the library: both stores serve its guests, vchan carries bytes, and nothing spins. */

import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { afterEach, describe, expect, it, onTestFinished } from 'vitest'
import { connectSocket } from '../../../src/node/index.js'
import { RingClientTransport, XenStoreClient } from '../../../src/xenstore/index.js'
import { notRun, Rig, skipped } from './rig.js'

let rig: Rig | undefined
afterEach(async () => {
  await rig?.close()
  rig = undefined
})

/** dom0's client on a daemon's socket, once it listens. */
async function connected(on: Rig): Promise<XenStoreClient> {
  let client: XenStoreClient | undefined
  await on.until(async () => {
    client = existsSync(join(on.dir, 'socket'))
      ? await connectSocket(join(on.dir, 'socket')).catch(() => undefined)
      : undefined
    return client !== undefined
  }, 'the daemon listens')
  return client!
}

/** The home of a domain, and its ring, made known to a daemon. */
async function introduce(on: Rig, dom0: XenStoreClient, domid: number): Promise<void> {
  const { kernel } = on.host.domain(domid)!
  const home = `/local/domain/${domid}`
  await dom0.mkdir(home)
  await dom0.setPermissions(home, [`n${domid}`])
  await dom0.write(`${home}/domid`, `${domid}`)
  await dom0.introduce(domid, kernel!.storeGfn, kernel!.storePort)
}

const STORES = {
  'C xenstored': ['xenstored', '-N'],
  oxenstored: ['oxenstored', '--no-fork'],
} as const

describe.skipIf(skipped)(`${notRun}Xen's own stores`, () => {
  it.each(Object.keys(STORES) as (keyof typeof STORES)[])('%s serves guests over their rings', async (name) => {
    rig = await Rig.start({ store: 'none', domains: [1, 2] })
    const daemon = rig.start(0, [...STORES[name]])
    const dom0 = await connected(rig)
    for (const domid of [1, 2]) await introduce(rig, dom0, domid)
    const guest = new XenStoreClient(new RingClientTransport(rig.host.domain(1)!.storePeer()))
    expect(await guest.read('domid')).toBe('1')
    await guest.write('big', 'x'.repeat(2000))
    expect(await dom0.read('/local/domain/1/big')).toHaveLength(2000)
    await expect(guest.write('/local/domain/2/mine', '')).rejects.toThrow('EACCES')
    const events = (await guest.watch('seen'))[Symbol.asyncIterator]()
    await events.next()
    await dom0.write('/local/domain/1/seen', 'now')
    expect((await events.next()).value).toMatchObject({ path: 'seen' })
    const released = (await dom0.watch('@releaseDomain'))[Symbol.asyncIterator]()
    await released.next()
    rig.host.destroyByToolstack(rig.host.domain(2)!)
    expect((await released.next()).value).toMatchObject({ path: '@releaseDomain' })
    expect([...rig.host.unknownCalls.keys()]).toEqual([])
    guest.close()
    dom0.close()
    const ended = new Promise((resolve) => daemon.on('exit', resolve))
    await rig.host.close()
    await ended
  })
})

describe.skipIf(skipped)(`${notRun}libxenvchan`, () => {
  /** Sends bytes into one end of a pair of proxies; what comes out of the other, until all did. */
  const carried = (from: Socket, to: Socket, bytes: Buffer) =>
    new Promise<string>((resolve) => {
      const hash = createHash('sha256')
      let got = 0
      to.on('data', (part: Buffer) => {
        hash.update(part)
        got += part.length
        if (got === bytes.length) resolve(hash.digest('hex'))
      })
      from.write(bytes)
    })

  it('carries bytes both ways between two domains, and tells the client when the server is killed', async () => {
    rig = await Rig.start({ domains: [1, 2] })
    const [near, far] = [join(rig.dir, 'near'), join(rig.dir, 'far')]
    const accepted = new Promise<Socket>((resolve) => {
      const server = createServer((socket) => {
        server.close()
        resolve(socket)
      })
      server.listen(far)
    })
    const server = rig.start(1, ['vchan-socket-proxy', '-m', 'server', '2', 'data/vchan', far])
    await rig.until(
      async () => (await rig!.run(0, ['xenstore-exists', '/local/domain/1/data/vchan/event-channel'])).code === 0,
      'the server offers',
    )
    const client = rig.start(2, ['vchan-socket-proxy', '-m', 'client', '1', '/local/domain/1/data/vchan', near])
    await rig.until(() => existsSync(near), 'the client listens')
    const there = connect(near)
    const here = await accepted
    const bytes = Buffer.alloc(1 << 20)
    for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 2654435761) >>> 24
    const sum = createHash('sha256').update(bytes).digest('hex')
    expect(await carried(there, here, bytes)).toBe(sum)
    expect(await carried(here, there, bytes)).toBe(sum)
    // The unmap notification tells the client, which lets go of who is connected to it.
    const ended = new Promise((resolve) => there.on('close', resolve))
    server.kill('SIGKILL')
    await ended
    client.kill()
    await rig.until(
      () => rig!.host.xen.grants.inUse(rig!.host.domain(1)!.domain) <= 1,
      'no page of the server is in use',
    )
  })
})

/** Processor time of a process in ticks, or undefined if it is gone. */
function ticks(pid: number): number | undefined {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ')
    return fields[0] === 'Z' ? undefined : Number(fields[11]) + Number(fields[12])
  } catch {
    return undefined
  }
}

describe.skipIf(skipped)(`${notRun}a host that dies`, () => {
  it('takes its programs along: no daemon is left, and none spins', async () => {
    const { spawn } = await import('node:child_process')
    rig = await Rig.start({ store: 'none' })
    const main = new URL('../../../dist/cli/main.js', import.meta.url).pathname
    const dir = join(rig.dir, 'other')
    const hostd = spawn(process.execPath, [main, 'hostd', dir, '--store', 'none', '--quiet'], { stdio: 'ignore' })
    // A test that fails leaves neither behind.
    onTestFinished(() => void hostd.kill('SIGKILL'))
    await rig.until(() => existsSync(join(dir, 'host.sock')), 'the host listens')
    const { programIn } = await import('../../../src/node/hostd/index.js')
    const program = programIn({ dir, parts: rig.host.parts! }, 0, ['oxenstored', '--no-fork'])
    // Not a child of the host that dies.
    const daemon = spawn(program.command, program.args, { env: program.env, stdio: 'ignore' })
    onTestFinished(() => void daemon.kill('SIGKILL'))
    await rig.until(() => existsSync(join(dir, 'socket')), 'the daemon listens')
    hostd.kill('SIGKILL')
    await rig.until(() => ticks(daemon.pid!) === undefined, 'the daemon ends')
  })
})
