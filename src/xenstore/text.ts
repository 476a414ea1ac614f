/** Bytes and text. On the wire a path, token or list is bytes; inside the store it is a string of one char per byte. */

// Function.prototype.apply takes this many arguments on every engine; no packet has more bytes.
const MAX_RUN = 8192

/** Each byte as one character, U+0000 to U+00FF: loses nothing, and is ASCII for every valid path. */
export function fromLatin1(bytes: Uint8Array, start = 0, end = bytes.length): string {
  let text = ''
  for (let at = start; at < end; at += MAX_RUN) {
    const run = bytes.subarray(at, Math.min(end, at + MAX_RUN))
    text += String.fromCharCode.apply(null, run as unknown as number[])
  }
  return text
}

/** Writes one byte per character at `at` and returns the position behind it. */
export function putLatin1(text: string, to: Uint8Array, at: number): number {
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
  const bytes = new Uint8Array(text.length * 3)
  let at = 0
  for (const char of text) {
    const point = char.codePointAt(0)!
    const code = point >= 0xd800 && point <= 0xdfff ? 0xfffd : point
    if (code < 0x80) {
      bytes[at++] = code
      continue
    }
    const more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3
    bytes[at++] = ((0xff00 >> (more + 1)) & 0xff) | (code >> (6 * more))
    for (let left = more - 1; left >= 0; left--) bytes[at++] = 0x80 | ((code >> (6 * left)) & 0x3f)
  }
  return bytes.slice(0, at)
}

const LEAST = [0, 0x80, 0x800, 0x10000]

/** Text of UTF-8 bytes; whatever is not UTF-8 becomes U+FFFD. */
export function fromUtf8(bytes: Uint8Array): string {
  if (bytes.every((byte) => byte < 0x80)) return fromLatin1(bytes)
  let text = ''
  for (let at = 0; at < bytes.length; ) {
    const first = bytes[at++]!
    const more = first < 0x80 ? 0 : first < 0xc0 ? -1 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : first < 0xf8 ? 3 : -1
    let code = more < 0 ? -1 : more === 0 ? first : first & (0x3f >> more)
    let taken = 0
    while (taken < more && (bytes[at + taken]! & 0xc0) === 0x80) code = (code << 6) | (bytes[at + taken++]! & 0x3f)
    at += taken
    const sound = code >= 0 && taken === more && code >= LEAST[more]! && code < 0x110000 && (code & 0xfff800) !== 0xd800
    text += sound ? String.fromCodePoint(code) : '\ufffd'
  }
  return text
}
