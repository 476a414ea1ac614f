/** A story that is stopped, looked at, released and continued: written against the public entry. */

import { describe, expect, it } from 'vitest'
import { guestConfig, type Step, Story, type XenbusDriver, XenbusState } from '../../src/dom0/index.js'

const create: Step = { what: 'create', tried: false, run: ({ host }) => host.toolstack.create(guestConfig('first')) }
const settle: Step = { what: 'settle', tried: false, run: (story) => story.pass(1) }
const stall: Step = { what: 'stall', tried: false, run: (story) => story.inject('netback') }
const destroy: Step = { what: 'destroy 1', run: ({ host }) => host.toolstack.destroy(1) }

/** Stands in the middle of `xl destroy 1`, which waits for the stalled thread. */
function stopped(design: 'single' | 'on-demand'): Story {
  const story = new Story({ design })
  story.begin(create, settle, stall, destroy)
  expect(story.runUntil(() => story.stalled.length > 0)).toBe(true)
  return story
}

describe('a story', () => {
  it.each([
    ['single', 'xenwatch'],
    ['on-demand', 'xen-mtwatch-1'],
  ] as const)('XW-story-1: under %s shows state, stack and lists in the middle of a step', (design, name) => {
    const story = stopped(design)
    expect(story.steps.at(-1)).toMatchObject({ what: 'destroy 1', toNs: undefined, ok: undefined })
    const thread = story.state().threads.find((each) => each.domid === 0 && each.state === 'D')
    expect(thread).toMatchObject({ name })
    expect(thread!.stack[0]).toBe('[<0>] kthread_stop')
    expect(story.state().lists.find((list) => list.name === name)!.running).toBe('/local/domain/1/device/vif/0/state')
  })

  it('XW-story-2: a release at will lets a step end that would have failed, and nothing is left', () => {
    const story = stopped('single')
    story.runUntil(story.nowNs + 2e9)
    story.release()
    expect(story.runUntil(() => story.idle)).toBe(true)
    expect(story.steps.at(-1)).toMatchObject({ what: 'destroy 1', ok: true, errors: [] })
    expect(story.takeDown()).toEqual([])
  })

  it('XW-story-2: without a release the same step fails after ten seconds', () => {
    const story = stopped('single')
    expect(story.runUntil(() => story.idle)).toBe(true)
    const { ok, fromNs, toNs } = story.steps.at(-1)!
    expect([ok, toNs! - fromNs >= 10e9]).toEqual([false, true])
  })

  it('XW-story-1: events have times in order, and a stall has its length', () => {
    const story = stopped('single')
    const from = story.nowNs
    story.runUntil(from + 3e9)
    story.release()
    story.runUntil(() => story.idle)
    const times = story.events.map(({ ns }) => ns)
    expect(times).toEqual([...times].sort((a, b) => a - b))
    const about = (kind: string) => story.events.filter((each) => each.kind === kind && each.who === 'xenwatch')
    expect(about('stalls')[0]!.ns).toBe(from)
    expect(about('goes on')[0]!.ns).toBe(from + 3e9)
  })

  it('XW-story-1: a step that throws has failed, and the next one runs', () => {
    const story = new Story()
    const broken: Step = {
      what: 'broken',
      run() {
        throw new Error('no such thing')
      },
    }
    story.begin(broken, create)
    expect(story.runUntil(() => story.idle)).toBe(true)
    expect(story.steps.map(({ ok, errors }) => [ok, errors])).toEqual([
      [false, ['broken: no such thing']],
      [true, []],
    ])
  })

  it('XW-be-1: a driver of a third party is on the bus before it starts, and probes', () => {
    const probed: string[] = []
    const story = new Story({
      drivers: ({ bus }) => [
        {
          type: 'vkbd',
          busFrames: 'all',
          *probe(device) {
            probed.push(device.nodename)
            yield* bus.switchState(device, XenbusState.InitWait)
          },
          *otherendChanged() {},
          *remove() {},
        } satisfies XenbusDriver,
      ],
    })
    story.begin(create, {
      what: 'attach',
      run: ({ host }) =>
        host.toolstack.attach(1, {
          kind: 'vkbd',
          devid: 0,
          back: [
            ['frontend-id', '1'],
            ['state', '1'],
          ],
          front: [['state', '1']],
        }),
    })
    expect(story.runUntil(() => story.idle)).toBe(true)
    expect(story.steps.at(-1)!.errors).toEqual([])
    expect(probed).toEqual(['backend/vkbd/1/0'])
  })

  it('XW-own-3: an option that does not exist is refused by name', () => {
    expect(() => new Story({ desing: 'single' } as never)).toThrow(/desing/)
  })
})
