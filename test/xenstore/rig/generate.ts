/**
 * Sequences of requests, from a seed. What is never made, for the real daemons crash on it or answer what nobody could
 * rely on, is named in `docs/known-differences.md`: malformed payloads, SET_PERMS of an `@` name by a guest or of another `@`
 * name, SET_TARGET beside RELEASE or a death, half a request before an INTRODUCE, a root that a guest owns.
 */

import { PAYLOAD_MAX, XS, type XsTypeName } from '../../../src/xenstore/index.js'
import { type RequestStep, request, type Step } from './operations.js'
import { Random } from './random.js'

/** What a mode asks for. */
export interface Shape {
  readonly length?: number
  /** Who makes requests, as often as it is listed. */
  readonly who?: readonly string[]
  /** Probability of an odd path, permission list or token. */
  readonly odd?: number
  /** Long values. */
  readonly big?: boolean
  readonly transactions?: 'none' | 'some' | 'many'
  /** Probability of a step in the life of a domain. */
  readonly life?: number
  /** SET_TARGET is used. */
  readonly targets?: boolean
  /** Probability of a guest that stalls or resumes, and of time that goes by. */
  readonly stall?: number
  /** CONTROL with all its arguments. */
  readonly control?: boolean
}

const WHO = ['s0', 's0', 's1', 's2', 'g1', 'g1', 'g2', 'g3']
const NAMES = ['a', 'a', 'b', 'b', 'c', 'd', 'e']
const SPECIALS = ['@introduceDomain', '@releaseDomain']
const LETTERS = ['n', 'r', 'w', 'b']
const NUMBERS = '|x|1x| 1|-1|+1|0x1|99999999999|4294967297|65537|2147483648|32752|1 '.split('|')
const VALUES = ['', 'v', '1', 'value', '\0', 'a\0b', 'x\0']
const SIZES = [100, 500, 1900, 2016]
const BIG_SIZES = [100, 500, 1000, 1900, 1980, 2000, 2014, 2015, 2016, 2017, 2048, 4000, 4080, 4085, 4090]
const ODD_PERMS = [
  ...[
    '',
    '\0',
    'x1\0',
    'n\0',
    'N1\0',
    'n1 \0',
    'n 1\0',
    'n+1\0',
    'n01\0',
    'n0x1\0',
    'n-1\0',
    'n65536\0',
    'n1\0r70000\0',
  ],
  ...['n1\0r99999999999\0', 'n1\0r32752\0', 'n1\0r-1\0', 'n1\0\0', 'rw1\0', 'n1x\0', 'n1\0r0x2\0', 'n1\0r010\0'],
]
const ODD_PATHS = [
  ...[
    '',
    '/',
    '//',
    '/a/',
    'a/',
    '@',
    '@foo',
    ...SPECIALS,
    '@releaseDomain/1',
    '/@',
    '/a/@b',
    'a b',
    '/a b',
    '/ü',
    '\x80',
  ],
  ...['.', '..', '/a/..', '-', '_', '/-', '/a//b', '/local/domain/', '/local/domain', '/local/domain/1/', '/tool'],
  ...['/local/domain/0', '/tool/xenstored', '/local', '/a\n', '/a~', '@a b', '@a//', '@a/', 'local/domain/1'],
  ...['/LOCAL', '/A', '/aa', '/a-', '/local/domain/01/a', '/local/domain/-1/a', '/local/domain/123456/a'],
]
const CONTROLS = [
  ...[
    'check',
    'check|x',
    'log',
    'log|on',
    'log|off',
    'log|x',
    'logfile',
    'memreport|a|b',
    'print',
    'print|x',
    'print|x|y',
  ],
  ...['quota', 'quota|9', 'quota|set', 'quota|set|nodes', 'quota|set|bogus|1', 'quota|set|nodes|x'],
  ...['quota|max|x', 'quota-soft', 'quota-soft|1', 'quota-soft|set|bogus|1', 'quota-soft|set|memory', 'help', 'help|x'],
  ...['nope', '', 'CHECK', 'live-update|x', 'live-update|-c'],
]

/** Makes one sequence. */
class Generator {
  readonly #random: Random
  readonly #shape: Shape
  readonly #open = new Map<string, string[]>()
  readonly steps: Step[] = []
  #labels = 0

  constructor(seed: number, shape: Shape) {
    this.#random = new Random(seed)
    this.#shape = shape
    for (const domid of [1, 2, 3]) {
      const home = `/local/domain/${domid}`
      this.steps.push(request('s0', 'INTRODUCE', `${domid}\0${100 + domid}\0${domid + 7}\0`))
      this.steps.push(request('s0', 'MKDIR', `${home}\0`), request('s0', 'SET_PERMS', `${home}\0n${domid}\0`))
    }
  }

  run(): Step[] {
    const { length = 120, who = WHO, stall = 0, life = 0 } = this.#shape
    for (let i = 0; i < length; i++) {
      const r = this.#random
      if (r.chance(life)) this.#life()
      else if (r.chance(stall)) this.#stall()
      else if (this.#shape.targets && r.chance(0.02))
        this.steps.push(request('s0', 'SET_TARGET', `${r.of([1, 2, 3, 4])}\0${r.of([0, 1, 2, 3, 4])}\0`))
      else if (r.chance(0.006)) this.#reopen()
      else this.#request(r.of(who))
    }
    return this.steps
  }

  #reopen(): void {
    this.steps.push({ kind: 'reopen', who: 's2' })
    this.#open.delete('s2')
  }

  #stall(): void {
    const r = this.#random
    const who = r.of(['g1', 'g2'])
    const step = r.below(20)
    if (step < 10) this.steps.push({ kind: 'stall', who })
    else if (step < 17) this.steps.push({ kind: 'drain', who })
    else this.steps.push({ kind: 'wait', ms: r.of([5_000, 10_000, 19_000, 20_000, 21_000]) })
  }

  #life(): void {
    const r = this.#random
    const domid = r.of([1, 2, 3, 4, 5])
    const usually = (other: string[]) => (r.chance(0.9) ? String(domid) : r.of(other))
    const what = r.below(12)
    const s0 = (type: XsTypeName, payload: string) => this.steps.push(request('s0', type, payload))
    if (what < 2) this.steps.push({ kind: 'state', domid, state: r.of([0, 1, 1, 2, 3, 4, 6]), virq: r.chance(0.8) })
    else if (what < 5)
      s0(
        'INTRODUCE',
        `${usually(['7', '-1', '1x'])}\0${101}\0${r.chance(0.9) ? domid + 7 : r.of(['0', 'x', '', '5', '1x'])}\0`,
      )
    else if (what < 7) s0('RELEASE', `${usually(['0', '7', 'x'])}\0`)
    else if (what < 8) s0('RESUME', `${usually(['0', '7', 'x'])}\0`)
    else if (what < 10) s0('IS_DOMAIN_INTRODUCED', `${usually(['0', '7', 'x'])}\0`)
    else {
      const type = r.of(['WATCH', 'UNWATCH', 'SET_PERMS'] as const)
      const perms = ['n0\0r1\0', 'n1\0', 'r0\0', 'n0\0r1\0r2\0', 'b2\0n1\0']
      const payload = `${r.of(SPECIALS)}\0${type === 'SET_PERMS' ? r.of(perms) : 't\0'}`
      this.steps.push(request(r.of(['s0', 's1']), type, payload))
    }
  }

  #transactionOf(who: string): string | number | undefined {
    const { transactions = 'some' } = this.#shape
    const open = this.#open.get(who)
    if (transactions !== 'none' && open?.length && this.#random.chance(transactions === 'many' ? 0.85 : 0.5))
      return this.#random.of(open)
    return this.#random.chance(0.005) ? this.#random.of([1, 2, 7, 77, 0xffffffff]) : undefined
  }

  #request(who: string): void {
    const tx = this.#transactionOf(who)
    const push = (type: number, payload: string, label?: string) => {
      // A header that announces more ends the connection: nothing to compare behind it.
      if (payload.length > PAYLOAD_MAX) return
      const step: RequestStep = { kind: 'request', who, type, payload }
      this.steps.push({ ...step, ...(tx === undefined ? {} : { tx }), ...(label ? { label } : {}) })
    }
    const r = this.#random
    const p = () => `${this.#path(who)}\0`
    const dice = r.below(1000)
    if (dice < 200) push(XS.WRITE, p() + this.#value())
    else if (dice < 280) push(XS.MKDIR, p())
    else if (dice < 380) push(XS.RM, p())
    else if (dice < 450) push(XS.READ, p())
    else if (dice < 510) push(XS.DIRECTORY, p())
    else if (dice < 530) push(XS.DIRECTORY_PART, `${p()}${this.#number(['0', '0', '1', '2', '3', '4', '10'])}\0`)
    else if (dice < 560) push(XS.GET_PERMS, p())
    else if (dice < 640) this.#setPerms(who, push)
    else if (dice < 730) push(XS.WATCH, `${r.chance(0.06) ? r.of(SPECIALS) : this.#path(who)}\0${this.#token()}\0`)
    else if (dice < 760) push(XS.UNWATCH, `${p()}${this.#token()}\0`)
    else if (dice < 950) this.#transaction(who, tx, push)
    else this.#rare(who, dice, push)
  }

  #setPerms(who: string, push: (type: number, payload: string) => void): void {
    const path = this.#path(who)
    let perms = this.#perms(who)
    // A root that a guest owns goes with the guest; `/tool` is cleaned up by hand between sequences.
    if (path === '/' || path.startsWith('/tool')) perms = `n0\0${perms}`
    if (path.startsWith('@') && (who.startsWith('g') || !SPECIALS.includes(path))) return
    if (perms.endsWith('\0')) push(XS.SET_PERMS, `${path}\0${perms}`)
  }

  #transaction(who: string, tx: unknown, push: (type: number, payload: string, label?: string) => void): void {
    if (this.#shape.transactions === 'none') return
    const open = this.#open.get(who) ?? []
    this.#open.set(who, open)
    if (open.length && this.#random.chance(0.5)) {
      const label = this.#random.of(open)
      this.steps.push({ ...request(who, 'TRANSACTION_END', this.#random.of(['T\0', 'T\0', 'T\0', 'F\0'])), tx: label })
      open.splice(open.indexOf(label), 1)
      return
    }
    const label = `T${this.#labels++}`
    push(XS.TRANSACTION_START, '\0', label)
    if (tx === undefined) open.push(label)
  }

  #rare(who: string, dice: number, push: (type: number, payload: string) => void): void {
    const r = this.#random
    if (dice < 960) push(XS.TRANSACTION_END, r.of(['T\0', 'F\0', 'X\0', 't\0', '\0', 'TT\0', 'T\0T\0']))
    else if (dice < 966) {
      push(XS.RESET_WATCHES, '\0')
      this.#open.delete(who)
    } else if (dice < 974) push(XS.GET_DOMAIN_PATH, `${this.#number(['0', '1', '5'])}\0`)
    else if (dice < 980) push(XS.IS_DOMAIN_INTRODUCED, `${this.#number(['0', '1', '2', '3', '4', '9', '32752'])}\0`)
    else if (dice < 985) push(r.of([15, 16, 20, 23, 24, 99, 0xffffffff]), r.of(['\0', 'x\0', '']))
    else if (dice < 991) this.#control(push)
    else if (dice < 995) {
      // A target must not be released, by whatever spelling of its number.
      const number = this.#shape.targets ? r.of(['0', '9', 'x']) : this.#number(['0', '9'])
      if (who === 's0') push(r.of([XS.RELEASE, XS.RESUME]), `${number}\0`)
    } else push(XS.WATCH, r.of(['a\0t\0x\0', 'a\0', '\0t\0', '\0\0', 'a\0\0']))
  }

  #control(push: (type: number, payload: string) => void): void {
    const usual = ['check', 'help', 'nope', '', 'print|x', 'log|on', 'log|off']
    push(XS.CONTROL, `${this.#random.of(this.#shape.control ? CONTROLS : usual).replaceAll('|', '\0')}\0`)
  }

  // --- parts of payloads ---------------------------------------------------------------------------------------------

  #long(length: number): string {
    let text = ''
    while (text.length < length) text += this.#random.of(['x', 'xy', 'x/', 'q-_@/'])
    text = text.slice(0, length)
    return text.endsWith('/') ? `${text.slice(0, -1)}z` : text
  }

  #oddPath(): string {
    const r = this.#random
    if (r.chance(0.85)) return r.of(ODD_PATHS)
    const lengths = [2046, 2047, 2048, 2049]
    const prefix = r.of(['/', '/local/domain/1/', '', '@'])
    if (prefix === '') return this.#long(r.of([2030, 2032, ...lengths]))
    return prefix + this.#long(r.of(prefix === '/' ? [...lengths, 3070, 3071, 3072] : lengths))
  }

  #path(who: string): string {
    const r = this.#random
    if (r.chance(this.#shape.odd ?? 0.04)) return this.#oddPath()
    const tail = r.list(r.of([1, 1, 2, 2, 3, 4]), () => r.of(NAMES)).join('/')
    if (r.chance(who.startsWith('g') ? 0.5 : 0.25)) return tail
    if (r.chance(0.5)) return `/local/domain/${r.of([0, 1, 1, 2, 3])}${r.chance(0.9) ? `/${tail}` : ''}`
    return r.chance(0.03) ? '/' : `/${tail}`
  }

  #value(): string {
    const r = this.#random
    const kind = r.below(this.#shape.big ? 8 : 30)
    if (kind === 0) return 'v'.repeat(r.of(this.#shape.big ? BIG_SIZES : SIZES))
    if (kind === 1) return r.list(r.below(20), () => String.fromCharCode(r.below(256))).join('')
    return r.of(VALUES)
  }

  #perms(who: string): string {
    const r = this.#random
    if (r.chance(this.#shape.odd ?? 0.03)) return r.of(ODD_PERMS)
    const entry = () => r.of(LETTERS) + r.of([0, 0, 1, 1, 2, 2, 3, 4, 5, 9])
    const owner = who.startsWith('g') && r.chance(0.8) ? r.of(LETTERS) + who.slice(1) : entry()
    return [owner, ...r.list(r.of([0, 0, 1, 1, 2, 3, 4, 5, 6]), entry)].map((each) => `${each}\0`).join('')
  }

  #token(): string {
    const r = this.#random
    if (!r.chance(0.03)) return r.of(['t', 'u', 'v', 'w'])
    return r.of(['', ' ', '\xff', 't'.repeat(r.of([2000, 2040, 3000, 4070, 4080, 4085, 4089]))])
  }

  #number(usual: readonly string[]): string {
    return this.#random.chance(0.15) ? this.#random.of(NUMBERS) : this.#random.of(usual)
  }
}

/** The sequence of a seed. */
export function generate(seed: number, shape: Shape): Step[] {
  return new Generator(seed, shape).run()
}
