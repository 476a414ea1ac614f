/** Standard output that ends: a reader that went away, a full disk. */

/** What a failed write means: a reader that goes away (`evtchn dump | head`) ends quietly, a full disk with a message. */
function end(program: string, error: NodeJS.ErrnoException): never {
  if (error.code === 'EPIPE') process.exit(0)
  try {
    process.stderr.write(`${program}: standard output: ${error.message}\n`)
  } catch {}
  process.exit(1)
}

let guarded = false

/** Ends the process when standard output does. */
export function guardOutput(program: string): void {
  if (guarded) return
  guarded = true
  process.stdout.on('error', (error: NodeJS.ErrnoException) => end(program, error))
  // Standard error that is gone ends nothing: results may still go out.
  process.stderr.on('error', () => {})
}
