/** Runs a program on a host that runs already, or on one of its own. */

import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buildNative, Children, findProgram, NativeHost, programIn } from '../../node/hostd/index.js'
import { CheckError } from '../errors.js'

/** What to run, and where. */
export interface OnHost {
  /** Begins messages. */
  readonly program: string
  /** Folder of a host that runs; undefined: a host for this program alone. */
  readonly host: string | undefined
  readonly domid: number
  readonly supervise: boolean
  readonly argv: readonly string[]
}

/** The folder of a host that `evtchn xl` and `evtchn run` use unless told otherwise. */
export const usualHost = (env: NodeJS.ProcessEnv = process.env): string | undefined => env.EVTCHN_HOST

/** Runs the program; resolves to its exit code. @throws CheckError */
export async function onHost({ program, host, domid, supervise, argv }: OnHost): Promise<number> {
  if (!findProgram(argv[0]!)) throw new CheckError(`${program}: there is no program ${JSON.stringify(argv[0])}`)
  // The program gets the terminal's signals itself; this process stays to tell its exit code.
  for (const signal of ['SIGINT', 'SIGQUIT'] as const) process.on(signal, () => {})
  try {
    if (host !== undefined) return await onRunning(program, host, domid, supervise, argv)
    return await onOwn(domid, supervise, argv)
  } catch (error) {
    if (error instanceof CheckError) throw error
    throw new CheckError(`${program}: ${(error as Error).message}`)
  }
}

async function onRunning(
  program: string,
  dir: string,
  domid: number,
  supervise: boolean,
  argv: readonly string[],
): Promise<number> {
  if (!existsSync(join(dir, 'host.sock')))
    throw new CheckError(`${program}: no host runs in ${dir}; start one: evtchn hostd ${dir}`)
  const children = new Children()
  process.on('SIGTERM', () => void children.close())
  return children.run(programIn({ dir, parts: buildNative() }, domid, argv, { supervise }))
}

/** A host for one program: in a folder of its own, which is gone afterwards. */
async function onOwn(domid: number, supervise: boolean, argv: readonly string[]): Promise<number> {
  const dir = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'evtchn-'))
  try {
    const host = await NativeHost.start({ dir, domains: domid ? [domid] : [] })
    process.on('SIGTERM', () => void host.children.close())
    const code = await host.children.run(host.program(domid, argv, { supervise }))
    await host.close()
    return code
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}
