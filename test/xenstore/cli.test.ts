/** `evtchn xenstored` as a program. It is the built one: `npm test` builds first. */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it, onTestFinished } from 'vitest'
import { connectSocket } from '../../src/node/xenstored_socket.js'
import { execute, haveTools, required, temporary, title } from './real.js'

const built = join(fileURLToPath(new URL('../..', import.meta.url)), 'dist/cli/main.js')
const command = (...args: string[]) => [built, 'xenstored', ...args]

async function start(...args: string[]): Promise<{ child: ChildProcess; ended: Promise<number | null>; said: string }> {
  const child = spawn(process.execPath, command(...args))
  // A test that fails leaves no daemon behind.
  onTestFinished(() => void child.kill('SIGKILL'))
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve))
  const said = await new Promise<string>((resolve, reject) => {
    child.stdout.once('data', (data) => resolve(String(data)))
    child.once('exit', () => reject(new Error('it ended')))
  })
  return { child, ended, said }
}

describe.skipIf(!existsSync(built))(title('evtchn xenstored', existsSync(built), 'dist is not built'), () => {
  it('--help says what it does, and so does a wrong argument say what is wrong', async () => {
    const help = await execute(process.execPath, command('--help'))
    expect(help).toMatchObject({ code: 0, stderr: '' })
    expect(help.stdout).toContain('--socket PATH')
    for (const [args, text] of [
      [['--nonsense'], 'unknown option --nonsense'],
      [['stray'], 'stray'],
      [['--profile', 'other'], '--profile is "other"; allowed: c-4.17, c-4.23'],
      [['--socket'], 'socket'],
      [['--socket', ''], '--socket is ""; allowed: a text that is not empty'],
    ] as const) {
      const wrong = await execute(process.execPath, command(...args))
      expect(wrong).toMatchObject({ code: 2, stdout: '' })
      expect(wrong.stderr).toContain(text)
    }
  })

  it('a socket that cannot be made is exit 1', async () => {
    const failed = await execute(process.execPath, command('--socket', '/nonexistent/folder/s'))
    expect(failed).toMatchObject({ code: 1, stdout: '' })
    expect(failed.stderr).toBe(
      'evtchn xenstored: /nonexistent/folder/s: there is no folder /nonexistent/folder; make it with mkdir -p, or name another path\n',
    )
  })

  it('XS-perm-1, XS-quota-1: --guest serves a guest beside the daemon, with its permissions; domain 0 releases it', async () => {
    using place = temporary()
    const path = join(place.path, 's')
    const { child, ended, said } = await start('--socket', path, '--guest', '7,9')
    expect(said).toBe(`listening on ${path}, ${path}.7, ${path}.9\n`)
    const [dom0, seven, nine] = [
      await connectSocket(path),
      await connectSocket(`${path}.7`),
      await connectSocket(`${path}.9`),
    ]
    await dom0.write('/local/domain/7/name', 'seven')
    await dom0.setPermissions('/local/domain/7', [{ domid: 7, letter: 'n' }])
    expect(await seven.getDomainPath(7)).toBe('/local/domain/7')
    await seven.write('data', 'x')
    expect(await dom0.read('/local/domain/7/data')).toBe('x')
    await expect(nine.read('/local/domain/7/data')).rejects.toMatchObject({ code: 'EACCES' })
    await expect(seven.write('/tool/x', '')).rejects.toMatchObject({ code: 'EACCES' })
    const gone = await dom0.watch('@releaseDomain')
    const events = gone[Symbol.asyncIterator]()
    await events.next()
    await dom0.release(7)
    expect((await events.next()).value.path).toBe('@releaseDomain')
    for (const client of [dom0, seven, nine]) client.close()
    child.kill('SIGTERM')
    expect(await ended).toBe(0)
    expect(existsSync(`${path}.7`)).toBe(false)
  })

  it('--state: a daemon that is stopped and started is the same daemon', async () => {
    using place = temporary()
    const [path, state] = ['s', 'state'].map((name) => join(place.path, name)) as [string, string]
    for (const value of ['first', 'second']) {
      const { child, ended } = await start('--socket', path, '--state', state, '--guest', '3')
      const client = await connectSocket(path)
      if (value === 'second') expect(await client.read('/kept')).toBe('first')
      await client.write('/kept', value)
      client.close()
      child.kill('SIGTERM')
      expect(await ended).toBe(0)
      expect(existsSync(`${state}.new`)).toBe(false)
    }
    writeFileSync(state, 'nonsense')
    const failed = await execute(process.execPath, command('--socket', path, '--state', state))
    expect(failed).toMatchObject({ code: 1, stdout: '' })
  })

  it('--state: a daemon that is killed loses a second at most', async () => {
    using place = temporary()
    const [path, state] = ['s', 'state'].map((name) => join(place.path, name)) as [string, string]
    const { child, ended } = await start('--socket', path, '--state', state)
    const client = await connectSocket(path)
    await client.write('/kept', 'over a kill')
    while (!existsSync(state) || !readFileSync(state).includes('over a kill')) await client.read('/kept')
    child.kill('SIGKILL')
    await ended
    await start('--socket', path, '--state', state)
    const second = await connectSocket(path)
    expect(await second.read('/kept')).toBe('over a kill')
    second.close()
  })

  it('--fail: requests fail as they are told to, and a fault that cannot be is a mistake', async () => {
    using place = temporary()
    const path = join(place.path, 's')
    const { child, ended } = await start('--socket', path, '--fail', 'write=ENOSPC@2,transaction_end=EAGAIN')
    const client = await connectSocket(path)
    await client.write('/a', '1')
    await expect(client.write('/a', '2')).rejects.toMatchObject({ code: 'ENOSPC' })
    await client.write('/a', '3')
    let tries = 0
    await client.transaction(async (t) => {
      tries++
      await t.write('/b', '')
    })
    expect([await client.read('/a'), tries]).toEqual(['3', 2])
    client.close()
    child.kill('SIGTERM')
    expect(await ended).toBe(0)
    const wrong = await execute(process.execPath, command('--socket', path, '--fail', 'write'))
    expect(wrong).toMatchObject({ code: 2, stdout: '' })
    expect(wrong.stderr).toContain('--fail')
  })

  it('--fail: a connection is cut, a reply is late, and what was asked behind it waits', async () => {
    using place = temporary()
    const path = join(place.path, 's')
    const { child, ended } = await start('--socket', path, '--fail', 'mkdir=cut,read=slow:80')
    const cut = await connectSocket(path)
    await expect(cut.mkdir('/a')).rejects.toThrow()
    expect(cut.closed).toBe(true)
    const client = await connectSocket(path)
    const startMs = performance.now()
    const tookMs = async (request: Promise<unknown>) => {
      await request
      return performance.now() - startMs
    }
    for (const took of await Promise.all([tookMs(client.read('/tool')), tookMs(client.ls('/'))]))
      expect(took).toBeGreaterThan(75)
    expect(await client.ls('/')).toEqual(['tool'])
    client.close()
    child.kill('SIGTERM')
    expect(await ended).toBe(0)
  })

  it('--readonly: clients of PATH_ro read and watch, and change nothing', async () => {
    using place = temporary()
    const [path, dump] = ['s', 'out.json'].map((name) => join(place.path, name)) as [string, string]
    const { child, ended, said } = await start('--socket', path, '--readonly', '--dump', dump)
    expect(said).toBe(`listening on ${path}, ${path}_ro\n`)
    const [dom0, reader] = [await connectSocket(path), await connectSocket(`${path}_ro`)]
    const watch = await reader.watch('/a')
    const events = watch[Symbol.asyncIterator]()
    await events.next()
    await dom0.write('/a', 'ä')
    expect((await events.next()).value.path).toBe('/a')
    expect(await reader.read('/a')).toBe('ä')
    for (const change of [
      reader.write('/a', ''),
      reader.mkdir('/b'),
      reader.rm('/a'),
      reader.setPermissions('/a', [{ domid: 0, letter: 'r' }]),
      reader.release(7),
      reader.transaction((t) => t.write('/a', '')),
    ])
      await expect(change).rejects.toMatchObject({ code: 'EACCES' })
    for (const client of [dom0, reader]) client.close()
    child.kill('SIGTERM')
    expect(await ended).toBe(0)
    expect(existsSync(`${path}_ro`)).toBe(false)
    const { nodes } = JSON.parse(readFileSync(dump, 'utf8'))
    expect(nodes).toContainEqual({ path: '/a', value: 'ä', permissions: ['n0'] })
  })

  it('XS-list-1: --load fills it from a listing, and --dump writes the same when it ends', async () => {
    using place = temporary()
    const [path, listing, dump] = ['s', 'in', 'out'].map((name) => join(place.path, name)) as [string, string, string]
    const text = '/tool = ""   (n0)\n/tool/xenstored = ""   (n0)\n/a = "1\\n"   (n5,r7)\n'
    writeFileSync(listing, text)
    const { child, ended } = await start('--socket', path, '--load', listing, '--dump', dump)
    const client = await connectSocket(path)
    expect(await client.read('/a')).toBe('1\n')
    await client.write('/b', 'v')
    client.close()
    child.kill('SIGTERM')
    expect(await ended).toBe(0)
    expect(readFileSync(dump, 'utf8')).toBe(`${text}/b = "v"   (n0)\n`)
    writeFileSync(listing, '/a = 1\n')
    const failed = await execute(process.execPath, command('--socket', path, '--load', listing))
    expect(failed).toMatchObject({ code: 1, stdout: '' })
    expect(failed.stderr).toContain('line 1 of the listing')
    expect(existsSync(path)).toBe(false)
  })

  it('SIGTERM and SIGINT end it cleanly: exit 0, connections closed, no socket file left', async () => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      using place = temporary()
      const path = join(place.path, 's')
      const { child, ended, said } = await start('--socket', path)
      expect(said).toBe(`listening on ${path}\n`)
      const client = await connectSocket(path)
      await client.write('/x', 'v')
      const watch = await client.watch('/x')
      child.kill(signal)
      expect(await ended).toBe(0)
      expect(existsSync(path)).toBe(false)
      for await (const _ of watch);
      expect(client.closed).toBe(true)
    }
  })

  it('takes the socket from XENSTORED_PATH and a profile by name', async () => {
    using place = temporary()
    const path = join(place.path, 's')
    const child = spawn(process.execPath, command('--profile', 'c-4.23'), {
      env: { ...process.env, XENSTORED_PATH: path },
    })
    onTestFinished(() => void child.kill('SIGKILL'))
    const ended = new Promise((resolve) => child.on('close', resolve))
    await new Promise((resolve) => child.stdout.once('data', resolve))
    const client = await connectSocket(path)
    await client.mkdir('/z')
    await client.mkdir('/a')
    expect(await client.ls('/')).toEqual(['tool', 'z', 'a'])
    client.close()
    child.kill()
    expect(await ended).toBe(0)
  })

  it.skipIf(!haveTools && !required)(
    title('a tool finds it', haveTools, 'xenstore-utils is not installed'),
    async () => {
      using place = temporary()
      const path = join(place.path, 's')
      const { child, ended } = await start('--socket', path)
      const listed = await execute('xenstore-ls', [], { XENSTORED_PATH: path })
      expect(listed.stdout).toBe('tool = ""\n xenstored = ""\n')
      child.kill()
      await ended
    },
  )
})
