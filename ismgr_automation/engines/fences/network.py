"""Fences a host by a table of our own in its packet filter, over a warm SSH connection. Other tables, and the service
itself, are not touched.

The table lives in the kernel alone: a boot lifts it, and so does whoever flushes the ruleset. What comes up on that
host after a boot must therefore not be a primary; ``unfence`` looks at that first, and so does whoever powers it on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_network
from time import monotonic, monotonic_ns

from ismgr_automation.core.errors import InputError
from ismgr_automation.engines.fences.standing import LOOK, WORDS, Standing, standing_of
from ismgr_automation.engines.ssh.remote import Answer
from ismgr_automation.engines.ssh.warm import Load, Loaded, Warm
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.recovery import Acted, FenceRequest, Reading, Seen, Sight
from ismgr_automation.ports.secrets import SecretStore

TABLE = "inet ismgr_fence"

_RULES = """
table {table}
delete table {table}
table {table} {{
    counter refused {{ }}
    counter withheld {{ }}
    chain input {{
        type filter hook input priority -10; policy accept;
        tcp flags rst accept
{spared_in}        tcp dport {port} counter name refused reject with tcp reset
    }}
    chain output {{
        type filter hook output priority -10; policy accept;
        tcp flags rst accept
{spared_out}        tcp sport {port} counter name withheld tcp flags set rst | ack
    }}
}}
"""

_FENCE = f"""
case $line in check) how=-c ;; raise) how= ;; *) how=none ;; esac
if [ "$how" != none ] && ! said=$(printf '%s' "$rules" | nft $how -f - 2>&1); then
  printf '%s\\n' "$said" | head -n 1 >&2
  exit 1
fi
nft list table {TABLE} 2>/dev/null || echo absent
"""

_UNFENCE = f"""
found=$(standing "$1")
if [ "$line" = lift ]; then
  case ",$2," in
    *",$found,"*) nft list table {TABLE} >/dev/null 2>&1 && nft delete table {TABLE} ;;
  esac
fi
echo "$found"
nft list table {TABLE} 2>/dev/null || echo absent
"""

_BEFORE = """
command -v nft >/dev/null 2>&1 || { echo 'nft is not there' >&2; exit 3; }
"""


def ruleset(port: int, spared: tuple[str, ...]) -> str:
    """The table that fences a port, replacing an older one of ours at once.

    - What comes in for the port is answered with a reset, in established connections too: clients learn of it from
      their next byte instead of from a timeout. Connections on the loopback interface are no exception.
    - What goes out from the port is turned into a reset on its way. An answer that was being made must not arrive: it
      would confirm a write that the new primary will not have. And a client that waits for it must not wait for its
      own retransmission (200 ms and more), which is what dropping the answer costs.
    - The standby's stream is cut with the rest. It could only be told from other clients by its address, and who is let
      in by address is not fenced; what is to be promoted does not change under our eyes any more.
    - Resets pass, in both directions. The host's own connections to other hosts' port stay: a fenced member can be
      rewound before it is let out.

    Unix sockets are no network: what runs on the host itself can still write, and nobody will have it.

    ``spared`` are networks; the host's addresses in them stay open. Raises ``InputError`` for one that is none.
    """
    words: dict[str, list[str]] = {"ip": [], "ip6": []}
    for text in spared:
        try:
            network = ip_network(text, strict=False)
        except ValueError:
            raise InputError(f"{text!r} is not a network that a fence could spare.") from None
        words["ip" if network.version == 4 else "ip6"].append(str(network))  # noqa: PLR2004
    found = [(family, ", ".join(sorted(set(some)))) for family, some in words.items() if some]
    return _RULES.format(
        table=TABLE,
        port=port,
        spared_in="".join(f"        {family} daddr {{ {some} }} accept\n" for family, some in found),
        spared_out="".join(f"        {family} saddr {{ {some} }} accept\n" for family, some in found),
    )


class NetworkFence:
    """Implements ``ports.recovery.Verb``: the table is there."""

    def __init__(self, request: FenceRequest, store: SecretStore, context: Context) -> None:
        """Raises ``InputError`` for a spared network that is none, or a host that cannot be connected to."""
        rules = ruleset(request.port, request.spared)
        take_in = "rules=$input\n"
        load = Load(script=_FENCE, before=_BEFORE + take_in, input=tuple(rules.splitlines()))
        self._host = _Host(request, load, store, context)
        self._port = request.port

    def stage(self) -> Seen:
        """Load the ruleset on the host, and let its kernel check it without committing it."""
        return self._seen(self._host.go("check"))

    def observe(self) -> Seen:
        """Whether the table is there, with what it has refused so far."""
        return self._seen(self._host.go("look"))

    def act(self) -> Acted:
        """Commit it; the kernel exchanges the table at once or not at all."""
        return self._host.act("raise", self._seen)

    def close(self) -> None:
        """Let go of the connection."""
        self._host.close()

    def _seen(self, answer: Answer) -> Seen:
        if (trouble := _trouble(answer)) is not None:
            return Seen(sight=Sight.UNKNOWN, words=trouble)
        if _stands(answer.output, self._port):
            return Seen(sight=Sight.DONE, words="its packet filter refuses clients", readings=_counted(answer.output))
        return Seen(sight=Sight.NOT_DONE, words="its packet filter lets clients in")


class NetworkUnfence:
    """Implements ``ports.recovery.Verb``: the table is gone, and what it held back is no primary."""

    def __init__(self, request: FenceRequest, store: SecretStore, context: Context) -> None:
        """Raises ``InputError`` for a host that cannot be connected to by its description."""
        out = ",".join(one for one in Standing if one.goes(giving_back=request.giving_back))
        load = Load(script=_UNFENCE, before=_BEFORE + LOOK, arguments=(str(request.port), out))
        self._giving_back = request.giving_back
        self._host = _Host(request, load, store, context)

    def stage(self) -> Seen:
        """Connect, and look."""
        return self.observe()

    def observe(self) -> Seen:
        """Whether the table is gone. A table that is there, and must not be lifted, is NOT_DONE with why."""
        return self._seen(self._host.go("look"))

    def act(self) -> Acted:
        """Remove the table, unless the host's PostgreSQL is, or could come up as, a primary that nobody gives back."""
        return self._host.act("lift", self._seen)

    def close(self) -> None:
        """Let go of the connection."""
        self._host.close()

    def _seen(self, answer: Answer) -> Seen:
        if (trouble := _trouble(answer)) is not None:
            return Seen(sight=Sight.UNKNOWN, words=trouble)
        word, _, table = answer.output.partition("\n")
        found = standing_of(word)
        readings: dict[str, Reading] = {"postgresql": found.value}
        if table.strip() == "absent":
            return Seen(sight=Sight.DONE, words=f"no fence; {WORDS[found]}", readings=readings)
        words = WORDS[found] if found.goes(giving_back=self._giving_back) else f"it stays fenced: {WORDS[found]}"
        return Seen(sight=Sight.NOT_DONE, words=words, readings=readings | _counted(table))


class _Host:
    """The one host, with a script that waits there."""

    def __init__(self, request: FenceRequest, load: Load, store: SecretStore, context: Context) -> None:
        self._name, self._load, self._deadline = request.host, load, request.deadline
        self._warm = Warm(request.fleet, store, context.cancelled)
        self._warm.__enter__()
        self._loaded: Loaded | None = None

    def go(self, line: str) -> Answer:
        """Ask it, over a new connection where the old one is lost."""
        if self._loaded is None:
            self._loaded = self._warm.load(self._name, self._load)
        elif self._loaded.lost is not None:
            self._loaded = self._loaded.anew()
        return self._loaded.go(self._deadline, line)

    def act(self, line: str, see: Callable[[Answer], Seen]) -> Acted:
        """Ask it to do it, again where the connection was lost, until it is done or the deadline is over."""
        began, end = monotonic_ns(), monotonic() + self._deadline.total_seconds()
        while True:
            answer = self.go(line)
            seen = see(answer)
            if seen.sight is not Sight.UNKNOWN or answer.reach is Reach.OK or monotonic() > end:
                ok = seen.sight is Sight.DONE
                words, readings = seen.words, seen.readings
                return Acted(ok=ok, began_ns=began, ended_ns=monotonic_ns(), words=words, readings=readings)

    def close(self) -> None:
        self._warm.close()


def _trouble(answer: Answer) -> str | None:
    if answer.reach is not Reach.OK:
        return f"cannot be reached ({answer.reach}): {answer.detail}"
    return (answer.detail or f"its packet filter could not be asked (exit {answer.code})") if answer.code else None


def _stands(table: str, port: int) -> bool:
    """Whether the table is ours for this port, in both directions."""
    refused = re.search(rf"tcp dport {port} counter name \"refused\" reject with tcp reset", table)
    withheld = re.search(rf"tcp sport {port} counter name \"withheld\" tcp flags set", table)
    return refused is not None and withheld is not None


def _counted(table: str) -> dict[str, Reading]:
    found = re.findall(r"counter (refused|withheld) {\s*packets (\d+)", table)
    return {f"{name} packets": int(packets) for name, packets in found}
