/**
 * The C parts of hostd (native/), built on demand with the user's compiler and kept in the user's cache: the npm package has
 * no binaries and no install script.
 *
 *     native/*.c, *.h ──cc──▶ ~/.cache/evtchn/native-HASH/{xenshim.so, xenrun, hostmem.node}
 */

import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Where the C sources are: beside `dist/` in the package, beside `src/` in the repository. */
const SOURCES = fileURLToPath(new URL('../../../native/', import.meta.url))

const FLAGS = ['-O2', '-Wall', '-Wextra', '-Werror']
/** What is built from what, and how. */
const TARGETS = [
  { file: 'xenshim.so', sources: ['xenshim.c', 'xenpaths.c'], flags: ['-shared', '-fPIC', '-ldl', '-lpthread'] },
  { file: 'hostmem.node', sources: ['hostmem.c'], flags: ['-shared', '-fPIC'] },
  { file: 'xenrun', sources: ['xenrun.c'], flags: ['-lpthread'] },
  {
    file: 'kernel',
    sources: ['kernel.S'],
    flags: ['-nostdlib', '-static', '-Wl,-Ttext=0x1000', '-Wl,--build-id=none', '-Wl,-N', '-Wl,--no-warn-rwx-segments'],
  },
] as const

/** What was built. */
export interface NativeParts {
  /** The library that a program preloads. */
  readonly shim: string
  /** The supervisor of static programs. */
  readonly supervisor: string
  /** A kernel for `xl create`, in whose place the library's boots. */
  readonly kernel: string
  /** The addon that lays a file under a memory. */
  readonly addon: string
}

/** There is no compiler, no Linux, or the sources do not compile. The message says what to do. */
export class NativeBuildError extends Error {
  override readonly name = 'NativeBuildError'
}

function cacheFolder(env: NodeJS.ProcessEnv): string {
  const home = homedir()
  const usual = env.XDG_CACHE_HOME ?? (existsSync(home) && home !== '/' ? join(home, '.cache') : undefined)
  // LD_PRELOAD splits at blanks and colons. A user without a home, as in some containers, has a folder of its own.
  const usable = usual !== undefined && !/[\s:]/.test(usual)
  return usable ? join(usual, 'evtchn') : join(tmpdir(), `evtchn-${process.getuid?.()}`)
}

/** The compiler's name: `CC`, or the first that is there. */
function compiler(env: NodeJS.ProcessEnv): string {
  const names = env.CC ? [env.CC] : ['cc', 'gcc', 'clang']
  for (const name of names)
    try {
      execFileSync(name, ['--version'], { stdio: 'ignore' })
      return name
    } catch {
      // The next one.
    }
  throw new NativeBuildError(
    `a C compiler is needed to run native programs, and there is no ${names.join(', ')}; on Debian: apt-get install gcc libc6-dev`,
  )
}

/**
 * Builds what is not built yet; takes half a second the first time.
 * @throws NativeBuildError
 */
export function buildNative(env: NodeJS.ProcessEnv = process.env): NativeParts {
  if (process.platform !== 'linux')
    throw new NativeBuildError(`native programs run on Linux only; this is ${process.platform}`)
  const hash = createHash('sha256')
    .update(process.arch)
    .update(env.CC ?? '')
  for (const name of readdirSync(SOURCES).sort()) hash.update(name).update(readFileSync(join(SOURCES, name)))
  const folder = join(cacheFolder(env), `native-${hash.digest('hex').slice(0, 16)}`)
  const at = (file: string) => join(folder, file)
  const parts = { shim: at('xenshim.so'), supervisor: at('xenrun'), addon: at('hostmem.node'), kernel: at('kernel') }
  if (existsSync(folder)) return parts
  mkdirSync(cacheFolder(env), { recursive: true, mode: 0o700 })
  // Into a folder aside, which then takes the name: two that build at once do not disturb each other.
  const aside = mkdtempSync(join(cacheFolder(env), 'building-'))
  try {
    const cc = compiler(env)
    for (const { file, sources, flags } of TARGETS)
      compile(cc, [...FLAGS, '-o', join(aside, file), ...sources.map((each) => join(SOURCES, each)), ...flags])
    if (!existsSync(folder)) renameSync(aside, folder)
  } catch (error) {
    if (!existsSync(folder)) throw error
  } finally {
    rmSync(aside, { recursive: true, force: true })
  }
  return parts
}

function compile(cc: string, args: readonly string[]): void {
  try {
    execFileSync(cc, args, { stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8' })
  } catch (error) {
    throw new NativeBuildError(`${cc} ${args.join(' ')} failed:\n${(error as { stderr?: string }).stderr ?? error}`)
  }
}
