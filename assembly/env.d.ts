/** 1 in the build for shared memory, 0 in the other: set by `--use THREADS=…` in asconfig.json. For editors only; asc never reads this file. */
declare const THREADS: i32
/** 1 in the build that reports its accesses (trace.ts). */
declare const TRACE: i32
