#!/bin/sh
# Builds the tiny guests into build/guests: NAME.bz, which any loader of Linux starts. Needs gcc and binutils; no 32-bit libraries.
set -eu
cd "$(dirname "$0")"
out=../../build/guests
mkdir -p "$out"
flags='-m32 -O2 -Wall -Wextra -Werror -ffreestanding -fno-pic -fno-stack-protector -mgeneral-regs-only -nostdlib -static'
gcc -m32 -c -o "$out/boot.o" boot.S
objcopy -O binary "$out/boot.o" "$out/boot.bin"
for program in two-levels three-levels hostile; do
  # shellcheck disable=SC2086
  gcc $flags -Wl,-T,program.ld -Wl,--build-id=none -Wl,--no-warn-rwx-segments -o "$out/$program.elf" machine.c "$program.c"
  objcopy -O binary "$out/$program.elf" "$out/$program.bin"
  cat "$out/boot.bin" "$out/$program.bin" > "$out/$program.bz"
done
