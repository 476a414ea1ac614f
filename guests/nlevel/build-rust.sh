#!/bin/sh
# Compiles the Rust guest: guests/nlevel/build-rust.sh [output], default build/guests/nlevel-rust.wasm.
# Needs rustc with its library for wasm32, and wasm-ld (Debian: rustc, libstd-rust-dev-wasm32, lld).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/../../build/guests/nlevel-rust.wasm}
mkdir -p "$(dirname "$out")"

# The first rustc that has the library: Debian's, where another one without it comes first.
for rustc in ${RUSTC:-rustc /usr/bin/rustc}; do
  if [ -d "$("$rustc" --print sysroot 2>/dev/null)/lib/rustlib/wasm32-unknown-unknown" ]; then break; fi
done

# Frame 0 is for null pointers and frame 1 is shared_info: data and stack begin at frame 2. 2 MiB, 512 frames.
args='--import-memory --global-base=8192 -zstack-size=65536 --initial-memory=2097152 --max-memory=2097152'
if wasm-ld --help | grep -q no-stack-first; then args="$args --no-stack-first"; fi
exec "$rustc" --edition 2021 --target wasm32-unknown-unknown --crate-type cdylib --crate-name guest \
  -C opt-level=2 -C panic=abort -C strip=symbols -C linker=wasm-ld -C link-args="$args" -o "$out" "$here/guest.rs"
