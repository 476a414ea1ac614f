/** Functions of the package with arguments that cannot be: an error that names the call, what was given, what is allowed. */

import { expect, it } from 'vitest'
import { Host, type Toolstack } from '../src/dom0/index.js'
import { chromeTrace, formatChannel, formatEvent, formatItem, jsonLine, ParameterError } from '../src/index.js'
import { encodePacket, encodeText, formatPermission, PacketReader, Ring, splitStrings } from '../src/xenstore/index.js'

const host = new Host()
const toolstack: Toolstack = host.toolstack
const some = new Uint8Array(1)

const WRONG: Readonly<Record<string, readonly [(given: never) => unknown, ...unknown[]]>> = {
  'formatEvent: event': [formatEvent, undefined, null, 1, 'x', [], {}],
  'jsonLine: event': [jsonLine, undefined, null, 1, 'x', [], { kind: 'other' }],
  'chromeTrace: event': [chromeTrace, undefined, null, 1, {}, [null], ['x'], [{}]],
  'formatChannel: record': [formatChannel, undefined, null, 1, 'x', {}],
  'formatItem: item': [formatItem, undefined, null, 1, 'x', {}],
  'encodePacket: body': [(body: never) => encodePacket(1, 1, 0, body), undefined, null, 'x', [1], {}],
  'encodePacket: type': [(type: never) => encodePacket(type, 1, 0, some), undefined, null, 'x', -1, 1.5, 2 ** 32],
  'encodePacket: reqId': [(id: never) => encodePacket(1, id, 0, some), undefined, -1],
  'encodePacket: txId': [(id: never) => encodePacket(1, 1, id, some), undefined, -1],
  'encodeText: text': [(text: never) => encodeText(1, 1, 0, text), undefined, null, 1, {}],
  'PacketReader.push: bytes': [(bytes: never) => new PacketReader().push(bytes), undefined, null, 1, 'x', [1]],
  'splitStrings: body': [splitStrings, undefined, null, 1, 'x', [1]],
  'formatPermission: permission': [formatPermission, undefined, null, 1, 'r5', {}, { letter: 'r' }],
  'Ring: page': [(page: never) => new Ring(page), undefined, null, 1, {}],
  'Host.guest: domid': [(domid: never) => host.guest(domid), 'x', null, 0, -1, 1.5],
  'Host.complete: task': [(task: never) => host.complete('p', task), undefined, null, 5, 'x', {}],
  'Host.complete: name': [(name: never) => host.complete(name, [].values() as never), 5, null],
  'Host.start: task': [(task: never) => host.start('p', task), undefined, 5],
  'Host.pass: seconds': [(seconds: never) => host.pass(seconds), 'x', -1, Number.NaN],
  'Toolstack.attach: spec': [
    (spec: never) => toolstack.attach(1, spec),
    undefined,
    null,
    5,
    {},
    { kind: 'vif', devid: 0 },
  ],
  'Toolstack.attach: domid': [(domid: never) => toolstack.attach(domid, {} as never), undefined, 'x', 0, -1],
  'Toolstack.detach: devid': [(devid: never) => toolstack.detach(1, 'vif', devid), undefined, 'x', -1],
  'Toolstack.destroy: domid': [(domid: never) => toolstack.destroy(domid), undefined, 'x', 0],
}

it.each(Object.entries(WRONG))('%s that cannot be is named', (where, [call, ...given]) => {
  for (const each of given) {
    let thrown: unknown = 'nothing'
    try {
      call(each as never)
    } catch (error) {
      thrown = error
    }
    expect(thrown, `${JSON.stringify(each)}`).toBeInstanceOf(ParameterError)
    expect((thrown as Error).message).toMatch(/ is .+; allowed: ./)
    expect((thrown as Error).message.startsWith(where)).toBe(true)
  }
})

it('XW-tool-11: a create whose domain is destroyed under it ends with one error that says so', () => {
  // Each time later: the store refuses something else, or the devices do.
  const ends = new Set<string>()
  for (let steps = 0; steps < 20; steps++) {
    const world = new Host({ guest: { frames: 256 } })
    const job = world.start('xl', world.toolstack.create({ name: 'a', nics: [{}], disks: [{ dev: 'xvda' }] }))
    const destroys = function* () {
      for (let i = 0; i < steps; i++) yield
      world.xen.destroyDomain(world.xen.domain(1)!)
    }
    world.start('somebody', destroys())
    for (let i = 0; i < 10 && !job.done; i++) world.pass(10)
    expect([steps, job.done, job.result?.ok]).toEqual([steps, true, false])
    const lines = job.result!.errors.map(({ line }) => line)
    expect(lines.length).toBeGreaterThan(0)
    if (lines.length === 1) ends.add(lines[0]!)
  }
  expect([...ends]).toEqual([
    'libxl: error: libxl_create.c:initiate_domain_create: Domain 1:destroyed by somebody else: SET_PERMS /local/domain/1/device/vif/0: ENOENT',
  ])
})
