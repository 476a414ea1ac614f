import { defineConfig } from 'vitest/config'
import { NotRunReporter } from './test/not_run.js'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // test/real needs Debian packages or minutes: `npm run test:real`, vitest.real.config.ts.
    exclude: ['**/node_modules/**', 'test/real/**'],
    // Hosts of tests read guest words themselves, and nobody takes their upcalls.
    onConsoleLog: (text) => !text.startsWith('evtchn: d'),
    reporters: ['default', new NotRunReporter()],
    // Generous: a busy machine is no failure.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // Two workers: the suite is made for small machines.
    maxWorkers: 2,
  },
})
