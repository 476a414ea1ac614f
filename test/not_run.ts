/** Says at the end of a run, plainly, which tests were not run for want of a tool: the summary has only their number. */

import type { Reporter, TestCase, TestModule } from 'vitest/node'

/** How a title says that its tests are not run. */
const NOT_RUN = /\bnot run\b/i

/** The parts of a skipped test's full name that say why, with how many tests each stands for. */
export function notRun(skipped: readonly (readonly string[])[]): Map<string, number> {
  const found = new Map<string, number>()
  for (const titles of skipped) {
    const said = titles.find((title) => NOT_RUN.test(title))
    if (said !== undefined) found.set(said, (found.get(said) ?? 0) + 1)
  }
  return found
}

/** Titles from the outermost `describe` to the test itself. */
function titlesOf(test: TestCase): string[] {
  const titles = [test.name]
  let { parent } = test
  while (parent.type === 'suite') {
    titles.unshift(parent.name)
    parent = parent.parent
  }
  return titles
}

/** The reporter. */
export class NotRunReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const skipped = modules.flatMap((module) => [...module.children.allTests('skipped')].map(titlesOf))
    for (const [title, count] of notRun(skipped))
      process.stdout.write(`NOT RUN: ${count} ${count === 1 ? 'test' : 'tests'}: ${title}\n`)
  }
}
