/**
 * libxl's error lines, with the source positions of the report of April 2018 (Xen 4.11-unstable); `domcreate_attach_devices`
 * and `initiate_domain_create` are not in that report and stand without a line.
 */

/** Where each message comes from. */
const PLACES = {
  device_backend_callback: 'libxl_device.c:1080',
  initiate_domain_create: 'libxl_create.c',
  domcreate_launch_dm: 'libxl_create.c:1278',
  domcreate_attach_devices: 'libxl_create.c',
  devices_destroy_cb: 'libxl_domain.c:1073',
  libxl__destroy_domid: 'libxl_domain.c:1000',
  domain_destroy_callback: 'libxl_domain.c:959',
  domain_destroy_cb: 'libxl_domain.c:886',
} as const

/** A function of libxl that reports errors. */
export type LibxlFunction = keyof typeof PLACES

/** One error. */
export interface LibxlError {
  /** Simulated time in ns. */
  readonly ns: number
  readonly fn: LibxlFunction
  readonly domid: number
  readonly text: string
  /** The line as `xl` prints it. */
  readonly line: string
}

/** Builds an error. The text follows the colon without a space, as libxl prints it. */
export function libxlError(ns: number, fn: LibxlFunction, domid: number, text: string): LibxlError {
  return { ns, fn, domid, text, line: `libxl: error: ${PLACES[fn]}:${fn}: Domain ${domid}:${text}` }
}
