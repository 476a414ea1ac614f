/** Xen's own programs against our daemon. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { xenstored } from '../../src/node/xenstored_fixture.js'
import { defaultSocketPath, type SocketServer, serveSocket } from '../../src/node/xenstored_socket.js'
import { checkStore, restoreState, saveState, XenStored } from '../../src/xenstore/index.js'
import { insideStore } from '../../src/xenstore/server.js'
import { execute, haveTools, required, temporary, testXenstore, title, xenstoreControl } from './real.js'

const place = temporary()
const server = new XenStored()
const env = { XENSTORED_PATH: join(place.path, 'socket') }
let listening: SocketServer
beforeAll(async () => {
  listening = await serveSocket(server, env.XENSTORED_PATH)
})
afterAll(async () => {
  expect(checkStore(server)).toEqual([])
  await listening.close()
  place[Symbol.dispose]()
})

const run = async (tool: string, ...args: string[]) => {
  const { code, stdout, stderr } = await execute(tool, args, env)
  return `${stdout}${stderr}${code ? `exit ${code}` : ''}`
}

it('XS-sock-2: where the tools look for the daemon', () => {
  expect(defaultSocketPath({ XENSTORED_PATH: '/p', XENSTORED_RUNDIR: '/r' })).toBe('/p')
  expect(defaultSocketPath({ XENSTORED_RUNDIR: '/r' })).toBe('/r/socket')
  expect(defaultSocketPath({})).toBe('/var/run/xenstored/socket')
})

const tools = title('xenstore-utils', haveTools, 'xenstore-utils is not installed')
describe.skipIf(!haveTools && !required)(tools, () => {
  it('XS-cli-1, XS-cli-2: xenstore-write and xenstore-read, one key and several', async () => {
    expect(await run('xenstore-write', '/t/a', 'one')).toBe('')
    expect(await run('xenstore-write', '/t/b', 'two words', '/t/c', '')).toBe('')
    expect(await run('xenstore-read', '/t/a')).toBe('one\n')
    expect(await run('xenstore-read', '-p', '/t/a', '/t/b')).toBe('/t/a: one\n/t/b: two words\n')
    expect(await run('xenstore-read', '/t/none')).toContain('exit 1')
  })

  it('XS-perm-1: a session of the tools against the sockets of guests', async () => {
    await using daemon = await xenstored({ guests: [7, 8] })
    const as =
      (domid: number) =>
      async (tool: string, ...args: string[]) => {
        const path = domid ? `${daemon.path}.${domid}` : daemon.path
        const { code, stdout, stderr } = await execute(tool, args, { XENSTORED_PATH: path })
        return `${stdout}${stderr}${code ? `exit ${code}` : ''}`
      }
    const [dom0, seven, eight] = [as(0), as(7), as(8)]
    expect(await dom0('xenstore-write', '/local/domain/7', '')).toBe('')
    expect(await dom0('xenstore-chmod', '/local/domain/7', 'n7')).toBe('')
    expect(await seven('xenstore-write', '/local/domain/7/data/a', 'x y', 'data/b', '')).toBe('')
    expect(await seven('xenstore-read', 'data/a')).toBe('x y\n')
    expect((await seven('xenstore-ls', '-p', 'data')).replace(/[ .]+/g, ' ')).toBe('a = "x y" (n7)\nb = "" (n7)\n')
    expect(await seven('xenstore-exists', 'data/a')).toBe('')
    expect(await eight('xenstore-read', '/local/domain/7/data/a')).toMatch(/exit 1$/)
    expect(await eight('xenstore-write', '/local/domain/7/data/a', 'z')).toMatch(/exit 1$/)
    expect(await seven('xenstore-chmod', 'data/a', 'n7', 'r8')).toBe('')
    expect(await eight('xenstore-read', '/local/domain/7/data/a')).toBe('x y\n')
    const watching = seven('xenstore-watch', '-n', '2', 'data/a')
    // It prints the path once when it is registered.
    while (daemon.store.connections.every(({ openWatches }) => !openWatches)) await sleep(5)
    expect(await dom0('xenstore-rm', '/local/domain/7/data')).toBe('')
    expect(await watching).toBe('data/a\ndata/a\n')
    expect(await seven('xenstore-list', '/local/domain/7')).toBe('')
    const quota = await Promise.all(Array.from({ length: 8 }, (_, i) => seven('xenstore-write', `q/${i}`, 'v')))
    expect(quota).toEqual(Array.from({ length: 8 }, () => ''))
    expect(checkStore(daemon.store)).toEqual([])
  })

  it('XS-cli-3, XS-cli-4: xenstore-list and xenstore-ls -fp', async () => {
    expect(await run('xenstore-list', '/t')).toBe('a\nb\nc\n')
    expect(await run('xenstore-chmod', '/t/a', 'n0', 'r5', 'b6')).toBe('')
    const ls = await run('xenstore-ls', '-fp', '/t')
    expect(ls.replace(/ +/g, ' ')).toBe('/t/a = "one" (n0,r5,b6)\n/t/b = "two words" (n0)\n/t/c = "" (n0)\n')
    expect(await run('xenstore-ls')).toContain('t = ""')
  })

  it('XS-cli-4: xenstore-ls of a directory that is longer than a packet', async () => {
    const script = Array.from({ length: 700 }, (_, i) => [`/long/child-number-${i}`, 'v']).flat()
    expect(await run('xenstore-write', ...script)).toBe('')
    const ls = await run('xenstore-ls', '-f', '/long')
    expect(ls.split('\n')).toHaveLength(701)
    expect(ls).toContain('/long/child-number-699 = "v"')
  })

  it('XS-cli-5: xenstore-exists', async () => {
    expect(await run('xenstore-exists', '/t/a')).toBe('')
    expect(await run('xenstore-exists', '/t/none')).toBe('exit 1')
  })

  it('XS-cli-7: xenstore-chmod -r and -u', async () => {
    await run('xenstore-write', '/m/x/y', 'v')
    expect(await run('xenstore-chmod', '-r', '/m', 'n0', 'r7')).toBe('')
    expect(await run('xenstore-chmod', '-u', '/m/x/y', 'n0', 'w8')).toBe('')
    expect((await run('xenstore-ls', '-fp', '/m')).replace(/ +/g, ' ')).toContain('/m/x/y = "v" (n0,w8)')
  })

  it('XS-cli-8: xenstore-watch counts the first event too', async () => {
    const watch = spawn('xenstore-watch', ['-n', '4', '/watched'], { env: { ...process.env, ...env } })
    let seen = ''
    watch.stdout.on('data', (data) => {
      seen += data
    })
    const ended = new Promise((resolve) => watch.on('close', resolve))
    while (!seen) await sleep(5)
    await run('xenstore-write', '/watched', '1')
    await run('xenstore-write', '/watched/below', '1')
    await run('xenstore-rm', '/watched')
    expect(await ended).toBe(0)
    expect(seen).toBe('/watched\n/watched\n/watched/below\n/watched\n')
  })

  it('XS-cli-6: xenstore-rm, and -t for empty parents', async () => {
    await run('xenstore-write', '/e/f/g', 'v')
    expect(await run('xenstore-rm', '-t', '/e/f/g')).toBe('')
    expect(await run('xenstore-exists', '/e')).toBe('exit 1')
    expect(await run('xenstore-rm', '/t')).toBe('')
    expect(await run('xenstore-exists', '/t/a')).toBe('exit 1')
  })

  it('XS-cli-4, XS-cli-8, XS-cli-12: ls, watch and transactions by tools, across a restart of the daemon', async () => {
    using folder = temporary()
    const at = { XENSTORED_PATH: join(folder.path, 'socket') }
    const tool = async (name: string, ...args: string[]) => {
      const { code, stdout, stderr } = await execute(`xenstore-${name}`, args, at)
      return `${stdout}${stderr}${code ? `exit ${code}` : ''}`
    }
    const first = new XenStored()
    const before = await serveSocket(first, at.XENSTORED_PATH)
    expect(await tool('write', '/r/b', '1', '/r/a', 'two words', '/r/a/deep', '')).toBe('')
    expect(await tool('chmod', '/r/a', 'n0', 'r5')).toBe('')
    const watch = tool('watch', '-n', '3', '/r')
    while (insideStore(first).watches.size === 0) await sleep(5)
    expect(await tool('write', '/r/b', '2', '/r/c', '3')).toBe('')
    expect(await watch).toBe('/r\n/r/b\n/r/c\n')
    const seen = await tool('ls', '-fp')
    const state = saveState(first)
    await before.close()
    const second = new XenStored()
    restoreState(second, state)
    const after = await serveSocket(second, at.XENSTORED_PATH)
    try {
      expect(seen).toContain('/r/a/deep')
      expect(await tool('ls', '-fp')).toBe(seen)
      expect(await tool('write', '/r/b', '4', '/r/a', '5')).toBe('')
      expect(await tool('read', '/r/b', '/r/a')).toBe('4\n5\n')
      expect(await tool('rm', '-t', '/r/a/deep')).toBe('')
      expect(checkStore(second)).toEqual([])
    } finally {
      await after.close()
    }
  })

  it('XS-cli-12: two tools at the same key at the same time', async () => {
    const writers = Array.from({ length: 12 }, (_, i) => run('xenstore-write', '/race/a', `${i}`, '/race/b', `${i}`))
    expect(await Promise.all(writers)).toEqual(Array(12).fill(''))
    expect(await run('xenstore-read', '/race/a')).toBe(await run('xenstore-read', '/race/b'))
  })
})

const programs = title('xen-utils', testXenstore, 'xen-utils is not unpacked')
describe.skipIf(!testXenstore && !required)(programs, () => {
  it('XS-cli-10: test-xenstore knows its twelve tests', async () => {
    expect((await run(testXenstore!, '-l')).trim().split('\n').length).toBeGreaterThanOrEqual(12)
  })

  it('XS-cli-10: test-xenstore passes', async () => {
    const { code, stdout, stderr } = await execute(testXenstore!, [], env)
    expect(stderr).toBe('')
    expect(stdout).toContain('ta err')
    expect(code).toBe(0)
  })

  it('XS-cli-10: test-xenstore -i 200 passes', async () => {
    expect(await run(testXenstore!, '-i', '200')).not.toMatch(/fail|exit/)
  })

  it('XS-cli-10: test-xenstore -r 10 passes', async () => {
    expect(await run(testXenstore!, '-r', '10')).not.toMatch(/fail|exit/)
  })

  it('XS-cli-9: xenstore-control', async () => {
    expect(await run(xenstoreControl!, 'check')).toBe('OK\n')
    expect(await run(xenstoreControl!, 'quota')).toContain('nodes')
  })
})
