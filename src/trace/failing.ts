/** For tests: a trace whose last lines are printed if the test fails. */

import { func, having, options, type Table, within } from '../check.js'
import { Trace } from './trace.js'

/** Lines that are printed. */
const LINES = 20

/** What a test runner hands to a test: vitest's context, or `{ onTestFailed }` of its own. */
export interface FailingTest {
  onTestFailed(then: () => void): void
}

/** Options of `traceOfTest`. */
export interface TestTraceOptions {
  /** Where the lines go, such as `console.error`. */
  print: (text: string) => void
  /** How many lines. Default 20. */
  lines?: number
}

const TABLE: Table<TestTraceOptions> = { print: func, lines: within(1, 2 ** 24) }

/** Makes a trace for one test. @throws ParameterError */
export function traceOfTest(test: FailingTest, given: TestTraceOptions): Trace {
  const call = 'traceOfTest'
  having('onTestFailed')(call, 'test', test)
  const { print, lines = LINES } = options(call, given, TABLE)
  func(call, 'print', print)
  const trace = new Trace({ limit: lines })
  test.onTestFailed(() => {
    print(`the last ${trace.events().length} of ${trace.recorded} events:\n${trace.text()}`)
  })
  return trace
}
