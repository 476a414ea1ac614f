/** What the rig does to both daemons, step by step. */

import { typeName, XS } from '../../../src/xenstore/index.js'

/** A request of one client. */
export interface RequestStep {
  readonly kind: 'request'
  readonly who: string
  readonly type: number
  /** One character per byte. */
  readonly payload: string
  /** A transaction by the label of its start, or an id as it is. */
  readonly tx?: string | number
  /** Names the transaction that this request starts. */
  readonly label?: string
}

/** One step of a sequence. */
export type Step =
  | RequestStep
  /** A domain changes its state; `virq`: and the daemon is told. */
  | { readonly kind: 'state'; readonly domid: number; readonly state: number; readonly virq: boolean }
  /** A guest stops or resumes to fetch what is sent to it. */
  | { readonly kind: 'stall' | 'drain'; readonly who: string }
  /** Time goes by. */
  | { readonly kind: 'wait'; readonly ms: number }
  /** A socket is closed and opened again. */
  | { readonly kind: 'reopen'; readonly who: string }

/** A request without a transaction. */
export function request(who: string, type: keyof typeof XS, payload: string): RequestStep {
  return { kind: 'request', who, type: XS[type], payload }
}

function shown(text: string): string {
  const printable = JSON.stringify(text.replaceAll('\0', '|'))
  return printable.length > 120 ? `${printable.slice(0, 60)}… (${text.length} bytes)` : printable
}

/** A step on one line. */
export function describeStep(step: Step): string {
  if (step.kind !== 'request') return JSON.stringify(step)
  const inside = step.tx === undefined ? '' : ` in ${step.tx}`
  return `${step.who}${inside}: ${typeName(step.type)} ${shown(step.payload)}${step.label ? ` → ${step.label}` : ''}`
}

export { shown }
