/** What `xl create` reads from a file: a domain's name and devices. */

import { ParameterError, text } from '../../check.js'

/** A disk. */
export interface DiskConfig {
  /** `xvda`. */
  readonly dev: string
  readonly params?: string
}

/** A network interface. */
export interface NicConfig {
  readonly mac?: string
  readonly bridge?: string
}

/** A guest. */
export interface DomainConfig {
  readonly name: string
  /** Default: made of the name. */
  readonly uuid?: string
  readonly memoryMiB?: number
  readonly vcpus?: number
  readonly disks?: readonly DiskConfig[]
  readonly nics?: readonly NicConfig[]
  /** A pvcalls device; there is at most one. Default false. */
  readonly pvcalls?: boolean
}

/** A guest's configuration: one disk, one interface. @throws ParameterError if `name` is no text. */
export function guestConfig(name: string): DomainConfig {
  text('guestConfig', 'name', name)
  return { name, disks: [{ dev: 'xvda' }], nics: [{}] }
}

/** Kinds of devices: those that have a backend here, and those of third parties' drivers. */
export type DeviceKind = 'vbd' | 'vif' | 'pvcalls' | (string & {})

/** A device in the store: which entries, in which order (XW-tool-6). */
export interface DeviceSpec {
  readonly kind: DeviceKind
  /** Number of the device: 51712 for xvda, 0 for the first vif. */
  readonly devid: number
  readonly back: readonly (readonly [string, string])[]
  readonly front: readonly (readonly [string, string])[]
}

const XVD_MAJOR = 202

/** Number of a disk: xvda is 51712, each further letter 16 more; undefined for names that are none. */
export function diskNumber(dev: string): number | undefined {
  const letter = /^xvd([a-p])$/.exec(dev)?.[1]
  return letter ? XVD_MAJOR * 256 + (letter.charCodeAt(0) - 97) * 16 : undefined
}

/** A disk's entries. @throws ParameterError for a name other than xvda to xvdp. */
export function diskSpec(domid: number, { dev, params }: DiskConfig): DeviceSpec {
  const devid = diskNumber(dev)
  if (devid === undefined) throw new ParameterError('diskSpec', 'dev', dev, 'xvda to xvdp')
  return {
    kind: 'vbd',
    devid,
    back: [
      ['frontend-id', String(domid)],
      ['online', '1'],
      ['removable', '0'],
      ['bootable', '1'],
      ['state', '1'],
      ['dev', dev],
      ['type', 'phy'],
      ['mode', 'w'],
      ['device-type', 'disk'],
      ['params', params ?? `/dev/vg0/guest-${dev}`],
      ['script', '/etc/xen/scripts/block'],
      ['discard-enable', '1'],
    ],
    front: [
      ['backend-id', '0'],
      ['state', '1'],
      ['virtual-device', String(devid)],
      ['device-type', 'disk'],
    ],
  }
}

/** A network interface's entries. */
export function nicSpec(domid: number, index: number, { mac, bridge }: NicConfig): DeviceSpec {
  const address = mac ?? `00:16:3e:00:${hex(domid & 0xff)}:${hex(index)}`
  return {
    kind: 'vif',
    devid: index,
    back: [
      ['frontend-id', String(domid)],
      ['online', '1'],
      ['state', '1'],
      ['script', '/etc/xen/scripts/vif-bridge'],
      ['mac', address],
      ['bridge', bridge ?? 'xenbr0'],
      ['handle', String(index)],
      ['type', 'vif'],
    ],
    front: [
      ['backend-id', '0'],
      ['state', '1'],
      ['handle', String(index)],
      ['mac', address],
    ],
  }
}

/** The entries of a domain's pvcalls device: their drivers write what both ends need. */
export const pvcallsSpec = (domid: number): DeviceSpec => bareSpec(domid, 'pvcalls')

/** A device with the entries that every device has, and no more. */
export function bareSpec(domid: number, kind: DeviceKind): DeviceSpec {
  return {
    kind,
    devid: 0,
    back: [
      ['frontend-id', String(domid)],
      ['online', '1'],
      ['state', '1'],
    ],
    front: [
      ['backend-id', '0'],
      ['state', '1'],
    ],
  }
}

const hex = (n: number): string => n.toString(16).padStart(2, '0')

/** A uuid that stands for a name, always the same. */
export function uuidOf(name: string): string {
  let text = ''
  for (let part = 0; part < 4; part++) {
    let hash = 0x811c9dc5 ^ part
    for (const char of name) hash = Math.imul(hash ^ char.codePointAt(0)!, 0x01000193) >>> 0
    text += hash.toString(16).padStart(8, '0')
  }
  return text.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}
