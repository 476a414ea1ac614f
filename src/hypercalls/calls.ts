/**
 * Both ways into the hypervisor: the raw hypercall with registers, and the typed event channel operation. The same
 * operations stand behind both. The raw one returns -errno, the typed one throws with the reason.
 */

import type { EvtchnOpName, In, OpArgs, Out } from '../abi/index.js'
import type { Caller, Domain } from '../domain/domain.js'
import type { Vcpu } from '../domain/vcpu.js'
import { type OnRefusal, type Outcome, Refusal, toRegister, XenError } from '../errno.js'
import type { Domains } from '../host/domains.js'
import type { UpcallQueue } from '../host/upcall_queue.js'
import { type Continuation, continuationOf, dispatch, type Register, tracedCaller } from './dispatch.js'
import { typedOperation } from './evtchn/index.js'
import { mayCall } from './parts.js'
import type { SchedWorld } from './sched_op.js'
import { checkArgs, outArgs } from './typed_args.js'

/** The domain that makes a hypercall: ESRCH if it dies or is gone, EAGAIN if it is frozen. */
function callingDomain(vcpu: Vcpu, domain: Domain | undefined): Domain | Refusal {
  return mayCall(vcpu, domain) || domain!
}

/** The hypercalls of one host's guests. */
export class Calls {
  readonly #domains: Domains
  readonly #queue: UpcallQueue
  readonly #world: SchedWorld
  /** The call under way gives way to its caller where preemption is due. */
  #stepping = false

  constructor(domains: Domains, queue: UpcallQueue, world: SchedWorld) {
    this.#domains = domains
    this.#queue = queue
    this.#world = world
  }

  /** A raw hypercall: 0 or more, or -errno. */
  raw(vcpu: Vcpu, nr: Register, args: readonly Register[], onRefusal?: OnRefusal): number {
    const domain = callingDomain(vcpu, this.#domains.of(vcpu))
    const result = domain instanceof Refusal ? domain : this.#dispatch(domain, vcpu, nr, args, false)
    if (result instanceof Refusal) onRefusal?.(result)
    return toRegister(result)
  }

  /** The same, but where preemption is due it ends, and returns the registers that it continues with. */
  step(vcpu: Vcpu, nr: Register, args: readonly Register[], onRefusal?: OnRefusal): number | Continuation {
    const domain = callingDomain(vcpu, this.#domains.of(vcpu))
    const result = domain instanceof Refusal ? domain : this.#dispatch(domain, vcpu, nr, args, true)
    const next = domain instanceof Refusal ? undefined : continuationOf(result, domain, nr, args)
    if (next) return next
    if (result instanceof Refusal) onRefusal?.(result)
    return toRegister(result)
  }

  /** Is the call under way one of `step`? Calls that policies and upcalls make meanwhile are not. */
  get stepping(): boolean {
    return this.#stepping
  }

  #dispatch(domain: Domain, vcpu: Vcpu, nr: Register, args: readonly Register[], stepping: boolean): number | Refusal {
    const outer = this.#stepping
    this.#stepping = stepping
    this.#queue.enter()
    try {
      return dispatch(this.#world, domain, vcpu, nr, args)
    } finally {
      this.#stepping = outer
      this.#queue.leave(vcpu)
    }
  }

  /** A typed operation: its OUT members. @throws XenError with the reason; ParameterError for what is no argument */
  typed<N extends EvtchnOpName>(vcpu: Vcpu, op: N, given: Readonly<In<N>>): Out<N> {
    const args = checkArgs(op, given)
    const domain = callingDomain(vcpu, this.#domains.of(vcpu))
    const outcome = domain instanceof Refusal ? domain : this.#run(domain.callers[vcpu.vcpuId]!, op, args)
    if (outcome) throw XenError.of(`EVTCHNOP_${op}`, outcome)
    return outArgs(op, args)
  }

  /** EVTCHNOP_send without a struct in guest memory: 0, or -errno. */
  send(vcpu: Vcpu, port: number): number {
    const domain = callingDomain(vcpu, this.#domains.of(vcpu))
    return toRegister(domain instanceof Refusal ? domain : this.#run(domain.callers[vcpu.vcpuId]!, 'send', { port }))
  }

  #run<N extends EvtchnOpName>(caller: Caller, op: N, args: OpArgs<N>): Outcome {
    const run = () => typedOperation(this.#world, caller, op, args)
    const { seam } = this.#world
    const outer = this.#stepping
    this.#stepping = false
    this.#queue.enter()
    try {
      return seam ? seam.typed(tracedCaller(caller), `EVTCHNOP_${op}`, args, run, () => outArgs(op, args)) : run()
    } finally {
      this.#stepping = outer
      this.#queue.leave(caller.vcpu)
    }
  }
}
