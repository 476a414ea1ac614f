/** HYPERVISOR_xen_version: commands, features, and what this library says it is (xen/include/public/version.h, features.h). */

/** xen_version commands. */
export const XENVER = Object.freeze({
  version: 0,
  extraversion: 1,
  compile_info: 2,
  capabilities: 3,
  changeset: 4,
  platform_parameters: 5,
  get_features: 6,
  pagesize: 7,
  guest_handle: 8,
  commandline: 9,
  build_id: 10,
} as const)
/** Bit numbers of the features that this library has, and of two that bear on events and that it has not. */
export const XENFEAT = Object.freeze({
  writable_page_tables: 0,
  auto_translated_physmap: 2,
  hvm_callback_vector: 8,
  hvm_safe_pvclock: 9,
  hvm_pirqs: 10,
} as const)
/** Xen 4.17, whose event channels these are. */
export const XEN_VERSION = Object.freeze({ major: 4, minor: 17 } as const)
/** Texts that a guest can ask for, each in a field of fixed size: command, bytes, text. */
export const XEN_TEXTS = Object.freeze([
  Object.freeze({ cmd: XENVER.extraversion, size: 16, text: '.evtchn' }),
  Object.freeze({
    cmd: XENVER.capabilities,
    size: 1024,
    text: 'xen-3.0-x86_64 xen-3.0-x86_32p hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ',
  }),
  // Neither a changeset nor a command line: Xen has empty ones, too.
  Object.freeze({ cmd: XENVER.changeset, size: 64, text: '' }),
  Object.freeze({ cmd: XENVER.commandline, size: 1024, text: '' }),
] as const)
/** struct xen_compile_info: compiler[64], compile_by[16], compile_domain[32], compile_date[32]; and what is in the first. */
export const XEN_COMPILE_INFO = Object.freeze({ size: 144, compiler: 'evtchn' } as const)
/** xen_domain_handle_t: a UUID. */
export const XEN_DOMAIN_HANDLE = Object.freeze({ size: 16 } as const)
/** Where Xen begins in a PV guest's address space, by the guest's width. An HVM guest has none of it. */
export const XEN_VIRT_START = Object.freeze({ 64: 0xffff_8000_0000_0000n, 32: 0xf580_0000n } as const)
/** struct xen_feature_info: index of a feature map, and the map. */
export const XEN_FEATURE_INFO = Object.freeze({ size: 8, index: 0, map: 4 } as const)
