/** The stalled xenwatch told by the real xl: who suffers under one thread, and who under the designs. */

import { describe, expect, it } from 'vitest'
import { tell } from '../../../src/cli/native/story.js'
import { notRun, skipped } from './rig.js'

describe.skipIf(skipped)(`${notRun}the story of xl`, () => {
  it('one xenwatch thread: libxl prints the lines of the report, and goes on when the packet is back', async () => {
    const { before, during, after, hung } = await tell('single', () => {})
    expect([...before, ...after].map(({ code }) => code)).toEqual([0, 0, 0, 0])
    expect(hung).toMatchObject([{ name: 'xenwatch', state: 'D' }])
    expect(hung[0]!.stack.join()).toContain('xenvif_disconnect_data')
    const [, create] = during
    expect(create!.code).not.toBe(0)
    expect(create!.seconds).toBeGreaterThan(19)
    const said = create!.said.map(({ text }) => text.replace(/^.*?Domain \d+:/, '')).join('\n')
    for (const line of [
      'unable to add device with path /local/domain/0/backend/vif/',
      'unable to add vif devices',
      'unable to remove device with path /local/domain/0/backend/vif/',
      'libxl__devices_destroy failed',
      'Unable to destroy guest',
      'Destruction of domain failed',
    ])
      expect(said).toContain(line)
  })

  it.each(['rfc', 'talk', 'on-demand'] as const)('%s: only the guest with the held packet waits', async (design) => {
    const { before, during, after, hung } = await tell(design, () => {})
    expect([...before, ...during.slice(1), ...after].map(({ code }) => code)).toEqual([0, 0, 0, 0, 0, 0])
    expect(hung).toMatchObject([{ name: 'xen-mtwatch-1', state: 'D' }])
    for (const { seconds } of during.slice(1)) expect(seconds).toBeLessThan(9)
  })
})
