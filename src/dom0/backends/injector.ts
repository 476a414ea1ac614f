/**
 * Stalls on purpose: takes one packet, one block request or one persistent page, and gives it back when told
 * (XW-inj-1 to XW-inj-6). The two controls `vifname` and `eavesdrop` are those of the patch that reproduced the first stall.
 */

import type { Bio, LowerDevices, Skb } from './lower.js'

/** What is held: one of the three scenarios of the RFC. */
export type StallKind = 'netback' | 'blkback' | 'grant'
/** All of them. */
export const STALL_KINDS = ['netback', 'blkback', 'grant'] as const

/** The injector of a host. */
export class StallInjector {
  readonly #log: string[] = []
  readonly #onPageFree: () => void
  #vifname = ''
  #armed: StallKind | undefined
  #dev = ''
  #held: (() => void) | undefined

  /** `onPageFree`: a page has lost a user, so who waits for that looks again. */
  constructor(lower: LowerDevices, onPageFree: () => void) {
    this.#onPageFree = onPageFree
    lower.intercept({
      packet: (skb) => this.#packet(skb),
      io: (bio) => this.#io(bio),
      page: (bio) => this.#page(bio),
    })
  }

  /** What it did, as the kernel log would show it. */
  get log(): readonly string[] {
    return [...this.#log]
  }

  /** `echo NAME > vifname`: a trailing newline is dropped, and the name is compared exactly (XW-inj-6). */
  set vifname(text: string) {
    this.#vifname = text.replace(/\n$/, '')
  }
  get vifname(): string {
    return this.#vifname
  }

  /** `echo 1 > eavesdrop` arms, `echo 0 > eavesdrop` releases. */
  set eavesdrop(text: string) {
    if (text.trim() === '1') this.arm('netback', this.#vifname)
    else this.release()
  }

  /** Takes the next fitting thing of a device: `vif1.0`, or `1.xvda`. */
  arm(kind: StallKind, dev: string): void {
    this.#armed = kind
    this.#dev = dev
  }

  /** True while something is held. */
  get holding(): boolean {
    return this.#held !== undefined
  }

  /** Gives back what is held, and is no longer armed (XW-inj-4). */
  release(): void {
    this.#armed = undefined
    const held = this.#held
    this.#held = undefined
    held?.()
  }

  #take(kind: StallKind, dev: string, give: () => void, line: string): boolean {
    if (this.#armed !== kind || this.#dev !== dev) return false
    // One, and no more (XW-inj-2).
    this.#armed = undefined
    this.#held = give
    this.#log.push(line)
    return true
  }

  #packet(skb: Skb): boolean {
    const { dev, zerocopy, gsoSize, frags } = skb
    if (!zerocopy || !gsoSize || !frags.length || !frags.every((frag) => frag.mapped)) return false
    const which = frags.map((frag) => `domid=${frag.domid} gref=${frag.gref}`).join(', ')
    return this.#take('netback', dev, () => skb.free(false), `${dev}: packet intercepted: ${which}`)
  }

  #io(bio: Bio): boolean {
    return this.#take('blkback', bio.dev, () => bio.complete(), `${bio.dev}: request held: gref=${bio.page.gref}`)
  }

  #page(bio: Bio): boolean {
    const { dev, page } = bio
    const give = () => {
      page.release()
      this.#onPageFree()
    }
    if (!this.#take('grant', dev, give, `${dev}: page held: domid=${page.domid} gref=${page.gref}`)) return false
    page.hold()
    return true
  }
}
