#!/bin/busybox sh
# Runs in the VM of tests/calibrate: the steady load, and a recording for each line of `plan` (NAME CHANGE SIZE).
JOB=$(pwd)
cd /tmp || exit 1
hostname calibrate
LOAD=$JOB/load
WINDOW=$(cat "$JOB/window")
PROBES=$(cat "$JOB/probes")
NULLB=/sys/kernel/config/nullb/nullb0

die() { echo "$*"; exit 1; }

# part NAME ARGUMENT: a part of the load, in the cgroup that can be stopped as a whole.
GROUP=/sys/fs/cgroup/load
mkdir $GROUP || die "cgroup"
part() { exec sh -c 'echo $$ >'$GROUP'/cgroup.procs; exec "$@"' - "$LOAD" "$@"; }
far_part() { exec sh -c 'echo $$ >'$GROUP'/cgroup.procs; exec /tools/bin/ip netns exec far "$@"' - "$LOAD" "$@"; }

# disk MS: the journal's file system, on a disk that takes this long for a request. It is always a disk of the same name and the same image.
disk_ms=0
disk() {
	[ "$1" != $disk_ms ] || return 0
	if [ $disk_ms != 0 ]; then
		kill "$journal"
		wait "$journal" 2>/dev/null
		umount /mnt/volume || die "umount"
		echo 0 >$NULLB/power
	fi
	disk_ms=$1
	echo "$1"000000 >$NULLB/completion_nsec || die "completion_nsec"
	echo 1 >$NULLB/power || die "null_blk"
	dd if="$JOB/volume" of=/dev/nullb0 bs=1M conv=fsync 2>/dev/null || die "dd"
	mount -t ext4 /dev/nullb0 /mnt/volume || die "mount"
	part journal /mnt/volume &
	journal=$!
}

hogs=
# change CLASS SIZE: what is different while the capture NAME is recorded; `change none` takes all of it back.
change() {
	for hog in $hogs; do
		kill "$hog"
		wait "$hog" 2>/dev/null
	done
	hogs=
	[ "$1" = cpu ] && for i in $(seq "$2"); do
		part hog &
		hogs="$hogs $!"
	done
	[ "$1" = fsync ] && disk "$2" || disk 2
	[ "$1" = dns ] && "$LOAD" set dns_ms "$2" || "$LOAD" set dns_ms 20
	[ "$1" = calls ] && "$LOAD" set calls "$2" || "$LOAD" set calls 4
	if [ "$1" = loss ]; then loss=$2; else loss=0; fi
	/tools/bin/tc qdisc replace dev near root netem limit 1000 loss "$loss%" || die "tc"
}

for module in null_blk veth sch_netem configfs; do modprobe $module nr_devices=0 2>/dev/null || modprobe $module 2>/dev/null; done
mount -t configfs configfs /sys/kernel/config 2>/dev/null
mkdir -p /mnt/volume $NULLB || die "no null_blk"
for setting in size=16 memory_backed=1 irqmode=2 blocksize=4096; do echo ${setting#*=} >$NULLB/${setting%=*} || die "$setting"; done

# Emulated CPUs now and then run into the int3 of a place that the kernel patches (tests/vm/README.md), and die. From its second user on a
# tracepoint is not patched any more, so each gets two that never leave, and write nothing.
for holder in one two; do
	mkdir /sys/kernel/tracing/instances/$holder || die "tracefs"
	echo 0 >/sys/kernel/tracing/instances/$holder/tracing_on
	for event in raw_syscalls/sys_enter raw_syscalls/sys_exit sched/sched_switch sched/sched_waking sched/sched_wakeup sched/sched_wakeup_new \
		sched/sched_process_exec sched/sched_process_exit sched/sched_process_fork sock/inet_sock_set_state sock/sock_send_length \
		sock/sock_recv_length tcp/tcp_probe tcp/tcp_destroy_sock tcp/tcp_retransmit_skb tcp/tcp_receive_reset tcp/tcp_send_reset \
		net/net_dev_queue net/netif_receive_skb block/block_bio_queue block/block_bio_complete block/block_getrq block/block_io_start \
		block/block_rq_insert block/block_rq_issue block/block_rq_complete block/block_rq_merge block/block_rq_requeue \
		filemap/mm_filemap_add_to_page_cache filemap/mm_filemap_fault filemap/mm_filemap_get_pages writeback/writeback_dirty_folio; do
		echo 1 >/sys/kernel/tracing/instances/$holder/events/$event/enable || echo "no $event"
	done
done

# The stream goes to another network namespace, so that what is lost on its way is the stream's alone.
/tools/bin/ip netns add far || die "netns"
/tools/bin/ip link add near type veth peer name far netns far || die "veth"
/tools/bin/ip addr add 10.0.0.1/24 dev near
/tools/bin/ip link set near up
/tools/bin/ip netns exec far /tools/bin/ip addr add 10.0.0.2/24 dev far
/tools/bin/ip netns exec far /tools/bin/ip link set far up
echo nameserver 127.0.0.1 >/etc/resolv.conf

# Before the volume is mounted: its copy of the mounts would hold the volume.
far_part receiver 10.0.0.2 &
sleep 1
change none 0
part sender 10.0.0.2 &
part resolver &
part lookup &
part client &
part calls &
part reader "$JOB/run.sh" &
ln -s /bin/busybox sleep
part spawner /tmp/sleep &
sleep 2

up() { cut -d ' ' -f 1 /proc/uptime; }
attached() { ls -l /proc/$recorder/fd 2>/dev/null | grep -q 'bpf.link'; }
# record NAME: emulated, the recorder computes for ten seconds before it attaches anything, and for some after it detached. Meanwhile the
# load stands still; it runs for a second or more until the window begins, as long as hooks are attached, and past the window's end.
record() {
	began=$(up)
	echo 1 >$GROUP/cgroup.freeze
	"$JOB/ebrec-record" --probes "$PROBES" -d "$WINDOW" -o "/out/$1.ebrec" 2>/tmp/log &
	recorder=$!
	until attached || ! kill -0 $recorder; do sleep 0.05; done
	echo 0 >$GROUP/cgroup.freeze
	attaches=$(up)
	until grep -q '^ebrec-record: recording' /tmp/log || ! kill -0 $recorder; do sleep 0.05; done
	records=$(up)
	sleep "$WINDOW"
	while attached; do sleep 0.1; done
	echo 1 >$GROUP/cgroup.freeze
	detached=$(up)
	wait $recorder || die "$1: $(cat /tmp/log)"
	echo 0 >$GROUP/cgroup.freeze
	echo "$1: start $began, attaches $attaches, records $records, detached $detached, end $(up); $(sed -n 's/.* holds /holds /p' /tmp/log)"
}

while read -r name class size; do
	change "$class" "$size"
	sleep 0.3
	record "$name"
done <"$JOB/plan"
