"""Slows a site's link down at its gateway: by a token bucket on the interfaces where the kernel has one, else by a
limit in the packet filter, which drops what is too much instead of letting it wait."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from ipaddress import ip_network
from shlex import quote

from ismgr_automation.core.errors import InputError
from ismgr_automation.engines.faults.cutting import NFT, committed, filtered
from ismgr_automation.engines.faults.deadman import Scripts
from ismgr_automation.engines.faults.means import Craft, Means
from ismgr_automation.engines.faults.undo import HANDLE, Hurt, Values, Way, table_of
from ismgr_automation.ports.faults import FaultRequest

_UNITS = {"k": 1_000, "m": 1_000_000, "g": 1_000_000_000}
_LEAST_BURST = 32_768
_TIMER_HZ = 250
"""How often the kernel refills a bucket at least; it must hold what passes in between."""

_PROBE = f"""{NFT}
managed=$1; shift
for one; do
  device=$(ip -o route get "$one" 2>/dev/null | sed -n 's/.* dev \\([^ ]*\\) .*/\\1/p')
  [ -n "$device" ] && [ "$device" != lo ] || continue
  ! ip -o address show dev "$device" | grep -qF " $managed/" ||
    {{ echo "$device is the interface that it is managed over" >&2; exit 3; }}
  case " $seen " in *" $device "*) continue ;; esac
  seen="$seen $device"
  echo "devices $device"
  [ "${{target:-}}" ] || {{ target=$one; echo "target $one"; }}
  case $(tc qdisc show dev "$device" 2>/dev/null | head -n 1) in
    '' | *' 0: root '* | *' {HANDLE} root '*) ;;
    *) echo "refused $device has a queue of somebody's own" ;;
  esac
done
[ "$seen" ] || {{ echo 'it has no interface towards the site' >&2; exit 3; }}
command -v tc >/dev/null 2>&1 || echo 'refused tc is not there'
grep -q ' tbf_enqueue' /proc/kallsyms || modprobe -nq sch_tbf 2>/dev/null ||
  echo 'refused its kernel has no token bucket'
"""

_SHOUT = """
command -v python3 >/dev/null 2>&1 || return 0
python3 -ISc 'import socket, sys
with socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM) as one:
    one.setblocking(False)
    for _ in range(500):
        try:
            one.sendto(bytes(1000), (sys.argv[1], 9))
        except OSError:
            pass' {target}
"""
"""Sends what no slow link can carry at once, to a port where nobody listens."""


def bytes_of(rate: str) -> int:
    """Bytes in a second. Raises ``InputError``.

    >>> bytes_of("1mbit")
    125000
    """
    found = re.fullmatch(r"([1-9][0-9]*)([kmg])bit", rate)
    if found is None:
        raise InputError(f"{rate!r} is no rate of a link: 256kbit, 1mbit, 1gbit.")
    return int(found[1]) * _UNITS[found[2]] // 8


def queued(values: Values) -> Scripts:
    """Mends and looks at our queues; those of others stay."""
    devices = " ".join(quote(one) for one in values["devices"].split())
    ours = f"tc qdisc show dev $one 2>/dev/null | grep -q ' {HANDLE} root '"
    mend = f"""for one in {devices}; do
  ! {ours} || tc qdisc del dev "$one" root || return 1
done"""
    look = f"""state=gone
for one in {devices}; do ! {ours} || state=standing; done
echo $state
for one in {devices}; do
  ! {ours} || tc -s qdisc show dev "$one" |
    sed -n 's/.*(dropped \\([0-9]*\\), overlimits \\([0-9]*\\) .*/dropped \\1\\npackets \\2/p'
done"""
    return Scripts(mend=mend, look=look)


def _queue(request: FaultRequest, values: Values) -> Scripts:
    burst = max(_LEAST_BURST, bytes_of(request.rate) // _TIMER_HZ)
    latency = max(1, request.latency // timedelta(milliseconds=1))
    words = f"handle {HANDLE} tbf rate {request.rate} burst {burst} latency {latency}ms"
    devices = " ".join(quote(one) for one in values["devices"].split())
    mended = queued(values)
    act = f'for one in {devices}; do tc qdisc replace dev "$one" root {words} || return 1; done'
    prove = _SHOUT.replace("{target}", quote(values["target"]))
    return Scripts(act=act, prove=prove, mend=mended.mend, look=mended.look)


def _policer(request: FaultRequest, values: Values) -> Scripts:
    names = ", ".join(f'"{one}"' for one in values["devices"].split())
    much = bytes_of(request.rate)
    rules = f"""table inet {values["table"]}
delete table inet {values["table"]}
table inet {values["table"]} {{
  counter cut {{ }}
  chain postrouting {{
    type filter hook postrouting priority -10; policy accept;
    oifname {{ {names} }} limit rate over {much} bytes/second burst {_LEAST_BURST} bytes counter name cut drop
  }}
}}
"""
    mended = filtered(values)
    prove = _SHOUT.replace("{target}", quote(values["target"]))
    return Scripts(act=committed(rules), prove=prove, mend=mended.mend, look=mended.look)


def _probe(request: FaultRequest, host: str) -> tuple[str, tuple[str, ...]]:
    bytes_of(request.rate)
    managed = next((one.address for one in request.fleet.hosts if one.name == host), "")
    places = [str(place) for text in (*request.networks, *request.peers) for place in _places(text)]
    inside = [request.address] if request.address else []
    return _PROBE, (managed, *inside, *places)


def _places(network: str) -> list[object]:
    """Two addresses of it: one may be the gateway's own."""
    try:
        found = ip_network(network, strict=False)
    except ValueError:
        raise InputError(f"{network!r} is not a network whose link could be slow.") from None
    return [found[min(number, found.num_addresses - 1)] for number in (1, 2)]


def _means(request: FaultRequest, found: Mapping[str, str]) -> Means:
    values = {"devices": found["devices"], "target": found["target"]}
    if "refused" not in found:
        hurt = Hurt(way=Way.QUEUE, values=values)
        words = f"a token bucket on {', '.join(found['devices'].split())}"
        return Means(hurt=hurt, scripts=_queue(request, values), words=words)
    hurt = Hurt(way=Way.POLICER, values={**values, "table": table_of(request)})
    words = f"its packet filter drops what is too much, and lets nothing wait ({found['refused']})"
    return Means(hurt=hurt, scripts=_policer(request, hurt.values), words=words)


SLOW = Craft(probe=_probe, means=_means)
