/** Which build of the host core a host gets: the plain one. Tests put true here and run over the one with atomics. */
export const SHARED_HOST: boolean = false
