/** Brings a real daemon, which lives through many sequences, back into the state in which each of them begins. */

import { encodeText, XS, type XsTypeName } from '../../../src/xenstore/index.js'
import type { RealSide } from './real_side.js'
import { DOMAINS } from './side.js'

/** Ends all domains of the real daemon and brings its tree into the first state. */
export async function clean(real: RealSide): Promise<void> {
  await real.openSocket('cleaner')
  const stream = real.stream('cleaner')
  const ask = async (...requests: (readonly [XsTypeName, string])[]) => {
    const wanted = stream.log.length + requests.length
    for (const [type, payload] of requests) await real.send('cleaner', encodeText(XS[type], 0, 0, payload))
    await real.until(() => stream.log.length >= wanted, 20_000)
    return stream.log.slice(-requests.length).map(({ body }) => body)
  }
  const own = (path: string) => ['SET_PERMS', `${path}\0n0\0`] as const
  // The root must not belong to a domain that ends now.
  await ask(own('/'), own('/tool'), own('/tool/xenstored'))
  for (let domid = 1; domid < DOMAINS; domid++) real.setState(domid, 0)
  await real.domainsChanged()
  await ask(['READ', '/\0'])
  const [root, tool] = (await ask(['DIRECTORY', '/\0'], ['DIRECTORY', '/tool\0'])).map((body) => body.split('\0'))
  const remove = [
    ...root!.filter((name) => name && name !== 'tool').map((name) => `/${name}`),
    ...tool!.filter((name) => name).map((name) => `/tool/${name}`),
  ]
  const blank = (path: string) => [['WRITE', `${path}\0`] as const, own(path)]
  await ask(
    ...remove.map((path) => ['RM', `${path}\0`] as const),
    ...blank('/'),
    ...blank('/tool'),
    ...blank('/tool/xenstored'),
    own('@introduceDomain'),
    own('@releaseDomain'),
  )
  real.close('cleaner')
}
