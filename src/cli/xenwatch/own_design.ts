/** A design from a file of the user's: `--design ./mine.mjs`, a module whose default export makes a delivery, or is one. */

import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Delivery, DeliveryHost, Design, DesignMaker } from '../../dom0/index.js'
import { DESIGNS } from '../../dom0/index.js'
import { CheckError } from '../errors.js'

const isDesign = (name: string): name is Design => DESIGNS.some((each) => each === name)

/** A design by its name or its file. @throws CheckError if the module cannot be loaded or exports no design */
export async function loadDesign(program: string, name: string): Promise<Design | DesignMaker> {
  if (isDesign(name)) return name
  let made: unknown
  try {
    made = (await import(pathToFileURL(resolve(name)).href)).default
  } catch (error) {
    throw new CheckError(`${program}: --design ${name} cannot be loaded: ${(error as Error).message}`)
  }
  if (typeof made !== 'function')
    throw new CheckError(`${program}: --design ${name}: its default export must be a class or a function of a design`)
  // Only `new` can call a class.
  if (!/^class\b/.test(Function.prototype.toString.call(made))) return made as DesignMaker
  const Own = made as new (host: DeliveryHost) => Delivery
  return (host) => new Own(host)
}
