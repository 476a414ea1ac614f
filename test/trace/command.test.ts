/** `evtchn trace` and `--trace` as a user meets them. Runs what was built. */

import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))
const LIBRARY = new URL('../../dist/index.js', import.meta.url).href
const folder = mkdtempSync(join(tmpdir(), 'trace-'))
const script = join(folder, 'guest.mjs')
writeFileSync(
  script,
  `import { Hypervisor } from ${JSON.stringify(LIBRARY)}
const xen = Hypervisor.create()
const domain = xen.createDomain({ domid: 1 })
try {
  console.log(domain.eventChannelOp('alloc_unbound', { dom: 0x7ff0, remote_dom: 0 }), process.argv.slice(2))
} catch (error) {
  console.log(error.message)
}
`,
)
afterAll(() => rmSync(folder, { recursive: true }))

function evtchn(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args], { encoding: 'utf8' })
  return { status, stdout, stderr }
}

describe('evtchn trace', () => {
  it('runs a script with its arguments, and prints its calls on standard error', () => {
    expect(evtchn('trace', script, '--help', 'x')).toEqual({
      status: 0,
      stdout: "{ port: 1 } [ '--help', 'x' ]\n",
      stderr: 'd1 is created\nd1v0 EVTCHNOP_alloc_unbound(dom=0x7ff0, remote_dom=0) = 0 {port=1}\n',
    })
  })

  it('prints what is asked for, and lets calls fail', () => {
    const { status, stdout, stderr } = evtchn('trace', '--only', 'alloc', '--fail', 'd1:alloc_unbound=ENOSPC', script)
    expect([status, stdout]).toEqual([0, 'EVTCHNOP_alloc_unbound: injected (ENOSPC)\n'])
    expect(stderr).toBe('d1v0 EVTCHNOP_alloc_unbound(dom=0x7ff0, remote_dom=0) = -ENOSPC: injected\n')
  })

  it.each([
    [['trace'], 2, 'evtchn trace: no script given'],
    [['trace', '/none.mjs'], 1, 'there is no file /none.mjs'],
    [['trace', '--fail', 'send', script], 2, '[dN:]CALL=ERRNO[@NTH][xTIMES]'],
    [['trace', '--output', '/none/x', script], 1, 'cannot be written'],
  ])('%j is refused', (args, code, message) => {
    const { status, stdout, stderr } = evtchn(...args)
    expect([status, stdout]).toEqual([code, ''])
    expect(stderr).toContain(message)
  })

  it('--trace=FILE of another command is what Perfetto opens: stores and kernel threads too', () => {
    const file = join(folder, 'run.json')
    expect(evtchn('xenwatch', '--domains', '1', `--trace=${file}`).status).toBe(0)
    const { traceEvents } = JSON.parse(readFileSync(file, 'utf8'))
    const names = new Set(traceEvents.map(({ name, cat }: { name: string; cat: string }) => cat ?? name))
    for (const name of ['process_name', 'thread_name', 'hypercall', 'store', 'thread']) expect(names).toContain(name)
  })
})
