/** Kernels of a few KiB on an x86 processor: `npm run guests` as a test, and what an embedder of machines may rely on. */

import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { beforeAll, expect, it } from 'vitest'
import { emulatorFiles } from '../../../guests/emulator.mjs'
import { ParameterError } from '../../../src/index.js'
import { V86Host } from '../../../src/x86/index.js'

const TIMEOUT_MS = 90_000

beforeAll(() => {
  execFileSync('sh', ['guests/tiny/build.sh'])
}, TIMEOUT_MS)

it.each(['two-levels', 'three-levels', 'hostile'])(
  'RG-92: the guest %s succeeds',
  (name) => {
    const output = execFileSync(process.execPath, ['guests/tiny/run.mjs', name], { encoding: 'utf8' })
    expect(output).toContain('RESULT SUCCESS')
    if (name === 'three-levels') expect(output).toContain('three levels: ports bound 32765')
  },
  TIMEOUT_MS,
)

it(
  'a guest that cannot have three levels says so and fails',
  async () => {
    const files = await emulatorFiles()
    const host = V86Host.create({ nlevel: false })
    const kernel = new Uint8Array(readFileSync('build/guests/three-levels.bz'))
    let text = ''
    await new Promise<void>((done) => {
      const onSerial = (byte: number) => {
        text += String.fromCharCode(byte)
        if (/RESULT \w+\n$/.test(text)) done()
      }
      void host.boot({ files, kernel, memoryMiB: 32, onSerial })
    })
    expect(text).toContain('set_nlevel_selectors: errno 38')
    expect(text).toContain('RESULT FAILURE')
    await host.destroy(host.guest(1)!)
    expect(host.xen.domids()).toEqual([0])
  },
  TIMEOUT_MS,
)

it(
  'what a user’s function throws stays with the user, and the guest goes on',
  async () => {
    const reported: string[] = []
    const host = V86Host.create({ onError: (_, where) => reported.push(where) })
    const kernel = new Uint8Array(readFileSync('build/guests/two-levels.bz'))
    const bytes: number[] = []
    const guest = await host.boot({
      files: await emulatorFiles(),
      kernel,
      memoryMiB: 32,
      onSerial: (byte) => {
        bytes.push(byte)
        throw new Error('fault of a user')
      },
    })
    while (!String.fromCharCode(...bytes).includes('RAISE')) await new Promise((turn) => setImmediate(turn))
    expect(new Set(reported)).toEqual(new Set(['onSerial']))
    await host.destroy(guest)
  },
  TIMEOUT_MS,
)

it('RG-15: another emulator than v86 0.5.462 is refused by name', async () => {
  const files = await emulatorFiles()
  const wasm = new Uint8Array(readFileSync('dist/wasm/core.wasm'))
  await expect(V86Host.create().boot({ files: { ...files, wasm } })).rejects.toThrow(ParameterError)
  await expect(V86Host.create().boot({ files: { ...files, wasm } })).rejects.toThrow('npm v86 0.5.462')
  await expect(V86Host.create().boot({ files, memoryMiB: 1 })).rejects.toThrow(ParameterError)
})
