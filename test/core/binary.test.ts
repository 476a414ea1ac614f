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
        found.imports.push(`${name()}.${name()} kind ${bytes[at++]}`)
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

/** Atomic read-modify-writes: the prefix 0xfe with an opcode of that group. */
function atomics(file: string): number {
  const bytes = readFileSync(new URL(`../../build/${file}`, import.meta.url))
  return bytes.filter((byte, i) => byte === 0xfe && bytes[i + 1]! >= 0x1e && bytes[i + 1]! <= 0x4e).length
}

const SECTION = { global: 6, start: 8, data: 11, dataCount: 12 }

describe.each(['core.wasm', 'core.threads.wasm'])('%s is position-free and stateless', (file) => {
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

  it('imports the memory and nothing else', () => {
    expect(module.imports).toEqual(['env.memory kind 2'])
  })

  it('EC-lock-9: guest words are changed by atomic instructions where memory is shared, and plainly where it is not', () => {
    expect(atomics(file) > 20).toBe(file === 'core.threads.wasm')
    expect(atomics(file) === 0).toBe(file === 'core.wasm')
  })

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
