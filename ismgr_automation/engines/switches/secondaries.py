"""What the other name servers of a zone answer: asked as resolvers ask, without a key, all at once. Changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode

from ismgr_automation.core.errors import Cancelled
from ismgr_automation.engines.dns import RecordSet, answered
from ismgr_automation.engines.endpoints import DNS_PORT, place
from ismgr_automation.ports.recovery import Sight

PAUSE = timedelta(milliseconds=5)
"""Between two questions to a server that does not show it yet."""

ANSWER = timedelta(milliseconds=300)
"""For one answer: a server that is lost must not hold up clients of the others."""

LOOK = timedelta(milliseconds=50)
"""Between two looks whether somebody cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What one server shows. UNKNOWN where it does not answer; ``why`` is empty where it is as wanted."""

    sight: Sight
    why: str = ""


def look(servers: tuple[str, ...], wanted: RecordSet) -> Mapping[str, Shown]:
    """Ask each once."""
    if not servers:
        return {}
    with ThreadPoolExecutor(max_workers=len(servers), thread_name_prefix="ismgr-names") as pool:
        return dict(zip(servers, pool.map(lambda one: _asked(one, wanted), servers), strict=True))


def until_shown(
    servers: tuple[str, ...], wanted: RecordSet, end: float, cancelled: threading.Event
) -> Mapping[str, Shown]:
    """Ask each until it shows the records or does not answer, or until ``end`` of ``time.monotonic``. Raises
    ``Cancelled``."""
    if not servers:
        return {}
    over = threading.Event()
    with ThreadPoolExecutor(max_workers=len(servers), thread_name_prefix="ismgr-names") as pool:
        asked = {one: pool.submit(_followed, one, wanted, end, over) for one in servers}
        waiting: set[Future[Shown]] = set(asked.values())
        while waiting:
            _, waiting = wait(waiting, timeout=LOOK.total_seconds(), return_when=FIRST_COMPLETED)
            if cancelled.is_set():
                over.set()
                raise Cancelled(f"Waiting for name servers to show {wanted.name} was stopped on request.")
    return {name: one.result() for name, one in asked.items()}


def _followed(server: str, wanted: RecordSet, end: float, over: threading.Event) -> Shown:
    while True:
        found = _asked(server, wanted)
        if found.sight is not Sight.NOT_DONE or monotonic() > end or over.wait(PAUSE.total_seconds()):
            return found


def _asked(server: str, wanted: RecordSet) -> Shown:
    """One question."""
    query = dns.message.make_query(wanted.name, wanted.type)
    query.flags &= ~dns.flags.RD
    host, port = place(server, DNS_PORT)
    try:
        answer, _ = dns.query.udp_with_fallback(query, host, timeout=ANSWER.total_seconds(), port=port)
    except (dns.exception.DNSException, OSError, EOFError, ValueError) as problem:
        return Shown(sight=Sight.UNKNOWN, why=f"does not answer ({type(problem).__name__})")
    if not answer.flags & dns.flags.AA:
        return Shown(sight=Sight.NOT_DONE, why=f"does not serve the zone ({dns.rcode.to_text(answer.rcode())})")
    found = answered(answer, wanted.zone, wanted.name, wanted.type)
    if found is None:
        return Shown(sight=Sight.NOT_DONE, why="shows nothing")
    if found == wanted:
        return Shown(sight=Sight.DONE)
    return Shown(sight=Sight.NOT_DONE, why=f"shows {', '.join(found.records)} (ttl {found.ttl})")
