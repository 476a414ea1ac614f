/** Sockets of a guest as its programs see them, over the in-process network. */

import { describe, expect, it } from 'vitest'
import { accept, bytesOf, drain, PvcallsLab, SERVER, text } from './lab.js'

describe('an active socket', () => {
  it('connects, sends and receives, and sees the orderly end behind the last byte (PV-acc-13, PV-55)', () => {
    const lab = new PvcallsLab()
    const listener = lab.serve()
    const socket = lab.guest(1, (front) => front.connect(SERVER))
    const peer = accept(listener)
    lab.guest(1, () => socket.send(bytesOf('hello')))
    expect(text(drain(peer))).toBe('hello')
    peer.send(new Uint8Array(5000).fill(7))
    peer.close()
    lab.run()
    const got = lab.guest(1, () => socket.receiveAll())
    expect([got.length, got.every((byte) => byte === 7)]).toEqual([5000, true])
    expect(socket.tryReceive(new Uint8Array(1))).toBe(-107)
  })
})
