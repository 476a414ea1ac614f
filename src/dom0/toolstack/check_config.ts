/** Checks of a domain's configuration, before anything of the domain exists. */

import { flag, listOf, nested, options, ParameterError, type Table, text, within } from '../../check.js'
import { type DiskConfig, type DomainConfig, diskNumber, type NicConfig } from './config.js'

/** A disk's name that has a number. */
function disk(call: string, parameter: string, value: unknown): void {
  if (diskNumber(text(call, parameter, value)) === undefined)
    throw new ParameterError(call, parameter, value, 'xvda to xvdp')
}

const MAC = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i

function mac(call: string, parameter: string, value: unknown): void {
  if (!MAC.test(text(call, parameter, value)))
    throw new ParameterError(call, parameter, value, 'six bytes in hex, such as 00:16:3e:00:00:01')
}

/** A name is a node's value, and xl takes none that is empty. */
function name(call: string, parameter: string, value: unknown): void {
  if (text(call, parameter, value) === '') throw new ParameterError(call, parameter, value, 'a text that is not empty')
}

const DISK: Table<DiskConfig> = { dev: disk, params: text }
const NIC: Table<NicConfig> = { mac, bridge: text }

const TABLE: Table<DomainConfig> = {
  name,
  uuid: text,
  memoryMiB: within(1, 2 ** 31),
  vcpus: within(1, 2 ** 13),
  disks: listOf(nested(DISK), 'disks'),
  nics: listOf(nested(NIC), 'network interfaces'),
  pvcalls: flag,
}

/** The configuration as given. @throws ParameterError */
export function checkConfig(call: string, given: DomainConfig): DomainConfig {
  options(call, given, TABLE, 'config')
  name(call, 'name', given.name)
  given.disks?.forEach(({ dev }, i) => void disk(call, `disks[${i}].dev`, dev))
  return given
}
