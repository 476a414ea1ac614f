import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'

/** What sections a wasm module has, and its imports: read from the bytes, not from an engine's summary. */
function sections(file: string): { ids: number[]; globals: number; imports: string[]; exports: string[] } {
  const bytes = readFileSync(new URL(`../../build/${file}`, import.meta.url))
  let at = 8
  const leb = () => {
    let value = 0
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++]!
      value |= (byte & 0x7f) << shift
      if (!(byte & 0x80)) return value >>> 0
    }
  }
  const name = () => {
    const length = leb()
    at += length
    return bytes.toString('utf8', at - length, at)
  }
  const found = { ids: [] as number[], globals: 0, imports: [] as string[], exports: [] as string[] }
  while (at < bytes.length) {
    const id = bytes[at++]!
    const end = leb() + at
    found.ids.push(id)
    if (id === 2) {
      for (let n = leb(); n > 0; n--) {
        const what = `${name()}.${name()}`
        const kind = bytes[at++]!
        found.imports.push(`${what} kind ${kind}`)
        if (kind === KIND.table) at++ // its element type
        const flags = leb()
        leb()
        if (flags & 1) leb()
      }
    } else if (id === 6) found.globals = leb()
    else if (id === 7) {
      for (let n = leb(); n > 0; n--) {
        found.exports.push(name())
        at++
        leb()
      }
    }
    at = end
  }
  return found
}

const KIND = { table: 1 }

/** Atomic read-modify-writes: the prefix 0xfe with an opcode of that group. */
function atomics(file: string): number {
  const bytes = readFileSync(new URL(`../../build/${file}`, import.meta.url))
  return bytes.filter((byte, i) => byte === 0xfe && bytes[i + 1]! >= 0x1e && bytes[i + 1]! <= 0x4e).length
}

const SECTION = { global: 6, start: 8, element: 9, data: 11, dataCount: 12 }

/** Each module, and what it imports. */
const MODULES = [
  { file: 'core.wasm', imports: ['env.memory kind 2'] },
  { file: 'core.threads.wasm', imports: ['env.memory kind 2'] },
  { file: 'host.wasm', imports: ['env.memory kind 2', 'env.table kind 1'] },
  { file: 'host.threads.wasm', imports: ['env.memory kind 2', 'env.table kind 1'] },
]

describe.each(MODULES)('$file is stateless', ({ file, imports }) => {
  const module = sections(file)

  it('has no data segment', () => {
    expect(module.ids).not.toContain(SECTION.data)
    expect(module.ids).not.toContain(SECTION.dataCount)
  })

  it('has no global, mutable or not', () => {
    expect(module.globals).toBe(0)
  })

  it('has no start function', () => {
    expect(module.ids).not.toContain(SECTION.start)
  })

  it('fills no table', () => {
    expect(module.ids).not.toContain(SECTION.element)
  })

  it('imports its one memory, the host core the table of functions as well, and nothing else', () => {
    expect(module.imports).toEqual(imports)
  })

  it('EC-lock-9: words are changed by atomic instructions where memory is shared, and plainly where it is not', () => {
    expect(atomics(file) > 5).toBe(file.includes('threads'))
    expect(atomics(file) === 0).toBe(!file.includes('threads'))
  })
})

describe.each(['core.wasm', 'core.threads.wasm'])('%s', (file) => {
  const module = sections(file)

  it('exports what touches the words of the FIFO ABI', () => {
    for (const name of ['Raise', 'SetLink', 'SetHead', 'Ready', 'Word', 'Unmask', 'Scan'])
      expect(module.exports).toContain(`fifo${name}`)
  })

  it('exports a climb and a scan for each depth and width that the ABI offers', () => {
    for (const what of ['climb', 'scan'])
      for (const form of ['2x32', '3x32', '4x32', '5x32', '2x64', '3x64', '4x64'])
        expect(module.exports).toContain(what + form)
  })
})

describe.each(['host.wasm', 'host.threads.wasm'])('%s', (file) => {
  it('exports what the hot path calls', () => {
    for (const name of [
      'send',
      'raise',
      'raiseVirq',
      'unmask',
      'bits',
      'portObject',
      'startPoll',
      'wake',
      'wakePoller',
    ])
      expect(sections(file).exports).toContain(name)
  })
})
