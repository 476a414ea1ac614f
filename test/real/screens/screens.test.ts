/** Every command's screen and help at 60, 80, 120 and 200 columns: no line is wider, and nothing is lost. Runs what was built. */

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'

const MAIN = fileURLToPath(new URL('../../../dist/cli/main.js', import.meta.url))
const WIDTHS = [60, 80, 120, 200]

function evtchn(columns: number, args: readonly string[]) {
  const env = { ...process.env, COLUMNS: String(columns) }
  const { stdout, status } = spawnSync(process.execPath, [MAIN, ...args], { encoding: 'utf8', env })
  return { stdout, status }
}

const tooWide = (text: string, columns: number) => text.split('\n').filter((line) => [...line].length > columns)
/** The words of a screen: whatever width, the same ones, but for what is timed, drawn and repeated. */
const words = (text: string) => new Set(text.match(/\p{L}{3,}/gu)?.filter((word) => !/^[DRSX]+$/.test(word)))

/** The screens: the smallest run that has all parts. */
const SCREENS: readonly string[][] = [
  ['xenwatch', '--domains', '2'],
  ['xenwatch', '--design', 'all', '--domains', '2'],
  ['xenwatch', '--scenario', 'all', '--design', 'all'],
  ['migrate', '--channels', '50', '--pending', '5', '--raised', '5'],
  ['pvcalls', '--sockets', '4', '--bytes', '1000'],
  ['register'],
]

it.each(SCREENS)('evtchn %s %s %s fits', (...args) => {
  const shown = WIDTHS.map((columns) => {
    const { stdout, status } = evtchn(columns, args)
    expect(status).toBe(0)
    expect([columns, tooWide(stdout, columns)]).toEqual([columns, []])
    return words(stdout)
  })
  const widest = [...shown.at(-1)!]
  for (const each of shown) expect(widest.filter((word) => !each.has(word))).toEqual([])
})

it.each(['demo', 'bench'])('evtchn %s, of which every run is timed, fits 60 columns', (command) => {
  const sizes = command === 'demo' ? ['--channels', '500', '--sends', '1000'] : ['--help']
  expect(tooWide(evtchn(60, [command, ...sizes]).stdout, 60)).toEqual([])
})

it('every help text fits', () => {
  const { stdout } = evtchn(80, ['--help'])
  const commands = [...stdout.matchAll(/^ {2}(\S+) +\S/gm)].map(([, name]) => name!)
  expect(commands.length).toBeGreaterThan(10)
  for (const name of commands)
    for (const columns of [60, 200]) {
      const help = evtchn(columns, ['help', name]).stdout
      expect([name, columns, tooWide(help, columns)]).toEqual([name, columns, []])
      expect(help).toContain('--help, -h')
    }
})
