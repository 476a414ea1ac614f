/**
 * The stall of April 2018 with Xen's own tools: guests that the real xl builds, a packet of the first that netback never gets
 * back, and what xl then says when it destroys that guest and creates another; under one design of dom0's kernel.
 */

import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Design, Thread } from '../../dom0/index.js'
import { NativeHost, startDaemons } from '../../node/hostd/index.js'

/** One command of xl, and how it went. */
export interface Told {
  /** As it is typed. */
  readonly line: string
  readonly code: number
  readonly seconds: number
  /** What it printed on standard error, with the second at which it did. */
  readonly said: readonly { readonly seconds: number; readonly text: string }[]
}

/** A kernel thread that hangs. */
export interface Hung {
  readonly name: string
  readonly state: string
  readonly stack: readonly string[]
}

/** How the story went under a design. */
export interface Story {
  readonly design: Design
  /** Before the stall, during it, and after its release. */
  readonly before: readonly Told[]
  readonly during: readonly Told[]
  readonly after: readonly Told[]
  readonly hung: readonly Hung[]
}

/** libxl waits for a device for 10 s, twice; more than that is a hang of its own. */
const LONGEST_S = 90

/** A host, and xl on it. */
class Stage {
  readonly host: NativeHost
  readonly #dir: string
  readonly #say: (line: string) => void

  constructor(host: NativeHost, dir: string, say: (line: string) => void) {
    this.host = host
    this.#dir = dir
    this.#say = say
  }

  /** A guest with one interface; its configuration. */
  guest(name: string): string {
    const file = join(this.#dir, `${name}.cfg`)
    const lines = [`name="${name}"`, 'type="pv"', `kernel="${this.#dir}/kernel"`, 'memory=8', 'vcpus=1', 'vif=[""]', '']
    writeFileSync(file, lines.join('\n'))
    return file
  }

  /** Runs xl and says what it says. */
  xl(...args: readonly string[]): Promise<Told> {
    const line = `xl ${args.map((each) => (each.startsWith('/') ? each.slice(each.lastIndexOf('/') + 1) : each)).join(' ')}`
    this.#say(`$ ${line}`)
    const { command, args: argv, env } = this.host.program(0, ['xl', ...args])
    const began = performance.now()
    const seconds = () => (performance.now() - began) / 1000
    return new Promise((resolve, reject) => {
      const said: { seconds: number; text: string }[] = []
      const child = spawn(command, argv, { env, stdio: ['ignore', 'ignore', 'pipe'] })
      const late = setTimeout(() => child.kill('SIGKILL'), LONGEST_S * 1000)
      child.stderr.on('data', (bytes: Buffer) => {
        for (const text of bytes.toString().trimEnd().split('\n')) {
          if (text.startsWith('Parsing config')) continue
          said.push({ seconds: seconds(), text })
          this.#say(`${seconds().toFixed(2).padStart(6)} s  ${text}`)
        }
      })
      child.on('error', reject)
      child.on('close', (code) => {
        clearTimeout(late)
        this.#say(`          exit ${code ?? 'by a signal'} after ${seconds().toFixed(2)} s`)
        resolve({ line, code: code ?? 1, seconds: seconds(), said })
      })
    })
  }
}

const hungThreads = (threads: Iterable<Thread>): Hung[] =>
  [...threads]
    .filter(({ state }) => state === 'D')
    .map(({ name, state, stack }) => ({ name, state, stack: [...stack] }))

/** The stall: the next packet of the guest's interface stays with whoever took it. */
async function stall({ host }: Stage, domid: number): Promise<void> {
  const { injector } = host.dom0Kernel!
  injector.arm('netback', `vif${domid}.0`)
  let sent = false
  await host.until(() => {
    // It sends as soon as the interface is connected, once.
    if (!sent) sent = host.guest(domid)?.guest.netfront?.send() === true
    return injector.holding
  })
}

/** Tells the story under one design, on a host of its own. */
export async function tell(design: Design, say: (line: string) => void): Promise<Story> {
  const dir = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'evtchn-story-'))
  const host = await NativeHost.start({ dir, design })
  try {
    const stage = new Stage(host, dir, say)
    await startDaemons(host)
    const before = [await stage.xl('create', stage.guest('one')), await stage.xl('create', stage.guest('two'))]
    await stall(stage, 1)
    say('# a packet of "one" is held: netback waits for it when the interface goes')
    const during = [await stage.xl('destroy', 'one')]
    const { threads } = host.dom0Kernel!.kernel
    const hung = hungThreads(threads)
    for (const { name, state, stack } of hung)
      say(`# ${name} (${state}):\n${stack.map((each) => `#   ${each}`).join('\n')}`)
    during.push(await stage.xl('create', stage.guest('three')), await stage.xl('destroy', 'two'))
    host.dom0Kernel!.injector.release()
    host.kick()
    await host.until(() => hungThreads(threads).length === 0)
    say('# the packet is given back')
    const after = [await stage.xl('create', stage.guest('four')), await stage.xl('list')]
    return { design, before, during, after, hung }
  } finally {
    await host.close()
    rmSync(dir, { recursive: true, force: true })
  }
}
