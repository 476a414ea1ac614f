/**
 * The guest as all parts of its driver see it: the platform that it runs on, and what the driver keeps in the guest's RAM.
 *
 *     argument frame     structs of hypercalls (platform.ts)
 *     vcpu_info          in shared_info for the first 32 vCPUs, in frames of the driver's for the others (EC-vi-2)
 *     scan buffers       a frame a vCPU: the ports that one round of its scan found
 *     the form           the words of the channels: a tree (tree.ts) or FIFO queues (queues.ts)
 */

import {
  type Args,
  type EvtchnOpName,
  encode,
  HYPERVISOR,
  PAGE_SIZE,
  REGISTER_VCPU_INFO,
  sharedInfo,
  UPCALL_MASK,
  UPCALL_PENDING,
  VCPU_INFO_SIZE,
  VCPUOP,
  XEN_LEGACY_MAX_VCPUS,
} from '../abi/index.js'
import { Callouts } from '../callout.js'
import { integer } from '../check.js'
import { Errno, XenError } from '../errno.js'
import { registerForm } from './choose.js'
import type { Attempt, ChannelForm } from './form.js'
import { FrameAllocator, fillFrame } from './frames.js'
import { GuestGrants, grantFrames } from './grants.js'
import { type BootOptions, type CheckedBootOptions, checkBoot, checkPlatform, checkUp } from './options.js'
import { GuestHypercalls, type GuestPlatform, type PortOp } from './platform.js'
import { type SharedGuest, sharedGuest } from './share.js'
import { Tree } from './tree.js'

/** What the parts of one driver share. */
export class GuestMachine {
  readonly options: CheckedBootOptions
  readonly frames: FrameAllocator
  platform: GuestPlatform
  calls: GuestHypercalls
  form!: ChannelForm
  attempts: readonly Attempt[] = []
  /** The way to the guest's handlers. */
  callouts: Callouts
  /** The vCPU that this driver is for, unless a call names another: 0, or the one that joined on a thread of its own. */
  readonly home: number
  /** The vCPU whose code runs: the one that is in an upcall, else `home`. */
  current: number
  readonly #argumentGfn: number
  /** vCPUs that take part. Those that are offline stay among them: what they registered stays. */
  readonly #up: Set<number>
  #infoGpas: number[] = []
  #outGfns: number[] = []
  /** Frames for the vcpu_info of vCPUs beyond the legacy 32, by 64 vCPUs. */
  readonly #infoFrames = new Map<number, number>()

  /**
   * `joins`: the guest is booted already, by the driver of another thread.
   * @throws ParameterError for a platform or an option of the wrong type or range.
   */
  constructor(platform: GuestPlatform, options: BootOptions, joins?: SharedGuest) {
    const call = joins ? 'GuestKernel.join' : 'GuestKernel.boot'
    this.home = joins?.vcpu ?? 0
    this.current = this.home
    this.#up = new Set([this.home])
    this.options = checkBoot(call, options)
    this.platform = checkPlatform(call, platform)
    this.callouts = new Callouts(platform.onError)
    for (const vcpu of checkUp(call, this.options.upVcpus, platform.vcpus)) this.#up.add(vcpu)
    const { memory, sharedInfoGfn } = platform
    const { firstFreeGfn: first = sharedInfoGfn + 1 } = this.options
    this.frames = joins
      ? new FrameAllocator(joins.firstGfn, joins.firstGfn + joins.nrFrames)
      : new FrameAllocator(
          integer(call, 'firstFreeGfn', first, 0, memory.frames - 1),
          sharedInfoGfn >= first ? sharedInfoGfn : memory.frames,
        )
    this.#argumentGfn = this.#frame('the arguments of hypercalls')
    this.calls = new GuestHypercalls(platform, this.#argumentGfn)
    if (joins) this.#join(joins)
  }

  /** The words are there and registered: this driver only describes them for its own scan. */
  #join({ vcpu, levels, channels, frames, infoGpas }: SharedGuest): void {
    this.#infoGpas = [...infoGpas]
    this.#outGfns[vcpu] = this.#frame('scan buffers')
    const { platform, calls, frames: own, up } = this
    this.form = new Tree({ platform, calls, frames: own, up, infoGpas }, { levels, channels, frames })
  }

  /** What a driver on another thread needs to join for one vCPU. @throws XenError */
  share(vcpu: number, nrFrames: number): SharedGuest {
    const op = 'GuestKernel.share'
    const { form } = this
    if (!(form instanceof Tree)) throw new XenError(op, Errno.EOPNOTSUPP, `${form.levels} is served by one thread`)
    if (!this.#up.has(vcpu)) throw new XenError(op, Errno.EINVAL, `vCPU ${vcpu} takes no part: boot({ upVcpus })`)
    const firstGfn = this.frames.allocateRun(nrFrames)?.[0]
    if (firstGfn === undefined) throw new XenError(op, Errno.ENOMEM, `the guest has no ${nrFrames} frames in a row`)
    const { levels, channels, frames } = form
    return sharedGuest({ vcpu, levels, channels, frames, infoGpas: this.#infoGpas, firstGfn, nrFrames })
  }

  #frame(what: string): number {
    const gfn = this.frames.allocate(1)?.[0]
    if (gfn === undefined)
      throw new XenError('GuestKernel.boot', Errno.ENOMEM, `the guest has no free frame for ${what}`)
    fillFrame(this.platform.memory, gfn, 0)
    return gfn
  }

  /**
   * Masks every channel, places vcpu_info and scan buffers, registers a form, enables upcalls. The caller scans every
   * vCPU afterwards: registering raises all their flags and selectors (NL-sel-3).
   */
  start(exact = this.options.exact): void {
    const { vcpus, memory, bits, sharedInfoGfn } = this.platform
    const { mask, words } = sharedInfo(bits)
    const shared = sharedInfoGfn * PAGE_SIZE
    memory.view().fill(0xff, shared + mask, shared + mask + (words * bits) / 8)
    this.#infoGpas = Array.from({ length: vcpus }, (_, vcpu) => this.#placeInfo(vcpu))
    for (const vcpu of this.#up) this.#registerInfo(vcpu)
    this.#outGfns = Array.from({ length: vcpus }, () => this.#frame('scan buffers'))
    const { platform, calls, frames, up } = this
    const by = { platform, calls, frames, up, infoGpas: this.#infoGpas }
    const attempts: Attempt[] = []
    this.form = registerForm(by, { ...this.options, exact }, attempts)
    this.attempts = Object.freeze(attempts.map((each) => Object.freeze(each)))
    for (const vcpu of this.#up) this.#enableUpcalls(vcpu)
  }

  /** Starts anew in a restored domain: RAM is the same, so the frames of the old form are the guest's own and free again. */
  restart(platform: GuestPlatform): void {
    this.form.release()
    this.frames.release(this.#outGfns)
    this.frames.release(this.#infoFrames.values())
    this.#infoFrames.clear()
    this.#goTo(platform)
    // A guest that runs already takes what it can get (NL-mig-2).
    this.start(false)
  }

  /** Goes on in a domain that was restored with all that belongs to it. */
  moveTo(platform: GuestPlatform): void {
    this.#goTo(platform)
    this.form.moveTo(platform, this.calls)
  }

  #goTo(platform: GuestPlatform): void {
    this.platform = platform
    this.calls = new GuestHypercalls(platform, this.#argumentGfn)
    this.callouts = new Callouts(platform.onError)
  }

  takesPart(vcpu: number): boolean {
    return this.#up.has(vcpu)
  }

  /** vCPUs that take part, vCPU 0 first. */
  get up(): readonly number[] {
    return [...this.#up].sort((a, b) => a - b)
  }

  /**
   * A vCPU takes part: its vcpu_info and its part of the form are registered if it never was up, then it is brought online.
   * What was raised for it before comes by its first upcall. @throws XenError
   */
  bringUp(vcpu: number): void {
    if (!this.#up.has(vcpu)) {
      this.#registerInfo(vcpu)
      this.form.addVcpu(vcpu)
      this.#up.add(vcpu)
      this.#enableUpcalls(vcpu)
    }
    this.#vcpuOp('VCPUOP_up', VCPUOP.up, vcpu, this.current)
  }

  /** A vCPU goes offline, by its own call: what is registered stays, and its flag is looked at when it comes up. */
  takeDown(vcpu: number): void {
    this.#vcpuOp('VCPUOP_down', VCPUOP.down, vcpu, vcpu)
  }

  #vcpuOp(name: string, op: number, vcpu: number, by: number): void {
    let text = ''
    const rc = this.platform.hypercall(by, HYPERVISOR.vcpu_op, [op, vcpu, 0], (refusal) => {
      text = refusal.text
    })
    if (rc < 0) throw new XenError(name, rc, text)
  }

  #enableUpcalls(vcpu: number): void {
    this.platform.memory.view()[this.#infoGpas[vcpu]! + UPCALL_MASK] = 0
  }

  /** Returns the address of a vCPU's vcpu_info: in shared_info for the legacy 32, in a frame of the guest's for others. */
  #placeInfo(vcpu: number): number {
    if (vcpu < XEN_LEGACY_MAX_VCPUS) return this.platform.sharedInfoGfn * PAGE_SIZE + vcpu * VCPU_INFO_SIZE
    const perFrame = PAGE_SIZE / VCPU_INFO_SIZE
    const index = Math.floor(vcpu / perFrame)
    const gfn = this.#infoFrames.get(index) ?? this.#frame('vcpu_info')
    this.#infoFrames.set(index, gfn)
    return gfn * PAGE_SIZE + (vcpu % perFrame) * VCPU_INFO_SIZE
  }

  /** A vCPU beyond the legacy 32 has no vcpu_info until it names an area (EC-vi-2). */
  #registerInfo(vcpu: number): void {
    if (vcpu < XEN_LEGACY_MAX_VCPUS) return
    const at = this.#infoGpas[vcpu]!
    const [gfn, offset] = [Math.floor(at / PAGE_SIZE), at % PAGE_SIZE]
    const bytes = new Uint8Array(REGISTER_VCPU_INFO.size)
    encode(REGISTER_VCPU_INFO, new DataView(bytes.buffer), { mfn: gfn, offset })
    this.calls.mustRaw('VCPUOP_register_vcpu_info', vcpu, HYPERVISOR.vcpu_op, bytes, (gpa) => [
      VCPUOP.register_vcpu_info,
      vcpu,
      gpa,
    ])
  }

  /**
   * An event channel operation by a vCPU. Returns `args` with the OUT members.
   * @throws XenError with the hypervisor's reason.
   */
  op(op: EvtchnOpName, args: Args, vcpu = this.current): Args {
    return this.calls.must(vcpu, op, args)
  }

  /** Sends on, unmasks or closes a port, by the current vCPU. @throws XenError with the hypervisor's reason. */
  onPort(op: PortOp, port: number): void {
    this.calls.mustOnPort(this.current, op, port)
  }

  /** Is a vCPU's evtchn_upcall_pending set? */
  upcallPending(vcpu: number): boolean {
    return this.platform.memory.data.getUint8(this.#infoGpas[vcpu]! + UPCALL_PENDING) !== 0
  }

  /** The guest's grant table, after GNTTABOP_setup_table. @throws XenError */
  setupGrants(count: number): GuestGrants {
    const [list] = this.frames.allocate(1) ?? []
    if (list === undefined) throw new XenError('GuestKernel.setupGrants', Errno.ENOMEM, 'the guest has no free frame')
    try {
      const gfns = grantFrames(this.platform, this.calls, list, count)
      const taken = gfns.find((gfn) => this.frames.covers(gfn))
      if (taken !== undefined)
        throw new XenError(
          'GuestKernel.setupGrants',
          Errno.EINVAL,
          `frame ${taken} of the table is one that the guest uses freely: boot it with firstFreeGfn above the table`,
        )
      return new GuestGrants(this.platform.memory, gfns)
    } finally {
      this.frames.release([list])
    }
  }

  /** Guest-physical address of a vCPU's scan buffer. */
  scanBuffer(vcpu: number): number {
    return this.#outGfns[vcpu]! * PAGE_SIZE
  }
}
