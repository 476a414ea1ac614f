/** States of a device's ends, as decimal text in a node `state` (XS-tree-3). */

export const XenbusState = {
  Unknown: 0,
  Initialising: 1,
  InitWait: 2,
  Initialised: 3,
  Connected: 4,
  Closing: 5,
  Closed: 6,
  Reconfiguring: 7,
  Reconfigured: 8,
} as const

const NAMES = new Map<number, string>(Object.entries(XenbusState).map(([name, value]) => [value, name]))

/** Name of a state, for people. */
export function stateName(state: number): string {
  return NAMES.get(state) ?? `state ${state}`
}

/** A node's value as a state: a missing node reads as 0, and so does nonsense. */
export function parseState(value: string | undefined): number {
  return value !== undefined && /^[0-9]{1,2}$/.test(value) ? Number(value) : XenbusState.Unknown
}
