#!/bin/bash
# usage: run.sh <kernel> <jobdir> [kernel arguments..]
# Boots the kernel in qemu with <jobdir> as /job, runs /job/run.sh there, and returns its exit code.
# What it left in /out is then in $EBREC_VM_OUT/<kernel>/, the console in $EBREC_VM_OUT/<kernel>.log.
# 124: timed out. 125: the VM did not get as far as an exit code.
. "$(dirname "$0")/common.sh"
[ $# -ge 2 ] || die "usage: run.sh <kernel> <jobdir> [kernel arguments..]"
name=$1 job=$2
shift 2
[ -f "$job/run.sh" ] || die "$job has no run.sh"
command -v qemu-system-x86_64 >/dev/null || die "no qemu: run tests/vm/install.sh"
out=${EBREC_VM_OUT:-$cache/out}
mkdir -p "$out"
"$here/fetch.sh" "$name" >&2
"$here/initrd.sh" "$name" >&2

k=$cache/kernels/$name log=$out/$name.log
tmp=$(mktemp -d "$cache/vm.XXXXXX")
qemu=
# shellcheck disable=SC2154 # set by the trap
trap '[ -z "$qemu" ] || kill "$qemu" 2>/dev/null; rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM

mkdir "$tmp/root"
cp -rL "$job" "$tmp/root/job"
(cd "$tmp/root" && find . -mindepth 1 | cpio -o -H newc --quiet --owner=0:0) >"$tmp/job.cpio"
cat "$cache/base.cpio" "$k/modules.cpio" "$tmp/job.cpio" >"$tmp/initrd"
truncate -s "${EBREC_VM_OUT_MB:-512}M" "$tmp/out.img"
: >"$tmp/status"

# TCG by default: it works everywhere, and nested KVM often does not. In the background, so that
# a signal to this script ends the VM at once.
start=${EPOCHREALTIME/./}
timeout --foreground -k 5 "${EBREC_VM_TIMEOUT:-600}" \
  qemu-system-x86_64 -accel "${EBREC_VM_ACCEL:-tcg,thread=multi}" -cpu max \
  -m "${EBREC_VM_MEM:-1024}" -smp "${EBREC_VM_CPUS:-2}" \
  -nodefaults -no-user-config -display none -no-reboot -monitor none \
  -chardev file,id=console,path="$log" -serial chardev:console \
  -chardev file,id=status,path="$tmp/status" -serial chardev:status \
  -kernel "$k/vmlinuz" -initrd "$tmp/initrd" \
  -drive file="$cache/disk.img",if=virtio,format=raw,snapshot=on \
  -drive file="$tmp/out.img",if=virtio,format=raw,cache=unsafe \
  -append "console=ttyS0 quiet loglevel=1 panic=-1 random.trust_cpu=on mitigations=off $*" \
  </dev/null >"$tmp/qemu.log" 2>&1 &
qemu=$!
rc=0
wait "$qemu" || rc=$?
qemu=
ms=$(((${EPOCHREALTIME/./} - start) / 1000))

# The firmware's greeting and carriage returns are no part of the job's output.
tr -d '\r' <"$log" | grep -aEv 'SeaBIOS|Booting from ROM|^$' >"$tmp/log" || true
cat "$tmp/qemu.log" >>"$tmp/log"
cp "$tmp/log" "$log"
cat "$log"

tr -d '\r' <"$tmp/status" >"$tmp/said"
said() { sed -n "s/^$1 //p" "$tmp/said"; }
rm -rf "${out:?}/$name" && mkdir "$out/$name"
case $(said out) in
  complete) tar xf "$tmp/out.img" --no-same-owner -C "$out/$name" ;;
  '') ;;
  *) echo "$name: /out did not fit into ${EBREC_VM_OUT_MB:-512} MB (EBREC_VM_OUT_MB)" >&2 ;;
esac

job_rc=$(said exit)
if [ "$rc" = 124 ] || [ "$rc" = 137 ]; then
  rc=124 verdict="timed out"
elif [ -z "$job_rc" ]; then
  rc=125 verdict="died without an exit code"
elif [ "$(said out)" = failed ]; then
  rc=125 verdict="output lost"
else
  rc=$job_rc verdict=$([ "$job_rc" = 0 ] && echo ok || echo "failed ($job_rc)")
fi
complaints=$(said complaint | wc -l)
printf '%-7s %-28s %5d.%d s  %s%s\n' "$name" "$(cat "$k/release")" $((ms / 1000)) $((ms % 1000 / 100)) "$verdict" \
  "$([ "$complaints" = 0 ] || echo ", kernel complained: $(said complaint | head -1)")" >&2
exit "$rc"
