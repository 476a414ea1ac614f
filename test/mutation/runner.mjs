/**
 * Runs test files in a folder, again and again, in one process: what has not changed is not read anew. Told by messages:
 * `{ changed, tests }` runs the tests in this order until one fails, says `{ ran, ok }` after each, and `{ failed }` at the
 * end: the name of that one, or null. An endless loop ends with this process, which main.mjs ends.
 */

import { createVitest } from 'vitest/node'

const root = process.cwd()
const nameOf = (moduleId) => moduleId.slice(root.length + 1)
let order = []
let failed = null

/** As they were asked for: the nearest first. */
class InOrder {
  shard(files) {
    return files
  }
  sort(files) {
    return files.sort((a, b) => order.indexOf(nameOf(a.moduleId)) - order.indexOf(nameOf(b.moduleId)))
  }
}

const vitest = await createVitest('test', {
  root,
  config: `${root}/vitest.config.ts`,
  watch: false,
  bail: 1,
  maxWorkers: 1,
  pool: 'threads',
  // One thread for all files, and the library is loaded once: a test that needs it fresh fails without a mutant too.
  isolate: false,
  sequence: { sequencer: InOrder },
  reporters: [
    {
      onTestModuleEnd(module) {
        const name = nameOf(module.moduleId)
        const ok = module.ok() && !module.errors().length
        if (!ok) failed ??= name
        process.send({ ran: name, ok })
      },
    },
  ],
  silent: true,
  onConsoleLog: () => false,
  testTimeout: 30_000,
})
await vitest.standalone()
const all = await vitest.globTestSpecifications()

process.on('message', async ({ changed, tests }) => {
  for (const file of changed) vitest.invalidateFile(`${root}/${file}`)
  order = tests
  failed = null
  if (tests.length) {
    const { unhandledErrors } = await vitest.runTestSpecifications(
      all.filter(({ moduleId }) => tests.includes(nameOf(moduleId))),
    )
    if (unhandledErrors.length) failed ??= 'an error outside a test'
  }
  process.send({ failed })
})
process.send({ all: all.map(({ moduleId }) => nameOf(moduleId)) })
