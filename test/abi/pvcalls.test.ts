/**
 * pvcalls against Xen's own header: offsets, sizes and numbers as a C compiler has them, and command rings exchanged with a
 * frontend and a backend made of Xen's macros. Where the header or gcc for both widths is missing, the recorded values are
 * compared alone; EVTCHN_UPDATE_LAYOUTS=1 writes them anew.
 */

import { readFileSync, writeFileSync } from 'node:fs'
import { afterAll, describe, expect, it } from 'vitest'
import {
  COMMAND_SLOTS,
  CommandBackRing,
  CommandFrontRing,
  decodeRequest,
  decodeResponse,
  encodeAddress,
  encodeRequest,
  encodeResponse,
  INDEX_WORD,
  PVCALLS,
  type PvcallsRequest,
  queuedBytes,
  RESPONSE_BYTES,
  SLOT_BYTES,
} from '../../src/dom0/io/index.js'
import { updateLayouts } from '../settings.js'
import { toJson } from './headers.js'
import { HeaderProgram, missing, type PvcallsHeader, QUEUED } from './pvcalls_header.js'

const RECORD = new URL('pvcalls.json', import.meta.url)
const lacking = missing()
/** The program for each width; without a compiler or header one that is never run. */
const programs: [flag: string, program: HeaderProgram | null][] = lacking.length
  ? [['-m64', null]]
  : (['-m64', '-m32'] as const).map((flag) => [flag, new HeaderProgram(flag)])
if (updateLayouts) {
  const [[, program]] = programs as [[string, HeaderProgram | null]]
  if (!program) throw new Error(`EVTCHN_UPDATE_LAYOUTS: pvcalls.h cannot be measured without ${lacking.join(', ')}`)
  writeFileSync(RECORD, `${toJson(program.run('layouts'))}\n`)
}
const recorded = JSON.parse(readFileSync(RECORD, 'utf8')) as PvcallsHeader

afterAll(() => {
  for (const [, program] of programs) program?.remove()
})

/** Where the library reads a member: the one place of a request that has it when only this byte is set. */
function offsetOf(cmd: number, member: keyof PvcallsRequest): number {
  for (let at = 8; at < SLOT_BYTES; at++) {
    const bytes = new Uint8Array(SLOT_BYTES)
    new DataView(bytes.buffer).setUint32(4, cmd, true)
    bytes[at] = 1
    const value = decodeRequest(bytes)[member]
    const low = value instanceof Uint8Array ? value[0] === 1 : Number(value) === 1
    if (low) return at
  }
  return -1
}

describe('the recorded header', () => {
  it('PV-42: has every argument where the library reads it', () => {
    const found: Record<string, number> = {}
    for (const name of Object.keys(recorded.request)) {
      const [, command, member] = /^u\.(\w+)\.(\w+)$/.exec(name) ?? []
      if (!command || !member) continue
      const cmd = PVCALLS[command.toUpperCase() as keyof typeof PVCALLS]
      found[name] = offsetOf(cmd, member as keyof PvcallsRequest)
    }
    expect(Object.keys(found).length).toBeGreaterThan(20)
    expect({ ...recorded.request, ...found }).toEqual(recorded.request)
    expect(recorded.request).toMatchObject({ req_id: 0, cmd: 4, sizeof: SLOT_BYTES })
  })

  it('PV-41, PV-42, PV-50: has responses, index page, ring and numbers as the library does', () => {
    expect(recorded.response).toEqual({
      req_id: 0,
      cmd: 4,
      ret: 8,
      'u.socket.id': 16,
      'u.accept.id': 16,
      sizeof: RESPONSE_BYTES,
    })
    const words = Object.fromEntries(Object.entries(INDEX_WORD).map(([name, word]) => [name, word * 4]))
    expect(recorded.intf).toEqual(words)
    expect(recorded.sring).toEqual({
      req_prod: 0,
      req_event: 4,
      rsp_prod: 8,
      rsp_event: 12,
      ring: 64,
      slots: COMMAND_SLOTS,
      slot: SLOT_BYTES,
    })
    expect(recorded.commands).toEqual(PVCALLS)
  })

  it('PV-52: counts queued bytes as the library does', () => {
    expect(QUEUED.map(([prod, cons]) => queuedBytes(prod, cons))).toEqual(recorded.queued)
  })
})

const NOT_RUN = lacking.length ? `NOT RUN for want of ${lacking.join(', ')}: ` : ''

describe.skipIf(lacking.length > 0).each(programs)(`${NOT_RUN}Xen’s header with gcc %s`, (_flag, given) => {
  const program = given as HeaderProgram

  it('is as recorded', () => {
    expect(program.run('layouts')).toEqual(recorded)
  })

  it('PV-42: a frontend of Xen’s macros is understood by the library’s backend, and the other way round', () => {
    const { page: hex, notify } = program.run<{ page: string; notify: number[] }>('front')
    // The first is asked for; nobody has slept since.
    expect(notify).toEqual([1, 0, 0])
    const page = Uint8Array.from(Buffer.from(hex, 'hex'))
    const back = new CommandBackRing(() => page)
    const requests: PvcallsRequest[] = []
    for (let slot = back.pull(); slot && slot !== 'broken'; slot = back.pull()) requests.push(decodeRequest(slot))
    const id = 0x1122334455667700n
    expect(requests).toMatchObject([
      { req_id: 100, cmd: 0, id, domain: 2, type: 1, protocol: 0 },
      { req_id: 101, cmd: 1, id: id + 1n, len: 16, flags: 3, ref: 77, evtchn: 88 },
      { req_id: 102, cmd: 5, id: id + 2n, id_new: 9n, ref: 78, evtchn: 89 },
    ])
    expect(requests[1]!.addr).toEqual(encodeAddress({ ip: '127.0.0.1', port: 80 }))
    const told = requests.map(({ req_id, cmd, id: each }) =>
      back.push(encodeResponse({ req_id, cmd, ret: -Number(req_id), id: each })),
    )
    expect(told).toEqual([true, false, false])
    expect(program.run('front', page)).toEqual({
      responses: { [`100/0/${id}`]: -100, [`101/1/${id + 1n}`]: -101, [`102/5/${id + 2n}`]: -102 },
    })
  })

  it('PV-42: the library’s frontend is understood by a backend of Xen’s macros, and the other way round', () => {
    const page = new Uint8Array(4096)
    const front = new CommandFrontRing(() => page)
    expect(front.push(encodeRequest(7, PVCALLS.BIND, { id: 5n, len: 16 }))).toBe(true)
    expect(front.push(encodeRequest(8, PVCALLS.LISTEN, { id: 5n, backlog: 12 }))).toBe(false)
    type Answer = { requests: Record<string, number>; page: string; notify: number[] }
    const { requests, page: hex, notify } = program.run<Answer>('back', page)
    expect([requests, notify]).toEqual([{ '7/3/5': 16, '8/4/5': 12 }, [1]])
    page.set(Buffer.from(hex, 'hex'))
    const answers = [front.pull(), front.pull(), front.pull()].map(
      (bytes) => bytes && decodeResponse(bytes as Uint8Array),
    )
    expect(answers).toEqual([
      { req_id: 7, cmd: PVCALLS.BIND, ret: -7, id: 5n },
      { req_id: 8, cmd: PVCALLS.LISTEN, ret: -8, id: 5n },
      undefined,
    ])
    // Xen's backend asked to be told of the next, which its final check does.
    expect(front.push(encodeRequest(9, PVCALLS.POLL, { id: 5n }))).toBe(true)
  })
})
