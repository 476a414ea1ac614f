/**
 * Where hypercalls enter and leave a host: watched by a trace, refused by injected faults. A host that has neither has no
 * seam, and asks for it once a call.
 */

import type { Args } from '../abi/index.js'
import type { Callouts } from '../callout.js'
import { Refusal, toRegister } from '../errno.js'
import { type DecodedCall, decodeCall, decodeOut, type TracedCaller } from './decode.js'
import type { Unnumbered } from './event.js'
import type { Faults } from './faults.js'
import type { TraceSink } from './trace.js'

/** A vCPU as the seam names it. */
export interface TracedVcpu {
  readonly domid: number
  readonly vcpuId: number
}

/** The seam of one host. */
export class Seam {
  readonly #sink: TraceSink
  readonly #faults: Faults | undefined
  readonly #nowNs: () => number
  readonly #callouts: Callouts

  private constructor(sink: TraceSink, faults: Faults | undefined, nowNs: () => number, callouts: Callouts) {
    this.#sink = sink
    this.#faults = faults
    this.#nowNs = nowNs
    this.#callouts = callouts
  }

  /** A seam, if there is anything to record or to refuse. */
  static of(
    sink: TraceSink | undefined,
    faults: Faults | undefined,
    nowNs: () => number,
    callouts: Callouts,
  ): Seam | undefined {
    return sink?.record || faults ? new Seam(sink ?? {}, faults, nowNs, callouts) : undefined
  }

  /** What the sink throws is not the business of the call that is traced. */
  #record(event: Unnumbered): void {
    this.#callouts.run('trace.record', undefined, () => this.#sink.record?.(event))
  }

  /** A hypercall by number and registers; `run` carries it out. */
  hypercall(
    caller: TracedCaller,
    op: number,
    register: (i: number) => number,
    run: () => number | Refusal,
  ): number | Refusal {
    const decoded = decodeCall(caller, op, register)
    return this.#call(caller, decoded, run, () => decodeOut(caller, decoded))
  }

  /** A typed call, whose members are plain values; `run` stores what it returns in them. */
  typed(caller: TracedCaller, call: string, args: Args, run: () => 0 | Refusal, out: () => Args): 0 | Refusal {
    return this.#call(caller, { call, args: { ...args } }, run, out)
  }

  #call<R extends number>(
    { domid, vcpu }: TracedCaller,
    { call, args }: DecodedCall,
    run: () => R | Refusal,
    out: () => Args,
  ): R | Refusal {
    const timeNs = this.#nowNs()
    const injected = this.#callouts.run('faults.refusal', undefined, () => this.#faults?.refusal(domid, call))
    const result = injected ?? run()
    if (!this.#sink.record) return result
    const refused = result instanceof Refusal
    this.#record({
      kind: 'hypercall',
      timeNs,
      domid,
      vcpu,
      call,
      args,
      ...(!refused && { out: out() }),
      result: toRegister(result),
      ...(refused && { reason: result.text }),
      ...(injected && { injected: true as const }),
      durationNs: this.#nowNs() - timeNs,
    })
    return result
  }

  /** A vCPU's flag rose. */
  pending({ domid, vcpuId }: TracedVcpu): void {
    this.#record({ kind: 'pending', timeNs: this.#nowNs(), domid, vcpu: vcpuId })
  }

  /** Something that the host does to a domain. */
  host(domid: number, what: string): void {
    this.#record({ kind: 'host', timeNs: this.#nowNs(), domid, what })
  }

  /** What enters vCPUs, recorded; or the same, where nothing is recorded. */
  entries<V extends TracedVcpu, R extends unknown[]>(entry: {
    onUpcall?: ((vcpu: V, ...rest: R) => void) | undefined
    onUnblock?: ((vcpu: V) => void) | undefined
  }): { onUpcall?: (vcpu: V, ...rest: R) => void; onUnblock?: (vcpu: V) => void } {
    const { onUpcall, onUnblock } = entry
    return {
      ...(onUpcall && {
        onUpcall: (vcpu: V, ...rest: R) => {
          const timeNs = this.#nowNs()
          try {
            onUpcall(vcpu, ...rest)
          } finally {
            const { domid, vcpuId } = vcpu
            this.#record({ kind: 'upcall', timeNs, domid, vcpu: vcpuId, durationNs: this.#nowNs() - timeNs })
          }
        },
      }),
      onUnblock: (vcpu: V) => {
        this.#record({ kind: 'unblock', timeNs: this.#nowNs(), domid: vcpu.domid, vcpu: vcpu.vcpuId })
        onUnblock?.(vcpu)
      },
    }
  }
}
