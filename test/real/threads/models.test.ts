/**
 * The models of test/models, searched through by Spin: the design has no error, and each mutant has one. A model names the
 * source files that it is of; whoever changes one of them changes the model.
 */

import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { requireTools } from '../../settings.js'

const ROOT = fileURLToPath(new URL('../../..', import.meta.url))

const missing = ['spin', 'gcc'].filter((tool) => spawnSync(tool, ['--version']).error)
const notRun = missing.length ? `not run: ${missing.join(' and ')} missing` : ''

/** What Spin says of a model with one thing changed: the number of errors, and the first. */
function search(model: string, change: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'evtchn-spin-'))
  const run = (command: string, ...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(command, args, { cwd: folder, encoding: 'utf8', maxBuffer: 1e8 })
    if (status) throw new Error(`${command} ${args.join(' ')}: ${stdout}${stderr}`)
    return stdout
  }
  try {
    run('spin', '-a', '-DSENDS=1', `-D${change}`, join(ROOT, 'test/models', model))
    run('gcc', '-O2', '-w', '-DSAFETY', '-DCOLLAPSE', '-o', 'pan', 'pan.c')
    const { stdout } = spawnSync(join(folder, 'pan'), ['-m200000', '-w24'], {
      cwd: folder,
      encoding: 'utf8',
      maxBuffer: 1e8,
    })
    const errors = /errors: (\d+)/.exec(stdout)?.[1]
    const first = /^pan:1: (.*?) \(at depth/m.exec(stdout)?.[1]
    return `${errors} errors${first ? `: ${first.replace(/\s+/g, ' ')}` : ''}`
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** The mutants of each model, and what Spin finds. */
const MUTANTS = {
  'lock.pml': {
    BACK_OFF_SILENTLY: 'invalid end state',
    LEAVE_SILENTLY: 'invalid end state',
    LOOK_FIRST: 'assertion violated !(changing)',
  },
  'sleep.pml': {
    PARK_LOOKS_ONCE: 'assertion violated !(guest)',
    LOOK_BEFORE_ASLEEP: 'assertion violated (seen==sent)',
    CALL_SILENTLY: 'invalid end state',
  },
  'smp.pml': {
    NO_LOCK: 'assertion violated',
    LOOK_BEFORE_MARK: 'assertion violated',
    KICK_FIRST: 'assertion violated',
    SWITCH_WITHOUT_EXCLUSION: 'assertion violated',
    FLAG_AFTER_SEL: 'assertion violated',
    FORWARD_INSIDE: 'assertion violated',
    LOOK_BEFORE_BLOCK: 'assertion violated',
    POLL_LOOKS_FIRST: 'assertion violated',
  },
}

const INVARIANTS = { 'lock.pml': 'I1, I6', 'sleep.pml': 'I5, I6', 'smp.pml': 'I1…I6, I8' }

describe(`the models of threads ${notRun}`, () => {
  if (notRun && requireTools) it('have the tools that EVTCHN_REQUIRE_TOOLS demands', () => expect.fail(notRun))

  describe.each(Object.entries(MUTANTS))('%s', (model, mutants) => {
    const text = readFileSync(join(ROOT, 'test/models', model), 'utf8')

    it('names source files that are there', () => {
      const named = text.match(/\b(src|assembly)\/[\w./]+\.ts/g) ?? []
      expect(named.length).toBeGreaterThan(1)
      for (const file of named) expect([file, existsSync(join(ROOT, file))]).toEqual([file, true])
    })

    it.skipIf(notRun)(`${INVARIANTS[model as 'lock.pml']}: the design has no error`, () => {
      expect(search(model, 'DESIGN')).toBe('0 errors')
    })

    it.skipIf(notRun).each(Object.entries(mutants))('%s is found', (change, finds) => {
      expect(text).toContain(`def ${change}`)
      expect(search(model, change)).toContain(`1 errors: ${finds}`)
    })
  })
})
