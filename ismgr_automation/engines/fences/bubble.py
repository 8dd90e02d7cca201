"""Closes a network by tables of our own in its gateways' packet filters, and tries from inside whether that holds.
Other tables are not touched, and nothing here ever opens a way: without us the network is as it was.

No timer lifts the table. A gateway that was forgotten stays closed, which is the safe side; the clone behind it removes
itself (``postgresql.cloning``). A boot of the gateway, or whoever flushes its ruleset, lifts it: ``count`` finds that.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from importlib import resources
from ipaddress import ip_address, ip_network
from time import monotonic_ns

from ismgr_automation.core.errors import InputError
from ismgr_automation.engines.fences import knock
from ismgr_automation.engines.ssh.remote import Answer, Rights
from ismgr_automation.engines.ssh.resident import resident
from ismgr_automation.engines.ssh.warm import Load, Loaded, Warm
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.isolation import BubbleRequest, Counted, Knocks, Tried
from ismgr_automation.ports.recovery import Acted, Seen, Sight
from ismgr_automation.ports.secrets import SecretStore

TABLE = "inet ismgr_bubble"
CARD = "@card@"
"""Stands in the rules for the gateway's interface in the network, which only the gateway knows."""
PATIENCE_SECONDS = 0.1
"""How long silence must last to be silence, after the last of ``knock.TRIES``."""
WITHIN = timedelta(seconds=5)
"""In which a knock must have been told."""
_ANSWERED = frozenset({knock.OPEN, knock.REFUSED})
_COUNTERS = ("dropped_out", "dropped_in", "passed_out", "passed_in", "knocked")

_RULES = """table {table}
delete table {table}
table {table} {{
{counters}
    chain forward {{
        type filter hook forward priority -300; policy accept;
{knocks}{drops}    }}
    chain input {{
        type filter hook input priority -300; policy accept;
{knocks}{drops_in}    }}
    chain output {{
        type filter hook output priority -300; policy accept;
{drops_out}    }}
    chain passed {{
        type filter hook postrouting priority 300; policy accept;
        ip saddr {network} counter name "passed_out"
        oifname "{card}" counter name "passed_in"
    }}
    chain delivered {{
        type filter hook input priority 300; policy accept;
        iifname "{card}" counter name "passed_out"
    }}
}}
"""

_KNOCK = 'iifname "{card}" tcp dport {{ {ports} }} counter name "knocked" comment "{run}"'
_OUT = ('iifname "{card}"', "ip saddr {network}")
_IN = ('oifname "{card}"', "ip daddr {network}")

_BEFORE = """
rules=$input address=$1 run=$2
command -v nft >/dev/null 2>&1 || { echo 'nft is not there' >&2; exit 3; }
card=$(ip -o -4 addr show | while read -r _ card _ here _; do
  [ "${here%/*}" != "$address" ] || printf '%s' "$card"; done)
[ -n "$card" ] || { echo "it has no interface with the address $address" >&2; exit 3; }
"""

_SCRIPT = f"""
case $line in
  shut)
    if ! nft list table {TABLE} 2>/dev/null | grep -qF "comment \\"$run\\""; then
      said=$(printf '%s' "$rules" | sed "s/{CARD}/$card/g" | nft -f - 2>&1) || {{
        printf '%s\\n' "$said" | head -n 1 >&2; exit 1; }}
    fi ;;
  lift) ! nft list table {TABLE} >/dev/null 2>&1 || nft delete table {TABLE} || exit 1 ;;
esac
echo "$card"
nft list table {TABLE} 2>/dev/null || echo absent
"""


def ruleset(network: str, run: str, ports: Sequence[int]) -> str:
    """The table that closes a network, with ``CARD`` for the gateway's interface there.

    - What comes from the network's interface or addresses, and what goes to them, is dropped before connections are
      looked up: established ones are no exception, nor is the gateway itself.
    - Behind that, where packets leave the gateway or reach a program on it, others count what comes from or goes to the
      network: a rule that does not drop is found by its counter.
    - Tries to reach a database from inside are counted apart, so that noise is not taken for them.

    Raises ``InputError`` for a network or run that is none.
    """
    try:
        cidr = ip_network(network)
    except ValueError:
        raise InputError(f"{network!r} is not a network that could be closed.") from None
    if cidr.version != 4:  # noqa: PLR2004
        raise InputError(f"{network} is not an IPv4 network, and no other can be closed.")
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", run):
        raise InputError(f"{run!r} cannot be the name of a run.")
    values = {"card": CARD, "network": str(cidr)}
    return _RULES.format(
        table=TABLE,
        knocks=f"        {_KNOCK.format(run=run, ports=', '.join(map(str, sorted(set(ports)))), **values)}\n",
        counters="".join(f"    counter {name} {{ }}\n" for name in _COUNTERS).rstrip("\n"),
        drops=_dropping([*_OUT], "dropped_out", values) + _dropping([*_IN], "dropped_in", values),
        drops_in=_dropping([*_OUT], "dropped_out", values),
        drops_out=_dropping([*_IN], "dropped_in", values),
        **values,
    )


def _dropping(matches: Sequence[str], counter: str, values: Mapping[str, str]) -> str:
    return "".join(f'        {one.format(**values)} counter name "{counter}" drop\n' for one in matches)


class HostIsolation:
    """Implements ``ports.isolation.Isolation`` over SSH."""

    def __init__(self, store: SecretStore) -> None:
        """Connects to nobody yet."""
        self._store = store

    def bubble(self, request: BubbleRequest, context: Context) -> HostBubble:
        """Raises ``InputError`` for what cannot be a network, an address or a place, and for hosts that cannot be
        connected to by their description."""
        return HostBubble(request, self._store, context)


class HostBubble:
    """Implements ``ports.isolation.Bubble``."""

    def __init__(self, request: BubbleRequest, store: SecretStore, context: Context) -> None:
        """See ``HostIsolation.bubble``."""
        self._request = request
        self._places = {place: _place(place) for place in request.places}
        rules = ruleset(request.network, request.run, [port for _, port in self._places.values()])
        for address in request.gateways.values():
            if ip_address(address) not in ip_network(request.network):
                raise InputError(f"{address} is not in {request.network}: its gateway would close another network.")
        self._rules = tuple(rules.splitlines())
        self._warm = Warm(request.fleet, store, context.cancelled)
        self._warm.__enter__()
        self._gateways: dict[str, Loaded] = {}
        self._inside: dict[str, Loaded] = {}

    def stage(self) -> Seen:
        """Connect to the gateways and to the host inside, and look."""
        program = resources.files(knock.__package__ or "").joinpath("knock.py").read_text(encoding="utf-8")
        loading = {
            place: self._warm.begin_load(self._request.inside, resident(program, (address, str(port)), Rights.USER))
            for place, (address, port) in self._places.items()
        }
        found = self._all("look")
        self._inside = {place: done() for place, done in loading.items()}
        lost = [f"{self._request.inside}: {one.lost.detail}" for one in self._inside.values() if one.lost is not None]
        trouble = [f"{name}: {_trouble(one)}" for name, one in found.items() if _trouble(one)]
        if lost or trouble:
            return Seen(sight=Sight.UNKNOWN, words="; ".join([*trouble, *lost[:1]]))
        stands = [self._stands(one) for one in found.values()]
        return Seen(sight=Sight.DONE if all(stands) else Sight.NOT_DONE)

    def shut(self) -> Acted:
        """Raise the table on every gateway; the kernel exchanges it at once or not at all."""
        return self._act("shut", lambda one: "" if self._stands(one) else "its rules are not those that were raised")

    def knock(self) -> Callable[[], Knocks]:
        """Knock at every place of production at once; it takes ``PATIENCE_SECONDS`` and a little more."""
        began = monotonic_ns()
        asked = {place: one.begin(WITHIN, str(PATIENCE_SECONDS)) for place, one in self._inside.items()}

        def heard() -> Knocks:
            answers = {place: done() for place, done in asked.items()}
            took = max((one.seconds for one in answers.values()), default=0.0)
            met = {place: _met(one) for place, one in answers.items()}
            tried = tuple(Tried(place=place, met=one, reached=one in _ANSWERED) for place, one in met.items() if one)
            return Knocks(tried=tried, began_ns=began, ended_ns=began + int(took * 1e9))

        return heard

    def count(self) -> Counted:
        """What the counters of all gateways say."""
        found = self._all("look")
        wrong = [f"{name}: {_trouble(one) or 'the rules of this run are not there'}"
                 for name, one in found.items() if not self._stands(one)]  # fmt: skip
        total = {name: sum(_counted(one.output, name) for one in found.values()) for name in _COUNTERS}
        return Counted(whole=bool(found) and not wrong, words="; ".join(wrong), **total)

    def lift(self) -> Acted:
        """Remove the table from every gateway."""
        return self._act("lift", lambda one: "" if one.output.endswith("absent\n") else "its rules are still there")

    def close(self) -> None:
        """Let go of all connections."""
        self._warm.close()

    def _act(self, line: str, wrong: Callable[[Answer], str]) -> Acted:
        began = monotonic_ns()
        found = self._all(line)
        said = [f"{name}: {why}" for name, one in found.items() if (why := _trouble(one) or wrong(one))]
        return Acted(ok=not said, began_ns=began, ended_ns=monotonic_ns(), words="; ".join(said))

    def _all(self, line: str) -> dict[str, Answer]:
        """Every gateway's answer, over a new connection where the old one is lost."""
        for name, address in self._request.gateways.items():
            known = self._gateways.get(name)
            if known is None:
                load = Load(script=_SCRIPT, before=_BEFORE, arguments=(address, self._request.run), input=self._rules)
                self._gateways[name] = self._warm.load(name, load)
            elif known.lost is not None:
                self._gateways[name] = known.anew()
        asked = {name: one.begin(self._request.deadline, line) for name, one in self._gateways.items()}
        return {name: done() for name, done in asked.items()}

    def _stands(self, answer: Answer) -> bool:
        """Whether the table of a gateway is, rule by rule, the one that this run raised there."""
        card, _, table = answer.output.partition("\n")
        wanted = [line.strip() for line in self._rules if "counter name" in line]
        # some stand in several chains, and must be there as often
        raised = Counter(_plain(one.replace(CARD, card)) for one in wanted)
        return not _trouble(answer) and raised <= Counter(_plain(line.strip()) for line in table.splitlines())


def _plain(rule: str) -> str:
    """A rule as the kernel's list and ours agree on it: a set of one is written as its element."""
    return re.sub(r"\{ (\S+) \}", r"\1", rule)


def _place(text: str) -> tuple[str, int]:
    address, _, port = text.rpartition(":")
    try:
        return str(ip_address(address)), int(port)
    except ValueError:
        raise InputError(f"{text!r} is not a place (ADDRESS:PORT) that could be tried.") from None


def _met(answer: Answer) -> str:
    """What a knock met; nothing where nobody knocked."""
    if answer.reach is not Reach.OK or answer.code:
        return ""
    return str(json.loads(answer.output)["met"])


def _trouble(answer: Answer) -> str:
    if answer.reach is not Reach.OK:
        return f"cannot be reached ({answer.reach}): {answer.detail}"
    return (answer.detail or f"its packet filter could not be asked (exit {answer.code})") if answer.code else ""


def _counted(table: str, name: str) -> int:
    found = re.search(rf"counter {name} {{\s*packets (\d+)", table)
    return int(found[1]) if found else 0
