/** The hypervisor's console ring: what `xl dmesg` reads, and where debug keys print. */

const MOST_BYTES = 65536

/** The ring. Old text goes when there is too much. */
export class HostConsole {
  #text = Buffer.alloc(0)

  /** Adds lines. */
  print(lines: Iterable<string>): void {
    const added = Buffer.from([...lines, ''].join('\n'), 'latin1')
    this.#text = Buffer.concat([this.#text, added]).subarray(-MOST_BYTES)
  }

  /** At most `most` bytes from byte `from` on. */
  read({ from, most }: { from: number; most: number }): Buffer {
    return this.#text.subarray(Math.min(from, this.#text.length), Math.min(from + most, this.#text.length))
  }

  clear(): void {
    this.#text = Buffer.alloc(0)
  }
}
