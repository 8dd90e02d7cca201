"""Where a name leads for the client that measures: as this machine resolves it, or as the name servers say that clients
of the service ask, whose answers are kept for as long as they are good. It opens no connection to what it finds."""

from __future__ import annotations

import ipaddress
import queue
import socket
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from math import inf
from typing import TYPE_CHECKING

from ismgr_automation.engines.endpoints import DNS_PORT, place

if TYPE_CHECKING:
    from dns.resolver import Resolver


class Unresolved(Exception):
    """A name that leads nowhere now. The text is for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    addresses: tuple[str, ...]
    until: float
    """By ``time.monotonic``."""


class Names:
    """Addresses of names. ``resolvers`` are ``ADDRESS`` or ``ADDRESS:PORT``, tried in this order; without any, this
    machine's own resolver is asked anew each time, and may keep what it likes. ``keeps``: a name is asked for once, as
    by clients that ignore how long an answer is good for."""

    def __init__(self, resolvers: tuple[str, ...], patience: timedelta, *, keeps: bool = False) -> None:
        self._patience = patience.total_seconds()
        self._keeps = keeps
        self._known: dict[str, _Known] = {}
        self._lookups: dict[str, queue.SimpleQueue[tuple[str, ...] | str]] = {}
        self._resolver = _resolver(resolvers, self._patience) if resolvers else None

    def addresses(self, host: str) -> tuple[str, ...]:
        """Of a name, or of what is one already. Takes no longer than ``patience``: a name server that does not answer
        costs as much as a server that does not. Raises ``Unresolved``."""
        try:
            return (str(ipaddress.ip_address(host)),)
        except ValueError:
            pass
        known = self._known.get(host)
        if known is None or time.monotonic() >= known.until:
            known = self._system(host) if self._resolver is None else _asked(self._resolver, host)
            self._known[host] = known
            if self._keeps:
                self._known[host] = _Known(addresses=known.addresses, until=inf)
        return known.addresses

    def _system(self, host: str) -> _Known:
        if host not in self._lookups:
            self._lookups[host] = queue.SimpleQueue()
            # nothing else bounds it: the resolver of the C library waits for as long as its settings say
            threading.Thread(target=_look_up, args=(host, self._lookups[host]), daemon=True).start()
        try:
            found = self._lookups[host].get(timeout=self._patience)
        except queue.Empty:
            raise Unresolved("its name was not resolved in time") from None
        del self._lookups[host]
        if isinstance(found, str):
            raise Unresolved(found)
        return _Known(addresses=found, until=0.0)


def _resolver(servers: tuple[str, ...], patience: float) -> Resolver:
    from dns.nameserver import Do53Nameserver
    from dns.resolver import Resolver

    found = Resolver(configure=False)
    found.nameservers = [Do53Nameserver(*place(one, DNS_PORT)) for one in servers]
    # each must have had its turn before the patience is over: for addresses of IPv6, and for those of IPv4
    found.lifetime = patience / 2
    found.timeout = found.lifetime / len(servers)
    return found


def _asked(resolver: Resolver, host: str) -> _Known:
    import dns.exception
    import dns.name

    sent, name = time.monotonic(), dns.name.from_text(host)
    try:
        answers = [resolver.resolve(name, kind, raise_on_no_answer=False) for kind in ("AAAA", "A")]
    except dns.exception.DNSException as problem:
        raise Unresolved(" ".join(str(problem).split())) from None
    found = [one for one in answers if one.rrset is not None]
    addresses = [row.to_text() for one in found for row in one]
    good = min((one.chaining_result.minimum_ttl for one in found), default=0)
    return _Known(addresses=tuple(addresses), until=sent + good)


def _look_up(host: str, found: queue.SimpleQueue[tuple[str, ...] | str]) -> None:
    try:
        addresses = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as problem:
        found.put(str(problem))
    else:
        found.put(tuple(dict.fromkeys(str(one[4][0]) for one in addresses)))
