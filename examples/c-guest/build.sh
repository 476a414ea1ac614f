#!/bin/sh
# Compiles the guest: examples/c-guest/build.sh [output], default build/c-guest.wasm.
# Needs clang, wasm-ld (package lld) and Xen's public headers (package libxen-dev).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
clang=${CLANG:-clang}
out=${1:-$here/../../build/c-guest.wasm}
mkdir -p "$(dirname "$out")"

# Data, then the stack, from frame 2 on: frame 0 is for null pointers, frame 1 is shared_info. Newer linkers put the
# stack first, which would be below.
layout='-Wl,--global-base=8192 -Wl,-z,stack-size=16384 -Wl,--initial-memory=131072 -Wl,--max-memory=131072'
linker=$("$clang" --target=wasm32 -print-prog-name=wasm-ld)
if "$linker" --help | grep -q no-stack-first; then layout="$layout -Wl,--no-stack-first"; fi

# -idirafter: only <xen/…> comes from the system, <stdint.h> and the like are the compiler's own.
# shellcheck disable=SC2086
exec "$clang" --target=wasm32 -std=c11 -O2 -ffreestanding -fno-builtin -nostdlib \
  -Wall -Wextra -Werror -idirafter "${XEN_INCLUDE:-/usr/include}" \
  -Wl,--no-entry -Wl,--import-memory $layout -Wl,--strip-debug \
  -o "$out" "$here/events.c" "$here/guest.c" "$here/hostile.c"
