#!/bin/busybox sh
# Records known activity, once per way to attach, beside peers. Leaves a directory per recording in $OUT: the capture, what the
# recorder said, and the workloads' truth (*.json). Judged outside, by tests/tests/kernels.
# The test puts the static ebrec-record and ebrec-workload beside this file, and lookups, which uses the C library. Runs on a host
# as well (OUT=dir sh run.sh).
OUT=${OUT:-/out}
JOB=$(pwd)
NFT=/tools/bin/nft
PEERS="tcplife tcpconnect tcptracer tcptop opensnoop filelife filetop ext4slower biosnoop biolatency gethostlatency oomkill"
TCP="tcp --settle-ms 250"
# A file system on a disk: the VM's /mnt.
DISK=/mnt
[ -d /tools ] || DISK=/tmp
# ext4 and tmpfs; on a host whatever these are.
DIRS="/mnt /dev/shm"
[ -d /tools ] || DIRS="/tmp /dev/shm"

die() { echo "$*"; exit 1; }
# until_true <command..>: up to two minutes, because a VM among others can be very slow.
until_true() {
  i=0
  until "$@"; do
    i=$((i + 1))
    [ $i -lt 1200 ] || die "waited in vain for: $*"
    sleep 0.1
  done
}
says() { grep -q "$1" "$2" 2>/dev/null; }
# truth <name> <workload..>
truth() {
  name=$1
  shift
  "$JOB/ebrec-workload" "$@" >"$dir/$name.json" 2>"$dir/$name.err" || die "$*: $(cat "$dir/$name.err")"
}

# start <name> <options..>: returns when all hooks are attached.
start() {
  dir=$OUT/$1
  shift
  mkdir -p "$dir"
  "$JOB/ebrec-record" -o "$dir/a.ebrec" --duration 5m "$@" >"$dir/record.log" 2>&1 &
  recorder=$!
  until_true eval 'says "^ebrec-record: recording" "$dir/record.log" || ! kill -0 $recorder 2>/dev/null'
}
stop() {
  # How often the kernel did not run a program because it was running already on that CPU.
  cat "/proc/$recorder/fdinfo/"* 2>/dev/null | awk '/^recursion_misses/ { n += $2 } END { print n + 0 }' >"$dir/missed"
  kill -INT "$recorder"
  wait "$recorder" || die "the recorder failed: $(cat "$dir/record.log")"
}

# Connections that drop every 20th packet with data on its way in, and what the kernel says that cost.
lossy() {
  [ -x $NFT ] || return 0
  cat >/tmp/nft <<'RULES'
table inet lossy {
  chain input {
    type filter hook input priority 0
    meta l4proto tcp meta length > 1000 numgen inc mod 20 7 counter drop
  }
}
RULES
  $NFT -f /tmp/nft || die "nft"
  sent_again >"$dir/lossy.before"
  truth lossy tcp --families v4 --tx 200000 --rx 300000 --refused 0
  sent_again >"$dir/lossy.after"
  $NFT delete table inet lossy
}
sent_again() { awk '/^Tcp:/ && ++n == 2 { print $13 }' /proc/net/snmp; }

# Round trips over a link that delays.
slow_rtt() {
  [ -x /tools/bin/tc ] || return 0
  modprobe sch_netem 2>/dev/null
  /tools/bin/tc qdisc add dev lo root netem delay 20ms || die "tc"
  truth rtt_slow tcp-rtt 3 --pause-ms 400
  /tools/bin/tc qdisc del dev lo root
}

# On devices with requests (loop, null_blk) and without (zram). The modules are there in the VMs only.
blocks() {
  export TMPDIR=$DISK
  [ ! -d /tools ] || modprobe loop
  truth block block
  truth block_errors block-errors
  [ -d /tools ] || return 0
  # Not every kernel has the scheduler.
  if modprobe -q mq-deadline || grep -q mq-deadline /sys/block/vda/queue/scheduler; then
    truth block_queued block --scheduler mq-deadline
  fi
  [ ! -b /dev/nullb0 ] || truth block_null block --device /dev/nullb0
  # Some can't compress: then it has no size.
  if modprobe zram num_devices=1 && echo 67108864 2>/dev/null >/sys/block/zram0/disksize; then
    truth block_zram block --device /dev/zram0
  fi
  return 0
}

# A disk that takes 300 ms for a request. Newer kernels (6.1) call it as its directory is called, older ones by its number.
SLOW=
slow_disk() {
  modprobe configfs 2>/dev/null
  mount -t configfs configfs /sys/kernel/config 2>/dev/null
  slow=/sys/kernel/config/nullb/nullb1
  mkdir $slow || die "null_blk has no configfs"
  for setting in size=16 memory_backed=1 irqmode=2 completion_nsec=300000000; do
    echo ${setting#*=} >$slow/${setting%=*} || die "null_blk: $setting"
  done
  echo 1 >$slow/power || die "null_blk: power"
  [ -b /dev/nullb1 ] || die "null_blk: no second disk"
  SLOW="--slow /dev/nullb1"
}

# Lookups by the C library that is in use since long, and by a copy that comes into use now; those that nobody answers take seconds.
names() {
  mkdir -p "$OUT/own"
  cp "$(awk '$6 ~ /libc\.so\.6$/ { print $6; exit }' "/proc/$user/maps")" "$JOB/lookups" "$OUT/own/" || die "no C library"
  # The third is under a filter of system calls that the kernel's own ones for probes would not pass.
  truth dns dns --run "for how in kill errno; do WAIT_MS=0 $JOB/ebrec-workload seccomp \$how $JOB/lookups ok nx fail || exit 9; done; \
    WAIT_MS=4000 LD_LIBRARY_PATH=$OUT/own $OUT/own/lookups ok nx fail >$OUT/own/said & \
    WAIT_MS=0 $JOB/lookups ok nx fail slow silent; wait; cat $OUT/own/said"
  rm -r "$OUT/own"
}
# Lookups that have no end: one's program is killed, the other still waits when the window ends.
endless() {
  truth endless dns --run "WAIT_MS=0 $JOB/lookups ok nx fail slow
    within() { until [ -s \$1 ]; do sleep 0.1; done; sleep 0.3; }
    WAIT_MS=0 $JOB/lookups silent.killed >/dev/null 2>$OUT/killed & within $OUT/killed; kill \$!
    WAIT_MS=0 $JOB/lookups silent.on silent.on silent.on >/dev/null 2>$OUT/on.says & within $OUT/on.says; touch $OUT/on
    until [ -e $OUT/stopped ]; do sleep 0.1; done; kill \$!"
}

# peer <name> <arguments..>: starts it. Lines as they come: not every peer catches a signal and writes what it still buffers.
peer() {
  peer=$1
  shift
  stdbuf -oL "/tools/bin/$peer" "$@" >"$OUT/peers/$peer.out" 2>"$OUT/peers/$peer.err" &
  peers="$peers $peer=$!"
}
# Each has said what its columns are, which it does when all its links are there, or is gone, because it doesn't run on this kernel.
attached() {
  for peer in $peers; do
    [ -d "/proc/${peer#*=}" ] || continue
    case $peer in
      # It prints at its end only.
      # shellcheck disable=SC2010 # the names are numbers, the targets are wanted
      filetop=*) ls -l "/proc/${peer#*=}/fd" 2>/dev/null | grep -q perf_event || return 1 ;;
      *) [ -s "$OUT/peers/${peer%=*}.out" ] || return 1 ;;
    esac
  done
}
# end_peers: those that sum up print when they are interrupted. SIGINT would make the others wait for their links to go.
end_peers() {
  for peer in $peers; do
    case $peer in
      filetop=* | biolatency=* | cachestat=*) kill -INT "${peer#*=}" 2>/dev/null ;;
      *) kill "${peer#*=}" 2>/dev/null ;;
    esac
  done
  for peer in $peers; do wait "${peer#*=}"; done
  peers=
}
peers=
if [ -d /tools/bin ]; then
  mkdir -p "$OUT/peers"
  # biolatency knows the disks that are there when it starts.
  modprobe null_blk nr_devices=1 gb=1 memory_backed=1
  slow_disk
  for peer in $PEERS; do
    case $peer in
      tcptop) peer "$peer" -C -r 1000 1 1000 ;;
      tcptracer) peer "$peer" -t ;;
      ext4slower) peer "$peer" -m 0 ;;
      # One interval, so that nothing is lost between their reading and their clearing of the counters.
      filetop) peer "$peer" -C -a -r 10000 100000 ;;
      biolatency) peer "$peer" -D 100000 ;;
      *) peer "$peer" ;;
    esac
  done
fi
# A C library is in use on any host.
WAIT_MS=600000 "$JOB/lookups" >/dev/null 2>&1 &
user=$!
trap 'kill $user' EXIT

# Connections from before the window, still open after it.
mkdir -p "$OUT/default"
mkfifo "$OUT/hold"
"$JOB/ebrec-workload" tcp-hold <"$OUT/hold" >"$OUT/default/hold.json" 2>"$OUT/hold.said" &
exec 3>"$OUT/hold"
rm "$OUT/hold"
until_true says ready "$OUT/hold.said"
echo send 5000 >&3
until_true says "done send 5000" "$OUT/hold.said"
until_true attached
[ -z "$peers" ] || sleep 1 # from filetop's first link to the last

start default
truth retransmit tcp-retransmit --timeout-ms 3500 &
retransmit=$!
truth exec exec --codes 8
truth threads threads
truth pingpong pingpong 300
truth reuse pid-reuse --times 3
# shellcheck disable=SC2086 # a list
truth files files $DIRS
truth tcp $TCP
# Not beside tcp: on 5.10 a return probe follows as many calls as there are CPUs, and the resolver's threads wait in accept. Then
# tcptracer sees no other's.
names &
names=$!
truth signals signals 5
truth oom oom
truth resets tcp-resets 2
truth rtt tcp-rtt 3
slow_rtt
truth interrupts interrupts 1
blocks
truth faults major-faults 50
# It counts for the whole host, so it runs beside one workload only.
others=$peers peers=
[ ! -d /tools/bin ] || peer cachestat 100000
until_true attached
# shellcheck disable=SC2086 # an option and its value, or nothing
truth page_cache page-cache $SLOW
end_peers
peers=$others
unset TMPDIR
echo send 7000 >&3
until_true says "done send 7000" "$OUT/hold.said"
sleep 1.5 # the interval of tcptop
wait $names || exit 1
end_peers
wait $retransmit || exit 1
lossy
stop
echo quit >&3
exec 3>&-
until_true says "done quit" "$OUT/hold.said"

# The other ways to attach.
start sys_exit --probes process,tcp,page_cache --mechanism sys_exit
truth exec exec --codes 2
truth tcp $TCP
export TMPDIR=$DISK
# shellcheck disable=SC2086
truth page_cache page-cache $SLOW
unset TMPDIR
stop
start kprobe --probes tcp,page_cache --mechanism kprobe
truth tcp $TCP
export TMPDIR=$DISK
# shellcheck disable=SC2086
truth page_cache page-cache $SLOW
unset TMPDIR
stop
start fexit --probes process,tcp --mechanism fexit
truth exec exec --codes 2
truth tcp $TCP
stop
start fentry --probes tcp,oom,page_cache --mechanism fentry
export TMPDIR=$DISK
# shellcheck disable=SC2086
truth page_cache page-cache $SLOW
unset TMPDIR
truth resets tcp-resets 2
truth oom oom
stop

start uprobe --probes dns,profile --off-cpu-stacks --mechanism uprobe
endless &
names=$!
truth burn burn 1 --ms 700 --unlinked
truth nap nap 10 --ms 40
until_true [ -e "$OUT/on" ]
stop
touch "$OUT/stopped"
wait $names || exit 1
rm "$OUT/killed" "$OUT/on" "$OUT/on.says" "$OUT/stopped"

# A CPU that goes and comes back, and a clock that is set, while it records. In VMs only: the host is others', too.
set_clock() { date -s "@$(($(date +%s) + $1))" >/dev/null || die "date"; }
cpu1=/sys/devices/system/cpu/cpu1/online
# Only with EBREC_TEST_PLACES: under TCG a VM now and then hangs in it.
if [ -e with-places ] && [ -w $cpu1 ]; then
  echo 0 >$cpu1
  start places --probes process,sched,profile
  sleep 1
  echo 1 >$cpu1
  sleep 2.5 # the recorder looks for CPUs once a second
  truth cpu syscalls 150000 --cpu 1
  truth pingpong pingpong 50 --cpu 1
  set_clock 86400
  truth exec exec --codes 2
  sleep 1.5
  set_clock -172800
  truth threads threads
  sleep 1.5
  set_clock 86400
  # Off and on again between two looks.
  echo 0 >$cpu1
  echo 1 >$cpu1
  sleep 2.5
  truth cpu_again syscalls 150000 --cpu 1
  stop
fi

# Every system call, and calls that are in progress when the window begins or ends.
mkdir -p "$OUT/syscall"
mkfifo "$OUT/calls"
"$JOB/ebrec-workload" calls-hold <"$OUT/calls" >"$OUT/syscall/calls_hold.json" 2>"$OUT/hold.said" &
holder=$!
exec 3>"$OUT/calls"
rm "$OUT/calls"
until_true says ready "$OUT/hold.said"
start syscall --probes syscall
truth calls calls 20
echo release >&3
until_true says "done release" "$OUT/hold.said"
echo block >&3
until_true says "done block" "$OUT/hold.said"
stop
echo quit >&3
exec 3>&-
wait $holder || die "calls-hold: $(cat "$OUT/hold.said")"

# More tasks in system calls than CPUs: they are preempted in the midst of the programs that tell of them.
start crowd --probes syscall
crowd=
for n in 1 2 3 4; do
  truth "crowd$n" syscalls 20000 &
  crowd="$crowd $!"
done
# shellcheck disable=SC2086 # a list
for n in $crowd; do wait "$n" || exit 1; done
stop
uname -r >"$OUT/release"
rm -f "$OUT/hold.said"
