/**
 * Turns of the JavaScript event loop for long work. Node has setImmediate, pages and their workers have not, and send
 * themselves a message instead (Node would handle many such messages in one turn). Nothing is timed by either.
 */

interface Channel {
  port1: { onmessage: (() => void) | null; close(): void }
  port2: { postMessage(message: unknown): void }
}

/** Typed here: the library compiles without Node's types and without the DOM's. */
const platform = globalThis as unknown as {
  setImmediate?: (callback: () => void) => void
  MessageChannel: new () => Channel
}

/** Lets everything else that waits for the event loop go first. */
export class Turns {
  #channel: Channel | null = null

  next(): Promise<void> {
    const { setImmediate } = platform
    if (setImmediate) return new Promise((resolve) => setImmediate(resolve))
    this.#channel ??= new platform.MessageChannel()
    const { port1, port2 } = this.#channel
    return new Promise((resolve) => {
      port1.onmessage = () => resolve()
      port2.postMessage(0)
    })
  }

  close(): void {
    this.#channel?.port1.close()
    this.#channel = null
  }
}
