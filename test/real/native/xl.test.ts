/** Xen's own xl builds domains on the library, in which its guests boot, and sees, changes and destroys them. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { notRun, Rig, skipped } from './rig.js'

describe.skipIf(skipped)(`${notRun}xl on the library`, () => {
  let rig: Rig
  const xl = (...args: string[]) => rig.run(0, ['xl', ...args])
  /** Rows of xl list, as name and state. */
  const list = async () =>
    (await xl('list')).out
      .trim()
      .split('\n')
      .slice(1)
      .map((row) => row.split(/\s+/))
      .map(([name, , , , state]) => `${name} ${state}`)

  beforeAll(async () => {
    rig = await Rig.start()
    await rig.setUpDom0()
  })
  afterAll(() => rig?.close())

  it('create builds a domain in which a guest boots and writes to its console, and destroy removes it', async () => {
    expect(await xl('create', rig.config('one'))).toMatchObject({
      code: 0,
      err: expect.stringMatching(/^Parsing config/),
    })
    await rig.until(() => rig.log('one').includes("one: the library's kernel runs in domain"), 'the console')
    expect(await list()).toEqual(['Domain-0 r-----', 'one r-----'])
    expect((await xl('domid', 'one')).out.trim()).toBe(String(rig.host.domains[1]!.domid))
    const { domid } = rig.host.domains[1]!
    expect((await rig.run(0, ['lsevtchn', `${domid}`])).out).toMatch(
      /VCPU 0: Interdomain \(Connected\) - Remote Domain 0/,
    )
    expect((await xl('destroy', 'one')).code).toBe(0)
    expect(await list()).toEqual(['Domain-0 r-----'])
    expect(rig.host.machine.freeFrames).toBe(rig.host.machine.frames - 4096)
  })

  it('pause, unpause, shutdown -w, and a shut down domain destroyed', async () => {
    await xl('create', rig.config('two'))
    await xl('pause', 'two')
    expect(await list()).toContain('two --p---')
    await xl('unpause', 'two')
    expect(await list()).toContain('two r-----')
    const { code, err } = await xl('shutdown', '-w', 'two')
    expect([code, err]).toEqual([0, expect.stringMatching(/has been shut down, reason code 0/)])
    await rig.until(async () => !(await list()).some((row) => row.startsWith('two')), 'xl’s own daemon destroys it')
  })

  it('reboot builds it anew, with another number', async () => {
    await xl('create', rig.config('three'))
    const before = rig.host.domains[1]!.domid
    expect((await xl('reboot', '-w', 'three')).code).toBe(0)
    await rig.until(() => rig.host.guest(before + 1) !== undefined, 'the new domain boots')
    expect((await xl('domid', 'three')).out.trim()).toBe(String(before + 1))
    await xl('destroy', 'three')
  })

  it('a vif and a disk connect through grants that libxl’s domain holds, come and go', async () => {
    const disk = "disk=['format=raw,vdev=xvda,access=rw,script=block,target=/some/disk']"
    const created = await xl('create', rig.config('four', `vif=['mac=00:16:3e:00:00:01']\n${disk}\n`))
    expect(created).toMatchObject({ code: 0 })
    const states = async (what: string) =>
      (await xl(`${what}-list`, 'four')).out
        .trim()
        .split('\n')
        .slice(1)
        .map((row) => row.split(/\s+/)[what === 'network' ? 4 : 3])
    await rig.until(async () => (await states('network'))[0] === '4', 'the vif connects')
    await rig.until(async () => (await states('block'))[0] === '4', 'the disk connects')
    expect((await xl('network-attach', 'four', 'mac=00:16:3e:00:00:02')).code).toBe(0)
    expect((await xl('block-attach', 'four', 'format=raw,vdev=xvdb,access=rw,script=block,target=/d2')).code).toBe(0)
    await rig.until(async () => (await states('network')).join() === '4,4', 'the second vif')
    await rig.until(async () => (await states('block')).join() === '4,4', 'the second disk')
    expect((await xl('network-detach', 'four', '1')).code).toBe(0)
    expect((await xl('block-detach', 'four', 'xvdb')).code).toBe(0)
    expect([await states('network'), await states('block')]).toEqual([['4'], ['4']])
    expect((await xl('destroy', 'four')).code).toBe(0)
    // It is a zombie until the backends have unmapped its pages.
    await rig.until(() => rig.host.domains.length === 1, 'the last page is unmapped')
  })

  it('debug-keys e prints the library’s own dump, which dmesg shows', async () => {
    await xl('dmesg', '-c')
    await xl('debug-keys', 'e')
    const { out } = await xl('dmesg')
    expect(out).toBe(`${[...rig.host.xen.dump()].join('\n')}\n`)
  })

  it('info, vcpu-list, uptime, list -l and a configuration that is refused', async () => {
    const { out } = await xl('info')
    expect(out).toMatch(/xen_version\s+: 4\.17\.evtchn/)
    expect(out).toMatch(/virt_caps\s+: pv gnttab-v1/)
    expect((await xl('vcpu-list')).out).toMatch(/Domain-0\s+0\s+0\s+0\s+r--/)
    expect((await xl('uptime')).out).toMatch(/Domain-0\s+0/)
    expect(JSON.parse((await xl('list', '-l')).out)[0]).toMatchObject({ domid: 0, config: { c_info: { type: 'pv' } } })
    const hvm = await xl('create', rig.config('five', 'type="pvh"\n'))
    expect(hvm.code).not.toBe(0)
    expect(rig.host.domains).toHaveLength(1)
  })

  it('more memory than a domain gets is refused in words', async () => {
    const { code } = await xl('create', rig.config('six', 'memory=100\n'))
    expect(code).not.toBe(0)
    expect(rig.host.domains).toHaveLength(1)
  })

  it('asks for nothing that the host does not know', () => {
    expect([...rig.host.unknownCalls.keys()]).toEqual([])
  })
})
