import { defineConfig } from 'vitest/config'
import { NotRunReporter } from './test/not_run.js'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    reporters: ['default', new NotRunReporter()],
    // Generous: a busy machine is no failure.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // Two workers: the suite is made for small machines.
    maxWorkers: 2,
  },
})
