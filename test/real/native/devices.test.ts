/** The devices as programs see them: against what Linux does; in C, static C, Python's and Go's way; and from two hosts. */

import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { notRun, Rig, skipped } from './rig.js'

const SOURCE = fileURLToPath(new URL('programs/evtchn.c', import.meta.url))

/** Lines of the program that say DIFFERS. */
const differing = (out: string) => out.split('\n').filter((line) => line.startsWith('DIFFERS'))

describe.skipIf(skipped)(`${notRun}devices of native programs`, () => {
  let rig: Rig
  let folder: string
  const built = (name: string, ...flags: string[]) => {
    execFileSync('cc', ['-O1', '-Wall', '-Werror', ...flags, '-o', join(folder, name), SOURCE, '-lpthread'])
    return join(folder, name)
  }

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'evtchn-programs-'))
    chmodSync(folder, 0o755)
    rig = await Rig.start({ domains: [1, 2] })
  })
  afterAll(async () => {
    await rig?.close()
    rmSync(folder, { recursive: true, force: true })
  })

  it('do what Linux does, but for a read of 3 bytes', async () => {
    const { out, err } = await rig.run(1, [built('evtchn'), '1'])
    expect(err).toBe('')
    expect(out.split('\n').filter((line) => line.startsWith('ok ')).length).toBeGreaterThanOrEqual(40)
    expect(differing(out)).toEqual(['DIFFERS read of 3 bytes: 0'])
  })

  it('do the same for a static program, but for what happens at munmap, which nobody sees', async () => {
    const { out, err } = await rig.run(1, [built('evtchn-static', '-static', '-DSTATIC'), '1'])
    expect(err).toBe('')
    expect(out.split('\n').filter((line) => line.startsWith('ok ')).length).toBeGreaterThanOrEqual(37)
    expect(differing(out)).toEqual(['DIFFERS read of 3 bytes: 0', 'DIFFERS SET_UNMAP_NOTIFY clears its byte at munmap'])
  })

  it('a program killed in the middle leaves no port, page or socket behind, and the next one finds all free', async () => {
    const { channels } = rig.host.domain(1)!.kernel!
    const [frames, ports] = [channels.frames.available, rig.host.domain(1)!.domain.openPorts]
    const child = rig.start(1, [built('evtchn'), '1'])
    await rig.until(() => rig.host.domain(1)!.domain.openPorts > ports, 'it has bound ports')
    child.kill('SIGKILL')
    await rig.until(() => rig.host.domain(1)!.domain.openPorts === ports, 'its ports are closed')
    await rig.until(() => channels.frames.available === frames, 'its pages are free')
    expect(rig.host.xen.grants.inUse(rig.host.domain(1)!.domain)).toBeLessThanOrEqual(1)
  })

  it('a python program without any library of Xen’s rings a port of another domain', async () => {
    const script = [
      'import fcntl, os, struct, sys',
      'fd = os.open("/dev/xen/evtchn", os.O_RDWR)',
      'port = fcntl.ioctl(fd, 4 << 16 | 0x4502, bytearray(struct.pack("I", 2)), True)',
      'print(port, flush=True)',
      'print(struct.unpack("I", os.read(fd, 4))[0])',
    ].join('\n')
    const { command, args, env } = rig.program(1, ['python3', '-c', script])
    const { spawn } = await import('node:child_process')
    const child = spawn(command, args, { env, stdio: ['ignore', 'pipe', 'inherit'] })
    let out = ''
    child.stdout.on('data', (bytes) => {
      out += bytes
    })
    await rig.until(() => out.includes('\n'), 'it has a port')
    const port = Number(out)
    const other = rig.host.domain(2)!.kernel!.channels
    other.send(other.bindInterdomain(1, port, () => {}))
    await new Promise((resolve) => child.on('close', resolve))
    expect(out).toBe(`${port}\n${port}\n`)
  })

  it('an unprivileged user has a host of its own', () => {
    if (process.getuid?.() !== 0) return
    const dir = '/dev/shm/evtchn-of-nobody'
    rmSync(dir, { recursive: true, force: true })
    const main = fileURLToPath(new URL('../../../dist/cli/main.js', import.meta.url))
    const env = { PATH: process.env.PATH, HOME: '/nonexistent', TMPDIR: '/tmp' }
    const done = spawnSync(process.execPath, [main, 'run', '--dom', '1', '--', built('evtchn'), '1'], {
      ...{ uid: 65534, gid: 65534, env, encoding: 'utf8' },
    })
    expect(done.stderr).toBe('')
    expect(differing(done.stdout)).toEqual(['DIFFERS read of 3 bytes: 0'])
  })

  it('two hosts at once do not meet, and a folder has one', async () => {
    const second = await Rig.start({ domains: [1] })
    try {
      const { out } = await second.run(1, [built('evtchn'), '1'])
      expect(differing(out)).toEqual(['DIFFERS read of 3 bytes: 0'])
      expect(second.host.domain(2)).toBe(undefined)
      const { NativeHost } = await import('../../../src/node/hostd/index.js')
      await expect(NativeHost.start({ dir: second.dir })).rejects.toThrow('another host runs in')
    } finally {
      await second.close()
    }
    expect(existsSync(second.dir)).toBe(false)
    expect((await rig.run(2, ['xenstore-read', 'domid'])).out).toBe('2\n')
  })
})
