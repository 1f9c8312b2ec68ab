# shellcheck shell=sh
# Runs peers (Debian's libbpf-tools) beside a known workload, all at once, and says which saw it.

# peers <table>: a file of lines "<name> <arguments..> | <what its output must match>".
# Prints "ok <name>" or "none <name> <why>" per peer; outputs stay in /out/peers.
peers() {
  mkdir -p /out/peers
  : >/tmp/running
  while IFS='|' read -r command pattern; do
    # shellcheck disable=SC2086 # name and arguments
    set -- $command
    [ $# -gt 0 ] || continue
    name=$1
    shift
    # Lines as they come: not every peer catches a signal and writes what it still buffers.
    stdbuf -oL "/tools/bin/$name" "$@" >"/out/peers/$name.out" 2>"/out/peers/$name.err" &
    echo "$name $!${pattern:- .}" >>/tmp/running
  done <"$1"
  i=0
  until all_attached || [ $i -ge 60 ]; do sleep 1; i=$((i + 1)); done
  sleep 1 # from the first link to the last
  i=0
  while workload && ! all_saw && [ $i -lt "${ROUNDS:-8}" ]; do i=$((i + 1)); done
  while read -r name pid pattern; do
    if saw; then
      echo "ok $name"
    elif [ -d "/proc/$pid" ]; then
      echo "none $name runs, but saw nothing"
    else
      echo "none $name $(grep -vE "Exit|^ *$|^-- " "/out/peers/$name.err" | head -n 1)"
    fi
    # Not SIGINT: a shell's background processes start with it ignored, and vfsstat leaves it so.
    kill "$pid" 2>/dev/null
  done </tmp/running
  wait
}

saw() { grep -qE -e "$pattern" "/out/peers/$name.out"; }
all_saw() {
  while read -r name pid pattern; do
    [ ! -d "/proc/$pid" ] || saw || return 1
  done </tmp/running
}
# Each has a BPF link or a perf event open, or is gone.
all_attached() {
  while read -r name pid pattern; do
    # shellcheck disable=SC2010 # the names are numbers, the targets are wanted
    [ ! -d "/proc/$pid" ] || ls -l "/proc/$pid/fd" 2>/dev/null | grep -qE 'bpf.link|perf_event' || return 1
  done </tmp/running
}

# A connection to port 7777 with 256 kB, a command, a marked file, files written, read, removed.
# (A busybox applet that the shell starts shows as the command "exe", /proc/self/exe.)
workload() {
  [ -f /tmp/payload ] || dd if=/dev/zero of=/tmp/payload bs=64k count=4 2>/dev/null
  nc -l -p 7777 >/dev/null &
  usleep 300000
  { cat /tmp/payload; sleep 1; } | nc 127.0.0.1 7777
  /bin/busybox true smoke-marker
  : >/mnt/smoke-marker
  stat -f /mnt/smoke-marker >/dev/null
  rm /mnt/smoke-marker
  dd if=/dev/zero of=/mnt/smoke bs=64k count=16 conv=fsync 2>/dev/null
  echo 1 >/proc/sys/vm/drop_caches
  dd if=/mnt/smoke of=/dev/null bs=64k 2>/dev/null
  mkdir -p /tmp/smoke && mount -t tmpfs smoke /tmp/smoke && umount /tmp/smoke
  sleep 100 &
  kill $!
}
