/**
 * The declarations in projects of readers: compiled as a reader compiles them, from dist/, with nothing in scope but
 * ECMAScript 2022. No DOM, no types of Node (but for evtchn/node), no skipLibCheck, every TypeScript that is promised.
 *
 *     bare/                node_modules/evtchn (package.json, dist/**.d.ts)   node_modules/bitset
 *     node/                the same, and node_modules/@types/node
 */

import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const COMPILERS = ['typescript-5.9', 'typescript', 'typescript-next'] as const
const RESOLUTIONS = { nodenext: 'nodenext', bundler: 'esnext' } as const

/** Everything that can be imported without Node. */
const IMPORTS = `
import * as evtchn from 'evtchn'
import * as abi from 'evtchn/abi'
import * as core from 'evtchn/core'
import * as xenstore from 'evtchn/xenstore'
import * as dom0 from 'evtchn/dom0'

export const all: object[] = [evtchn, abi, core, xenstore, dom0]
`

/** A first use, every type written down by its name. */
const USE = `
import { type Domain, GuestMemory, Hypervisor, type Vcpu, type WasmMemory } from 'evtchn'

const xen = Hypervisor.create()
declare const memory: WasmMemory
const domain: Domain = xen.createDomain({ domid: 1, memory })
const vcpu: Vcpu = domain.vcpu(0)
export const port: number = vcpu.eventChannelOp('bind_ipi', { vcpu: 0 }).port
export const bytes: number = new GuestMemory({ frames: 1 }).bytes
`

/** What a user of the first release could break, and what is not his to see. No line of it compiles. */
const BREAKAGES = [
  ['a port set free', 'domain.ports.setFree(1)', 'TS2339'],
  ['a domain called dead', "domain.dying = 'dead'", 'TS2540'],
  ['a domain called saved', "domain.frozen = 'saved'", 'TS2540'],
  ['vcpu_info moved', 'vcpu.info = 12345', 'TS2339'],
  ['a lock taken', 'domain.eventLock.acquireWrite()', 'TS2339'],
  ["the hypervisor's parts", "xen.world.fail(22, 'x')", 'TS2339'],
  ['vIRQs closed', 'xen.virqs.closeDomExc(domain)', 'TS2339'],
  ['another vCPU put in', 'domain.vcpus[0] = vcpu', 'TS2542'],
  ['a misspelt member', "domain.eventChannelOp('send', { prot: 1 })", 'TS2353'],
  ['a result that is none', "domain.eventChannelOp('send', { port: 1 }).status", 'TS2339'],
] as const

let top: string
beforeAll(() => {
  top = mkdtempSync(join(tmpdir(), 'evtchn-types-'))
  for (const project of ['bare', 'node']) {
    const modules = join(top, project, 'node_modules')
    const target = join(modules, 'evtchn')
    mkdirSync(target, { recursive: true })
    cpSync(join(ROOT, 'package.json'), join(target, 'package.json'))
    cpSync(join(ROOT, 'dist'), join(target, 'dist'), {
      recursive: true,
      filter: (from) => !/\.(js|map|wasm)$/.test(from),
    })
    cpSync(join(ROOT, 'node_modules/bitset'), join(modules, 'bitset'), { recursive: true })
    writeFileSync(join(top, project, 'package.json'), '{ "type": "module" }')
  }
  mkdirSync(join(top, 'node/node_modules/@types'))
  for (const name of ['@types/node', 'undici-types'])
    symlinkSync(join(ROOT, 'node_modules', name), join(top, 'node/node_modules', name))
})
afterAll(() => rmSync(top, { recursive: true, force: true }))

let projects = 0
/** What the compiler says of one file. */
function compile(compiler: string, project: string, source: string, options: object = {}): string {
  const dir = join(top, project, `p${projects++}`)
  mkdirSync(dir)
  writeFileSync(join(dir, 'main.ts'), source)
  const compilerOptions = {
    target: 'ES2022',
    lib: ['ES2022'],
    types: [],
    module: 'nodenext',
    moduleResolution: 'nodenext',
    strict: true,
    skipLibCheck: false,
    noEmit: true,
    ...options,
  }
  writeFileSync(join(dir, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['main.ts'] }))
  const tsc = join(ROOT, 'node_modules', compiler, 'bin/tsc')
  const { stdout, stderr } = spawnSync(process.execPath, [tsc, '-p', dir, '--pretty', 'false'], { encoding: 'utf8' })
  return stdout + stderr
}

describe.each(COMPILERS)('declarations under %s', (compiler) => {
  it.each(Object.entries(RESOLUTIONS))('need nothing but ES2022, moduleResolution %s', (moduleResolution, module) => {
    expect(compile(compiler, 'bare', IMPORTS + USE, { module, moduleResolution })).toBe('')
  })

  it('need only the types of Node for evtchn/node', () => {
    const source = "import * as node from 'evtchn/node'\nexport const all: object = node\n"
    expect(compile(compiler, 'node', source, { types: ['node'] })).toBe('')
  })

  it('agree with the DOM: its memory and its signal are taken', () => {
    const source = `${IMPORTS}
      export const domain = evtchn.Hypervisor.create().createDomain({ domid: 1, memory: new WebAssembly.Memory({ initial: 1 }) })
      export const signal: xenstore.AbortSignalLike & evtchn.Abortable = new AbortController().signal
      export const instance = new WebAssembly.Instance(core.coreModule(false), {})
    `
    expect(compile(compiler, 'bare', source, { lib: ['ES2022', 'DOM'] })).toBe('')
  })

  it('let a handle be disposed of by `using`', () => {
    const source = `import type { EvtchnHandle, Migration } from 'evtchn'
      export function run(open: () => EvtchnHandle, begin: () => Migration): number {
        using handle = open()
        using migration = begin()
        return handle ? migration.domid : 0
      }
    `
    expect(compile(compiler, 'bare', source, { lib: ['ES2022', 'ESNext.Disposable'] })).toBe('')
  })
})

describe('a sealed surface', () => {
  const PRELUDE = `import { type Domain, Hypervisor, type Vcpu } from 'evtchn'
    const xen = Hypervisor.create()
    declare const domain: Domain, vcpu: Vcpu
    export const used: unknown[] = [xen, domain, vcpu]
  `
  it('does not compile: the ways in which a user could break what the hypervisor believes', () => {
    const said = compile('typescript', 'bare', PRELUDE + BREAKAGES.map(([, code]) => code).join('\n'))
    const first = PRELUDE.split('\n').length
    const codes = BREAKAGES.map(([what], i) => {
      const line = said.split('\n').find((text) => text.includes(`main.ts(${first + i},`))
      return [what, /error (TS\d+)/.exec(line ?? '')?.[1]]
    })
    expect(codes).toEqual(BREAKAGES.map(([what, , code]) => [what, code]))
  })
})
