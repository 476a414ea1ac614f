/**
 * An unmodified Linux of Debian's on the library, on both ABIs that it knows: what it finds, XenStore, its console, and a
 * snapshot that goes on upon another host. Boots are long, so each is looked at from all sides. A log of each is in build/linux.
 */

import { writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { bootLinux, type Linux, restoreLinux } from '../../../guests/linux/machine.mjs'
import { readSnapshot, writeSnapshot } from '../../../guests/linux/snapshot.mjs'

const BOOT_MS = 600_000
const STEP_MS = 120_000

/** XS_READ of `name` by the guest's own /dev/xen/xenbus: header and payload out, the reply's payload behind 16 bytes. */
const XS_READ =
  "exec 3<>/dev/xen/xenbus; printf '\\2\\0\\0\\0\\1\\0\\0\\0\\0\\0\\0\\0\\5\\0\\0\\0name\\0' >&3; " +
  'dd bs=64 count=1 <&3 2>/dev/null | tail -c +17; exec 3>&-; echo'

describe.each([
  ['fifo', 'FIFO-based ABI', 'fifo'],
  ['2', '2-level ABI', 2],
] as const)('Linux on a host with ABI %s', (abi, words, levels) => {
  let linux: Linux
  let log = ''

  beforeAll(async () => {
    const onText = (char: string) => {
      log += char
    }
    linux = await bootLinux({ abi, onText })
  }, BOOT_MS)

  afterAll(async () => {
    writeFileSync(`build/linux/boot-${abi}.log`, log)
    await linux.host.destroy(linux.guest)
  })

  it(
    'RG-2, RG-3: it finds Xen and takes this ABI',
    async () => {
      const { text } = await linux.run("dmesg | grep -iE 'xen' ; cat /sys/hypervisor/type")
      expect(text).toContain('Hypervisor detected: Xen HVM')
      expect(text).toContain('Xen version 4.17')
      expect(text).toContain(`Using ${words}`)
      expect(text).toContain('Xen HVM callback vector for event delivery is enabled')
      expect(text.trim().split('\n').at(-1)).toBe('xen')
      expect(linux.guest.domain.levels).toBe(levels)
    },
    STEP_MS,
  )

  it('RG-51: it has placed shared_info where Linux does', () => {
    expect(linux.guest.domain.sharedInfoGfn).toBe(0x10)
  })

  it(
    'RG-4: the store answers a request of its user space',
    async () => {
      expect((await linux.run(XS_READ)).text).toContain('guest-1')
    },
    STEP_MS,
  )

  it(
    'RG-4: what it writes on hvc0 arrives',
    async () => {
      linux.hvc0 = ''
      expect((await linux.run('echo hello from hvc0 > /dev/hvc0')).status).toBe(0)
      while (!linux.hvc0.includes('hello from hvc0')) await new Promise((turn) => setImmediate(turn))
    },
    STEP_MS,
  )

  it(
    'a command’s status is the guest’s',
    async () => {
      expect((await linux.run('false')).status).toBe(1)
      expect((await linux.run('exit_status() { return 7; }; exit_status')).status).toBe(7)
    },
    STEP_MS,
  )

  it(
    'RG-70, RG-72: it goes on from a snapshot on another host, and the store knows its watches',
    async () => {
      await linux.run('echo before > /tmp-mark')
      const file = writeSnapshot(await linux.host.save(linux.guest))
      const moved = await restoreLinux(readSnapshot(file))
      expect(moved.guest.domain.levels).toBe(levels)
      expect((await moved.run('cat /tmp-mark')).text.trim()).toBe('before')
      expect((await moved.run(XS_READ)).text).toContain('guest-1')
      // xenbus of Linux watches control/shutdown. It answers a node that is changed from outside only if its watch has moved.
      await moved.host.xs.write('/local/domain/1/control/shutdown', 'not-a-request')
      for (let turn = 0; turn < 5_000; turn++) {
        if ((await moved.host.xs.read('/local/domain/1/control/shutdown')) === '') break
        await new Promise((next) => setImmediate(next))
      }
      const { text } = await moved.run('dmesg | grep -i shutdown')
      expect(text).toContain('not-a-request')
      await moved.host.destroy(moved.guest)
    },
    BOOT_MS,
  )
})

it('what is no snapshot is refused', () => {
  expect(() => readSnapshot(Buffer.from('nonsense, and more than four bytes of it'))).toThrow('the file is no snapshot')
})
