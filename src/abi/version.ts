/** HYPERVISOR_xen_version: commands, features, and the version that this library says it is (xen/include/public/version.h). */

/** xen_version commands. */
export const XENVER = Object.freeze({ version: 0, extraversion: 1, get_features: 6 } as const)
/** Bit numbers of the features that bear on events (xen/include/public/features.h). */
export const XENFEAT = Object.freeze({ hvm_callback_vector: 8, hvm_safe_pvclock: 9, hvm_pirqs: 10 } as const)
/** Xen 4.17, whose event channels these are. */
export const XEN_VERSION = Object.freeze({ major: 4, minor: 17 } as const)
/** Bytes of xen_extraversion_t, and the text in it. */
export const XEN_EXTRAVERSION = Object.freeze({ size: 16, text: '.evtchn' } as const)
/** struct xen_feature_info: index of a feature map, and the map. */
export const XEN_FEATURE_INFO = Object.freeze({ size: 8, index: 0, map: 4 } as const)
