/** One size: `child.js KIND N` prints its figures as JSON. Run with --expose-gc. */

import { KINDS, type Kind } from './measure.js'

const [kind, size] = process.argv.slice(2)
process.stdout.write(JSON.stringify(KINDS[kind as Kind](Number(size))))
