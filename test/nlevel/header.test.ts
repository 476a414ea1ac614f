/**
 * guests/include/xen/evtchn_nlevel.h against src/abi: a C compiler lays out each struct for both widths, and computes the
 * geometry of every tree. What the library decodes is what a guest in C encodes.
 */

import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import {
  type Bits,
  EVTCHN_STRUCTS,
  EVTCHNOP,
  fullTreePages,
  levelBits,
  levelBytes,
  maxDepth,
  maxEvtchns,
  PAGE_BITS,
  PAGE_SIZE,
  SELECTOR_AREA,
} from '../../src/abi/index.js'
import { requireTools } from '../settings.js'

const INCLUDE = fileURLToPath(new URL('../../guests/include', import.meta.url))
const OPERATIONS = ['query_nlevel', 'query_nlevel2', 'set_nlevel_selectors', 'register_nlevel'] as const

const dir = () => mkdtempSync(join(tmpdir(), 'evtchn-header-'))

/** Compiles a program, strictly and for a width. Returns what gcc said. */
function compile(text: string, width: '-m32' | '-m64', ...more: string[]) {
  const folder = dir()
  try {
    writeFileSync(join(folder, 'check.c'), text)
    const flags = ['-std=c11', '-Wall', '-Wextra', '-Werror', '-Wpadded', width, '-I', INCLUDE, ...more]
    return spawnSync('gcc', [...flags, 'check.c'], { cwd: folder, encoding: 'utf8' })
  } finally {
    rmSync(folder, { recursive: true })
  }
}

const gcc = spawnSync('gcc', ['--version']).status === 0
const both = gcc && compile('#include <stdint.h>\n', '-m32', '-c', '-o', '/dev/null').status === 0
const NOT_RUN = both ? '' : 'NOT RUN for want of gcc for both widths (packages gcc, gcc-multilib, libc6-dev-i386): '
if (NOT_RUN && requireTools) it('has the tools that EVTCHN_REQUIRE_TOOLS demands', () => expect.fail(NOT_RUN))

const assert = (condition: string) => `_Static_assert(${condition}, ${JSON.stringify(condition)});`

function layouts(): string[] {
  const structs = [...OPERATIONS.map((op) => EVTCHN_STRUCTS[op]), SELECTOR_AREA]
  return structs.flatMap(({ name, size, fields }) => [
    assert(`sizeof(struct ${name}) == ${size}`),
    ...Object.entries(fields).flatMap(([member, field]) => [
      assert(`offsetof(struct ${name}, ${member}) == ${field.offset}`),
      assert(`sizeof(((struct ${name} *)0)->${member}) == ${field.size}`),
    ]),
  ])
}

const numbers = () => [
  ...OPERATIONS.map((op) => assert(`EVTCHNOP_${op} == ${EVTCHNOP[op]}`)),
  assert(`EVTCHN_NLEVEL_PAGE_SIZE == ${PAGE_SIZE}`),
  assert(`EVTCHN_NLEVEL_PAGE_BITS == ${PAGE_BITS}`),
  ...([32, 64] as const).map((bits) => assert(`EVTCHN_NLEVEL_MAX_LEVELS_${bits} == ${maxDepth(bits)}`)),
]

/** Every tree that the table offers, with one page, a few and all. */
function geometry(): string[] {
  const lines: string[] = []
  for (const bits of [32, 64] as Bits[])
    for (let levels = 3; levels <= maxDepth(bits); levels++) {
      const full = fullTreePages(bits, levels)
      lines.push(`same(evtchn_nlevel_full_pages(${bits}, ${levels}), ${full});`)
      for (const pages of new Set([1, Math.min(7, full), full])) {
        const channels = maxEvtchns(bits, levels, pages)
        lines.push(`same(evtchn_nlevel_max_evtchns(${bits}, ${levels}, ${pages}), ${channels});`)
        for (let k = 1; k <= levels; k++) {
          const args = `${bits}, ${levels}, ${k}, ${channels}`
          lines.push(`same(evtchn_nlevel_level_bits(${args}), ${levelBits(bits, levels, k, channels)});`)
          lines.push(`same(evtchn_nlevel_level_bytes(${args}), ${levelBytes(bits, levels, k, channels)});`)
        }
      }
    }
  return lines
}

const HEAD = ['#include <stddef.h>', '#include <xen/evtchn_nlevel.h>']

describe.skipIf(NOT_RUN)(`${NOT_RUN}the C header of the N-level ABI`, () => {
  it.each(['-m32', '-m64'] as const)(
    'NL-query-1, NL-sel-1, NL-reg-1: has the library’s layouts and numbers with %s',
    (width) => {
      const text = [...HEAD, ...layouts(), ...numbers(), 'int unused;'].join('\n')
      const { status, stderr } = compile(text, width, '-c', '-o', '/dev/null')
      expect(stderr).toBe('')
      expect(status).toBe(0)
    },
  )

  it('is refused by the compiler where a member has moved', () => {
    const text = [...HEAD, assert('offsetof(struct evtchn_register_nlevel, nr_channels) == 20')].join('\n')
    expect(compile(text, '-m64', '-c', '-o', '/dev/null').stderr).toContain('static assertion failed')
  })

  it('NL-tree-2, NL-tree-3: computes the geometry of every tree as the library does', () => {
    const folder = dir()
    const program = join(folder, 'geometry')
    try {
      const text = [
        ...HEAD,
        'static int wrong;',
        'static void same(uint32_t is, uint32_t should) { wrong += is != should; }',
        'int main(void) {',
        ...geometry(),
        'return wrong; }',
      ].join('\n')
      expect(compile(text, '-m64', '-o', program).stderr).toBe('')
      expect(spawnSync(program).status).toBe(0)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})
