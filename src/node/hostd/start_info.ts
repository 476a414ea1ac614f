/** struct start_info of a PV guest, as libxc built it: where the store's and the console's rings are. */

import { PAGE_SIZE } from '../../abi/index.js'
import type { NativeDomain } from './native_domain.js'

/** What a PV kernel finds at boot. */
export interface StartInfo {
  /** Its own frame. */
  readonly gfn: number
  readonly pages: number
  readonly storeGfn: number
  readonly storePort: number
  readonly consoleGfn: number
  readonly consolePort: number
}

/** The magic begins the page; the kernel's image may hold the same text elsewhere. */
const MAGIC = 'xen-3.0-x86_64'
/** Byte offsets on x86-64. */
const AT = { nrPages: 32, sharedInfo: 40, storeMfn: 56, storePort: 64, consoleMfn: 72, consolePort: 80 } as const

/** Finds start_info in the frames that the toolstack populated; undefined: it built none. */
export function findStartInfo(domain: NativeDomain): StartInfo | undefined {
  const { frames } = domain.domain.memory
  for (let gfn = 0; gfn < domain.nextGfn; gfn++) {
    const page = Buffer.from(domain.page(gfn))
    if (page.toString('latin1', 0, MAGIC.length) !== MAGIC) continue
    const word = (at: number) => Number(page.readBigUInt64LE(at))
    const [storeGfn, consoleGfn] = [word(AT.storeMfn), word(AT.consoleMfn)]
    if (storeGfn >= frames || consoleGfn >= frames || word(AT.sharedInfo) % PAGE_SIZE) continue
    const [storePort, consolePort] = [page.readUInt32LE(AT.storePort), page.readUInt32LE(AT.consolePort)]
    return { gfn, pages: word(AT.nrPages), storeGfn, storePort, consoleGfn, consolePort }
  }
  return undefined
}
