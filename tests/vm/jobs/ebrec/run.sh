#!/bin/busybox sh
# Records known activity, once per way to attach, beside peers. Leaves a directory per recording in $OUT: the capture, what the
# recorder said, and the workloads' truth (*.json). Judged outside, by tests/tests/kernels.
# The test puts the static ebrec-record and ebrec-workload beside this file. Runs on a host as well (OUT=dir sh run.sh).
OUT=${OUT:-/out}
JOB=$(pwd)
NFT=/tools/bin/nft
PEERS="tcplife tcpconnect tcptracer tcptop"
TCP="tcp --settle-ms 250"
# A file system on a disk: the VM's /mnt.
DISK=/mnt
[ -d /tools ] || DISK=/tmp
# ext4 and tmpfs; on a host whatever these are.
DIRS="/mnt /dev/shm"
[ -d /tools ] || DIRS="/tmp /dev/shm"

die() { echo "$*"; exit 1; }
# until_true <command..>: up to 60 s.
until_true() {
  i=0
  until "$@"; do
    i=$((i + 1))
    [ $i -lt 600 ] || die "waited in vain for: $*"
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
  modprobe null_blk nr_devices=1 gb=1 memory_backed=1 && truth block_null block --device /dev/nullb0
  # Some can't compress: then it has no size.
  if modprobe zram num_devices=1 && echo 67108864 2>/dev/null >/sys/block/zram0/disksize; then
    truth block_zram block --device /dev/zram0
  fi
  return 0
}

attached() {
  for pid in $peers; do
    # shellcheck disable=SC2010 # the names are numbers, the targets are wanted
    ls -l "/proc/$pid/fd" 2>/dev/null | grep -qE 'bpf.link|perf_event' || return 1
  done
}
peers=
if [ -d /tools/bin ]; then
  mkdir -p "$OUT/peers"
  for peer in $PEERS; do
    case $peer in tcptop) args="-C -r 1000 1 1000" ;; tcptracer) args=-t ;; *) args= ;; esac
    # shellcheck disable=SC2086 # a list
    stdbuf -oL "/tools/bin/$peer" $args >"$OUT/peers/$peer.out" 2>"$OUT/peers/$peer.err" &
    peers="$peers $!"
  done
fi

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
sleep 1 # from the first link to the last

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
truth signals signals 5
truth oom oom
truth resets tcp-resets 2
truth rtt tcp-rtt 3
slow_rtt
truth interrupts interrupts 1
blocks
truth page_cache page-cache
unset TMPDIR
echo send 7000 >&3
until_true says "done send 7000" "$OUT/hold.said"
sleep 1.5 # the interval of tcptop
# shellcheck disable=SC2086 # a list
[ -z "$peers" ] || kill $peers
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
truth page_cache page-cache
unset TMPDIR
stop
start kprobe --probes tcp,page_cache --mechanism kprobe
truth tcp $TCP
export TMPDIR=$DISK
truth page_cache page-cache
unset TMPDIR
stop
start fexit --probes process,tcp --mechanism fexit
truth exec exec --codes 2
truth tcp $TCP
stop
start fentry --probes tcp,oom,page_cache --mechanism fentry
export TMPDIR=$DISK
truth page_cache page-cache
unset TMPDIR
truth resets tcp-resets 2
truth oom oom
stop

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
uname -r >"$OUT/release"
rm -f "$OUT/hold.said"
