/**
 * `npm run stress -- --sends 1e9`: senders, a receiver and the hypervisor on threads of their own, for as long as one likes.
 *
 *     --sends N     sends of each form (default 1e6)      --levels 2,3,4,fifo   --bits 32,64   --senders N   --seed N
 *     --dist URL    another build of the library (mutants.mjs)
 */

import { parseArgs } from 'node:util'
import { stress } from './stress_run.mjs'

const { values } = parseArgs({
  options: {
    sends: { type: 'string', default: '1e6' },
    levels: { type: 'string', default: '2,3,fifo' },
    bits: { type: 'string', default: '64,32' },
    senders: { type: 'string', default: '2' },
    seed: { type: 'string', default: '1' },
    dist: { type: 'string', default: new URL('../../dist/', import.meta.url).href },
  },
})
const number = (name) => {
  const given = Number(values[name])
  if (Number.isInteger(given) && given > 0) return given
  process.stderr.write(`stress: --${name} is ${values[name]}; allowed: a whole number from 1 up\n`)
  process.exit(2)
}
const forms = values.levels.split(',').map((each) => (each === 'fifo' ? each : Number(each)))
const widths = values.bits.split(',').map(Number)
if (
  forms.some((each) => each !== 'fifo' && !(each >= 2 && each <= 5)) ||
  widths.some((each) => each !== 32 && each !== 64)
) {
  process.stderr.write('stress: --levels takes 2 to 5 and fifo, --bits 32 and 64, with commas between them\n')
  process.exit(2)
}

for (const levels of forms)
  for (const bits of widths) {
    const start = performance.now()
    const result = await stress({
      levels,
      bits,
      sends: number('sends'),
      senders: number('senders'),
      seed: number('seed'),
      dist: new URL(values.dist),
    })
    const seconds = (performance.now() - start) / 1000
    const { failure, sends, rests, cycles } = result
    const form = levels === 'fifo' ? 'FIFO' : `${levels} levels`
    console.log(
      `${form}, ${bits} bits: ${sends} sends, ${rests} rests, ${cycles} closes and binds in ${seconds.toFixed(1)} s: ` +
        (failure ?? 'nothing lost'),
    )
    if (failure) process.exit(1)
  }
