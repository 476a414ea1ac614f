/** Bytes as text, for states that survive JSON. */

/** Small, for the engine passes them as arguments: larger ones cost twice the time, and so does spreading them. */
const CHUNK = 0x400

/** Base64 of bytes, by the engine's own encoder where it has one. */
export function toBase64(bytes: Uint8Array): string {
  const { toBase64 } = bytes as { toBase64?: () => string }
  if (toBase64) return toBase64.call(bytes)
  let text = ''
  for (let i = 0; i < bytes.length; i += CHUNK)
    text += String.fromCharCode.apply(null, bytes.subarray(i, i + CHUNK) as unknown as number[])
  return btoa(text)
}

const NO_DIGIT = 0x80
const DIGITS = new Uint8Array(128).fill(NO_DIGIT)
;[...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'].forEach((digit, value) => {
  DIGITS[digit.charCodeAt(0)] = value
})

/** Bytes of base64 text; null if the text is not base64, or stands for more than `most` bytes, which is checked first. */
export function fromBase64(text: string, most = Number.POSITIVE_INFINITY): Uint8Array | null {
  if (text.length % 4) return null
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0
  const length = (text.length / 4) * 3 - padding
  if (length > most) return null
  const bytes = new Uint8Array(length)
  const digits = text.length - padding
  const digit = (i: number) => DIGITS[text.charCodeAt(i)] ?? NO_DIGIT
  let seen = 0
  let at = 0
  for (let i = 0; i < digits; i += 4) {
    const a = digit(i)
    const b = digit(i + 1)
    const c = i + 2 < digits ? digit(i + 2) : 0
    const d = i + 3 < digits ? digit(i + 3) : 0
    seen |= a | b | c | d
    const three = (a << 18) | (b << 12) | (c << 6) | d
    // Stores beyond the end of a typed array do nothing: the last group may have one byte or two.
    bytes[at] = three >> 16
    bytes[at + 1] = three >> 8
    bytes[at + 2] = three
    at += 3
  }
  return seen & NO_DIGIT ? null : bytes
}
