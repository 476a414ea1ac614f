/**
 * `npm run bench`: the levels beside C and JavaScript peers (bench/levels), then the three ABIs through the library
 * (bench/abis), each in a process of its own, so that neither warms the other's code. Options are those of the levels.
 */

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { HELP, parseOptions } from './levels/options.js'

/** Node's own options, as for its compiler, go along. */
function run(script: string, args: readonly string[]): void {
  const path = fileURLToPath(new URL(script, import.meta.url))
  const { status } = spawnSync(process.execPath, [...process.execArgv, path, ...args], { stdio: 'inherit' })
  if (status !== 0) process.exit(status ?? 1)
}

const args = process.argv.slice(2)
if (args.includes('--help')) process.stdout.write(HELP)
else {
  run('levels/main.js', args)
  // The levels have refused bad options by now.
  const options = parseOptions(args)!
  process.stdout.write('\nThe three ABIs through the library: hypervisor, guest driver, handlers\n\n')
  run('abis/main.js', ['--seed', String(options.seed), ...(options.quick ? ['--samples', '9'] : [])])
}
