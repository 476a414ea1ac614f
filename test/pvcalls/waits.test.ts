/** Every wait of the frontend ends when an index that it looks at cannot be. */

import { describe, expect, it } from 'vitest'
import { CommandFrontRing, INDEX_WORD } from '../../src/dom0/io/index.js'
import { PvcallsLab, SERVER } from './lab.js'

/** A socket whose peer takes nothing, with a ring that is full. */
function full() {
  const lab = new PvcallsLab({ bufferBytes: 4096 })
  lab.serve()
  const socket = lab.guest(1, (front) => front.connect(SERVER, { ringOrder: 1 }))
  const sender = lab.spawn(1, () => socket.send(new Uint8Array(65536)))
  lab.host.pass(1)
  expect(sender.done).toBe(false)
  return { lab, socket, sender }
}

describe('a wait of a guest’s program', () => {
  it('PV-57: a send that waits for room ends with EINVAL when out_cons overtakes out_prod', () => {
    const { lab, socket, sender } = full()
    const { index } = socket.end.ring
    index.publish(INDEX_WORD.out_cons, index.index(INDEX_WORD.out_prod) + 4096)
    socket.end.changed.wakeAll()
    lab.run()
    expect(String(sender.error)).toBe('PvcallsError: send: EINVAL')
    lab.guest(1, () => socket.close())
  })

  it('PV-57: a close that waits for sent data releases when out_cons overtakes out_prod', () => {
    const { lab, socket } = full()
    const { index } = socket.end.ring
    const closer = lab.spawn(1, () => socket.close())
    lab.run()
    expect(closer.done).toBe(false)
    index.publish(INDEX_WORD.out_cons, index.index(INDEX_WORD.out_prod) + 1)
    socket.end.changed.wakeAll()
    lab.host.pass(1)
    expect(closer.done).toBe(true)
    expect(lab.host.pvcalls.connection(1)!.sockets.size).toBe(0)
  })

  it('PV-57: a receive that waits ends with EINVAL when in_prod is more than a ring ahead', () => {
    const lab = new PvcallsLab()
    lab.serve()
    const socket = lab.guest(1, (front) => front.connect(SERVER, { ringOrder: 1 }))
    const receiver = lab.spawn(1, () => socket.receive())
    lab.run()
    socket.end.ring.index.publish(INDEX_WORD.in_prod, socket.end.ring.in.size + 1)
    socket.end.changed.wakeAll()
    lab.run()
    expect(String(receiver.error)).toBe('PvcallsError: receive: EINVAL')
  })

  it('PV-57: a response index that claims more responses than requests is broken, not read', () => {
    const page = new Uint8Array(4096)
    const words = new Int32Array(page.buffer)
    const ring = new CommandFrontRing(() => page)
    ring.push(new Uint8Array(64))
    for (const produced of [2, 33, 0x7fffffff, -1]) {
      words[2] = produced
      expect(ring.pull(), String(produced)).toBe('broken')
    }
    words[2] = 1
    expect(ring.pull()).toBeInstanceOf(Uint8Array)
  })

  it('PV-57: commands that wait, and turns, end with ENOTCONN when the command ring is broken', () => {
    const lab = new PvcallsLab()
    const listener = lab.guest(1, (front) => front.listen({ ip: '10.0.0.9', port: 80 }))
    const jobs = [1, 2, 3].map(() => lab.spawn(1, () => listener.accept({ ringOrder: 1 })))
    lab.run()
    const gref = lab.dom0(lab.host.xenbus.read('/local/domain/1/device/pvcalls/0/ring-ref'))
    const page = lab.host.grants.map(1, Number(gref)).bytes()
    const responses = new Int32Array(page.buffer, page.byteOffset, 4)
    responses[2]! += 1000
    const { channels } = lab.host
    for (let port = 1; port < 100; port++) if (channels.nameOf(port)?.startsWith('pvcalls')) channels.send(port)
    lab.run()
    expect(jobs.map(({ error }) => String(error))).toEqual(Array(3).fill('PvcallsError: ACCEPT: ENOTCONN'))
  })
})
