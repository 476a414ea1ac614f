/**
 * Runs the C guest: after build.sh and `npm run build:examples`,
 * `node build/examples/c-guest/run.js [build/c-guest.wasm]`.
 *
 * Domain 0 is a peer in JavaScript with 64-bit words, domain 1 the C guest with 32-bit words in a memory of its own.
 * 128 channels, half of them offered by each side, a VIRQ and an IPI carry some hundred thousand events. Every signal
 * either makes its port pending (0 → 1) and is handled once, or finds it pending and merges: the counts must agree.
 */
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Hypervisor } from 'evtchn'
import { EVTCHNOP_NAMES, HYPERVISOR, PAGE_SIZE, sharedInfo, VIRQ } from 'evtchn/abi'

const ECHO = 0
const BURST = 1
const SHARED_INFO_GFN = 1
const ROUNDS = 20_000
const CHANNELS = 128

// This file runs as build/examples/c-guest/run.js.
const file = process.argv[2] ?? fileURLToPath(new URL('../../c-guest.wasm', import.meta.url))
if (!existsSync(file)) {
  console.error(`${file} does not exist: compile it with examples/c-guest/build.sh`)
  process.exit(2)
}
/** What the C guest exports. */
interface CGuest {
  boot(sharedInfoGfn: number, vcpu: number): number
  upcall(): void
  offer(remoteDomid: number, kind: number): number
  connect(remoteDomid: number, remotePort: number, kind: number): number
  handled(port: number): number
  timer_port(): number
  ipi_port(): number
  stray(): number
  failures(): number
}

const module = new WebAssembly.Module(readFileSync(file))

// The hypervisor enters whoever is to be upcalled.
const xen = Hypervisor.create({ onUpcall: (vcpu) => (vcpu.domid ? guest.upcall() : dom0Upcall()) })
const dom0 = xen.createDomain({ domid: 0 })

// The C guest: its memory is the domain's RAM, and its one import is the hypercall.
const memory = new WebAssembly.Memory({ initial: 2, maximum: 2 })
const domain = xen.createDomain({ domid: 1, bits: 32, memory, frames: 32, sharedInfoGfn: SHARED_INFO_GFN })
const hypercalls = new Map<string, number>()
const hypercall = (op: number, ...args: number[]): number => {
  const name = (op === HYPERVISOR.event_channel_op && EVTCHNOP_NAMES.get(args[0] ?? -1)) || 'xen_version'
  hypercalls.set(name, (hypercalls.get(name) ?? 0) + 1)
  return xen.hypercall(domain.vcpu(0), op, args)
}
const guest = new WebAssembly.Instance(module, { env: { memory, hypercall } }).exports as unknown as CGuest

/** What domain 0 does when it is upcalled: scans its words, 32 bits at a time, and counts. */
const received = new Map<number, number>()
function dom0Upcall(): void {
  const layout = sharedInfo(64)
  const bytes = dom0.memory.view()
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset + SHARED_INFO_GFN * PAGE_SIZE, PAGE_SIZE / 4)
  const get = (at: number): number => words[at] ?? 0
  const [pending, mask, sel] = [layout.pending / 4, layout.mask / 4, layout.sel / 4]
  while (get(0) & 0xff) {
    words[0] = get(0) & ~0xff
    const selector = [get(sel), get(sel + 1)]
    words[sel] = words[sel + 1] = 0
    // A selector bit stands for a word of 64 bits: two of these.
    for (let word = 0; word < 2 * layout.words; word++) {
      if (!((selector[word >> 6] ?? 0) & (1 << ((word >> 1) & 31)))) continue
      let due = get(pending + word) & ~get(mask + word)
      words[pending + word] = get(pending + word) & ~due
      for (; due; due &= due - 1) {
        const port = word * 32 + 31 - Math.clz32(due & -due)
        received.set(port, (received.get(port) ?? 0) + 1)
      }
    }
  }
}

/** What became of the events of one kind of channel. */
interface Line {
  sent: number
  merged: number
  handled: number
}

/** Signals a port of the guest and writes down whether that was a new event or merged with one that waits. */
const ledger = { echo: newLine(), burst: newLine(), timer: newLine() }
function newLine(): Line {
  return { sent: 0, merged: 0, handled: 0 }
}
function signal(line: Line, guestPort: number, send: () => void): void {
  line.sent++
  if (domain.isPending(guestPort)) line.merged++
  send()
}

const must = (what: string, rc: number): number => {
  if (rc < 0) throw new Error(`${what}: errno ${-rc}`)
  return rc
}

must('boot', guest.boot(SHARED_INFO_GFN, 0))
const channels: { kind: number; line: Line; guestPort: number; port: number }[] = []
for (let i = 0; i < CHANNELS; i++) {
  const kind = i % 16 === 0 ? BURST : ECHO
  const line = kind === BURST ? ledger.burst : ledger.echo
  if (i % 2 === 0) {
    // The guest offers, domain 0 binds.
    const guestPort = must('offer', guest.offer(0, kind))
    const { local_port: port } = dom0.eventChannelOp('bind_interdomain', { remote_dom: 1, remote_port: guestPort })
    channels.push({ kind, line, guestPort, port })
  } else {
    // Domain 0 offers, the guest binds, and and the end that binds gets one event, so that none is lost.
    const { port } = dom0.eventChannelOp('alloc_unbound', { dom: 0, remote_dom: 1 })
    const guestPort = must('connect', guest.connect(0, port, kind))
    line.sent++
    channels.push({ kind, line, guestPort, port })
  }
}
received.clear()
const repliesBefore = hypercalls.get('send') ?? 0

const begun = performance.now()
for (let round = 0; round < ROUNDS; round++) {
  for (let i = 0; i < 8; i++) {
    const channel = channels[(round * 8 + i) % CHANNELS]
    if (!channel) continue
    const { line, guestPort, port } = channel
    const send = () => dom0.eventChannelOp('send', { port })
    for (let n = line === ledger.burst ? 3 : 1; n > 0; n--) signal(line, guestPort, send)
  }
  signal(ledger.timer, guest.timer_port(), () => xen.sendVirq(domain.vcpu(0), VIRQ.TIMER))
}
xen.sendVirq(domain.vcpu(0), VIRQ.TIMER) // opens the burst channels for what they still hold
ledger.timer.sent++
const ms = performance.now() - begun

for (const { line, guestPort } of channels) line.handled += guest.handled(guestPort)
ledger.timer.handled = guest.handled(guest.timer_port())
// One for each tick, and the one that the guest sends itself at boot.
const ipi = { sent: ledger.timer.handled + 1, merged: 0, handled: guest.handled(guest.ipi_port()) }
const lines: Record<string, Line> = { ...ledger, ipi }
const total = newLine()
for (const line of Object.values(lines)) {
  total.sent += line.sent
  total.merged += line.merged
  total.handled += line.handled
}

let replies = 0
for (const count of received.values()) replies += count
const sends = (hypercalls.get('send') ?? 0) - repliesBefore

const row = (...cells: (string | number)[]) =>
  console.log(cells.map((cell, i) => String(cell)[i ? 'padStart' : 'padEnd'](10)).join(''))
console.log(`C guest: domain 1, 32-bit words, ${CHANNELS} channels to domain 0 with 64-bit words`)
row('', 'sent', 'merged', 'handled')
for (const [name, line] of Object.entries({ ...lines, total })) row(name, line.sent, line.merged, line.handled)
console.log(`domain 0 received ${replies} replies`)
console.log(`hypercalls of the guest: ${[...hypercalls].map(([name, n]) => `${n} ${name}`).join(', ')}`)
console.log(
  `${ms.toFixed(0)} ms, ${Math.round((total.handled + replies) / ms)} events a millisecond in both directions`,
)

const wrong = Object.entries(lines).flatMap(([name, { sent, merged, handled }]) =>
  sent - merged === handled ? [] : [`${name}: ${sent} sent - ${merged} merged is not ${handled} handled`],
)
if (sends !== replies + ledger.timer.handled)
  wrong.push(`${sends} sends of the guest are not ${replies} replies and ${ledger.timer.handled} IPIs`)
if (total.handled < 100_000) wrong.push(`only ${total.handled} events`)
if (guest.stray() || guest.failures())
  wrong.push(`${guest.stray()} stray events, ${guest.failures()} failed hypercalls`)
for (const what of wrong) console.error(`WRONG: ${what}`)
console.log(wrong.length ? 'not every event is accounted for' : 'every event is accounted for')
process.exitCode = wrong.length ? 1 : 0
