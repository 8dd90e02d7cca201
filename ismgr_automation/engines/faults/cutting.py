"""Cuts networks off at their gateway, by a table of its own in the packet filter. What the gateway itself sends, and
SSH through it, goes on: whoever is cut off can still be mended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from itertools import product
from shlex import quote

from ismgr_automation.core.errors import InputError
from ismgr_automation.engines.faults.deadman import Scripts
from ismgr_automation.engines.faults.means import Craft, Means
from ismgr_automation.engines.faults.undo import Hurt, Values, Way, table_of
from ismgr_automation.ports.faults import Direction, FaultRequest, Harm

NFT = "command -v nft >/dev/null 2>&1 || { echo 'nft is not there' >&2; exit 3; }\n"

_PROBE = f"""{NFT}
[ "$(cat /proc/sys/net/ipv4/ip_forward)" = 1 ] || {{ echo 'it forwards nothing: it is no gateway' >&2; exit 3; }}
said=$(printf '%s' "$1" | nft -c -f - 2>&1) || {{ printf '%s\\n' "$said" | head -n 1 >&2; exit 3; }}
echo way filter
"""

_RULES = """table inet {table}
delete table inet {table}
table inet {table} {{
  counter cut {{ }}
  chain forward {{
    type filter hook forward priority -10; policy accept;
    tcp dport 22 accept
    tcp sport 22 accept
{rules}
  }}
}}
"""


def networks_of(texts: Sequence[str]) -> dict[str, str]:
    """The ranges as sets of a packet filter, by family. Raises ``InputError`` for what is no network.

    >>> networks_of(["10.1.0.0/24", "fd00::/64"])
    {'ip': '{ 10.1.0.0/24 }', 'ip6': '{ fd00::/64 }'}
    """
    found: dict[str, set[str]] = {}
    for text in texts:
        try:
            network = ip_network(text, strict=False)
        except ValueError:
            raise InputError(f"{text!r} is not a network that could be cut off.") from None
        found.setdefault("ip" if network.version == 4 else "ip6", set()).add(str(network))  # noqa: PLR2004
    return {family: f"{{ {', '.join(sorted(some))} }}" for family, some in found.items()}


def site_rules(request: FaultRequest) -> str:
    """Everything of the site, in the direction that is asked for."""
    ends = {Direction.IN: ("daddr",), Direction.OUT: ("saddr",), Direction.BOTH: ("daddr", "saddr")}
    sets = networks_of(request.networks).items()
    return _table(request, [f"{family} {end} {some}" for end in ends[request.direction] for family, some in sets])


def peer_rules(request: FaultRequest) -> str:
    """What goes between the sites alone."""
    peers, own = networks_of(request.peers), networks_of(request.networks)
    pairs = [(family, one, peers[family]) for family, one in own.items() if family in peers]
    both = product(pairs, (("saddr", "daddr"), ("daddr", "saddr")))
    return _table(request, [f"{family} {a} {one} {family} {b} {other}" for (family, one, other), (a, b) in both])


def filtered(values: Values) -> Scripts:
    """Mends and looks at a table, whatever is in it."""
    table = quote(values["table"])
    return Scripts(
        mend=f"nft list table inet {table} >/dev/null 2>&1 || return 0\nnft delete table inet {table}",
        look=f"""if said=$(nft list table inet {table} 2>/dev/null); then echo standing; else echo gone; fi
printf '%s\\n' "$said" | sed -n 's/.*packets \\([0-9]*\\) bytes.*/packets \\1/p'""",
    )


def committed(rules: str) -> str:
    """Shell that commits rules, at once or not at all."""
    return f"printf '%s' {quote(rules)} | nft -f -"


def _table(request: FaultRequest, matches: Sequence[str]) -> str:
    if not matches:
        raise InputError(f"{request.name}: no network is named that could be cut off.")
    rules = "\n".join(f"    {match} counter name cut drop" for match in matches)
    return _RULES.format(table=table_of(request), rules=rules)


def _probe(request: FaultRequest, host: str) -> tuple[str, tuple[str, ...]]:
    del host
    return _PROBE, (site_rules(request),)


def _means(request: FaultRequest, found: Mapping[str, str]) -> Means:
    hurt = Hurt(way=Way(found["way"]), values={"table": table_of(request)})
    rolling = request.harm is Harm.ROLLING
    scripts = filtered(hurt.values)
    site, first = committed(site_rules(request)), committed(peer_rules(request)) if rolling else ""
    both = Scripts(act=first or site, second=site if rolling else ":", mend=scripts.mend, look=scripts.look)
    return Means(hurt=hurt, scripts=both, words="its packet filter drops what it would forward, but SSH")


CUT = Craft(probe=_probe, means=_means)
