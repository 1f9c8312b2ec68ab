#!/bin/bash
# usage: matrix.sh <jobdir> [name..]      the job on every kernel of kernels.list, or those named
# Prints one line per kernel as it finishes, and the end of the console of those that failed.
# Exit code 0 only if the job returned 0 on all of them. EBREC_VM_PARALLEL VMs at a time (2).
. "$(dirname "$0")/common.sh"
[ $# -ge 1 ] || die "usage: matrix.sh <jobdir> [name..]"
job=$1
shift
names=$(kernels "$@")
# shellcheck disable=SC2086 # a list of names
"$here/fetch.sh" $names
# shellcheck disable=SC2086
"$here/initrd.sh" $names
out=${EBREC_VM_OUT:-$cache/out}

# shellcheck disable=SC2016 # expanded by the inner shell
xargs -P "${EBREC_VM_PARALLEL:-2}" -I{} bash -c '
  # TCG now and then runs into the int3 of a place that the kernel patches while it runs (README.md): that says nothing of the job.
  for try in 1 2 3; do
    line=$("$1/run.sh" "$4" "$2" 2>&1 >/dev/null); rc=$?
    echo "$line"
    if [ $rc != 125 ] || ! grep -q "Oops: int3" "$3/$4.log"; then break; fi
    echo "   an int3 of code that was being patched; try $try of 3"
  done
  [ $rc = 0 ] || { echo "   --- end of $3/$4.log"; tail -n 20 "$3/$4.log" | sed "s/^/   /"; }
  exit $((rc != 0))' - "$here" "$job" "$out" {} <<<"$names" || exit 1
