/** Loads bench/levels/wasm/loops.ts, compiled for both builds by bench/levels/build.mjs. */

import { readFileSync } from 'node:fs'
import type { Forest } from './forest.js'

/** A loop over `count` trees; `list` is the address of the ports to raise, or of the output of scans. */
export type Loop = (trees: number, count: number, list: number, k: number) => number

const modules = new Map<string, WebAssembly.Module>()
const instances = new WeakMap<Forest, Record<string, Loop>>()

/** The loops over a forest's memory. */
export function loopsOf(forest: Forest): Record<string, Loop> {
  let loops = instances.get(forest)
  if (!loops) {
    const build = forest.shared ? 'threads' : 'single'
    let module = modules.get(build)
    if (!module) {
      module = new WebAssembly.Module(readFileSync(new URL(`loops.${build}.wasm`, import.meta.url)))
      modules.set(build, module)
    }
    const instance = new WebAssembly.Instance(module, { env: { memory: forest.memory } })
    loops = instance.exports as Record<string, Loop>
    instances.set(forest, loops)
  }
  return loops
}
