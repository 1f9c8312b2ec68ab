#!/bin/busybox sh
# Does the VM have what the other jobs rely on? The kernel's BTF, network namespaces with loss and
# delay, block devices, and the peers that the project compares itself with.
IP=/tools/bin/ip # by path: busybox sh runs its own applets first, whatever PATH says
failed=0
check() { # check <what> <command..>
  what=$1
  shift
  if "$@" >/tmp/check 2>&1; then echo "ok   $what"; else
    echo "FAIL $what"
    sed 's/^/     /' /tmp/check
    failed=1
  fi
}

btf() { [ "$(head -c 2 /sys/kernel/btf/vmlinux | od -An -tx1 | tr -d ' ')" = 9feb ]; }
mounted() { for m in /sys/fs/bpf /sys/fs/cgroup /sys/kernel/tracing /mnt /out; do grep -q " $m " /proc/mounts || return 1; done; }
# Two namespaces, a and b, connected by veth.
net() {
  $IP netns add a && $IP netns add b && $IP link add va type veth peer name vb &&
    $IP link set va netns a && $IP link set vb netns b || return 1
  for n in a b; do $IP -n $n link set v$n up && $IP -n $n link set lo up || return 1; done
  $IP -n a addr add 10.99.0.1/24 dev va && $IP -n b addr add 10.99.0.2/24 dev vb
}
# A transfer across them while a rule drops every 20th packet: retransmissions.
lossy() {
  cat >/tmp/nft <<'RULES'
table inet t {
  chain c {
    type filter hook input priority 0
    tcp dport 5201 numgen inc mod 20 0 counter drop
  }
}
RULES
  $IP netns exec b nft -f /tmp/nft && $IP netns exec b iperf3 -s -D -1 || return 1
  until $IP netns exec b ss -Hltn | grep -q :5201; do usleep 100000; done
  timeout 60 $IP netns exec a iperf3 -c 10.99.0.2 -n 256K &&
    $IP netns exec b nft list ruleset | grep -E 'packets [1-9]' &&
    $IP netns exec a grep ^Tcp: /proc/net/snmp | awk 'NR == 2 && $13 > 0 { ok = 1 } END { exit !ok }'
}
null_blk() { modprobe null_blk && dd if=/dev/zero of=/dev/nullb0 bs=64k count=16 oflag=direct; }
loop() {
  modprobe loop && dd if=/dev/zero of=/mnt/img bs=1M count=2 && losetup -f /mnt/img &&
    dd if=/dev/zero of=/dev/loop0 bs=64k count=16 oflag=direct && losetup -d /dev/loop0 && rm /mnt/img
}

check "BTF of the kernel" btf
check "file systems" mounted
check "no limit on locked memory" [ "$(ulimit -l)" = unlimited ]
check "more than one CPU" [ "$(grep -c ^processor /proc/cpuinfo)" -gt 1 ]
check "network namespaces, veth" net
check "netem delay" $IP netns exec a tc qdisc add dev va root netem delay 2ms
check "nft loss, iperf3, retransmissions" lossy
check "IPv6 on loopback" sh -c "$IP -6 addr show dev lo | grep -q ::1/128"
check "null_blk" null_blk
check "loop" loop

. ./peers.sh
cat >/tmp/table <<'TABLE'
tcpconnect | nc .* 7777
tcptracer | nc .* 7777
tcplife | nc .* 7777
tcpstates | nc .* 7777
tcpconnlat | nc .* 7777
tcptop -C 1 1000 | nc .*:7777
execsnoop | smoke-marker
exitsnoop | signal 15
opensnoop | /mnt/smoke-marker
runqlat 1 | -> .*\*
TABLE
peers /tmp/table >/tmp/result
sed 's/^ok /ok   peer /; s/^none /FAIL peer /' /tmp/result
grep -q ^none /tmp/result && failed=1
exit $failed
