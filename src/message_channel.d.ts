/** What the library uses of MessageChannel. Apart from platform.d.ts, for Node's types, in scope in src/cli, declare it too. */
declare class MessageChannel {
  readonly port1: { onmessage: (() => void) | null; close(): void }
  readonly port2: { postMessage(message: unknown): void }
}
