#!/bin/bash
# usage: fetch.sh [name..]      fetches and unpacks the kernels of kernels.list (all, or those named)
# Result: $cache/kernels/<name>/{vmlinuz,release,package,root/}. What is there stays as it is:
# remove the directory to get a newer point release.
. "$(dirname "$0")/common.sh"
names=$(kernels "$@")
lock fetch
declare -A ready=()

# whole <suite> <image>: the packages that make up this kernel, or nothing if the mirror lacks
# one. Since 6.19 the image package is empty and depends on linux-binary-* and linux-modules-*;
# backports drops the modules of superseded versions and keeps the rest. linux-base-*, which it
# drops too, has lists of what is built in (from 7.x): taken if there, and not missed.
whole() {
  local dep deps version=${2#linux-image-}
  deps=$(apt_at "$1" apt-cache show --no-all-versions "$2" | sed -n 's/^Depends: //p' |
    grep -oE 'linux-(binary|modules)-[^ ,|]+' || true)
  for dep in $deps; do
    [ -n "$(apt_at "$1" apt-cache show "$dep" 2>/dev/null)" ] || return 0
  done
  dep=linux-base-$version
  [ -z "$(apt_at "$1" apt-cache show "$dep" 2>/dev/null)" ] || deps+=" $dep"
  echo "$2" ${deps:+"${deps//$'\n'/ }"}
}

# fetch <name> <suite> <regexp>
fetch() {
  local d=$cache/kernels/$1 image packages=''
  [ -n "${ready[$2]:-}" ] || { apt_root "$2" "$2"; ready[$2]=1; }
  for image in $(apt_at "$2" apt-cache search --names-only '^linux-image-' | cut -d' ' -f1 | grep -E -- "$3" | sort -Vr); do
    packages=$(whole "$2" "$image")
    [ -z "$packages" ] || break
  done
  [ -n "$packages" ] || return 1

  rm -rf "$d.new" && mkdir -p "$d.new/deb"
  # shellcheck disable=SC2086 # a list of names
  (cd "$d.new/deb" && apt_at "$2" apt-get download $packages >/dev/null)
  for deb in "$d.new"/deb/*.deb; do dpkg -x "$deb" "$d.new/root"; done
  rm -rf "$d.new/deb"
  # Modules moved to /usr/lib with 6.12, and kmod looks in one place or the other.
  mkdir -p "$d.new/root/usr"
  [ -e "$d.new/root/lib" ] || ln -s usr/lib "$d.new/root/lib"
  [ -e "$d.new/root/usr/lib" ] || ln -s ../lib "$d.new/root/usr/lib"
  find "$d.new/root" -name 'vmlinuz*' -type f -exec cp {} "$d.new/vmlinuz" \;
  ls "$d.new/root/lib/modules" >"$d.new/release"
  depmod -b "$d.new/root" "$(cat "$d.new/release")"
  echo "$packages" >"$d.new/package"
  rm -rf "$d" && mv "$d.new" "$d"
  echo "$1: fetched $packages"
}

failed=0
for name in $names; do
  [ ! -e "$cache/kernels/$name/package" ] || continue
  while read -r n suite regexp _; do
    [ "$n" = "$name" ] || continue
    if fetch "$name" "$suite" "$regexp"; then continue 2; fi
    echo "$name: no complete kernel in $suite" >&2
  done <"$here/kernels.list"
  failed=1
done
exit $failed
