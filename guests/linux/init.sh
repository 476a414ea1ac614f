#!/bin/sh
# The first program of the guest: mounts, modules for event channels, then a shell on the serial line.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
dmesg -n 1
for module in /modules/*.ko; do insmod "$module"; done
hostname linux
echo '=== READY ==='
export PS1='# ' HOME=/ TERM=linux
cd /
while true; do setsid sh -c 'exec sh </dev/ttyS0 >/dev/ttyS0 2>&1'; done
