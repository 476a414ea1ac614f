/** What shells are told to complete, asked of a real shell. Runs what was built. */

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'

const MAIN = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url))

function evtchn(...args: string[]) {
  const { stdout, status } = spawnSync(process.execPath, [MAIN, ...args], { encoding: 'utf8' })
  return { stdout, status }
}

it('completion of bash offers commands, options, and the words of an option', () => {
  const script = evtchn('completion', 'bash').stdout
  const complete = (...words: string[]) => {
    const ask = `COMP_WORDS=(evtchn ${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length}; _evtchn; echo "\${COMPREPLY[*]}"`
    return spawnSync('bash', ['-c', `${script}\n${ask}`], { encoding: 'utf8' }).stdout.trim()
  }
  expect(complete('xenw')).toBe('xenwatch')
  expect(complete('xenwatch', '--des')).toBe('--design')
  expect(complete('xenwatch', '--design', 's')).toBe('single')
  expect(complete('help', 'du')).toBe('dump')
  expect(complete('completion', '')).toBe('bash zsh fish')
  expect(complete('dump', '--tr')).toBe('--trace')
})

it('completion of zsh and fish names every option of every command', () => {
  for (const shell of ['zsh', 'fish']) {
    const script = evtchn('completion', shell).stdout
    const { stdout } = evtchn('help', 'xenwatch')
    for (const [, name] of stdout.matchAll(/^ {2}--([a-z-]+)/gm))
      expect(script).toMatch(shell === 'zsh' ? new RegExp(`'--${name}(=-)?\\[`) : new RegExp(`xenwatch' -l ${name} `))
  }
  const { status, stdout } = evtchn('completion', 'csh')
  expect([status, stdout]).toEqual([2, ''])
})
