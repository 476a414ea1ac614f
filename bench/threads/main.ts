/**
 * `npm run bench:threads`: vCPUs on threads of their own. Round trips between two workers, spinning and waiting, beside those
 * of messages; sends a second of one to four senders into one receiver; a send with the delivery lock beside one without; a
 * forwarded call; how long the hypervisor shuts senders out.
 *
 * Round trips are wall time, in turns with their baseline: the ratio is the median of the pairs' ratios. On a machine with
 * fewer processors than threads, spinning and throughput measure the scheduler as well.
 */

import { cpus } from 'node:os'
import { MessageChannel, Worker } from 'node:worker_threads'
import { inside } from '../../src/domain/handles.js'
import { type Domain, Hypervisor } from '../../src/index.js'
import type { Job } from './jobs.js'

const ROUNDS = 5000
const PAIRS = 5
const SECONDS = 1

/** Nobody takes the upcalls of these guests. */
const warn = () => {}

/** Runs jobs on workers until all have a result, or for some time; the host serves meanwhile. */
async function run(
  jobs: (Omit<Job, 'words'> & { channel?: unknown })[],
  xen?: Hypervisor,
  ms?: number,
  each?: () => void,
) {
  const words = new Int32Array(new SharedArrayBuffer(64))
  const results = jobs.map((job) => {
    const worker = new Worker(new URL('worker.js', import.meta.url), {
      workerData: { ...job, words },
      transferList: job.channel ? [job.channel as never] : [],
    })
    return new Promise<Float64Array | number | undefined>((resolve, reject) => {
      worker.on('message', (result) => {
        void worker.terminate()
        resolve(result)
      })
      worker.on('error', reject)
    })
  })
  while (Atomics.load(words, 4) < jobs.length) await new Promise((resolve) => setTimeout(resolve, 1))
  Atomics.store(words, 0, 1)
  Atomics.notify(words, 0)
  if (ms) {
    const end = performance.now() + ms
    while (performance.now() < end) {
      if (each) each()
      else await new Promise((resolve) => setTimeout(resolve, 10))
      xen?.service()
    }
    Atomics.store(words, 1, 1)
  }
  return Promise.all(results)
}

const sorted = (list: ArrayLike<number>) => Array.from(list).sort((a, b) => a - b)
const median = (list: ArrayLike<number>) => sorted(list)[list.length >> 1]!

/** A channel between two domains, ends attached. */
function channel(xen: Hypervisor) {
  const [a, b] = [1, 2].map((domid) => xen.createDomain({ domid, shared: true })) as [Domain, Domain]
  const { port } = a.eventChannelOp('alloc_unbound', { dom: 1, remote_dom: 2 })
  const { local_port } = b.eventChannelOp('bind_interdomain', { remote_dom: 1, remote_port: port })
  for (const domain of [a, b]) domain.memory.view().fill(0, 4096, 8192)
  return [
    { handle: xen.attach([a.vcpu(0)]), port },
    { handle: xen.attach([b.vcpu(0)]), port: local_port },
  ] as const
}

async function roundTrip(spins: boolean): Promise<number> {
  const xen = Hypervisor.create({ warn, threads: 2 })
  const [ping, pong] = channel(xen)
  const [us] = await run([
    { role: 'ping', ...ping, rounds: ROUNDS, spins },
    { role: 'pong', ...pong, rounds: ROUNDS, spins },
  ])
  return median(us as Float64Array)
}

/** The same by messages: through the event loop of both, or with Atomics and receiveMessageOnPort. */
async function byMessageAndAtomics(): Promise<number> {
  const { port1, port2 } = new MessageChannel()
  const job = { rounds: ROUNDS, port: 0, spins: false }
  const [us] = await run([
    { role: 'message ping', channel: port1, ...job },
    { role: 'message pong', channel: port2, ...job },
  ])
  return median(us as Float64Array)
}

function byMessage(): Promise<number> {
  const source = `const { parentPort, workerData: { port, rounds, first } } = require('node:worker_threads')
    const us = []; let start = 0
    const go = () => { start = performance.now(); port.postMessage(0) }
    port.on('message', () => {
      if (!first) return port.postMessage(0)
      us.push((performance.now() - start) * 1000)
      us.length < rounds ? go() : parentPort.postMessage(us)
    })
    if (first) setTimeout(go, 100)`
  const { port1, port2 } = new MessageChannel()
  const start = (port: typeof port1, first: boolean) =>
    new Worker(source, { eval: true, workerData: { port, rounds: ROUNDS, first }, transferList: [port] })
  const other = start(port2, false)
  const worker = start(port1, true)
  return new Promise((resolve) => {
    worker.on('message', (us: number[]) => {
      void worker.terminate()
      void other.terminate()
      resolve(median(us))
    })
  })
}

/** Sends a second of some senders into one receiver; and how long close and bind took beside them, if they are made. */
async function throughput(senders: number, churn: boolean): Promise<{ perSecond: number; us: number[] }> {
  const xen = Hypervisor.create({ warn, threads: 6 })
  const to = xen.createDomain({ domid: 1, shared: true })
  const jobs = Array.from({ length: senders }, (_, i) => {
    const from = xen.createDomain({ domid: 2 + i, shared: true })
    for (let port = 1; port <= 64; port++) {
      from.eventChannelOp('alloc_unbound', { dom: 2 + i, remote_dom: 1 })
      to.eventChannelOp('bind_interdomain', { remote_dom: 2 + i, remote_port: port })
    }
    return { role: 'send' as const, handle: xen.attach([from.vcpu(0)]), rounds: 0, port: 1, spins: false }
  })
  const us: number[] = []
  const { lock } = inside(to).hostCore
  const exclude = () => {
    const start = performance.now()
    lock.exclude()
    us.push((performance.now() - start) * 1000)
    lock.admit()
    for (let i = 0; i < 2000; i++) Math.sqrt(i)
  }
  const drain = { role: 'drain' as const, handle: xen.attach([to.vcpu(0)]), rounds: 0, port: 0, spins: false }
  const results = await run(churn ? jobs : [...jobs, drain], xen, SECONDS * 1000, churn ? exclude : undefined)
  return { perSecond: results.reduce<number>((sum, each) => sum + ((each as number) ?? 0), 0) / SECONDS, us }
}

/** CPU ns of a send whose event is new, on this thread: the port operation alone, and with the delivery lock. */
function sendNs(threads: number): number {
  const xen = Hypervisor.create({ warn, threads })
  const to = xen.createDomain({ domid: 1, shared: threads > 0 })
  const from = xen.createDomain({ domid: 2, shared: threads > 0 })
  for (let port = 1; port <= 63; port++) {
    from.eventChannelOp('alloc_unbound', { dom: 2, remote_dom: 1 })
    to.eventChannelOp('bind_interdomain', { remote_dom: 2, remote_port: port })
  }
  const { hostCore, record } = inside(from)
  const { calls, memory } = hostCore
  const view = to.memory.view()
  const leaf = new Int32Array(view.buffer, view.byteOffset + 4096 + 2048, 2)
  let send = (port: number) => calls.send(record, port)
  if (threads) {
    // The line and the known memories of the first thread, which nobody else uses.
    xen.attach([from.vcpu(0)])
    const known = memory.words[(64 + 4) >> 2]!
    for (const { run: slots, memory: number } of hostCore.memories.values()) memory.words[(known >> 2) + slots] = number
    const generation = memory.words[(record + 4) >>> 2]!
    send = (port) => calls.threadSend(64, 2, generation, port)
  }
  let best = Number.POSITIVE_INFINITY
  for (let sample = 0; sample < 30; sample++) {
    const start = process.cpuUsage()
    for (let i = 0; i < 8000; i++) {
      for (let port = 1; port <= 63; port++) send(port)
      leaf.fill(0)
    }
    const { user, system } = process.cpuUsage(start)
    best = Math.min(best, ((user + system) * 1000) / (8000 * 63))
  }
  return best
}

async function forwarded(): Promise<Float64Array> {
  const xen = Hypervisor.create({ warn, threads: 1 })
  const domain = xen.createDomain({ domid: 1, shared: true })
  const [us] = await run([
    { role: 'call', handle: xen.attach([domain.vcpu(0)]), rounds: ROUNDS, port: 0, spins: false },
  ])
  return us as Float64Array
}

const us = (value: number) => `${value.toFixed(value < 10 ? 2 : 1)} µs`

console.log(`${cpus()[0]!.model}, ${cpus().length} processors, Node ${process.versions.node}`)
const pairs: { spin: number; wait: number; message: number; atomics: number }[] = []
for (let i = 0; i < PAIRS; i++)
  pairs.push({
    message: await byMessage(),
    spin: await roundTrip(true),
    wait: await roundTrip(false),
    atomics: await byMessageAndAtomics(),
  })
const of = (name: keyof (typeof pairs)[number]) => median(pairs.map((pair) => pair[name]))
const ratio = (name: 'spin' | 'wait' | 'atomics') => median(pairs.map((pair) => pair[name] / pair.message)).toFixed(3)
console.log(`round trip, median of ${PAIRS} runs of ${ROUNDS}: postMessage ${us(of('message'))}`)
console.log(`  spinning ${us(of('spin'))}, ${ratio('spin')} ×; waiting ${us(of('wait'))}, ${ratio('wait')} ×`)
console.log(`  MessageChannel and Atomics ${us(of('atomics'))}, ${ratio('atomics')} ×`)
for (let senders = 1; senders <= 4; senders++) {
  const { perSecond } = await throughput(senders, false)
  console.log(`${senders} senders into one receiver: ${(perSecond / 1e6).toFixed(1)} M sends/s`)
}
const [alone, locked] = [sendNs(0), sendNs(1)]
const times = (locked / alone).toFixed(2)
console.log(
  `a send, new event: ${alone.toFixed(1)} ns on one thread, ${locked.toFixed(1)} ns with the delivery lock (${times} ×)`,
)
const calls = sorted(await forwarded())
console.log(
  `a forwarded call: median ${us(calls[calls.length >> 1]!)}, 99 % ${us(calls[Math.floor(calls.length * 0.99)]!)}`,
)
const shut = sorted((await throughput(2, true)).us)
const at = (share: number) => us(shut[Math.floor((shut.length - 1) * share)]!)
console.log(`shutting two senders out: median ${at(0.5)}, 99 % ${at(0.99)}, longest ${at(1)} of ${shut.length}`)
process.exit(0)
