// Runs every bench once with `--quick`. It fails if one fails, or complains on standard error: a bench is run seldom, and
// would otherwise break unseen when what it measures changes.

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const BENCHES = [
  'main.js',
  'hypercalls/main.js',
  'migration/main.js',
  'scale/main.js',
  'pvcalls/pvcalls.js',
  'xenstore/xenstore.js',
  'xenwatch/xenwatch.js',
]
const folder = fileURLToPath(new URL('../build/bench/bench/', import.meta.url))

for (const bench of BENCHES) {
  const start = performance.now()
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [folder + bench, '--quick'], {
    encoding: 'utf8',
  })
  const seconds = ((performance.now() - start) / 1000).toFixed(0)
  if (status !== 0 || stderr !== '') {
    process.stderr.write(`${stdout}${stderr}bench ${bench} --quick: ${signal ?? `exit code ${status}`}\n`)
    process.exit(1)
  }
  console.log(`${bench} --quick: ran in ${seconds} s`)
}
