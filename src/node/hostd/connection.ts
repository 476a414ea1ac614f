/**
 * One socket of a program: a device that it has open, or where a thread gets its answers. What a program sends is taken
 * apart and handed on; whatever it sends, the host goes on.
 */

import type { Socket } from 'node:net'
import { Errno, errnoName, XenError } from '../../errno.js'
import { EvtchnDev } from './dev_evtchn.js'
import { fileDev, storePageDev } from './dev_files.js'
import { GntallocDev } from './dev_gntalloc.js'
import { GntdevDev } from './dev_gntdev.js'
import { PrivcmdDev } from './dev_privcmd.js'
import { xenbusDev } from './dev_xenbus.js'
import { type Answer, type Device, type DeviceContext, fail, frameList } from './device.js'
import type { Hosting } from './hosting.js'
import { answerBytes, type Between, WIRE_OP, WireError, WireReader, type WireRequest } from './wire.js'

/** Devices by their letter (native/wire.h), and what a program writes to each. */
const DEVICES: Readonly<Record<string, { name: string; between?: Between; open(context: DeviceContext): Device }>> = {
  E: { name: 'evtchn', between: 'ports', open: (context) => new EvtchnDev(context) },
  G: { name: 'gntdev', open: (context) => new GntdevDev(context) },
  A: { name: 'gntalloc', open: (context) => new GntallocDev(context) },
  P: { name: 'privcmd', open: (context) => new PrivcmdDev(context) },
  H: { name: 'hypercall', open: () => ({}) },
  X: { name: 'xenbus', between: 'store', open: xenbusDev },
  K: { name: 'xsd_kva', open: storePageDev },
  F: { name: 'file', open: fileDev },
}

/** Sockets by the name that answers are sent to. */
export type AnswerSockets = Map<string, Socket>

/** One socket. */
export class NativeConnection {
  readonly #host: Hosting
  readonly #socket: Socket
  readonly #answers: AnswerSockets
  readonly #reader = new WireReader()
  #device: Device | undefined
  /** `d1 evtchn`, for the trace. */
  #name = 'socket'
  /** Name under which it gets answers. */
  #answersTo: string | undefined

  constructor(host: Hosting, socket: Socket, answers: AnswerSockets) {
    this.#host = host
    this.#socket = socket
    this.#answers = answers
    socket.on('data', (bytes: Buffer) => this.#data(bytes))
    // A program that is killed breaks its sockets; 'close' follows.
    socket.on('error', () => {})
    socket.on('close', () => this.#close())
  }

  #data(bytes: Buffer): void {
    try {
      for (const item of this.#reader.read(bytes))
        if ('port' in item) this.#device?.port?.(item.port)
        else if ('message' in item) this.#device?.message?.(item.message)
        else this.#request(item)
    } catch (error) {
      if (!(error instanceof WireError)) throw error
      this.#host.note(`${this.#name}: ${error.message}`)
      this.#socket.destroy()
    }
    this.#host.kick()
  }

  #request(request: WireRequest): void {
    if (request.op === WIRE_OP.answers) {
      this.#answersTo = request.answerTo
      this.#answers.set(request.answerTo, this.#socket)
      this.#socket.write(answerBytes(0, new Uint8Array(0)))
      return
    }
    let rc = 0
    let payload: Uint8Array = new Uint8Array(0)
    let found = ''
    try {
      const answer = this.#run(request)
      if (typeof answer === 'number') rc = answer
      else if (answer instanceof Uint8Array) payload = answer
      else ({ rc, payload } = answer)
    } catch (error) {
      // A guest or a program that is wrong gets an errno; only our own faults are thrown on, to whoever embeds the host.
      const refused = error instanceof XenError
      rc = refused ? -error.errno : -Errno.EINVAL
      found = (error as Error).message
      if (!refused) this.#host.report(error, `${this.#name}: request ${request.op}`)
    }
    this.#host.traced?.(`${this.#name} ${describe(request)} = ${rc < 0 ? `-${errnoName(rc)} (${found})` : rc}`)
    this.#answers.get(request.answerTo)?.write(answerBytes(rc, payload))
  }

  #run({ op, cmd, payload, pid }: WireRequest): Answer {
    if (op === WIRE_OP.open) return this.#open(payload)
    const device = this.#device ?? fail('request', Errno.EBADF, 'the socket is no device')
    switch (op) {
      case WIRE_OP.ioctl:
        return device.ioctl?.(cmd & 0xff, payload, pid) ?? fail(this.#name, Errno.ENOTTY, 'the device has no ioctl')
      case WIRE_OP.mmap: {
        const [offset, pages] = [Number(payload.readBigUInt64LE(0)), Number(payload.readBigUInt64LE(8))]
        const frames = device.mmap?.(offset, pages, payload.readBigUInt64LE(16))
        return frames ? frameList(frames) : fail(this.#name, Errno.EINVAL, 'the device has no pages')
      }
      case WIRE_OP.munmap:
        device.munmap?.(payload.readBigUInt64LE(0))
        return 0
      case WIRE_OP.file: {
        const text = device.file?.(payload.toString('latin1', 0, Math.max(0, payload.length - 1))) ?? ''
        return { rc: text.length, payload: Buffer.from(text, 'latin1') }
      }
      default:
        return fail('request', Errno.ENOSYS, `there is no request ${op}`)
    }
  }

  #open(payload: Buffer): Answer {
    const [kind, domid] = [String.fromCharCode(payload.readUInt32LE(0)), payload.readUInt32LE(4)]
    const domain = this.#host.domain(domid) ?? fail('open', Errno.ENODEV, `the host has no domain ${domid}`)
    const entry = DEVICES[kind] ?? fail('open', Errno.ENOENT, `there is no device ${kind}`)
    this.#name = `d${domid} ${entry.name}`
    this.#device = entry.open({ host: this.#host, domain, send: (bytes) => void this.#socket.write(bytes) })
    this.#reader.between = entry.between ?? 'nothing'
    return 0
  }

  #close(): void {
    if (this.#answersTo !== undefined && this.#answers.get(this.#answersTo) === this.#socket)
      this.#answers.delete(this.#answersTo)
    this.#device?.close?.()
    this.#device = undefined
    this.#host.kick()
  }
}

const NAMES = Object.fromEntries(Object.entries(WIRE_OP).map(([name, op]) => [op, name]))

function describe({ op, cmd, payload }: WireRequest): string {
  const name = NAMES[op] ?? `request ${op}`
  if (op !== WIRE_OP.ioctl) return name
  const words = payload.length <= 48 ? ` ${payload.toString('hex')}` : ` ${payload.length} bytes`
  return `ioctl ${String.fromCharCode(cmd >> 8)}${cmd & 0xff}${words}`
}
