#!/bin/busybox sh
# Records while a program keeps touching more memory than there is, so that everything that isn't locked is paged out and in again.
# Needs the programs ebrec-record and ebrec-workload beside it. In /out: what recorder and kernel said.
dd if=/dev/zero of=/mnt/swap bs=1M count=160 2>/dev/null && chmod 600 /mnt/swap && mkswap /mnt/swap >/dev/null && swapon /mnt/swap || exit 3
free_mb=$(awk '/MemAvailable/ { print int($2 / 1024) }' /proc/meminfo)
swapped() { awk '/^pswpin|^pswpout|^pgmajfault/ { print $1, $2 }' /proc/vmstat; }
./ebrec-workload hog $((free_mb + 60)) --seconds 40 >/out/hog.json &
sleep 6
swapped >/out/before
./ebrec-record -d 15s --probes default,syscall --memory 32M -o /mnt/a.ebrec 2>/out/said
echo "exit $?" >>/out/said
swapped >/out/after
free >/out/free
unzip -p /mnt/a.ebrec manifest.json >/out/manifest.json 2>>/out/said || { ls -l /mnt /mnt/*.partial >>/out/said; exit 4; }
