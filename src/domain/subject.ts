/** What a policy knows of a domain: its number, its privilege, and whom it serves. */

/** A domain as a policy sees it. */
export interface Subject {
  readonly domid: number
  /** Control domain: may act on every domain. */
  readonly privileged: boolean
  /** The domain that this one serves as stub device model, if any. */
  readonly target?: Subject | undefined
}
