/** The two policies on the wire: the same responses, ring contents and errors for the same script (PV-30, PV-acc-8). */

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { IoPolicyName, LocalSocket } from '../../src/dom0/backends/index.js'
import type { PvSocket } from '../../src/dom0/frontends/index.js'
import { encodeAddress, PVCALLS } from '../../src/dom0/io/index.js'
import { drain, PvcallsLab, pattern, SERVER } from './lab.js'

const ADDRESS = { ip: '10.0.0.9', port: 8080 }

/** One step of a script; numbers are taken modulo what there is. */
const step = fc.oneof(
  fc.record({ what: fc.constant('connect' as const), order: fc.integer({ min: 0, max: 10 }) }),
  fc.record({ what: fc.constant('accept' as const) }),
  fc.record({
    what: fc.constantFrom('send' as const, 'peer sends' as const),
    socket: fc.nat(),
    length: fc.integer({ min: 1, max: 9000 }),
  }),
  fc.record({
    what: fc.constantFrom(
      'receive' as const,
      'peer reads' as const,
      'peer closes' as const,
      'peer breaks off' as const,
      'release' as const,
    ),
    socket: fc.nat(),
  }),
  fc.record({ what: fc.constant('command' as const), cmd: fc.integer({ min: 0, max: 8 }), id: fc.bigInt(0n, 6n) }),
)
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never

/** What a data ring holds: its indexes, and sums of both arrays. */
function ringOf({ end: { ring: each } }: PvSocket): string {
  const page = each.indexPage.bytes()
  const sum = (bytes: Uint8Array) => bytes.reduce((hash, byte) => (Math.imul(hash, 31) + byte) | 0, 7)
  const arrays = [each.in, each.out].map((array) => array.segments(0, array.size).map(sum).join())
  return `${[...page.subarray(0, 12)]} ${[...page.subarray(64, 76)]} ${arrays}`
}

/** Runs a script; all that a guest could see, and what its peers saw. */
function transcript(policy: IoPolicyName, script: readonly Step[]): string[] {
  const lab = new PvcallsLab({ dom0Cpus: 3, bufferBytes: 5000, pvcalls: { policy } })
  const lines: string[] = []
  const peers: LocalSocket[] = []
  const sockets: PvSocket[] = []
  const server = lab.serve()
  server.onConnection = () => peers.push(server.accept() as LocalSocket)
  const own = lab.guest(1, (front) => front.listen(ADDRESS))
  const note = (line: string, attempt: () => unknown) => {
    let result: unknown
    try {
      result = attempt()
    } catch (error) {
      result = String(error)
    }
    lab.run()
    lines.push(`${line}: ${result}`)
    for (const socket of sockets) if (!socket.closed) lines.push(`  ${socket.id} ${ringOf(socket)}`)
  }
  for (const each of script) {
    const at = 'socket' in each ? each.socket : 0
    const socket = sockets[at % (sockets.length || 1)]
    const peer = peers[at % (peers.length || 1)]
    switch (each.what) {
      case 'connect':
        note('connect', () => {
          const made = lab.guest(1, (front) => front.connect(SERVER, { ringOrder: Math.min(each.order, 3) }))
          sockets.push(made)
          return made.id
        })
        break
      case 'accept':
        note('accept', () => {
          peers.push(lab.connect(ADDRESS))
          const made = lab.guest(1, () => own.accept({ ringOrder: 1 }))
          sockets.push(made)
          return made.id
        })
        break
      case 'send':
        if (socket) note('send', () => socket.trySend(pattern(at, 0, each.length)))
        break
      case 'peer sends':
        if (peer) note('peer sends', () => peer.send(pattern(at, 0, each.length)))
        break
      case 'receive':
        if (socket) note('receive', () => `${socket.tryReceive(new Uint8Array(3000))}`)
        break
      case 'peer reads':
        if (peer) note('peer reads', () => drain(peer, 4000).join())
        break
      case 'peer closes':
      case 'peer breaks off':
        if (each.what === 'peer closes') peer?.close()
        else peer?.abort()
        break
      case 'release':
        if (socket) note('release', () => lab.guest(1, (front) => front.command(PVCALLS.RELEASE, { id: socket.id })))
        break
      case 'command': {
        const fields = { id: each.id, addr: encodeAddress(SERVER), len: 16, domain: 2, type: 1 }
        // ACCEPT and POLL would wait for ever.
        if (each.cmd === PVCALLS.ACCEPT || each.cmd === PVCALLS.POLL) break
        note(`command ${each.cmd}`, () => lab.guest(1, (front) => front.command(each.cmd, fields)))
      }
    }
  }
  lines.push(`${lab.host.pvcalls.connection(1)!.sockets.size} sockets`)
  return lines
}

describe('the two policies', () => {
  it('PV-acc-8, PV-30: cannot be told apart by responses, ring contents or errors', () => {
    let lines = 0
    fc.assert(
      fc.property(fc.array(step, { minLength: 5, maxLength: 40 }), (script) => {
        const bounded = transcript('bounded', script)
        lines += bounded.length
        expect(transcript('per-socket', script)).toEqual(bounded)
      }),
      { numRuns: 40 },
    )
    expect(lines).toBeGreaterThan(500)
  }, 60_000)
})
