#!/bin/sh
# Compiles the C guest: guests/nlevel/build.sh [bits [output]], default 64 and build/guests/nlevel-64.wasm.
# Needs clang and wasm-ld (Debian: clang, lld).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
clang=${CLANG:-clang}
bits=${1:-64}
out=${2:-$here/../../build/guests/nlevel-$bits.wasm}
mkdir -p "$(dirname "$out")"

# Frame 0 is for null pointers and frame 1 is shared_info: data and stack begin at frame 2. 2 MiB, 512 frames.
layout='-Wl,--global-base=8192 -Wl,-z,stack-size=16384 -Wl,--initial-memory=2097152 -Wl,--max-memory=2097152'
linker=$("$clang" --target=wasm32 -print-prog-name=wasm-ld)
if "$linker" --help | grep -q no-stack-first; then layout="$layout -Wl,--no-stack-first"; fi

# shellcheck disable=SC2086
exec "$clang" --target=wasm32 -std=c11 -O2 -ffreestanding -fno-builtin -nostdlib -DGUEST_BITS="$bits" \
  -Wall -Wextra -Werror -I "$here/../include" \
  -Wl,--no-entry -Wl,--import-memory $layout -Wl,--strip-debug \
  -o "$out" "$here/tree.c" "$here/guest.c"
