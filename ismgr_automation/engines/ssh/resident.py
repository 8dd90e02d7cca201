"""Keeps a Python program running on a host, over a warm connection: it is asked one line and answers one line, without
being started anew. What the program does is the caller's affair."""

from __future__ import annotations

from ismgr_automation.engines.ssh.remote import Rights
from ismgr_automation.engines.ssh.warm import Load

READY = "ready"
"""What a program prints when it waits for its first line."""

_BEFORE = f"""
command -v python3 >/dev/null 2>&1 || {{ echo 'python3 is not there' >&2; exit 3; }}
ways=$(mktemp -d) || exit 3
mkfifo "$ways/asked" "$ways/said" || exit 3
python3 -ISuc "$@" <"$ways/asked" >"$ways/said" &
exec 3>"$ways/asked" 4<"$ways/said"
rm -r "$ways"
IFS= read -r said <&4
if [ "$said" != {READY} ]; then echo "the program did not begin: $said" >&2; exit 3; fi
"""

_SCRIPT = """
printf '%s\\n' "$line" >&3 && IFS= read -r said <&4 || { echo 'the program has ended' >&2; exit 4; }
printf '%s' "$said"
"""


def resident(program: str, arguments: tuple[str, ...], rights: Rights = Rights.ROOT) -> Load:
    """What ``Warm.load`` takes. The program prints ``ready``, then one line for each line that it reads, and ends at
    the end of its input: when the connection ends, it does."""
    return Load(before=_BEFORE, script=_SCRIPT, arguments=(program, *arguments), rights=rights)
