/** Hooks in a module that was compiled elsewhere: a small one, made by the AssemblyScript compiler's text form. */

import binaryen from 'binaryen'
import { describe, expect, it } from 'vitest'
import { HookError, hookFunctions } from '../../src/x86/wasm_hooks.js'

const TEXT = `(module
  (import "env" "log" (func $log (param i32)))
  (import "env" "ask" (func $ask (param i32) (result i32)))
  (func $work (export "work") (param i32) (call $log (local.get 0)))
  (func $fault (call $log (i32.const 77)))
  (func (export "outer") (call $fault))
  (func (export "long") (call $log (i32.const 1)) (call $fault))
  (func (export "number") (result i32) (i32.const 5)))`

function compile(): Uint8Array {
  const module = binaryen.parseText(TEXT)
  const bytes = module.emitBinary()
  module.dispose()
  return bytes
}

/** An instance whose `ask` returns what `answer` does. */
function run(bytes: Uint8Array, answer: (key: number) => number) {
  const log: number[] = []
  const env = { log: (value: number) => log.push(value), ask: answer }
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes as Uint8Array<ArrayBuffer>), { env })
  return { log, exports: exports as Record<string, (...args: number[]) => void> }
}

const KEY = 0x1_0002

describe('RG-11: a hooked function', () => {
  it('does nothing when the embedder has done it', () => {
    const keys: number[] = []
    const bytes = hookFunctions(compile(), 'ask', [{ key: KEY, exported: 'work' }])
    const { log, exports } = run(bytes, (key) => keys.push(key))
    exports.work!(5)
    expect([keys, log]).toEqual([[KEY], []])
  })

  it('does its own work, with its arguments, when the embedder has not', () => {
    const { log, exports } = run(hookFunctions(compile(), 'ask', [{ key: KEY, exported: 'work' }]), () => 0)
    exports.work!(5)
    expect(log).toEqual([5])
  })

  it('is found as what an export calls, and hooked for all who call it', () => {
    const bytes = hookFunctions(compile(), 'ask', [{ key: KEY, calledBy: 'outer' }])
    const { log, exports } = run(bytes, () => 1)
    exports.outer!()
    exports.long!()
    expect(log).toEqual([1])
  })

  it('keeps the others as they are, and two hooks apart', () => {
    const hooks = [
      { key: 64, exported: 'work' },
      { key: 8191, calledBy: 'outer' },
    ]
    const { log, exports } = run(hookFunctions(compile(), 'ask', hooks), (key) => Number(key === 64))
    exports.work!(5)
    exports.outer!()
    expect(log).toEqual([77])
  })
})

describe('RG-15: another module', () => {
  it.each([
    ['without the function', [{ key: 1, exported: 'gone' }], 'the module exports no function gone'],
    ['whose function returns something', [{ key: 1, exported: 'number' }], 'returns something'],
    ['whose export is no thunk', [{ key: 1, calledBy: 'long' }], 'long does not begin with a call'],
  ] as const)('%s is refused', (_, hooks, text) => {
    expect(() => hookFunctions(compile(), 'ask', hooks)).toThrow(HookError)
    expect(() => hookFunctions(compile(), 'ask', hooks)).toThrow(text)
  })

  it('without the import is refused', () => {
    expect(() => hookFunctions(compile(), 'gone', [])).toThrow('the module imports no function gone')
  })

  it('that ends in the middle is refused', () => {
    const whole = compile()
    for (let length = 8; length < whole.length; length++)
      expect(
        () => hookFunctions(whole.subarray(0, length), 'ask', [{ key: 1, exported: 'work' }]),
        `${length}`,
      ).toThrow(HookError)
  })
})
