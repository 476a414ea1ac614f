/** dom0's end of a console ring, against a guest that keeps to the protocol and one that does not. */

import { expect, it } from 'vitest'
import { ConsoleRing, type ConsoleRingOptions } from '../../src/dom0/index.js'

const OUT = { at: 1024, cons: 770, prod: 771 }
const IN = { at: 0, cons: 768, prod: 769 }

function ring(options: ConsoleRingOptions = {}) {
  const page = new Uint8Array(4096)
  const words = new Uint32Array(page.buffer)
  let heard = ''
  let notified = 0
  let ring = () => {}
  const peer = {
    page: () => page,
    channel: {
      notify: () => {
        notified++
      },
      onEvent: (callback: () => void) => {
        ring = callback
      },
    },
    close: () => {},
  }
  const onOutput = (bytes: Uint8Array) => {
    heard += String.fromCharCode(...bytes)
  }
  const console = new ConsoleRing(peer, { onOutput, ...options })
  const say = (text: string) => {
    for (const [i, char] of [...text].entries()) page[OUT.at + ((words[OUT.prod]! + i) & 2047)] = char.charCodeAt(0)
    words[OUT.prod] = words[OUT.prod]! + text.length
    ring()
  }
  const typed = () => {
    let text = ''
    for (; words[IN.cons] !== words[IN.prod]; words[IN.cons] = words[IN.cons]! + 1)
      text += String.fromCharCode(page[IN.at + (words[IN.cons]! & 1023)]!)
    return text
  }
  return { console, words, say, typed, event: () => ring(), heard: () => heard, notified: () => notified }
}

it('what the guest writes is heard once, over the end of the queue and of the numbers', () => {
  const { words, say, heard, notified } = ring()
  words.fill(0xffff_fffe, OUT.cons, OUT.prod + 1)
  say('hello')
  say(' world')
  expect(heard()).toBe('hello world')
  expect(words[OUT.cons]).toBe(words[OUT.prod])
  expect(notified()).toBe(2)
})

it('what is typed waits until the guest has room', () => {
  const { console, typed, event } = ring()
  const text = 'x'.repeat(1500)
  console.write(Uint8Array.from(text, (char) => char.charCodeAt(0)))
  expect(typed().length).toBe(1024)
  expect(typed()).toBe('')
  event()
  expect(typed().length).toBe(476)
})

it('indexes that cannot be read as nothing, and harm nobody', () => {
  const { console, words, event, heard } = ring()
  for (const [cons, prod] of [
    [0, 2049],
    [5, 4],
    [0, 0xffff_ffff],
  ] as const) {
    words[OUT.cons] = cons
    words[OUT.prod] = prod
    words[IN.cons] = prod
    words[IN.prod] = cons
    event()
    console.write(Uint8Array.of(65))
  }
  expect(heard()).toBe('')
})

it('a function of the user’s that throws is reported, and the guest goes on', () => {
  const reported: unknown[] = []
  const { words, say } = ring({
    onOutput: () => {
      throw new Error('fault of a user')
    },
    onError: (_, where) => reported.push(where),
  })
  say('one')
  say('two')
  expect(reported).toEqual(['ConsoleRing.onOutput', 'ConsoleRing.onOutput'])
  expect(words[OUT.cons]).toBe(6)
})
