/** HYPERVISOR_physdev_op: commands and flags (xen/include/public/physdev.h). */

/** physdev_op commands. */
export const PHYSDEVOP = Object.freeze({
  irq_status_query: 5,
  eoi: 12,
  pirq_eoi_gmfn_v1: 17,
  pirq_eoi_gmfn_v2: 28,
} as const)
export const XENIRQSTAT_needs_eoi = 1
export const XENIRQSTAT_shared = 2

/** An HVM guest's GSIs below are edges (EC-irq-4). */
export const NR_ISA_IRQS = 16
