"""Freezes a PostgreSQL server: by the kernel's freezer where the control group of its unit can be written, else by
SIGSTOP to each of its processes. The host itself goes on."""

from __future__ import annotations

from collections.abc import Mapping
from shlex import quote

from ismgr_automation.engines.faults.deadman import Scripts
from ismgr_automation.engines.faults.means import Craft, Means
from ismgr_automation.engines.faults.servers import OURS, layout_arguments
from ismgr_automation.engines.faults.undo import Hurt, Values, Way
from ismgr_automation.engines.postgresql.layout import FIRST
from ismgr_automation.ports.faults import FaultRequest

_PROBE = f"""{FIRST}
alive || {{ echo 'no server runs there' >&2; exit 3; }}
echo "data $(readlink -f "$data")"
base=$(awk '$3 == "cgroup2" {{ print $2; exit }}' /proc/mounts)
group=$base$(sed -n 's/^0:://p' "/proc/$pid/cgroup")
case $group in *.service | *.scope) ;; *) exit 0 ;; esac
[ -w "$group/cgroup.freeze" ] || exit 0
# whoever else lives in that group would be frozen too
for one in $(cat "$group/cgroup.procs"); do
  case $(readlink "/proc/$one/cwd") in "$(readlink -f "$data")" | '') ;; *) exit 0 ;; esac
done
echo "group $group"
"""

_STATES = """
states() { for one in $(ours); do sed -n 's/.*) \\(.\\) .*/\\1/p' "/proc/$one/stat" 2>/dev/null; done; }
"""


def signal(values: Values) -> Scripts:
    """By SIGSTOP: the postmaster first, so that no process is added while the others are stopped."""
    first = f"data={quote(values['data'])}\n{OURS}{_STATES}"
    act = f"""{first}
kill -STOP "$(head -n 1 "$data/postmaster.pid")" || return 1
tries=100
while :; do
  some=$(ours) && [ -n "$some" ] && kill -STOP $some 2>/dev/null
  states | grep -qv '[TtZX]' || break
  tries=$((tries - 1)); [ "$tries" -gt 0 ] || {{ echo 'some of its processes do not stop' >&2; return 1; }}
done"""
    mend = f"""{first}
tries=100
while some=$(ours) && [ -n "$some" ]; do
  kill -CONT $some 2>/dev/null
  states | grep -q '[Tt]' || break
  tries=$((tries - 1)); [ "$tries" -gt 0 ] || {{ echo 'some of its processes do not go on' >&2; return 1; }}
done"""
    look = f"""{first}
all=$(states | grep -cv '[ZX]') stopped=$(states | grep -c '[Tt]')
if [ "$stopped" -gt 0 ]; then echo standing; else echo gone; fi
echo "processes $all"; echo "stopped $stopped\""""
    return Scripts(act=act, mend=mend, look=look)


def freezer(values: Values) -> Scripts:
    """By the freezer of the server's own control group."""
    group = f"group={quote(values['group'])}"
    act = f"""{group}
echo 1 > "$group/cgroup.freeze" || return 1
tries=200
until grep -qx 'frozen 1' "$group/cgroup.events"; do
  tries=$((tries - 1)); [ "$tries" -gt 0 ] || {{ echo 'its group does not freeze' >&2; return 1; }}
done"""
    mend = f"""{group}
[ ! -e "$group/cgroup.freeze" ] || echo 0 > "$group/cgroup.freeze\""""
    look = f"""{group}
all=$(cat "$group/cgroup.procs" 2>/dev/null | wc -l)
if grep -qx 1 "$group/cgroup.freeze" 2>/dev/null; then echo standing; else echo gone; fi
echo "processes $all"
if grep -qx 'frozen 1' "$group/cgroup.events" 2>/dev/null; then echo "stopped $all"; else echo 'stopped 0'; fi"""
    return Scripts(act=act, mend=mend, look=look)


def _probe(request: FaultRequest, host: str) -> tuple[str, tuple[str, ...]]:
    return _PROBE, layout_arguments(request, host)


def _means(request: FaultRequest, found: Mapping[str, str]) -> Means:
    del request
    if "group" in found:
        hurt = Hurt(way=Way.FREEZER, values={"group": found["group"]})
        return Means(hurt=hurt, scripts=freezer(hurt.values), words="its unit's control group is frozen")
    hurt = Hurt(way=Way.SIGNAL, values={"data": found["data"]})
    words = "SIGSTOP to each process of its server, because no freezer can be written there"
    return Means(hurt=hurt, scripts=signal(hurt.values), words=words)


FREEZE = Craft(probe=_probe, means=_means)
