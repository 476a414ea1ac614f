/** Standard output that ends: a reader that went away, a full disk. */

/** A reader that goes away (`evtchn dump | head`) ends the command quietly; a full disk ends it with a message. */
export function guardOutput(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0)
    process.stderr.write(`evtchn: standard output: ${error.message}\n`)
    process.exit(1)
  })
}
