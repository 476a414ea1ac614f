/** Bytes and text. On the wire a path, token or list is bytes; inside the store it is a string of one char per byte. */

const { TextEncoder, TextDecoder } = globalThis as unknown as PlatformText
const encoder = new TextEncoder()
// A byte order mark is part of a value like any other character.
const decoder = new TextDecoder('utf-8', { ignoreBOM: true })

// Function.prototype.apply takes this many arguments on every engine; no packet has more bytes.
const MAX_RUN = 8192

/** Each byte as one character, U+0000 to U+00FF: loses nothing, and is ASCII for every valid path. */
export function fromLatin1(bytes: Uint8Array, start = 0, end = bytes.length): string {
  let text = ''
  for (let at = start; at < end; at += MAX_RUN) {
    const run = bytes.subarray(at, Math.min(end, at + MAX_RUN))
    text += String.fromCharCode.apply(undefined, run as unknown as number[])
  }
  return text
}

// Below this length a loop is faster than a call of the platform.
const SHORT = 48

/** Writes one byte per character at `at` and returns the position behind it. */
export function putLatin1(text: string, to: Uint8Array, at: number): number {
  // ASCII is the same in UTF-8; a text with other characters does not fit, or leaves some over.
  if (text.length >= SHORT) {
    const { read, written } = encoder.encodeInto(text, to.subarray(at, at + text.length))
    if (read === text.length && written === text.length) return at + text.length
  }
  for (let i = 0; i < text.length; i++) to[at++] = text.charCodeAt(i)
  return at
}

/** One byte per character. */
export function toLatin1(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length)
  putLatin1(text, bytes, 0)
  return bytes
}

/** UTF-8 bytes of a string; a lone surrogate becomes U+FFFD. */
export function toUtf8(text: string): Uint8Array {
  return encoder.encode(text)
}

/** Text of UTF-8 bytes; whatever is not UTF-8 becomes U+FFFD. */
export function fromUtf8(bytes: Uint8Array): string {
  // Browsers decode no shared memory.
  return decoder.decode(bytes.buffer instanceof ArrayBuffer ? bytes : bytes.slice())
}
