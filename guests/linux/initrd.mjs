/**
 * An initrd: a cpio archive ("newc") with busybox, modules and an init. It is written here, so that device nodes need no root.
 *
 *     070701 | 13 numbers of 8 hex digits | name NUL, padded to 4 | bytes, padded to 4 | … | TRAILER!!!
 */

const MODE = { folder: 0o040755, file: 0o100644, program: 0o100755, link: 0o120777, device: 0o020600 }
const HEADER_BYTES = 110

const padding = (bytes) => Buffer.alloc((4 - (bytes % 4)) % 4)

/** `entries`: [name, mode, bytes?, major?, minor?]. */
function cpio(entries) {
  const pieces = []
  for (const [i, [name, mode, bytes = Buffer.alloc(0), major = 0, minor = 0]] of entries.entries()) {
    const text = Buffer.from(`${name}\0`)
    const numbers = [i + 1, mode, 0, 0, 1, 0, bytes.length, 0, 0, major, minor, text.length, 0]
    const header = `070701${numbers.map((number) => number.toString(16).padStart(8, '0')).join('')}`
    pieces.push(Buffer.from(header), text, padding(HEADER_BYTES + text.length), bytes, padding(bytes.length))
  }
  return Buffer.concat(pieces)
}

/** `modules`: [file name, bytes]. */
export function makeInitrd({ busybox, init, modules }) {
  return cpio([
    ...['bin', 'dev', 'proc', 'sys', 'mnt', 'modules'].map((name) => [name, MODE.folder]),
    ['dev/console', MODE.device, undefined, 5, 1],
    ['dev/ttyS0', MODE.device, undefined, 4, 64],
    ['bin/busybox', MODE.program, busybox],
    ['bin/sh', MODE.link, Buffer.from('busybox')],
    ['init', MODE.program, Buffer.from(init)],
    ...modules.map(([name, bytes]) => [`modules/${name}`, MODE.file, bytes]),
    ['TRAILER!!!', 0],
  ])
}
