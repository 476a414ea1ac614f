/** What the toolstack asks of the hypervisor and of the host: libxenctrl to libxl. */

/** A domain as `xl list` needs it. */
export interface DomainInfo {
  readonly domid: number
  readonly memoryMiB: number
  readonly vcpus: number
  readonly running: boolean
  readonly blocked: boolean
  readonly paused: boolean
  readonly shutdown: boolean
  readonly dying: boolean
}

/** Control over domains. */
export interface DomainControl {
  /** Makes an empty, paused domain and returns its number. */
  create(): number
  /** Builds it: the store's page and the port that it keeps for the daemon. */
  build(domid: number, memoryMiB: number, vcpus: number): { storeGfn: number; storePort: number }
  /** Lets it run for the first time, or again. */
  unpause(domid: number): void
  pause(domid: number): void
  /** Kills it. It stays, dying, as long as its pages are mapped. */
  destroy(domid: number): void
  info(domid: number): DomainInfo | undefined
  list(): DomainInfo[]
}
