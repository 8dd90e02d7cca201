"""The script that waits on a host while a fault is done there, and the timer that lifts the fault when nobody comes any
more. It knows nothing of what is broken: that is given to it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from shlex import quote

from ismgr_automation.engines.faults.undo import PREFIX, ROOM, Undo
from ismgr_automation.engines.ssh.warm import Load

STANDING, GONE = "standing", "gone"
"""What a look begins with."""

_FIRST = "umask 077; export LC_ALL=C; cd / || exit 1\n"

_BEFORE = """
unit=$1 room=$2
command -v systemd-run >/dev/null 2>&1 && [ -d /run/systemd/system ] ||
  { echo 'systemd is not there, which would lift a fault by itself' >&2; exit 3; }
armed() { systemctl is-active --quiet "$unit.timer"; }
arm() {
  mkdir -p "$room" && printf '%s' "$input" | sed -n 1p > "$room/undo.json" &&
    printf '%s' "$input" | sed 1d > "$room/undo.sh" || return 1
  rm -f "$room/lifting"
  if armed; then systemctl restart "$unit.timer"; return; fi
  systemctl reset-failed "$unit.service" 2>/dev/null
  systemd-run --quiet --collect --unit="$unit" --on-active="$1" --timer-property=AccuracySec=50ms \\
    --property=Restart=on-failure --property=RestartSec=3s /bin/sh "$room/undo.sh"
}
attended() { [ -e "$room/undo.sh" ] && armed && [ ! -e "$room/lifting" ]; }
renew() { attended && systemctl restart "$unit.timer" && [ ! -e "$room/lifting" ]; }
# nothing is broken that no timer will mend, also not by who was held up on the way here
guarded() {
  attended || { echo 'its timer is not armed' >&2; return 1; }
  "$1" || return 1
  attended || { mend; echo 'its timer has fired meanwhile' >&2; return 1; }
}
"""

_SCRIPT = """
case $line in
  arm\\ *) arm "${line#arm }" ;;
  act | second) guarded "$line" ;;
  prove) prove ;;
  renew) renew ;;
  lift)
    # the timer last: who is cut off in the middle of this is not left without one
    mend || exit 1
    systemctl stop "$unit.timer" 2>/dev/null
    systemctl reset-failed "$unit.service" 2>/dev/null
    rm -rf "$room"; rmdir "${room%/*}" 2>/dev/null
    : ;;
esac || exit $?
if armed; then echo timer 1; fi
if [ -e "$room" ]; then echo record 1; fi
look
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scripts:
    """Shell texts for one host; each is the body of a function. ``mend`` and ``look`` need nothing but themselves."""

    mend: str
    """Ends well when nothing of the fault is left; run again, it does no more."""
    look: str
    """Prints ``STANDING`` or ``GONE``, then names and numbers, a pair a line."""
    act: str = ":"
    second: str = ":"
    prove: str = ":"
    """Fails while the host can still do what the fault should keep it from."""


def waiting(undo: Undo, scripts: Scripts) -> Load:
    """What ``Warm.load`` takes. Its lines: ``arm SECONDS``, ``act``, ``second``, ``prove``, ``renew``, ``lift``,
    ``look``; after each that went well it says how things stand."""
    names = ("act", "second", "prove", "mend", "look")
    functions = "".join(f"{name}() {{\n{getattr(scripts, name)}\n}}\n" for name in names)
    unit, room = f"{PREFIX}{undo.key}", f"{ROOM}/{undo.key}"
    alone = (
        f"# Lifts the fault {undo.fault} of the drill {undo.run}, when nobody else does.\n{_FIRST}room={quote(room)}\n"
        f'[ ! -d "$room" ] || : > "$room/lifting"\nmend() {{\n{scripts.mend}\n}}\n'
        'mend || exit 1\nrm -rf "$room"; rmdir "${room%/*}" 2>/dev/null || :\n'
    )
    lines = (json.dumps(undo.json(), sort_keys=True), *alone.splitlines())
    return Load(before=_FIRST + _BEFORE + functions, script=_SCRIPT, arguments=(unit, room), input=lines)


def readings(output: str) -> tuple[bool, dict[str, int]]:
    r"""Whether it stands, and the numbers of a look.

    >>> readings("timer 1\nstanding\nstopped 7\n")
    (True, {'timer': 1, 'stopped': 7})
    """
    stands = False
    found: dict[str, int] = {}
    for line in output.splitlines():
        name, _, number = line.partition(" ")
        stands = stands or line == STANDING
        if number.isdigit():
            found[name] = found.get(name, 0) + int(number)
    return stands, found
