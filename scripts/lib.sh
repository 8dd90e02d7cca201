# shellcheck shell=bash
# What every script shares: where the checkout is, how to say what happens, how to become root. Sourced, never run.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034  # read by the scripts that source this file
BIN=$ROOT/.venv/bin

# hundreds of short Python processes are started: none of them shall compile the same files again
unset PYTHONDONTWRITEBYTECODE

say() { printf '==> %s\n' "$*"; }

fail() {
    printf 'error: %s\n' "$1" >&2
    shift
    (($# == 0)) || printf '  %s\n' "$@" >&2
    exit 1
}

# as_root COMMAND...: runs it, through sudo where this is not root.
as_root() {
    if ((EUID == 0)); then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo env "PATH=$PATH" "$@"
    else
        fail "this needs root, and there is no sudo here: $*" "Run it as root, or install sudo."
    fi
}
