/**
 * How good the simulation is: puts deliberate faults into a copy of the compiled library, one after the other, and runs
 * stories until one breaks, for at most 100,000 steps a fault. `npm run simulate:faults`.
 */

import { spawnSync } from 'node:child_process'
import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const SOUND = `${ROOT}build/simulation`
const FAULTY = `${ROOT}build/simulation-faults`
const SEEDS = 100
const STEPS = 1000
/** A story that a fault keeps from ending is broken too. */
const TIMEOUT_MS = 600_000
/** Faults that have to be found, of all. */
const AT_LEAST = 18

/** What is wrong, where, and how: the text must stand in the compiled file once. */
const FAULTS = [
  ['a closed port stays in its vCPU’s filter', 'guest/bindings.js', 'form.filter(vcpu, port, false);', ''],
  ['a moved port is not in the filter of its new vCPU', 'guest/bindings.js', 'form.filter(to, port, true);', ''],
  ['a masked port’s event is dropped in the middle of a round', 'guest/upcalls.js', 'form.setPending(port);', ''],
  [
    'a peer is not told that its channel was closed',
    'hypercalls/evtchn/close.js',
    'peer.ports.setUnbound(ports.remotePort(port), domain.domid);',
    '',
  ],
  ['a closed VIRQ stays in the table', 'hypercalls/evtchn/close.js', 'domain.vcpus[vcpuId].setVirqPort(virq, 0);', ''],
  [
    'a vCPU that comes up is not told of what waits',
    'domain/domain.js',
    'if (upcallDeliverable(this, vcpu))',
    'if (false)',
  ],
  [
    'a domain that is unpaused gets no upcall',
    'host/upcall_queue.js',
    'this.#upcalls.push(vcpu);\n        }\n        this.deliver();',
    '}\n        this.deliver();',
  ],
  ['what was raised during a move is forgotten', 'migration/handle.js', 'return { raised };', 'return { raised: [] };'],
  [
    'a vCPU that was offline is online after a move',
    'migration/restore.js',
    'vcpu.down = each.down;',
    'vcpu.down = false;',
  ],
  ['an aborted move leaves the domain frozen', 'migration/migrations.js', 'domain.frozen = null;', ''],
  [
    'a suspended guest that continues does not look',
    'guest/lifecycle.js',
    'this.#suspended = false;\n        this.#upcalls.letGo();',
    'this.#suspended = false;',
  ],
  ['a port that is given back is not free', 'hypercalls/evtchn/close.js', 'domain.ports.giveBack(port);', ''],
  [
    'events of an unregistered watch stay queued',
    'dom0/xenbus/event_thread.js',
    'if (!this.length)\n            return;',
    'return;',
  ],
  [
    'an event’s watch counts it for ever',
    'dom0/xenbus/event_thread.js',
    'watchRecord(watch).nrPending--;\n        this.#current',
    'this.#current',
  ],
  ['a device’s watch is not unregistered', 'dom0/xenbus/backend_bus.js', 'if (record.otherendWatch)', 'if (false)'],
  ['a disk’s persistent pages stay mapped', 'dom0/backends/blkback.js', 'if (page.mapped)', 'if (false)'],
  [
    'an interface’s port stays open',
    'dom0/backends/netback.js',
    'if (queue.port)\n            this.#host.channels.close(queue.port);',
    '',
  ],
  ['a socket’s data ring stays mapped', 'dom0/backends/pvcalls/active_socket.js', 'this.ring.unmap();', ''],
  [
    'a destroyed domain’s nodes stay',
    'dom0/toolstack/toolstack.js',
    'yield* xs.rmIfExists(`/local/domain/',
    'yield* xs.exists(`/local/domain/',
  ],
  ['removed nodes are counted for ever', 'xenstore/view.js', 'this.#delta.add(owner, -1, -bytes);', ''],
  [
    'a watch that was taken back stays with its connection',
    'xenstore/watches.js',
    'connection.watches.delete(watchKey(path, token));',
    '',
  ],
]

/** The compiled library with one fault. @throws Error if the place is not there once. */
function spoil([about, file, from, to]) {
  rmSync(FAULTY, { recursive: true, force: true })
  cpSync(SOUND, FAULTY, { recursive: true })
  const path = `${FAULTY}/src/${file}`
  const parts = readFileSync(path, 'utf8').split(from)
  if (parts.length !== 2) throw new Error(`${about}: ${parts.length - 1} places in ${file}, not one`)
  writeFileSync(path, parts.join(to))
}

const only = process.argv.slice(2).map(Number)
const chosen = only.length ? only.map((number) => FAULTS[number - 1]) : FAULTS
let found = 0
for (const [i, fault] of chosen.entries()) {
  spoil(fault)
  const main = `${FAULTY}/test/simulation/main.js`
  const { status, stdout, stderr, signal } = spawnSync(process.execPath, [main, '--seeds', SEEDS, '--steps', STEPS], {
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
    timeout: TIMEOUT_MS,
  })
  const steps = /(\d+) steps\n$/.exec(stdout)?.[1]
  const how = signal
    ? 'it did not end'
    : (/broke at step.*/.exec(stdout)?.[0] ?? stderr.split('\n').find((line) => /Error/.test(line)))
  if (status !== 0) found++
  const verdict = status !== 0 ? `found after ${steps ?? 'some'} steps: ${how}` : `not found in ${steps} steps`
  process.stdout.write(`${i + 1}/${chosen.length} ${fault[0]}: ${verdict.slice(0, 160)}\n`)
}
rmSync(FAULTY, { recursive: true, force: true })
process.stdout.write(`${found} of ${chosen.length} faults were found\n`)
if (!only.length && found < AT_LEAST) process.exitCode = 1
