/** A vCPU's list of PIRQ ports, linked both ways by port numbers (EC-pirq-9). */

import type { Domain } from './domain.js'

/** Puts a PIRQ port at the head of a vCPU's list (EC-pirq-9). */
export function linkPirqPort(domain: Domain, port: number, vcpuId: number): void {
  const vcpu = domain.vcpus[vcpuId]!
  const next = vcpu.firstPirqPort
  domain.ports.setPrevPirqPort(port, 0)
  domain.ports.setNextPirqPort(port, next)
  if (next) domain.ports.setPrevPirqPort(next, port)
  vcpu.firstPirqPort = port
}

/** Takes a PIRQ port off the list of its notify vCPU (EC-close-6, EC-bug-9). */
export function unlinkPirqPort(domain: Domain, port: number): void {
  const { ports } = domain
  const next = ports.nextPirqPort(port)
  const prev = ports.prevPirqPort(port)
  if (next) ports.setPrevPirqPort(next, prev)
  if (prev) ports.setNextPirqPort(prev, next)
  else domain.vcpus[ports.notifyVcpu(port)]!.firstPirqPort = next
}

/** Raises a bound PIRQ on its notify vCPU; it then awaits an EOI (EC-irq-1). */
export function deliverPirq(domain: Domain, irq: number): void {
  const pirq = domain.pirqs.find(irq)
  if (!pirq?.port) return
  pirq.inFlight = true
  domain.setPending(pirq.port)
}
