import { defineConfig } from 'vitest/config'
import { NotRunReporter } from './test/not_run.js'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    reporters: ['default', new NotRunReporter()],
    testTimeout: 60_000,
    // Two workers: the suite is made for small machines.
    maxWorkers: 2,
  },
})
