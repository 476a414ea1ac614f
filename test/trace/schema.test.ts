/**
 * The forms for programs, held to their schemas in docs/schema by a validator, and read by jq: traces of a whole dom0, of
 * raw calls, faults and moves, and the envelope of every command that has `--json`.
 */

import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { afterAll, expect, it } from 'vitest'
import { requireTools } from '../settings.js'

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'schema-'))
afterAll(() => rmSync(folder, { recursive: true }))

const schema = (name: string) =>
  JSON.parse(readFileSync(new URL(`../../docs/schema/${name}.schema.json`, import.meta.url), 'utf8'))
const ajv = new Ajv2020({ allowUnionTypes: true })
const [isEvent, isChrome, isEnvelope] = ['trace-event', 'chrome-trace', 'envelope'].map((name) =>
  ajv.compile(schema(name)),
) as [ReturnType<Ajv2020['compile']>, ReturnType<Ajv2020['compile']>, ReturnType<Ajv2020['compile']>]

/** Why a value is not of the form; empty if it is. */
const problems = (validate: typeof isEvent, value: unknown) => (validate(value) ? [] : [value, ...validate.errors!])

function evtchn(...args: string[]): string {
  const { stdout, stderr, status } = spawnSync(process.execPath, [MAIN, ...args], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  })
  expect([status, stderr.includes('    at ')]).toEqual([0, false])
  return stdout
}

/** Every kind of event is in one of these. */
const TRACED: readonly string[][] = [
  ['xenwatch', '--domains', '1'],
  ['migrate', '--channels', '20', '--pending', '5', '--raised', '5'],
]

it('each line of a trace is an event of the schema, and each kind comes up', () => {
  const kinds = new Set<string>()
  for (const [i, args] of TRACED.entries()) {
    const file = join(folder, `${i}.jsonl`)
    evtchn(...args, `--trace=${file}`)
    for (const line of readFileSync(file, 'utf8').trimEnd().split('\n')) {
      const event = JSON.parse(line)
      kinds.add(event.kind)
      expect(problems(isEvent, event)).toEqual([])
    }
  }
  const known: string[] = schema('trace-event').oneOf.map(({ title }: { title: string }) => title)
  expect(known.filter((kind) => !kinds.has(kind) && kind !== 'unblock')).toEqual([])
})

it('a trace for Perfetto is of the schema', () => {
  const file = join(folder, 'run.json')
  evtchn('xenwatch', '--domains', '1', `--trace=${file}`)
  expect(problems(isChrome, JSON.parse(readFileSync(file, 'utf8')))).toEqual([])
})

it.each([
  ['dump', '--channels', '3'],
  ['xenwatch', '--domains', '1'],
  ['migrate', '--channels', '20', '--pending', '5', '--raised', '5'],
  ['pvcalls', '--sockets', '2', '--bytes', '100'],
  ['register'],
])('evtchn %s --json is of the envelope’s schema', (command, ...args) => {
  const envelope = JSON.parse(evtchn(command, ...args, '--json'))
  expect(problems(isEnvelope, envelope)).toEqual([])
  expect(envelope.command).toBe(`evtchn ${command}`)
})

it('the schemas refuse what is not of the form', () => {
  const event = { seq: 1, timeNs: 0, domid: 0, kind: 'upcall', vcpu: 0, durationNs: 1 }
  expect(isEvent(event)).toBe(true)
  for (const wrong of [
    { ...event, kind: 'other' },
    { ...event, vcpu: '0' },
    { ...event, more: 1 },
    { ...event, seq: 0 },
  ])
    expect(isEvent(wrong)).toBe(false)
  const slice = { name: 'a', ph: 'X', pid: 0, tid: 0, ts: 0 }
  expect(isChrome({ displayTimeUnit: 'ns', traceEvents: [slice] })).toBe(false)
  expect(isChrome({ displayTimeUnit: 'ns', traceEvents: [{ ...slice, dur: 1 }] })).toBe(true)
  expect(isEnvelope({ format: 2 })).toBe(false)
})

const jq = (program: string, file: string) => spawnSync('jq', ['-e', '-s', program, file], { encoding: 'utf8' })
const haveJq = jq('.', '/dev/null').error === undefined

it.skipIf(!haveJq && !requireTools)(`jq reads JSON lines${haveJq ? '' : ' (not run: jq is not installed)'}`, () => {
  const file = join(folder, 'jq.jsonl')
  evtchn('migrate', '--channels', '20', '--pending', '5', '--raised', '5', `--trace=${file}`)
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n').length
  const { stdout, status } = jq('[length, (map(select(.call == "EVTCHNOP_send")) | length)]', file)
  expect(status).toBe(0)
  const [events, sends] = JSON.parse(stdout)
  expect(events).toBe(lines)
  expect(sends).toBeGreaterThanOrEqual(10)
})
