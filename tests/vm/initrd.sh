#!/bin/bash
# usage: initrd.sh [name..]      packs the initramfs of the VMs
# Two archives, concatenated at boot with the job's own: $cache/base.cpio (busybox, init, tools)
# and $cache/kernels/<name>/modules.cpio. Both are rebuilt only when something they hold changed.
. "$(dirname "$0")/common.sh"
names=$(kernels "$@")
lock initrd

# Ordinary programs the jobs need beyond busybox, and the peers: all of Debian's libbpf-tools.
tools=(ip tc nft ss iperf3 setpriv stdbuf)
# shellcheck disable=SC2206 # a list of names
tools+=(${EBREC_VM_TOOLS:-})
mapfile -t peers < <(dpkg -L libbpf-tools 2>/dev/null | grep -E '^/usr/s?bin/.' || true)

# Loaded on demand: by the kernel itself (nft expressions, qdiscs) or by a job's modprobe.
# A name that a kernel does not have, or has built in, is skipped.
modules=(virtio_pci virtio_blk ext4 loop null_blk brd zram overlay dm_mod dm_delay dm_flakey
  veth dummy bridge ifb tun tcp_diag udp_diag inet_diag tcp_bbr tls
  sch_netem sch_tbf sch_fq sch_ingress cls_bpf act_bpf cls_u32 cls_matchall
  nf_tables nft_counter nft_numgen nft_ct nft_limit nft_reject_inet nft_chain_nat nft_quota)

pack() { # pack <directory> <archive>
  (cd "$1" && find . -mindepth 1 | LC_ALL=C sort | cpio -o -H newc --quiet --owner=0:0) >"$2.new"
  mv "$2.new" "$2"
}
# stale <archive> <input..>
stale() {
  local f archive=$1
  shift
  [ -e "$archive" ] || return 0
  for f in "$@"; do [ ! "$f" -nt "$archive" ] || return 0; done
  return 1
}
work=$(mktemp -d "$cache/initrd.XXXXXX")
trap 'rm -rf "$work"' EXIT

busybox=$(command -v busybox) || die "no busybox: run tests/vm/install.sh"
! ldd "$busybox" >/dev/null 2>&1 || die "$busybox is not static: run tests/vm/install.sh"
paths=()
for t in "${tools[@]}"; do paths+=("$(command -v "$t")") || die "no $t: run tests/vm/install.sh"; done
[ ${#peers[@]} -gt 0 ] || die "no libbpf-tools: run tests/vm/install.sh"
paths+=("${peers[@]}")

# The list of tools is an input too.
printf '%s\n' "$busybox" "${paths[@]}" >"$work/list"
cmp -s "$work/list" "$cache/base.list" || mv "$work/list" "$cache/base.list"
if stale "$cache/base.cpio" "$0" "$here/init" "$cache/base.list" "$busybox" "${paths[@]}"; then
  b=$work/base
  mkdir -p "$b"/{bin,sbin,usr/bin,usr/sbin,tools/bin,etc}
  cp -L "$busybox" "$b/bin/busybox"
  install -m 755 "$here/init" "$b/init"
  echo 'root:x:0:0:root:/tmp:/bin/sh' >"$b/etc/passwd"
  echo 'root:x:0:' >"$b/etc/group"
  printf '127.0.0.1 localhost\n::1 localhost\n' >"$b/etc/hosts"
  cp -L "${paths[@]}" "$b/tools/bin/"
  # Libraries keep their paths, so the loader needs no variable that the job would inherit.
  ldd "${paths[@]}" | awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\/.*\/ld-/ { print $1 }' | sort -u |
    while read -r lib; do install -D -m 755 "$lib" "$b$lib"; done
  # stdbuf preloads it: a peer that is killed by a signal must have written its lines before.
  for lib in /usr/libexec/coreutils/libstdbuf.so /usr/lib/*/coreutils/libstdbuf.so; do
    [ ! -e "$lib" ] || install -D "$lib" "$b$lib"
  done
  pack "$b" "$cache/base.cpio"
  # The VM's /mnt. Small, and quiet: nothing left for ext4lazyinit to write while a job counts I/O.
  truncate -s 256M "$work/disk.img"
  mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$work/disk.img"
  mv "$work/disk.img" "$cache/disk.img"
fi

for name in $names; do
  k=$cache/kernels/$name
  [ -e "$k/package" ] || die "kernel $name was not fetched"
  stale "$k/modules.cpio" "$0" "$k/package" || continue
  release=$(cat "$k/release") m=$work/$name/lib/modules/$(cat "$k/release")
  mkdir -p "$m"
  for f in "$k/root/lib/modules/$release"/modules.{builtin,builtin.modinfo,order}; do
    [ ! -e "$f" ] || cp "$f" "$m/"
  done
  for module in "${modules[@]}"; do
    modprobe -d "$k/root" -S "$release" --show-depends "$module" 2>/dev/null || true
  done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r f; do
    case $f in # unpacked here: busybox's modprobe need not know the formats
      *.xz) xz -dc "$f" >"$m/$(basename "$f" .xz)" ;;
      *.zst) zstd -qdc "$f" >"$m/$(basename "$f" .zst)" ;;
      *) cp "$f" "$m/" ;;
    esac
  done
  # Maps of only these modules: the full ones take busybox a second to read in a VM.
  depmod -b "$work/$name" "$release"
  rm -f "$m"/modules.*.bin
  pack "$work/$name" "$k/modules.cpio"
done
