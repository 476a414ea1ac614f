/**
 * Fetches what Debian has: the kernel for 686-pae with Xen in it, and a busybox. apt gets folders and lists of its own, for
 * architecture i386, and the system's own packages stay as they are. Everything lies in build/linux; nothing is committed.
 */

import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { makeInitrd } from './initrd.mjs'

const FOLDER = fileURLToPath(new URL('../../build/linux/', import.meta.url))
/** Modules that the guest loads: /dev/xen/evtchn. */
const MODULES = ['drivers/xen/xen-evtchn.ko']

const run = (program, args, options = {}) =>
  execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], ...options })

function apt(folder) {
  const state = join(folder, 'apt')
  for (const each of ['lists/partial', 'cache/archives/partial', 'packages'])
    mkdirSync(join(state, each), { recursive: true })
  writeFileSync(join(state, 'status'), '')
  const config = join(state, 'apt.conf')
  writeFileSync(
    config,
    [
      'APT::Architecture "i386";',
      'APT::Architectures { "i386"; };',
      `Dir::State "${state}";`,
      `Dir::State::lists "${join(state, 'lists')}";`,
      `Dir::State::status "${join(state, 'status')}";`,
      `Dir::Cache "${join(state, 'cache')}";`,
      'APT::Sandbox::User "root";',
    ].join('\n'),
  )
  const env = { ...process.env, APT_CONFIG: config }
  return {
    packages: join(state, 'packages'),
    call: (program, ...args) => run(program, args, { env, cwd: join(state, 'packages') }),
  }
}

/** Fetches the lists. One list of several that cannot be had is no end: what is missing shows when it is asked for. */
function update(call) {
  try {
    call('apt-get', 'update')
    return ''
  } catch (error) {
    return error.stderr
  }
}

/** Version of the kernel, whose package changes its name with each update. */
function kernelPackage(call, trouble) {
  try {
    return /Depends: (linux-image-\S+)/.exec(call('apt-cache', 'depends', 'linux-image-686-pae'))[1]
  } catch {
    throw new Error(`there is no package linux-image-686-pae: is a Debian mirror among the sources of apt?\n${trouble}`)
  }
}

/** Paths of kernel and initrd, which are made if they are not there. @throws Error that says what is missing */
export function linuxFiles(say = () => {}) {
  const [kernel, initrd] = [join(FOLDER, 'vmlinuz'), join(FOLDER, 'initrd')]
  if (existsSync(kernel) && existsSync(initrd)) return { kernel, initrd }
  try {
    run('apt-get', ['--version'])
    run('dpkg-deb', ['--version'])
  } catch {
    throw new Error('apt-get and dpkg-deb are needed: this fetches a kernel from Debian. See docs/real-kernels.md')
  }
  say('fetching lists of packages')
  const { packages, call } = apt(FOLDER)
  const trouble = update(call)
  const name = kernelPackage(call, trouble)
  say(`fetching ${name} and busybox, about 53 MB`)
  call('apt-get', 'download', name, 'busybox-static')
  say('unpacking')
  const tree = join(FOLDER, 'tree')
  rmSync(tree, { recursive: true, force: true })
  for (const file of readdirSync(packages).filter((each) => each.endsWith('.deb')))
    run('dpkg-deb', ['-x', join(packages, file), tree])
  const version = name.replace('linux-image-', '')
  const modules = MODULES.map((path) => [
    path.split('/').at(-1),
    readFileSync(join(tree, 'lib/modules', version, 'kernel', path)),
  ])
  const init = readFileSync(new URL('init.sh', import.meta.url))
  const busybox = readFileSync(join(tree, 'bin/busybox'))
  writeFileSync(initrd, makeInitrd({ busybox, init, modules }))
  writeFileSync(kernel, readFileSync(join(tree, `boot/vmlinuz-${version}`)))
  return { kernel, initrd }
}
