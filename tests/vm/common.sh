# shellcheck shell=bash
# Sourced by the scripts beside it: where things live, and apt without touching the system's apt.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${EBREC_VM_CACHE:-$here/../../target/vm}
mkdir -p "$cache" && cache=$(cd "$cache" && pwd)
# ip, modprobe, the peers: an unprivileged user's PATH lacks them.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

die() { echo "${0##*/}: $*" >&2; exit 125; }

# One job per cache at a time: two matrix runs may share it.
lock() { exec {lock_fd}>"$cache/$1.lock"; flock "$lock_fd"; }

# kernels [name..]: the names in kernels.list, or those given, checked against it.
kernels() {
  local all name
  all=$(awk '!/^[[:space:]]*(#|$)/ && !seen[$1]++ { print $1 }' "$here/kernels.list")
  for name in "$@"; do
    grep -qxF -e "$name" <<<"$all" || die "no kernel '$name' in kernels.list, which has: ${all//$'\n'/ }"
  done
  if [ $# -gt 0 ]; then printf '%s\n' "$@"; else printf '%s\n' "$all"; fi
}

# mirror main|security: the Debian mirror this machine is set up for, or the public one.
# `indextargets` is apt's own reading of its sources, so deb822 and classic lists look alike;
# without release info it answers even if no list was ever downloaded.
mirror() {
  local release default id='' codename='' found=''
  if [ "$1" = main ]; then
    [ -z "${EBREC_VM_MIRROR:-}" ] || { echo "$EBREC_VM_MIRROR"; return; }
    release='' default=http://deb.debian.org/debian
  else
    [ -z "${EBREC_VM_MIRROR_SECURITY:-}" ] || { echo "$EBREC_VM_MIRROR_SECURITY"; return; }
    release=-security default=http://deb.debian.org/debian-security
  fi
  # shellcheck disable=SC1091
  id=$(. /etc/os-release && echo "${ID:-}") codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  if [ "$id" = debian ]; then
    # shellcheck disable=SC2016 # apt expands these
    found=$(apt-get indextargets --no-release-info --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
      awk -v want="$codename$release" '$1 == want && $2 == "main" && !uri { uri = $3 } END { print uri }')
  fi
  echo "${found:-$default}"
}

# deb_line <suite>: its sources.list line.
deb_line() {
  local keyring kind=main
  for keyring in /usr/share/keyrings/debian-archive-keyring.{gpg,pgp}; do [ -e "$keyring" ] && break; done
  [ -e "$keyring" ] || die "no debian-archive-keyring: run tests/vm/install.sh"
  case $1 in *-security) kind=security ;; esac
  echo "deb [arch=amd64 signed-by=$keyring] $(mirror $kind) $1 main"
}

# apt_at <root> <apt tool> args..: apt with its own sources and lists under $cache/apt/<root>,
# and no installed packages, so that nothing resolves against the machine or leaks into it.
# Options on the command line, because apt.conf.d would win over an APT_CONFIG file.
# Old suites let their Release files expire; the signature is still checked.
apt_at() {
  local r=$cache/apt/$1 tool=$2 status=${apt_status:-$cache/apt/$1/status}
  shift 2
  "$tool" -q \
    -o Dir::Etc::sourcelist="$r/sources.list" -o Dir::Etc::sourceparts=/dev/null \
    -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
    -o Dir::State="$r" -o Dir::State::lists="$r/lists" -o Dir::State::status="$status" \
    -o Dir::Cache="$r/cache" -o APT::Default-Release= -o APT::Sandbox::User=root \
    -o Acquire::Languages=none -o Acquire::Retries=3 \
    -o Acquire::Check-Valid-Until=false -o Acquire::Check-Date=false "$@"
}

# apt_root <root> <suite..>: make that root, and fetch its lists.
apt_root() {
  local r=$cache/apt/$1 suite
  shift
  mkdir -p "$r"/lists/partial "$r"/cache/archives/partial
  [ -e "$r/status" ] || : >"$r/status"
  for suite in "$@"; do deb_line "$suite"; done >"$r/sources.list"
  apt_at "${r##*/}" apt-get update >"$r/update.log" 2>&1 || { cat "$r/update.log" >&2; die "cannot read $*"; }
}
