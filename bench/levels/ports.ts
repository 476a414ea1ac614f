/**
 * Which ports a run raises. bench/levels/native/ports.h draws the same, number for number, so that the C program and the others
 * raise the same ports in the same order.
 *
 * Port 0 takes part: it is never a valid channel, but it is a bit, and 4,096 bits are all that two levels have.
 */

/** How the pending ports lie. */
export type Placement = 'spread' | 'near' | 'clustered'

/** Random numbers of 32 bits: a counter through an integer mixer. */
class Draw {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  next(): number {
    this.#state = (this.#state + 0x9e3779b9) >>> 0
    let x = this.#state
    x = Math.imul(x ^ (x >>> 16), 0x21f0aaad)
    x = Math.imul(x ^ (x >>> 15), 0x735a2d97)
    return (x ^ (x >>> 15)) >>> 0
  }
}

/** Draws sets of distinct ports below `range`: contiguous runs, or uniformly without replacement. */
export class PortDraw {
  readonly #draw: Draw
  readonly #range: number
  readonly #taken: Uint8Array | undefined

  constructor(seed: number, range: number, clustered: boolean) {
    this.#draw = new Draw(seed)
    this.#range = range
    this.#taken = clustered ? undefined : new Uint8Array(range)
  }

  /** Fills `ports` with one set. */
  fill(ports: Uint32Array): void {
    const taken = this.#taken
    if (!taken) {
      const base = this.#draw.next() % (this.#range - ports.length + 1)
      for (let i = 0; i < ports.length; i++) ports[i] = base + i
      return
    }
    for (let i = 0; i < ports.length; ) {
      const port = this.#draw.next() % this.#range
      if (taken[port]) continue
      taken[port] = 1
      ports[i++] = port
    }
    for (const port of ports) taken[port] = 0
  }
}
