/**
 * Runs the C guest: node examples/c-guest/run.mjs [build/c-guest.wasm], after build.sh.
 *
 * Domain 0 is a peer in JavaScript with 64-bit words, domain 1 the C guest with 32-bit words in a memory of its own.
 * 128 channels, half of them offered by each side, a VIRQ and an IPI carry some hundred thousand events. Every signal
 * either makes its port pending (0 → 1) and is handled once, or finds it pending and merges: the counts must agree.
 */
import { existsSync, readFileSync } from 'node:fs'
import { Hypervisor } from 'evtchn'
import { EVTCHNOP_NAMES, HYPERVISOR, PAGE_SIZE, sharedInfo, VIRQ } from 'evtchn/abi'

const ECHO = 0
const BURST = 1
const SHARED_INFO_GFN = 1
const ROUNDS = 20_000
const CHANNELS = 128

const file = process.argv[2] ?? new URL('../../build/c-guest.wasm', import.meta.url)
if (!existsSync(file)) {
  console.error(`${file} does not exist: compile it with examples/c-guest/build.sh`)
  process.exit(2)
}
const module = new WebAssembly.Module(readFileSync(file))

// The hypervisor enters whoever is to be upcalled.
const xen = Hypervisor.create({ onUpcall: (vcpu) => (vcpu.domid ? guest.upcall() : dom0Upcall()) })
const dom0 = xen.createDomain({ domid: 0 })

// The C guest: its memory is the domain's RAM, and its one import is the hypercall.
const memory = new WebAssembly.Memory({ initial: 2, maximum: 2 })
const domain = xen.createDomain({ domid: 1, bits: 32, memory, frames: 32, sharedInfoGfn: SHARED_INFO_GFN })
const hypercalls = new Map()
const hypercall = (op, ...args) => {
  const name = op === HYPERVISOR.event_channel_op ? EVTCHNOP_NAMES.get(args[0]) : 'xen_version'
  hypercalls.set(name, (hypercalls.get(name) ?? 0) + 1)
  return xen.hypercall(domain.vcpu(0), op, args)
}
const guest = new WebAssembly.Instance(module, { env: { memory, hypercall } }).exports

/** What domain 0 does when it is upcalled: scans its words, 32 bits at a time, and counts. */
const received = new Map()
function dom0Upcall() {
  const layout = sharedInfo(64)
  const bytes = dom0.memory.view()
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset + SHARED_INFO_GFN * PAGE_SIZE, PAGE_SIZE / 4)
  const [pending, mask, sel] = [layout.pending / 4, layout.mask / 4, layout.sel / 4]
  while (words[0] & 0xff) {
    words[0] &= ~0xff
    const selector = [words[sel], words[sel + 1]]
    words[sel] = words[sel + 1] = 0
    // A selector bit stands for a word of 64 bits: two of these.
    for (let word = 0; word < 2 * layout.words; word++) {
      if (!(selector[word >> 6] & (1 << ((word >> 1) & 31)))) continue
      let due = words[pending + word] & ~words[mask + word]
      words[pending + word] &= ~due
      for (; due; due &= due - 1) {
        const port = word * 32 + 31 - Math.clz32(due & -due)
        received.set(port, (received.get(port) ?? 0) + 1)
      }
    }
  }
}

/** Signals a port of the guest and writes down whether that was a new event or merged with one that waits. */
const ledger = { echo: newLine(), burst: newLine(), timer: newLine() }
function newLine() {
  return { sent: 0, merged: 0, handled: 0 }
}
function signal(line, guestPort, send) {
  line.sent++
  if (domain.isPending(guestPort)) line.merged++
  send()
}

const must = (what, rc) => {
  if (rc < 0) throw new Error(`${what}: errno ${-rc}`)
  return rc
}

must('boot', guest.boot(SHARED_INFO_GFN, 0))
const channels = []
for (let i = 0; i < CHANNELS; i++) {
  const kind = i % 16 === 0 ? BURST : ECHO
  const line = kind === BURST ? ledger.burst : ledger.echo
  if (i % 2 === 0) {
    // The guest offers, domain 0 binds.
    const guestPort = must('offer', guest.offer(0, kind))
    const { local_port: port } = dom0.eventChannelOp('bind_interdomain', { remote_dom: 1, remote_port: guestPort })
    channels.push({ kind, line, guestPort, port })
  } else {
    // Domain 0 offers, the guest binds, and whoever binds gets an event to be safe.
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
    const { line, guestPort, port } = channels[(round * 8 + i) % CHANNELS]
    const send = () => dom0.eventChannelOp('send', { port })
    for (let n = line === ledger.burst ? 3 : 1; n > 0; n--) signal(line, guestPort, send)
  }
  signal(ledger.timer, guest.timer_port(), () => xen.sendVirq(xen.domain(1).vcpu(0), VIRQ.TIMER))
}
xen.sendVirq(xen.domain(1).vcpu(0), VIRQ.TIMER) // opens the burst channels for what they still hold
ledger.timer.sent++
const ms = performance.now() - begun

for (const { line, guestPort } of channels) line.handled += guest.handled(guestPort)
ledger.timer.handled = guest.handled(guest.timer_port())
// One for each tick, and the one that the guest sends itself at boot.
const ipi = { sent: ledger.timer.handled + 1, merged: 0, handled: guest.handled(guest.ipi_port()) }
const lines = { ...ledger, ipi }
const total = newLine()
for (const line of Object.values(lines)) for (const key of Object.keys(total)) total[key] += line[key]

let replies = 0
for (const count of received.values()) replies += count
const sends = hypercalls.get('send') - repliesBefore

const row = (...cells) => console.log(cells.map((cell, i) => String(cell)[i ? 'padStart' : 'padEnd'](10)).join(''))
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
