import { defineConfig } from 'vitest/config'
import base from './vitest.config.js'

/**
 * The long runs, one folder of test/real each: kernels, Xen's programs, threads, the page in a browser.
 * They need Debian packages or minutes, so `npm test` leaves them out.
 * `npm run test:real -- test/real/FOLDER` runs one.
 */
export default defineConfig({
  test: {
    ...base.test,
    include: ['test/real/**/*.test.ts'],
    exclude: ['**/node_modules/**'],
    testTimeout: 600_000,
    hookTimeout: 600_000,
  },
})
