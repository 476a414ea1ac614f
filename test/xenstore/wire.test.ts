import { describe, expect, it } from 'vitest'
import {
  C_4_17,
  encodePacket,
  encodeText,
  PAYLOAD_MAX,
  PacketReader,
  splitStrings,
  XS,
} from '../../src/xenstore/index.js'
import { fromUtf8, toUtf8 } from '../../src/xenstore/text.js'
import { atoi } from '../../src/xenstore/wire.js'
import { OCAML_4_17 } from './ocaml.js'
import { Script, script } from './script.js'

describe('packets', () => {
  it('XS-wire-1: a payload has at most 4096 bytes', () => {
    expect(encodePacket(2, 0, 0, new Uint8Array(PAYLOAD_MAX))).toHaveLength(4112)
    expect(() => encodePacket(2, 0, 0, new Uint8Array(PAYLOAD_MAX + 1))).toThrow(RangeError)
  })

  it('XS-wire-5: packets come together from fragments of any size', () => {
    const sent = [encodeText(2, 1, 0, '/a\0'), encodeText(11, 0xffffffff, 7, '/b\0v'), encodeText(6, 3, 0, '')]
    const stream = new Uint8Array(sent.flatMap((each) => [...each]))
    for (let size = 1; size <= stream.length; size++) {
      const reader = new PacketReader()
      const got: string[] = []
      for (let at = 0; at < stream.length; at += size) {
        const piece = stream.slice(at, at + size)
        reader.push(piece)
        for (let p = reader.next(); p; p = reader.next())
          got.push(`${p.type} ${p.reqId} ${p.txId} ${String.fromCharCode(...p.body)}`)
        piece.fill(0xee) // the reader must have copied what it keeps
      }
      expect(got).toEqual(['2 1 0 /a\0', '11 4294967295 7 /b\0v', '6 3 0 '])
      expect(reader.held).toBe(0)
    }
  })

  it('XS-adv-420: a length with its top bit set is too long, not negative', () => {
    const reader = new PacketReader()
    const header = encodeText(2, 5, 6, '')
    header[15] = 0xff
    reader.push(header)
    expect(reader.next()).toBeUndefined()
    expect(reader.tooLong).toBe(true)
    expect(reader.refusedHeader).toMatchObject({ type: 2, reqId: 5, txId: 6 })
  })

  it('says how many bytes a packet still wants, so that nobody reads ahead', () => {
    const reader = new PacketReader()
    const bytes = encodeText(2, 1, 0, '/path\0')
    for (let at = 0; at < bytes.length; at++) {
      expect(reader.wanted).toBe(at < 16 ? 16 - at : bytes.length - at)
      reader.push(bytes.slice(at, at + 1))
      if (at < bytes.length - 1) expect(reader.next()).toBeUndefined()
    }
    expect(reader.next()?.reqId).toBe(1)
    expect(reader.wanted).toBe(16)
  })

  it('takes payloads apart at their nuls', () => {
    const bytes = (text: string) => toUtf8(text)
    expect(splitStrings(bytes(''))).toEqual([])
    expect(splitStrings(bytes('a\0\0b\0'))).toEqual(['a', '', 'b'])
    expect(splitStrings(bytes('a'))).toBeUndefined()
    expect([' 12x', 'x', '-3', ''].map(atoi)).toEqual([12, 0, -3, 0])
  })

  it('turns text to UTF-8 and back as the platform does', () => {
    for (const text of ['', 'plain', 'é ß', '日本', '😀', 'a\ud800b', '\u07ff\u0800\uffff\u{10ffff}']) {
      expect([...toUtf8(text)]).toEqual([...new TextEncoder().encode(text)])
      expect(fromUtf8(toUtf8(text))).toBe(new TextDecoder().decode(toUtf8(text)))
    }
    for (const bytes of [[0xff], [0xc0, 0x80], [0xe2, 0x82], [0xed, 0xa0, 0x80], [0x80, 0x41]])
      expect(fromUtf8(new Uint8Array(bytes))).toContain('\ufffd')
  })
})

describe('requests', () => {
  it('XS-wire-2, XS-wire-11: a reply echoes type, request and transaction; success without data is OK', () => {
    script('a', ['a', 0, 'WRITE', '/x|v', 'OK|'], ['a', 0, 'READ', '/y|', 'ENOENT'], ['a', 9, 'READ', '/x|', 'ENOENT'])
  })

  it('XS-wire-3: an event has request and transaction 0', () => {
    const s = new Script()
    s.run(['a', 0, 'WATCH', '/x|t|', 'OK|', ['*', 'a /x|t|']])
  })

  it('XS-wire-4: replies come in the order of the requests', () => {
    const s = new Script()
    const order: number[] = []
    s.replied = (_peer, _type, reqId) => void order.push(reqId)
    const one = (reqId: number, text: string) => encodeText(XS.READ, reqId, 0, text)
    s.server.receive(
      s.peer('a').connection,
      new Uint8Array([...one(7, '/\0'), ...one(3, '/no\0'), ...one(5, '/tool\0')]),
    )
    expect(order).toEqual([7, 3, 5])
  })

  it('XS-wire-6, XS-ox-1: a header that announces too much ends the connection', () => {
    const s = new Script()
    const header = encodeText(XS.READ, 1, 0, '')
    header[13] = 0x20
    s.run(['a', 0, 'WATCH', '/x|t|', 'OK|', ['a /x|t|']])
    s.server.receive(s.peer('a').connection, header)
    expect(s.peer('a').failed).toBe(3)
    s.run(['b', 0, 'WRITE', '/x|v', 'OK|'])

    const other = new Script({ profile: { ...C_4_17, overLong: 'E2BIG' } })
    other.server.receive(other.peer('a').connection, header)
    expect(other.reply(1)).toEqual({ type: 'ERROR', text: 'E2BIG', tx: 0 })
    expect(other.peer('a').failed).toBe(3)
  })

  it('XS-wire-7: a reply that would be too long is E2BIG', () => {
    const s = new Script()
    const name = 'n'.repeat(100)
    for (let i = 0; i < 41; i++) s.run(['a', 0, 'MKDIR', `/d/${name}${i}|`, 'OK|'])
    s.run(['a', 0, 'DIRECTORY', '/d|', 'E2BIG'])
  })

  it('XS-wire-8, XS-adv-324: an event that would be too long is dropped silently', () => {
    const s = new Script()
    const long = `t${'x'.repeat(4090)}`
    s.run(
      ['a', 0, 'WATCH', `/x|${long}|`, 'OK|', [`a /x|${long}|`]],
      ['b', 0, 'WRITE', '/x|1', 'OK|', [`a /x|${long}|`]],
      ['b', 0, 'WRITE', '/x/y|1', 'OK|', []],
      ['b', 0, 'WRITE', '/x|2', 'OK|', [`a /x|${long}|`]],
    )
  })

  it('XS-wire-9: unknown type, then privilege, then transaction, then the request itself', () => {
    const unknown = [15, 16, 20, 23, 24, 25, 26, 200, 0xffffffff]
    const s = new Script({}, 'a', 'g5')
    for (const type of unknown) s.run(['g5', 99, type, 'x', 'ENOSYS'])
    for (const type of [0, 8, 9, 17, 18, 19]) s.run(['g5', 99, type, 'x', 'EACCES'])
    s.run(['g5', 99, 'READ', 'not a path', 'ENOENT'], ['g5', 0, 'READ', 'not a path', 'EINVAL'])
  })

  it('XS-wire-10: where one string is expected, anything else is EINVAL', () => {
    const s = new Script()
    for (const type of ['READ', 'DIRECTORY', 'GET_PERMS', 'MKDIR', 'RM', 'TRANSACTION_END', 'GET_DOMAIN_PATH'] as const)
      for (const payload of ['', '/a', '/a||', '/a|b', '/a|b|']) s.run(['a', 0, type, payload, 'EINVAL'])
    for (const type of ['RELEASE', 'RESUME', 'IS_DOMAIN_INTRODUCED'] as const)
      s.run(['a', 0, type, '', 'EINVAL'], ['a', 0, type, '1', 'EINVAL'])
    s.run(['a', 0, 'WRITE', '/a', 'EINVAL'], ['a', 0, 'WRITE', '', 'EINVAL'])
  })

  it('XS-wire-12, XS-ox-14: DIRECTORY_PART tells a long list in parts of whole names', () => {
    const s = new Script()
    for (let i = 0; i < 1000; i++) s.send('a', 0, 'MKDIR', `/d/child-${i}|`)
    expect(s.ask('a', 0, 'DIRECTORY', '/d|')).toBe('E2BIG')
    let list = ''
    let generation = ''
    for (;;) {
      const [gen, ...rest] = s.ask('a', 0, 'DIRECTORY_PART', `/d|${list.length}|`).split('|')
      generation ||= gen!
      expect(gen).toBe(generation)
      const part = rest.join('|')
      expect(gen!.length + 1 + part.length).toBeLessThanOrEqual(4096)
      if (part.endsWith('||')) {
        list += part.slice(0, -1)
        break
      }
      expect(part.length).toBeGreaterThan(4070)
      list += part
    }
    expect(list.split('|').slice(0, -1)).toEqual(Array.from({ length: 1000 }, (_, i) => `child-${i}`))
    expect(s.ask('a', 0, 'DIRECTORY_PART', `/d|${list.length}|`)).toBe(`${generation}||`)
    s.run(
      ['a', 0, 'DIRECTORY_PART', '/d|-1|', `${generation}||`],
      ['a', 0, 'DIRECTORY_PART', '/d|', 'EINVAL'],
      ['a', 0, 'DIRECTORY_PART', '/d|0|0|', 'EINVAL'],
      ['a', 0, 'DIRECTORY_PART', '/none|0|', 'ENOENT'],
    )
    s.send('a', 0, 'MKDIR', '/d/more|')
    expect(s.ask('a', 0, 'DIRECTORY_PART', '/d|0|').split('|')[0]).not.toBe(generation)
  })

  it('XS-wire-13: CONTROL knows its commands', () => {
    const s = script('a', ['a', 0, 'CONTROL', 'check|', 'OK|'], ['a', 0, 'CONTROL', 'nonsense|', 'EINVAL'])
    s.run(['a', 0, 'CONTROL', '', 'EINVAL'], ['a', 0, 'CONTROL', 'log|x|', 'EINVAL'])
    for (const wrong of [
      'log|',
      'logfile|x|',
      'print|',
      'check|x|',
      'help|x|',
      'memreport|',
      'quota|set|',
      'quota|set|nodes|x|',
    ])
      s.run(['a', 0, 'CONTROL', wrong, 'EINVAL'])
    expect(s.ask('a', 0, 'CONTROL', 'help|')).toContain('memreport\t[<file>]\n')
    expect(s.ask('a', 0, 'CONTROL', 'quota|')).toContain('1000')
    expect(s.ask('a', 0, 'CONTROL', 'quota-soft|')).toContain('2097152')
    expect(s.ask('a', 0, 'CONTROL', 'quota|0|')).toMatch(/^Domain 0:\nnodes +: +3\n/)
    s.run(['a', 0, 'CONTROL', 'quota|set|nodes|5000|', 'OK|'], ['a', 0, 'CONTROL', 'quota-soft|set|memory|7|', 'OK|'])
    expect(s.server.quotas).toMatchObject({ nodes: 5000, memorySoft: 7 })
    expect(s.ask('a', 0, 'CONTROL', 'quota|')).toContain('nodes            :     5000 Nodes per domain\n')
    const reports: unknown[] = []
    const t = new Script({ onMemoryReport: (text, file) => void reports.push(file, text.includes('3 nodes')) }, 'a')
    t.run(['a', 0, 'CONTROL', 'memreport|', 'OK|'], ['a', 0, 'CONTROL', 'memreport|/f|', 'OK|'])
    expect(reports).toEqual([undefined, true, '/f', true])
    s.run(['a', 0, 'CONTROL', 'quota|77|', 'ENOENT'], ['a', 0, 'CONTROL', 'toString|', 'EINVAL'])
  })

  it('XS-wire-13: CONTROL print and log write to the embedder, or are refused where nobody takes lines', () => {
    const lines: string[] = []
    const s = new Script({ onLog: (line) => void lines.push(line) }, 'a', 'g5')
    s.run(['a', 0, 'CONTROL', 'print|so it is|', 'OK|'], ['a', 0, 'MKDIR', '/unseen|', 'OK|'])
    expect(lines).toEqual(['control: so it is'])
    s.run(['a', 0, 'CONTROL', 'log|on|', 'OK|'])
    lines.length = 0
    s.run(['a', 0, 'WATCH', '/w|t|', 'OK|', ['a /w|t|']], ['g5', 0, 'WRITE', '/w|v', 'EACCES'])
    expect(lines).toEqual([
      'IN 1 d0 WATCH (/w t)',
      'OUT 1 d0 WATCH (OK)',
      'OUT 1 d0 WATCH_EVENT (/w t)',
      'IN 2 d5 WRITE (/w v)',
      'OUT 2 d5 ERROR (EACCES)',
    ])
    s.run(['a', 0, 'CONTROL', 'log|off|', 'OK|'])
    lines.length = 0
    s.run(['a', 0, 'READ', '/unseen|', ''])
    expect(lines).toEqual([])
    const deaf = new Script({}, 'a')
    for (const command of ['print|x|', 'log|on|', 'log|off|']) deaf.run(['a', 0, 'CONTROL', command, 'EINVAL'])
  })

  it('XS-wire-13: a log that throws harms no request', () => {
    const errors: unknown[] = []
    const onLog = () => {
      throw new Error('full')
    }
    const s = new Script({ onLog, onError: (error) => void errors.push(error) }, 'a')
    s.run(['a', 0, 'CONTROL', 'log|on|', 'OK|'], ['a', 0, 'MKDIR', '/x|', 'OK|'], ['a', 0, 'READ', '/x|', ''])
    expect(errors.map(String)).toContain('Error: full')
  })

  it('XS-ox-14, XS-ox-15: OCaml’s daemon tells guests its commands, and knows no DIRECTORY_PART', () => {
    const s = new Script({ profile: OCAML_4_17 }, 'a', 'g5')
    expect(s.ask('g5', 0, 'CONTROL', 'help|')).toContain('check')
    s.run(['g5', 0, 'CONTROL', 'check|', 'EACCES'], ['a', 0, 'DIRECTORY_PART', '/|0|', 'ENOSYS'])
    new Script({}, 'g5').run(['g5', 0, 'CONTROL', 'help|', 'EACCES'])
  })

  it('XS-wire-14: GET_DOMAIN_PATH answers for any number, read as atoi does', () => {
    script(
      'a g5',
      ['g5', 0, 'GET_DOMAIN_PATH', '7|', '/local/domain/7|'],
      ['a', 0, 'GET_DOMAIN_PATH', 'x|', '/local/domain/0|'],
      ['a', 0, 'GET_DOMAIN_PATH', '12junk|', '/local/domain/12|'],
    )
  })

  it('XS-wire-15, XS-adv-481: every request gets exactly one reply, an invalid path among them', () => {
    const s = new Script({}, 'a', 'g5')
    for (const who of ['a', 'g5'])
      for (let type = 0; type < 40; type++)
        for (const payload of ['', '|', '/local/domain/|', '/local/domain/|x|', 'x', '||', '1|2|3|', '/|n0|']) {
          if (type === XS.INTRODUCE) continue
          s.log = []
          s.send(who, 0, type, payload)
          expect(s.log.filter((line) => line.startsWith('*'))).toEqual([`* ${who}`])
        }
    s.run(['a', 0, 'MKDIR', '/local/domain/|', 'EINVAL'], ['g5', 0, 'RM', '/local/domain/|', 'EINVAL'])
  })
})
