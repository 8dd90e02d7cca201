"""Looks on hosts for what faults of any run have left there: by what is there, whatever was written down. Mends
nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ismgr_automation.core.errors import InputError
from ismgr_automation.core.json import JsonObject
from ismgr_automation.engines.faults.filling import MARK
from ismgr_automation.engines.faults.hosts import Within, troubles
from ismgr_automation.engines.faults.undo import HANDLE, PREFIX, ROOM, TABLE, read_undo
from ismgr_automation.engines.ssh.remote import Answer
from ismgr_automation.engines.ssh.warm import Warm
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.secrets import SecretStore

_FIRST = "export LC_ALL=C; cd / || exit 1\n"

LOOK = f"""{_FIRST}
for one in {ROOM}/*; do [ ! -e "$one" ] || echo "the record of a fault, ${{one##*/}}"; done
systemctl list-units --all --plain --no-legend '{PREFIX}*' 2>/dev/null | sed 's/^\\([^ ]*\\).*/the unit \\1/'
nft list tables 2>/dev/null | sed -n 's/^table inet \\({TABLE}.*\\)/the table \\1 in its packet filter/p'
tc qdisc show 2>/dev/null | sed -n 's/^qdisc tbf {HANDLE} dev \\([^ ]*\\) root.*/a queue on \\1/p'
for one in /proc/[0-9]*; do
  [ "$(cat "$one/comm" 2>/dev/null)" = postgres ] || continue
  if sed -n 's/.*) \\(.\\) .*/\\1/p' "$one/stat" 2>/dev/null | grep -q T; then
    echo "process ${{one#/proc/}} of a database is stopped"
  fi
  if grep -q '^Max file size *0 ' "$one/limits" 2>/dev/null; then
    echo "process ${{one#/proc/}} of a database may write no file"
  fi
done
find /sys/fs/cgroup -path '*postgresql*' -name cgroup.freeze -exec grep -lx 1 {{}} + 2>/dev/null |
  sed 's,/cgroup.freeze$, is frozen,'
for one in /etc/postgresql/*/*/conf.d/zz-{MARK}*; do [ ! -e "$one" ] || echo "the settings $one"; done
"""
"""Prints what is left, a line each. It needs root."""

_FOUND = f"""{_FIRST}
for one in {ROOM}/*/undo.json; do [ ! -e "$one" ] || cat "$one"; done
"""


def left(store: SecretStore, within: Within) -> tuple[str, ...]:
    """What is left, a sentence each. Raises ``Cancelled``."""
    found: list[str] = []
    for name, answer in _asked(LOOK, store, within).items():
        if trouble := troubles({name: answer}):
            found.append(f"{trouble}; nobody can say what is left there, and it may have no power")
        found += [f"{name}: {line}" for line in answer.output.splitlines() if line]
    return tuple(found)


def kept(store: SecretStore, within: Within) -> tuple[JsonObject, ...]:
    """The undo of each fault that the hosts know of, once. Raises ``Cancelled``."""
    found: dict[str, JsonObject] = {}
    for answer in _asked(_FOUND, store, within).values():
        for line in answer.output.splitlines() if answer.reach is Reach.OK else ():
            try:
                words = json.loads(line)
                found[read_undo(words).key] = words
            except (ValueError, InputError):
                continue
    return tuple(found.values())


def _asked(script: str, store: SecretStore, within: Within) -> Mapping[str, Answer]:
    with Warm(within.fleet, store, within.context.cancelled) as warm:
        asked = {name: warm.begin_run(name, script, (), within.deadline) for name in within.fleet.names}
        return {name: answer() for name, answer in asked.items()}
