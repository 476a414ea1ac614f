/**
 * Turns of the JavaScript event loop for long work: a message to oneself is the one macrotask that pages, workers and
 * Node share. Nothing is timed by it.
 */

interface Channel {
  port1: { onmessage: (() => void) | null; close(): void }
  port2: { postMessage(message: unknown): void }
}

/** Typed here, for Node's types and the DOM's describe it differently. */
const { MessageChannel } = globalThis as unknown as { MessageChannel: new () => Channel }

/** Lets everything else that waits for the event loop go first. */
export class Turns {
  readonly #channel = new MessageChannel()

  next(): Promise<void> {
    return new Promise((resolve) => {
      this.#channel.port1.onmessage = () => resolve()
      this.#channel.port2.postMessage(0)
    })
  }

  close(): void {
    this.#channel.port1.close()
  }
}
