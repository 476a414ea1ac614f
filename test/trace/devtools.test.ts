/** A trace as Chrome's own DevTools read it: their engine, which nobody here wrote, finds our domains, vCPUs and calls. */

import { expect, it } from 'vitest'
import { chromeTrace, EvtchnDevice, Hypervisor, Trace } from '../../src/index.js'
import { asDevToolsReadIt } from './devtools.mjs'

it('domains are processes, vCPUs are threads, and calls are entries, in a trace of a `for await` loop', async () => {
  const trace = new Trace()
  const xen = Hypervisor.create({ trace })
  const [dom0, guest] = [xen.boot({ domid: 0 }), xen.boot({ domid: 1 })]
  const handle = new EvtchnDevice(guest).open()
  const port = handle.bindUnboundPort(0)
  const local = dom0.bindInterdomain(1, port, { handler: () => {} })
  trace.clear()
  const seen: number[] = []
  dom0.send(local)
  for await (const fired of handle) {
    seen.push(fired)
    handle.unmask(fired)
    if (seen.length === 3) break
    dom0.send(local)
  }
  expect(seen).toEqual([port, port, port])
  const { Meta, Renderer } = await asDevToolsReadIt(JSON.parse(JSON.stringify(chromeTrace(trace))).traceEvents)
  expect([...Meta.processNames].map(([pid, { args }]) => [pid, args.name]).sort()).toEqual([
    [0, 'd0'],
    [1, 'd1'],
  ])
  const entries = (pid: number) => {
    const thread = Renderer.processes.get(pid)!.threads.get(0)!
    expect(thread.name).toBe('vCPU 0')
    return thread.entries.map(({ name }) => name)
  }
  expect(entries(0).filter((name) => name === 'EVTCHNOP_send')).toHaveLength(3)
  expect(entries(1).filter((name) => name === 'upcall')).toHaveLength(3)
})
