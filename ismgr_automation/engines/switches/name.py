"""Points a name to other addresses by signed dynamic update (RFC 2136), and sees that all name servers of the zone
answer so. What resolvers and clients have cached stays with them until its time to live is over."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from time import monotonic, monotonic_ns

from ismgr_automation.core.errors import CredentialRejected, EngineError, InputError
from ismgr_automation.engines.dns import Key, RecordSet, Server, put, read, record_set
from ismgr_automation.engines.switches.secondaries import Shown, look, until_shown
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.recovery import Acted, NameRequest, Seen, Sight
from ismgr_automation.ports.secrets import SecretStore

POLL = timedelta(milliseconds=3)
"""Between two looks, until the server shows the update."""

PAUSE = timedelta(milliseconds=50)
"""Before an update that failed is sent again; the same update twice is one."""


class NameSwitch:
    """Implements ``ports.recovery.Verb``.

    The update is composed beforehand and signed when it is sent: a signature is good for five minutes only. It has no
    prerequisite. Whoever else changes the name in a recovery, this is what it must be afterwards. Secondaries are asked
    as resolvers ask them; one that does not answer is told, and the others are enough.
    """

    def __init__(self, request: NameRequest, store: SecretStore, context: Context) -> None:
        """Raises ``InputError`` for a record that is none, or a key that is not there."""
        try:
            self._wanted = record_set(
                zone=request.zone, name=request.record, type=request.type, ttl=request.ttl, records=request.values
            )
        except ValueError as error:
            raise InputError(f"{request.record} in zone {request.zone}: {error}.") from error
        self._cancelled = context.cancelled
        self._deadline = request.deadline
        self._secondaries = request.secondaries
        self._server = Server(
            subject=f"name {self._wanted.name}",
            address=request.server,
            port=request.port,
            key=Key(name=request.key_name, secret=store.open(request.key)),
            answer=min(request.deadline, timedelta(seconds=10)),
            change=request.deadline,
            poll=POLL,
            cancelled=context.cancelled,
        )

    def stage(self) -> Seen:
        """Ask the server for the name with a signed query: so the key is known to be good."""
        return self.observe()

    def observe(self) -> Seen:
        """What the server answers now, and where it shows the records, what the others do."""
        wanted = self._wanted
        try:
            found = read(self._server, wanted.zone, wanted.name, wanted.type)
        except EngineError as error:
            return Seen(sight=Sight.UNKNOWN, words=error.summary)
        words = f"{wanted.name} {wanted.type} is {_said(found)}"
        if found != wanted:
            return Seen(sight=Sight.NOT_DONE, words=words)
        others = look(self._secondaries, wanted)
        return Seen(sight=Sight.NOT_DONE if _behind(others) else Sight.DONE, words=_with(words, others))

    def act(self) -> Acted:
        """Send the update, and ask until all servers show it. Raises ``Cancelled``."""
        began, end = monotonic_ns(), monotonic() + self._deadline.total_seconds()
        while True:
            try:
                put(self._server, self._wanted)
            except EngineError as error:
                if isinstance(error, CredentialRejected) or monotonic() > end:
                    return Acted(ok=False, began_ns=began, ended_ns=monotonic_ns(), words=error.summary)
                self._cancelled.wait(PAUSE.total_seconds())
            else:
                others = until_shown(self._secondaries, self._wanted, end, self._cancelled)
                words = _with(f"{self._wanted.name} {self._wanted.type} is {_said(self._wanted)}", others)
                return Acted(ok=not _behind(others), began_ns=began, ended_ns=monotonic_ns(), words=words)

    def close(self) -> None:
        """Nothing is kept open: a name server ends connections that say nothing."""


def _said(found: RecordSet | None) -> str:
    return f"{', '.join(found.records)} (ttl {found.ttl})" if found else "nothing"


def _behind(others: Mapping[str, Shown]) -> bool:
    """Whether one that answers shows something else."""
    return any(one.sight is Sight.NOT_DONE for one in others.values())


def _with(words: str, others: Mapping[str, Shown]) -> str:
    return "; ".join([words, *(f"{server} {one.why}" for server, one in others.items() if one.why)])
