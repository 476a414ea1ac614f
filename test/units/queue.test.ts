/** The one queue: order, extraction, and that it keeps nothing that was taken. */
import { describe, expect, it } from 'vitest'
import { Queue } from '../../src/queue.js'

const filled = (n: number) => {
  const queue = new Queue<number>()
  for (let i = 0; i < n; i++) queue.push(i)
  return queue
}

describe('Queue', () => {
  it('gives items in their order, however pushes and shifts are mixed', () => {
    const queue = new Queue<number>()
    const taken: (number | undefined)[] = []
    let next = 0
    for (let round = 1; round < 200; round++) {
      for (let i = 0; i < round % 7; i++) queue.push(next++)
      for (let i = 0; i < round % 5; i++) taken.push(queue.shift())
    }
    const all = [...taken.filter((each) => each !== undefined), ...queue.clear()]
    expect(all).toEqual(Array.from({ length: next }, (_, i) => i))
    expect([queue.length, queue.first, queue.shift()]).toEqual([0, undefined, undefined])
  })

  it('takeAt takes any item; the others keep their order', () => {
    const queue = filled(100)
    for (let i = 0; i < 40; i++) queue.shift()
    expect([queue.takeAt(0), queue.takeAt(2), queue.takeAt(57), queue.takeAt(57), queue.takeAt(-1)]).toEqual([
      40,
      43,
      99,
      undefined,
      undefined,
    ])
    expect(queue.clear().slice(0, 4)).toEqual([41, 42, 44, 45])
  })

  it('extract takes what is asked for by item and place', () => {
    const queue = filled(6)
    queue.shift()
    expect(queue.extract((item, index) => item % 2 === 1 && index > 0)).toEqual([3, 5])
    expect([...queue]).toEqual([1, 2, 4])
    expect(queue.extract(() => false)).toEqual([])
  })

  it('an iteration visits what is added meanwhile', () => {
    const queue = filled(2)
    const seen: number[] = []
    for (const item of queue) {
      seen.push(item)
      if (item < 3) queue.push(item + 2)
    }
    expect(seen).toEqual([0, 1, 2, 3, 4])
  })
})
