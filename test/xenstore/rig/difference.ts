/** The first message in which two daemons differ, and how it is told. */

import { typeName, XS } from '../../../src/xenstore/index.js'
import { describeStep, type Step, shown } from './operations.js'
import type { Message } from './side.js'

/** The first message in which the two differ. */
export interface Difference {
  /** Index of the step after which it was seen. */
  readonly at: number
  readonly who: string
  /** The request that the message replies to. */
  readonly step: Step | undefined
  readonly real: Message | string | undefined
  readonly ours: Message | string | undefined
  /** Equal for differences of one kind. */
  readonly kind: string
}

/** What a message says, in a word. */
export function outcome(message: Message | string | undefined): string {
  if (message === undefined || typeof message === 'string') return message ?? 'nothing'
  if (message.type === XS.ERROR) return message.body.slice(0, -1)
  return message.type === XS.WATCH_EVENT ? 'an event' : 'a reply'
}

function text(message: Message | string | undefined): string {
  if (message === undefined || typeof message === 'string') return message ?? 'nothing'
  return `${typeName(message.type)} ${message.reqId} ${message.txId} ${shown(message.body)}`
}

/** A difference in words, with the steps that lead to it. */
export function describeDifference(difference: Difference, steps: readonly Step[]): string {
  const { who, real, ours, kind } = difference
  const lines = steps.map((step, i) => `  ${i + 1}. ${describeStep(step)}`)
  return `${kind}\n${lines.join('\n')}\n  ${who} got\n    real: ${text(real)}\n    ours: ${text(ours)}`
}
