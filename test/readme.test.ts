/** The README's examples run as they are written: from inside the package, where 'evtchn' is the package itself. */

import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const README = readFileSync(`${ROOT}README.md`, 'utf8')

/** Each ```js block with the ```text block that follows it, if one does: what the example prints. */
const examples = [...README.matchAll(/```js\n([\s\S]*?)```(?:\n+[^\n`]*\n*```text\n([\s\S]*?)```)?/g)].map((match) => ({
  code: match[1]!,
  prints: match[2],
}))

function run(code: string, name: string) {
  const folder = `${ROOT}build/readme`
  mkdirSync(folder, { recursive: true })
  const file = `${folder}/${name}.mjs`
  writeFileSync(file, code)
  return spawnSync(process.execPath, [file], { encoding: 'utf8' })
}

describe('README', () => {
  it('begins with an example of at most 20 lines: two domains, a channel, a send, an upcall', () => {
    const [first] = examples
    expect(first!.code.trimEnd().split('\n').length).toBeLessThanOrEqual(20)
    expect(first!.code).toContain("from 'evtchn'")
    expect(first!.code).toContain('Hypervisor')
  })

  it.each(examples.map((example, i) => [i + 1, example] as const))(
    'example %d runs and prints what it says',
    (i, { code, prints }) => {
      const { status, stdout, stderr } = run(code, `example-${i}`)
      expect(stderr).toBe('')
      expect(status).toBe(0)
      if (prints !== undefined) expect(stdout).toBe(prints)
    },
  )

  it('names only commands that package.json has', () => {
    const { scripts } = JSON.parse(readFileSync(`${ROOT}package.json`, 'utf8')) as { scripts: Record<string, string> }
    const named = [...README.matchAll(/npm run ([a-z:-]+)/g)].map((match) => match[1]!)
    expect(named.length).toBeGreaterThan(1)
    for (const name of named) expect(scripts, `npm run ${name}`).toHaveProperty([name])
  })
})
