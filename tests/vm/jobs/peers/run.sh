#!/bin/busybox sh
# Which of Debian's libbpf-tools work on this kernel: a survey, for the table in README.md. In
# batches, because so many at once mostly trace each other. Fails only if none worked.
. ./peers.sh
batch() { cat >/tmp/table && ROUNDS=3 peers /tmp/table; }
{
  batch <<'TABLE'
tcpconnect | nc .* 7777
tcptracer | nc .* 7777
tcplife | nc .* 7777
tcpstates | nc .* 7777
tcpconnlat | nc .* 7777
tcptop -C 1 1000 | nc .*:7777
tcprtt -i 1 | -> .*\*
tcpsynbl 1 | -> .*\*
bindsnoop | nc .* 7777
solisten | nc .* 7777
TABLE
  batch <<'TABLE'
execsnoop | smoke-marker
exitsnoop | signal 15
sigsnoop | 15
mountsnoop | /tmp/smoke
opensnoop | /mnt/smoke-marker
statsnoop | smoke-marker
filelife | smoke-marker
syscount -i 1 | ^(read|write) 
capable | CAP_
TABLE
  batch <<'TABLE'
runqlat 1 | -> .*\*
runqlen 1 | : [1-9]
runqslower 1 | [0-9]$
cpudist 1 | -> .*\*
offcputime 3 | sh 
wakeuptime 3 | waker
softirqs 1 | ^(timer|sched|net_rx) 
hardirqs 1 | virtio
klockstat -d 3 | 
TABLE
  batch <<'TABLE'
filetop -C 1 1000 | smoke
fsslower -t ext4 -m 0 | smoke
fsdist -t ext4 1 | -> .*\*
vfsstat 1 | :.* [1-9]
cachestat 1 | [1-9]
biosnoop | vda
biolatency 1 | -> .*\*
biopattern 1 | vda
biotop -C 1 1000 | vda
bitesize 1 | -> .*\*
biostacks 3 | -> .*\*
slabratetop -C 1 1000 | [1-9]$
TABLE
} >/out/result
sort -k 2 /out/result
grep -q ^ok /out/result
