/**
 * Xen's own C daemon over the shim, with guests on ring pages: what the driver shares with it is in a folder in
 * memory (see shim.c).
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, existsSync, mkdtempSync, openSync, readSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { cDaemon } from '../real.js'
import { DOMAINS, RING, type Side, Stream } from './side.js'

const EVENT = 1 << 16
const VIRQ = 1 << 17

/** How the daemon is started. */
export interface RealOptions {
  readonly args?: readonly string[]
}

function temporaryFolder(): string {
  return mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'xs-'))
}

/** A connection to the real daemon: by socket, or by a ring page. */
class RealConnection {
  readonly stream = new Stream()
  readonly socket: Socket | undefined
  readonly domid: number
  stalled = false

  constructor(domid: number, socket?: Socket) {
    this.domid = domid
    this.socket = socket
  }
}

/** The daemon, its folder, and its clients. */
export class RealSide implements Side {
  readonly #options: RealOptions
  readonly #folder = temporaryFolder()
  readonly #connections = new Map<string, RealConnection>()
  readonly #rings: number[] = []
  readonly #notified = new Set<number>()
  readonly #waiting = new Set<() => void>()
  #control = 0
  /** Events that it has not taken yet. */
  #untaken = 0
  #server: Server | undefined
  #events: Socket | undefined
  #process: ChildProcess | undefined
  /** How it ended; undefined while it runs. */
  dead: string | undefined

  constructor(options: RealOptions) {
    this.#options = options
  }

  get #socketPath(): string {
    return join(this.#folder, 'socket')
  }

  async start(): Promise<void> {
    const file = (name: string) => {
      writeFileSync(join(this.#folder, name), Buffer.alloc(4096))
      return openSync(join(this.#folder, name), 'r+')
    }
    this.#control = file('control')
    for (let domid = 0; domid < DOMAINS; domid++) this.#rings.push(file(`ring${domid}`))
    this.setState(0, 1)
    this.setClock(0)
    const server = createServer((socket) => {
      this.#events = socket
      socket.on('error', () => {})
      socket.on('data', (bytes) => {
        for (let i = 0; i + 4 <= bytes.length; i += 4) {
          const event = bytes.readUInt32LE(i)
          if (event >= EVENT) this.#untaken--
          else this.#notified.add(event)
        }
        this.#kick()
      })
    })
    this.#server = server
    await new Promise<void>((resolve) => server.listen(join(this.#folder, 'events'), resolve))
    this.#spawn()
    for (let i = 0; i < 1000 && !existsSync(this.#socketPath); i++) await sleep(10)
    // It listens a moment after the file is there; `openSocket` tries again.
  }

  #spawn(): void {
    if (!cDaemon) throw new Error('no C daemon, or no shim for it')
    const env = {
      ...process.env,
      XS_SHIM: this.#folder,
      XENSTORED_RUNDIR: this.#folder,
      XENSTORED_PATH: this.#socketPath,
      LD_PRELOAD: cDaemon.shim,
    }
    const args = ['-N', '-F', join(this.#folder, 'pid'), ...(this.#options.args ?? [])]
    this.#process = spawn(cDaemon.daemon, args, { env, stdio: 'ignore' })
    this.#process.on('exit', (code, signal) => {
      this.dead = signal ?? `exit ${code}`
      this.#kick()
    })
  }

  stop(): void {
    this.#process?.kill('SIGKILL')
    for (const { socket } of this.#connections.values()) socket?.destroy()
    this.#events?.destroy()
    this.#server?.close()
    for (const fd of [this.#control, ...this.#rings]) closeSync(fd)
    rmSync(this.#folder, { recursive: true, force: true })
  }

  // --- the hypervisor ------------------------------------------------------------------------------------------------

  setClock(ms: number): void {
    const bytes = Buffer.alloc(8)
    bytes.writeBigUInt64LE(BigInt(ms) + 1_000_000n)
    writeSync(this.#control, bytes, 0, 8, 0)
  }

  setState(domid: number, state: number): void {
    writeSync(this.#control, Buffer.from([state]), 0, 1, 64 + domid)
  }

  /** Waits until the daemon has taken it: what is sent then finds it handled. */
  async domainsChanged(): Promise<void> {
    this.#send(VIRQ)
    await this.eventsTaken()
  }

  eventsTaken(): Promise<boolean> {
    return this.until(() => this.#untaken === 0, 5_000)
  }

  /** Time does nothing by itself: the daemon looks at the clock when it is busy. */
  tick(): void {}

  #send(event: number): void {
    const bytes = Buffer.alloc(4)
    bytes.writeUInt32LE(event)
    this.#untaken++
    this.#events?.write(bytes)
  }

  clearRings(): void {
    for (const [domid, fd] of this.#rings.entries()) if (domid) writeSync(fd, Buffer.alloc(4096), 0, 4096, 0)
  }

  // --- clients -------------------------------------------------------------------------------------------------------

  async openSocket(name: string): Promise<void> {
    const socket = await this.#connect()
    const connection = new RealConnection(0, socket)
    this.#connections.set(name, connection)
    socket.on('data', (bytes) => {
      connection.stream.take(bytes)
      this.#kick()
    })
    socket.on('close', () => {
      connection.stream.closed = true
      this.#kick()
    })
  }

  #connect(): Promise<Socket> {
    return new Promise((resolve, reject) => {
      const attempt = (left: number) => {
        const socket = connect(this.#socketPath)
        socket.once('error', (error) => {
          if (left && !this.dead) setTimeout(() => attempt(left - 1), 5)
          else reject(error)
        })
        socket.once('connect', () => {
          socket.removeAllListeners('error')
          socket.on('error', () => {})
          resolve(socket)
        })
      }
      attempt(400)
    })
  }

  openRing(name: string, domid: number): void {
    this.#connections.set(name, new RealConnection(domid))
  }

  close(name: string): void {
    this.#connections.get(name)?.socket?.destroy()
    this.#connections.delete(name)
  }

  stream(name: string): Stream {
    return this.#connections.get(name)!.stream
  }

  stall(name: string, stalled: boolean): void {
    this.#connections.get(name)!.stalled = stalled
    if (!stalled) this.#drain(this.#connections.get(name)!)
  }

  async send(name: string, bytes: Uint8Array): Promise<boolean> {
    const connection = this.#connections.get(name)!
    if (connection.socket) {
      if (!connection.stream.closed) connection.socket.write(bytes)
      return true
    }
    const { domid } = connection
    for (let sent = 0; sent < bytes.length; ) {
      const consumed = this.#get(domid, RING.req_cons)
      const produced = this.#get(domid, RING.req_prod)
      const run = Math.min(bytes.length - sent, 1024 - ((produced - consumed) >>> 0), 1024 - (produced & 1023))
      if (run > 0) {
        writeSync(this.#rings[domid]!, bytes, sent, run, produced & 1023)
        this.#set(domid, RING.req_prod, produced + run)
        sent += run
        this.#send(EVENT + domid)
      }
      // A ring that is not read stays full: the rest of the request is dropped on both sides.
      const room = () => this.#get(domid, RING.req_cons) !== consumed
      if (sent < bytes.length && run <= 0 && !(await this.until(room, 200))) return false
    }
    return true
  }

  #get(domid: number, at: number): number {
    const word = Buffer.alloc(4)
    readSync(this.#rings[domid]!, word, 0, 4, at)
    return word.readUInt32LE()
  }

  #set(domid: number, at: number, value: number): void {
    const word = Buffer.alloc(4)
    word.writeUInt32LE(value >>> 0)
    writeSync(this.#rings[domid]!, word, 0, 4, at)
  }

  ringWord(domid: number, word: keyof typeof RING): number {
    return this.#get(domid, RING[word])
  }

  #drain({ domid, stalled, socket, stream }: RealConnection): void {
    if (stalled || socket) return
    const consumed = this.#get(domid, RING.rsp_cons)
    const count = (this.#get(domid, RING.rsp_prod) - consumed) >>> 0
    if (!count || count > 1024) return
    const ring = Buffer.alloc(1024)
    readSync(this.#rings[domid]!, ring, 0, 1024, 1024)
    const bytes = Uint8Array.from({ length: count }, (_, i) => ring[(consumed + i) & 1023]!)
    this.#set(domid, RING.rsp_cons, consumed + count)
    this.#send(EVENT + domid)
    stream.take(bytes)
  }

  /** Fetches what the guests were notified of. */
  pump(): void {
    for (const connection of this.#connections.values())
      if (!connection.socket && this.#notified.has(connection.domid)) this.#drain(connection)
    this.#notified.clear()
  }

  #kick(): void {
    for (const look of [...this.#waiting]) look()
  }

  /** Waits until something holds, looking whenever the daemon does something; false after `ms`. */
  async until(holds: () => boolean, ms: number): Promise<boolean> {
    const end = performance.now() + ms
    for (;;) {
      this.pump()
      if (holds()) return true
      const left = end - performance.now()
      if (this.dead || left <= 0) return false
      await new Promise<void>((resolve) => {
        const done = () => {
          clearTimeout(timer)
          this.#waiting.delete(done)
          resolve()
        }
        const timer = setTimeout(done, left)
        this.#waiting.add(done)
      })
    }
  }
}
