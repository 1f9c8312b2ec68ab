#!/bin/bash
# usage: install.sh      installs what the other scripts need (Debian, Ubuntu); as root or with sudo
. "$(dirname "$0")/common.sh"

packages=(qemu-system-x86 busybox-static cpio kmod nftables iproute2 iperf3 libbpf-tools
  xz-utils zstd e2fsprogs util-linux debian-archive-keyring)

installed() { dpkg-query -W -f '${Status}\n' "$1" 2>/dev/null | grep -q ' installed$'; }
missing=()
for p in "${packages[@]}"; do installed "$p" || missing+=("$p"); done
[ ${#missing[@]} -gt 0 ] || exit 0
command -v apt-get >/dev/null || die "needs ${missing[*]}, and knows only apt"

root=()
[ "$(id -u)" = 0 ] || root=(sudo)
install=(install -y --no-install-recommends -o DPkg::Lock::Timeout=300)
echo "installing ${missing[*]}"

# Where qemu-utils came from backports, the suite's own older qemu could only be installed by
# removing it: then qemu must come from backports too, which apt may not know as a source.
# shellcheck disable=SC1091
backports=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")-backports
if dpkg-query -W -f '${Status} ${Version}\n' 'qemu-*' 2>/dev/null | grep -q ' installed .*~bpo'; then
  for i in "${!missing[@]}"; do
    [ "${missing[i]}" = qemu-system-x86 ] || continue
    unset "missing[i]"
    missing+=({qemu-system-x86,qemu-system-common,qemu-system-data,seabios}"/$backports")
  done
  base=${backports%-backports}
  apt_root tools "$base" "$base-updates" "$base-security" "$backports"
  # The lists are private, the installation is real.
  apt_status=/var/lib/dpkg/status
  declare -f apt_at >"$cache/apt/apt_at.sh"
  # shellcheck disable=SC2016 # expanded by the inner shell
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive cache="$cache" apt_status="$apt_status" \
    bash -c '. "$cache/apt/apt_at.sh"; apt_at tools apt-get "$@"' - "${install[@]}" "${missing[@]}" >"$cache/install.log" 2>&1 ||
    { cat "$cache/install.log" >&2; die "apt-get install failed"; }
else
  "${root[@]}" apt-get -q update >/dev/null || true # a broken third-party source is not our business
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q "${install[@]}" "${missing[@]}"
fi
