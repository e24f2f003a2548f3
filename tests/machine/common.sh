# Shared by boot, run, halt and reboot: where a machine lives, and how messages look. Sourced, not run.
# shellcheck shell=bash
set -euo pipefail
MACHINES=${FLYTED_MACHINES:-/var/tmp/flyted-machine}   # rootfs caches, and one folder for each machine
NAME=${FLYTED_MACHINE:-default}                        # which machine; two at a time need two names
# shellcheck disable=SC2034  # the sourcing script reads it
MACHINE=$MACHINES/$NAME

fail() { echo "${0##*/}: $*" >&2; exit 1; }
((EUID == 0)) || fail "needs root: sudo $0"

# The process id, outside, of the machine's PID 1; fails when it is not running.
init_pid() {
    local pid
    pid=$(cat "$MACHINE/pid" 2>/dev/null) && [[ -n $pid ]] || return 1
    tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | grep -qx "container=flyted-machine" || return 1
    echo "$pid"
}
