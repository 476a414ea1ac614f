#!/usr/bin/env node
/**
 * The evtchn command. Results on standard output, errors on standard error. Exit codes: 0 done, 1 a result is inconsistent
 * or cannot be written, 2 a command line that cannot be understood.
 */

import { guardOutput } from './output.js'
import { run } from './run.js'

guardOutput('evtchn')
process.exitCode = await run(process.argv.slice(2))
