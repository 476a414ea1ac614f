/** The threads of `npm run bench:threads`: one role each, timed where it runs. */

import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { UPCALL_PENDING } from '../../src/abi/index.js'
import { VcpuThread } from '../../src/vcpu/index.js'
import type { Job } from './jobs.js'

const job = workerData as Job & { channel?: MessagePort }
/** Words: 0 go · 1 stop · 2 counts messages, a futex. */
const words = job.words
const thread = job.handle && VcpuThread.from(job.handle)
const cpu = thread?.vcpus[0]

/** Takes the event of this vCPU, as a scan of two levels would: flag, level 1, leaf. Its shared_info is in frame 1. */
function take(port: number): void {
  const { memory } = cpu!
  memory.core.bitClear(memory.base + 4096, UPCALL_PENDING * 8)
  memory.core.zeroWords(memory.base + 4096 + 8, 2)
  memory.core.bitClear(memory.base + 4096 + 2048, port)
}

/** Times `round` as often as the job says; µs each. */
function timed(round: () => void): Float64Array {
  const us = new Float64Array(job.rounds)
  for (let i = 0; i < job.rounds; i++) {
    const start = performance.now()
    round()
    us[i] = (performance.now() - start) * 1000
  }
  return us
}

/** Waits for an event, by looking or asleep. */
function wait(port: number, spins: boolean): void {
  while (!cpu!.upcallDue) if (!spins) cpu!.block()
  take(port)
}

const ROLES: Record<Job['role'], () => Float64Array | number | undefined> = {
  ping: () =>
    timed(() => {
      cpu!.send(job.port)
      wait(job.port, job.spins)
    }),
  pong() {
    for (let i = 0; i < job.rounds; i++) {
      wait(job.port, job.spins)
      cpu!.send(job.port)
    }
    return undefined
  },
  /** Messages with Atomics: a message is posted, a word tells of it. */
  'message ping': () =>
    timed(() => {
      const seen = Atomics.load(words, 2)
      job.channel!.postMessage(0)
      Atomics.add(words, 3, 1)
      Atomics.notify(words, 3)
      Atomics.wait(words, 2, seen)
      while (!receiveMessageOnPort(job.channel!));
    }),
  'message pong'() {
    for (let i = 0; i < job.rounds; i++) {
      Atomics.wait(words, 3, i)
      while (!receiveMessageOnPort(job.channel!));
      job.channel!.postMessage(0)
      Atomics.add(words, 2, 1)
      Atomics.notify(words, 2)
    }
    return undefined
  },
  call: () => timed(() => cpu!.hypercall(17, [0, 0])),
  /** Sends on 64 ports of its own until it is told to stop; how many. */
  send() {
    let sends = 0
    while (!Atomics.load(words, 1)) {
      for (let i = 0; i < 64; i++) cpu!.send(job.port + i)
      sends += 64
    }
    return sends
  },
  /** Takes all that comes, so that each send finds its bit clear. */
  drain() {
    const { memory } = cpu!
    while (!Atomics.load(words, 1)) {
      memory.core.zeroWords(memory.base + 4096 + 2048, 16)
      memory.core.zeroWords(memory.base + 4096 + 8, 2)
    }
    return undefined
  },
}

Atomics.add(words, 4, 1)
while (!Atomics.load(words, 0)) Atomics.wait(words, 0, 0)
parentPort!.postMessage(ROLES[job.role]())
