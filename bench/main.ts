/**
 * `npm run bench`: the levels beside C and JavaScript peers (bench/levels), then, unless data is printed, what a hypercall and
 * a delivered event cost beside the core (bench/hypercalls), and two levels, three levels and FIFO through the library (bench/abis); each in a process of its own, so that neither warms the other's code.
 * Options are those of the levels.
 */

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/** Runs a part; Node's own options, as for its compiler, go along. */
function run(script: string, args: readonly string[]): void {
  const path = fileURLToPath(new URL(script, import.meta.url))
  const { status } = spawnSync(process.execPath, [...process.execArgv, path, ...args], { stdio: 'inherit' })
  if (status !== 0) process.exit(status ?? 1)
}

/** Arguments that end or change what is printed: nothing else may follow it on standard output. */
const ALONE = ['--help', '-h', '--json', '--csv', '--markdown']

const args = process.argv.slice(2)
run('levels/main.js', args)
if (!args.some((arg) => ALONE.includes(arg))) {
  const quick = args.includes('--quick') ? ['--quick'] : []
  process.stdout.write('\nFrom the core to the handler: what stands around the core\n\n')
  run('hypercalls/main.js', quick)
  process.stdout.write('\nThe ABIs through the library: hypervisor, guest driver, handlers\n\n')
  const seed = args.indexOf('--seed')
  const seedArgs = args.filter((arg, i) => arg.startsWith('--seed=') || i === seed || (seed >= 0 && i === seed + 1))
  run('abis/main.js', [...seedArgs, ...quick])
}
