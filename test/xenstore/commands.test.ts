/**
 * Xen's own tools at the C daemon and at ours, one command line after the other: equal output, equal exit code. Odd
 * arguments, sizes at the limits, every form of `xenstore-ls`, CONTROL.
 */
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type SocketServer, serveSocket } from '../../src/node/xenstored_socket.js'
import { XenStored } from '../../src/xenstore/index.js'
import { cDaemon, execute, haveTools, required, startCDaemon, temporary, title, xenstoreControl } from './real.js'

/** A command line: the tool without `xenstore-`, and its arguments. */
type Line = readonly [tool: string, ...args: string[]]

const long = (length: number) => `/${'x'.repeat(length - 1)}`
const many = Array.from({ length: 600 }, (_, i) => [`/many/child-${i}`, `v${i}`]).flat()

const NODES: readonly Line[] = [
  ['write', '/t/a', 'one'],
  ['write', '/t/b', 'two words', '/t/c', ''],
  ['write', '/t/b/c/d', 'deep'],
  ['write', 'rel', 'relative'],
  ['write', 'rel/x', '\\x41\\n\\\\ \\t'],
  ['write', '-r', '/t/raw', '\\x41'],
  ['write', '/t/a'],
  ['write'],
  ['write', '/t/bad/', 'v'],
  ['write', '/t//bad', 'v'],
  ['write', '/t/b d', 'v'],
  ['write', '', 'v'],
  ['write', '@foo', 'v'],
  ['write', '/', 'root'],
  ['write', '/t/long', 'v'.repeat(4084)],
  ['write', '/t/long', 'v'.repeat(4087)],
  ['write', '/t/long', 'v'.repeat(4088)],
  ['write', long(2047), 'v'],
  ['write', long(2048), 'v'],
  ['write', long(2049), 'v'],
  ['write', long(3071), 'v'],
  ['write', `/local/domain/0${long(2048)}`, 'v'],
  ['write', '/ä', 'v'],
  ['write', '/t/utf', 'häß'],
  ['write', ...many],
]

const READS: readonly Line[] = [
  ['read', '/t/a'],
  ['read', '/t/a', '/t/b', 'rel'],
  ['read', '-p', '/t/a', '/t/b'],
  ['read', '-R', '/t/raw'],
  ['read', '/t/raw'],
  ['read', 'rel/x'],
  ['read', '-R', 'rel/x'],
  ['read', '/t/c'],
  ['read', '/t/none'],
  ['read', '/t/a', '/t/none'],
  ['read', '/t/none/below'],
  ['read', '/t/a/'],
  ['read', 'a b'],
  ['read', '@releaseDomain'],
  ['read', ''],
  ['read'],
  ['read', '/'],
  ['read', '/t/long'],
  ['read', '/t/utf'],
  ['read', long(2048)],
  ['read', long(2049)],
  ['read', '-x', '/t/a'],
  ['exists', '/t/a'],
  ['exists', '/t/none'],
  ['exists', '/t/a', '/t/none'],
  ['exists', '/t/a', '/t/b'],
  ['exists', '//'],
  ['exists'],
  ['list', '/t'],
  ['list', '-p', '/t'],
  ['list', '/t', '/t/b'],
  ['list', '/'],
  ['list', 'rel'],
  ['list', '/t/none'],
  ['list', '/t/'],
  ['list', '@a'],
  ['list'],
  ['list', '/many'],
]

const LS: readonly Line[] = [
  ['ls'],
  ['ls', '/t'],
  ['ls', '-f'],
  ['ls', '-f', '/t'],
  ['ls', '-p', '/t'],
  ['ls', '-fp', '/t'],
  ['ls', '-pf'],
  ['ls', '-f', '/t', '/tool'],
  ['ls', '/tool/xenstored'],
  ['ls', '-p', '/'],
  ['ls', 'rel'],
  ['ls', '-f', 'rel'],
  ['ls', '/t/none'],
  ['ls', '/t/'],
  ['ls', '-f', '/many'],
  ['ls', '/many'],
  ['ls', '-p', '/many/child-599'],
  ['ls', '-x'],
  ['ls', '@foo'],
]

const CHMOD: readonly Line[] = [
  ['chmod', '/t/a', 'n0', 'r5', 'b6'],
  ['ls', '-fp', '/t/a'],
  ['chmod', '/t/a', 'n5'],
  ['chmod', '/t/a', 'n0'],
  ['chmod', '/t/a', 'x0'],
  ['chmod', '/t/a', 'n'],
  ['chmod', '/t/a', 'n0x1'],
  ['chmod', '/t/a', 'n010'],
  ['chmod', '/t/a', 'n 1'],
  ['chmod', '/t/a', 'n1 '],
  ['chmod', '/t/a', 'n20'],
  ['chmod', '/t/a', 'n0', 'r20'],
  ['chmod', '/t/a', 'n0', 'r-1'],
  ['ls', '-fp', '/t'],
  ['chmod', '/t/a'],
  ['chmod'],
  ['chmod', '/t/none', 'n0'],
  ['chmod', '-r', '/t/b', 'n0', 'w7'],
  ['ls', '-fp', '/t/b'],
  ['chmod', '-u', '/t/b/c', 'n0', 'r8'],
  ['ls', '-fp', '/t'],
  ['chmod', '@releaseDomain', 'n0', 'r1'],
  ['chmod', '@introduceDomain', 'n0', 'b1'],
]

const RM: readonly Line[] = [
  ['rm', '/t/a'],
  ['rm', '/t/a'],
  ['rm', '/t/none/below'],
  ['rm', '-t', '/t/b/c/d'],
  ['ls', '-f', '/t'],
  ['rm', '/t/c', '/t/raw'],
  ['rm', '/'],
  ['rm', '/t/'],
  ['rm'],
  ['rm', '-t', '/t/none'],
  ['rm', '/t'],
  ['exists', '/t'],
  ['rm', '/many'],
  ['rm', 'rel'],
]

const CONTROL: readonly Line[] = [
  ['control', 'check'],
  ['control', 'check', 'x'],
  ['control', 'log', 'on'],
  ['control', 'log', 'off'],
  ['control', 'log', 'x'],
  ['control', 'log'],
  ['control', 'logfile'],
  ['control', 'memreport', 'a', 'b'],
  ['control', 'print', 'x'],
  ['control', 'print'],
  ['control', 'print', 'x', 'y'],
  ['control', 'quota'],
  ['control', 'quota', '9'],
  ['control', 'quota', 'set'],
  ['control', 'quota', 'set', 'nodes'],
  ['control', 'quota', 'set', 'bogus', '1'],
  ['control', 'quota', 'set', 'nodes', 'x'],
  ['control', 'quota', 'set', 'nodes', '-1'],
  ['control', 'quota', 'set', 'nodes', '5000'],
  ['control', 'quota', 'set', 'path-max', '1000'],
  ['control', 'quota'],
  ['control', 'quota-soft'],
  ['control', 'quota-soft', '1'],
  ['control', 'quota-soft', 'set', 'memory', '123'],
  ['control', 'quota-soft', 'set', 'nodes', '1'],
  ['control', 'quota-soft'],
  ['control', 'help'],
  ['control', 'help', 'x'],
  ['control', 'nope'],
  ['control'],
]

const WATCH: readonly Line[] = [
  ['watch', '-n', '1', '/w'],
  ['watch', '-n', '1', '@releaseDomain'],
  ['watch', '-n', '1', '@a b'],
  ['watch', '-n', '1', '/w/'],
  ['watch', '-n', '2', '/w', 'rel'],
  ['watch', '-n', '1', long(2049)],
]

const GROUPS = { nodes: NODES, reads: READS, ls: LS, permissions: CHMOD, watches: WATCH, control: CONTROL, removal: RM }

const place = temporary()
let theirs: Awaited<ReturnType<typeof startCDaemon>>
let ours: SocketServer
const have = haveTools && cDaemon && xenstoreControl
const headline = title('the tools of Xen', have, 'xenstore-utils, xen-utils or the shim is missing')

describe.skipIf(!have && !required)(headline, () => {
  beforeAll(async () => {
    theirs = await startCDaemon(place.path)
    const state = (domid: number) => (domid < 10 ? { shutdown: false, dying: false } : undefined)
    ours = await serveSocket(
      new XenStored({ host: { state, connect: () => undefined }, onLog: () => {} }),
      join(place.path, 'ours'),
    )
  })
  afterAll(async () => {
    await ours?.close()
    theirs?.process.kill()
    place[Symbol.dispose]()
  })

  it('XS-cli-13: there are at least 120 command lines', () => {
    expect(Object.values(GROUPS).flat().length).toBeGreaterThanOrEqual(120)
  })

  it.each(Object.entries(GROUPS))(
    'XS-cli-13: equal output and exit code: %s',
    async (_, lines) => {
      for (const [tool, ...args] of lines) {
        const command = tool === 'control' ? xenstoreControl! : `xenstore-${tool}`
        const [c, us] = await Promise.all(
          [theirs.socket, ours.path].map((path) => execute(command, args, { XENSTORED_PATH: path })),
        )
        expect(us, [tool, ...args].join(' ').slice(0, 100)).toEqual(c)
      }
    },
    300_000,
  )
})
