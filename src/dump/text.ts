/**
 * The text of a dump, written byte by byte into one buffer that is used again. A hold's lines become one string, and each
 * line a slice of it: what a line makes beside itself is what handing it over costs.
 */

const { TextDecoder } = globalThis as unknown as PlatformText

const SPACE = 0x20
const ZERO = 0x30

const decoder = new TextDecoder('utf-8', { ignoreBOM: true })

/** Lines that are being written. */
export class Lines {
  #bytes = new Uint8Array(4096)
  #at = 0
  readonly #ends: number[] = []
  #count = 0
  #all = ''

  /** Appends text, which is ASCII. */
  text(text: string): void {
    const { length } = text
    const bytes = this.#roomFor(length)
    const at = this.#at
    for (let i = 0; i < length; i++) bytes[at + i] = text.charCodeAt(i)
    this.#at = at + length
  }

  /** Appends a number from 0 to 2³¹ - 1, spaces before it up to `width`. */
  number(value: number, width = 1): void {
    let rest = value | 0
    let digits = 1
    for (let power = 10; power <= rest && digits < 10; power *= 10) digits++
    const length = Math.max(digits, width)
    const bytes = this.#roomFor(length)
    const start = this.#at
    let at = start + length
    this.#at = at
    do {
      const tenth = (rest / 10) | 0
      bytes[--at] = ZERO + rest - tenth * 10
      rest = tenth
    } while (rest)
    while (at > start) bytes[--at] = SPACE
  }

  /** Ends a line. */
  end(): void {
    this.#ends[this.#count++] = this.#at
  }

  /** All lines so far as one string; `line` hands them over, and the next ones begin anew. Returns how many there are. */
  close(): number {
    this.#all = decoder.decode(this.#bytes.subarray(0, this.#at))
    const count = this.#count
    this.#at = this.#count = 0
    return count
  }

  /** A line of those that were closed. */
  line(index: number): string {
    return this.#all.slice(index ? this.#ends[index - 1]! : 0, this.#ends[index])
  }

  /** The buffer, with room for so many bytes more. */
  #roomFor(more: number): Uint8Array {
    if (this.#at + more > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(this.#bytes.length * 2, this.#at + more))
      larger.set(this.#bytes)
      this.#bytes = larger
    }
    return this.#bytes
  }
}
