/** What the differential runs look at: a shape of sequences each, and quotas equal on both sides. */

import type { Shape } from './generate.js'
import type { RigOptions } from './rig.js'

/** One kind of run. */
export interface Mode {
  readonly shape: Shape
  readonly rig: RigOptions
}

const C: RigOptions = {}
const FEW = { nodes: 12, watches: 4, transactions: 2, nodeSize: 120, permissions: 2, transactionNodes: 12 }
const SMALL: RigOptions = {
  args: ['-E', '12', '-W', '4', '-t', '2', '-S', '120', '-A', '2', '-Q', 'transaction-nodes=12'],
  ours: { quotas: FEW },
}
const GUESTS = ['s0', 's1', 's2', 'g1', 'g1', 'g1', 'g2', 'g2', 'g3']

/** Against the C daemon. */
export const MODES: Readonly<Record<string, Mode>> = {
  plain: { shape: { transactions: 'none', odd: 0 }, rig: C },
  odd: { shape: { transactions: 'none', odd: 0.3, control: true }, rig: C },
  big: { shape: { odd: 0.1, big: true }, rig: C },
  transactions: { shape: { odd: 0.01, transactions: 'many', length: 200 }, rig: C },
  life: { shape: { odd: 0.01, life: 0.12 }, rig: C },
  targets: { shape: { odd: 0.01, targets: true }, rig: { ...C, fresh: true } },
  stalled: { shape: { odd: 0, stall: 0.06, who: ['s0', 's1', 's2', 'g1', 'g3', 'g3'] }, rig: C },
  quotas: { shape: { odd: 0.02, big: true, who: GUESTS }, rig: SMALL },
  everything: { shape: { odd: 0.03, life: 0.04, big: true, control: true, length: 250, who: GUESTS }, rig: SMALL },
}
