#!/bin/busybox sh
# Records while the machine sleeps for five seconds (suspend to memory; the clock of the mainboard wakes it). Needs the program ebrec-record
# beside it. In /out: what it said, its manifest, and when the machine slept.
./ebrec-record -d 10s --probes default,syscall --memory 32M -o /mnt/a.ebrec 2>/out/said &
recorder=$!
until grep -q 'ebrec-record: recording' /out/said; do
	kill -0 $recorder || exit 3
	sleep 0.2
done
sleep 2
cut -d' ' -f1 /proc/uptime >/out/before
echo 0 >/sys/class/rtc/rtc0/wakealarm
echo +5 >/sys/class/rtc/rtc0/wakealarm
echo mem >/sys/power/state || exit 4
cut -d' ' -f1 /proc/uptime >/out/after
sleep 1
/bin/true
wait $recorder || exit 5
unzip -p /mnt/a.ebrec manifest.json >/out/manifest.json || exit 6
