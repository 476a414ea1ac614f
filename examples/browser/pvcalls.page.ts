/** Socket calls of a guest in a page, under both policies of workers. A page has no sockets: the library's network serves. */
import { IO_POLICIES } from 'evtchn/dom0'
import { PvcallsScenario } from 'scenarios/pvcalls_scenario.js'

const out = document.getElementById('out')
const print = (text: string): void => {
  if (out) out.textContent += `${text}\n`
}

for (const policy of IO_POLICIES) {
  // In place of random numbers: each in turn.
  let turn = 0
  const random = (n: number): number => turn++ % n
  const scenario = new PvcallsScenario({ policy, cpus: 4, sockets: 40, bytes: 50_000, flips: 10, random })
  const { afterConnect, traffic, problems, workersAtEnd } = scenario.run()
  const moved = traffic.bytesIn + traffic.bytesOut
  const order = problems.length ? problems.join('; ') : 'in order'
  const { workers, max } = afterConnect
  print(`${policy}: ${workers} workers, ${max} sockets each, ${moved} bytes, ${order}, ${workersAtEnd} left`)
}
print('done')
