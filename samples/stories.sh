#!/bin/busybox sh
# The stories of the samples: what runs in the VM while each is recorded. samples/make is how.
JOB=$(pwd)
cd /tmp || exit 1
hostname sample
mkdir bin
ln -s "$JOB/ebrec-workload" bin/ebrec-workload
PATH=$PATH:/tmp/bin

die() { echo "$*"; exit 1; }
# record NAME SECONDS STORY LOAD: the load runs when all hooks are attached, and ends with the window.
record() {
	"$JOB/ebrec-record" -d "$2s" -o "/out/$1.ebrec" -M "story=$3" 2>/tmp/log &
	recorder=$!
	until grep -q '^ebrec-record: recording' /tmp/log; do
		kill -0 $recorder 2>/dev/null || die "$(cat /tmp/log)"
		sleep 0.1
	done
	sleep 2 # Emulated, the recorder still reads symbol tables.
	"$4"
	wait $recorder || die "$(cat /tmp/log)"
	tail -2 /tmp/log
}

# A server that computes for a while for each question, and a client that asks it ten times a second.
cat >bin/app <<'APP'
#!/bin/sh
while read -r question; do
	i=0
	while [ $i -lt 500 ]; do i=$((i + 1)); done
	echo "$question: $i"
done <questions >answers
APP
cat >bin/client <<'CLIENT'
#!/bin/sh
exec 3>questions 4<answers
n=0
while [ $n -lt "$1" ]; do
	echo "$n" >&3
	read -r answer <&4
	/bin/sleep 0.1
	n=$((n + 1))
done
CLIENT
chmod +x bin/app bin/client
mkfifo questions answers
# What a server writes in a day.
seq 1 200000 | awk '{ print "10.0." $1 % 256 "." ($1 * 7) % 256 " GET /item/" ($1 * 7919) % 1000003 " 200" }' >access.log

# Both on the second CPU, where the recorder's threads and the log rotation may be as well.
serve() { taskset -c 1 app & }

quiet() {
	serve
	client 60
}

# Yesterday's logs are compressed on the CPU of the server.
rotation() {
	serve
	client 1000 &
	/bin/sleep 4
	for i in 1 2 3 4; do taskset -c 1 gzip -9 <access.log >"access.$i.gz" & done
	/bin/sleep 9
	killall gzip client
}

# A client that opens connections and closes none; it outlives the window.
leak() {
	(
		i=0
		while [ $i -lt 60 ]; do
			echo open
			/bin/sleep 0.1
			i=$((i + 1))
		done
		/bin/sleep 12
		echo quit
	) | ebrec-workload tcp-hold --conns 1 >/dev/null 2>&1 &
}

# A volume that takes 80 ms for each request.
disk() {
	for i in $(seq 1 40); do
		dd if=/dev/zero of=/mnt/volume/journal bs=4k count=1 seek="$i" conv=notrunc,fsync 2>/dev/null
	done
}

dns() {
	ebrec-workload dns --slow-ms 400 --run "WAIT_MS=2000 $JOB/lookups ok slow nx fail >/dev/null; WAIT_MS=0 $JOB/lookups slow silent >/dev/null" >/dev/null 2>/tmp/dns.err || die "$(cat /tmp/dns.err)"
}

# One segment in fifty is lost.
loss() {
	iperf3 -c 127.0.0.1 -t 5 -b 2M -l 1K -N >/dev/null
}

storm() {
	sh -c 'i=0; while [ $i -lt 500 ]; do /bin/true; i=$((i + 1)); done
		while [ $i -lt 600 ]; do /opt/tool; i=$((i + 1)); done' 2>/dev/null
}

for name in $(cat "$JOB/names"); do
	case $name in
	quiet) record quiet 12 "a server answers a client ten times a second on a host that has nothing else to do" quiet ;;
	cpu-contention) record cpu-contention 16 "log rotation: four gzip compress on the CPU of a server" rotation ;;
	connection-leak)
		record connection-leak 14 "a client opens connections and closes none" leak
		wait
		;;
	slow-disk)
		modprobe null_blk nr_devices=1 gb=1 memory_backed=1 irqmode=2 completion_nsec=80000000 || die "no null_blk"
		mke2fs /dev/nullb0 65536 >/dev/null || die "mke2fs"
		mkdir /mnt/volume
		mount -t ext4 /dev/nullb0 /mnt/volume || die "mount"
		record slow-disk 12 "a journal on a volume that takes 80 ms for each request" disk
		;;
	slow-dns) record slow-dns 15 "names are looked up at a server that is slow, refuses, or keeps silent" dns ;;
	retransmissions)
		iperf3 -s -1 >/dev/null &
		modprobe sch_netem
		/tools/bin/tc qdisc add dev lo root netem loss 2%
		record retransmissions 8 "one segment in fifty is lost" loss
		/tools/bin/tc qdisc del dev lo root
		;;
	exec-storm) record exec-storm 12 "a shell loop starts a program for each line" storm ;;
	*) die "there is no sample $name" ;;
	esac
done
