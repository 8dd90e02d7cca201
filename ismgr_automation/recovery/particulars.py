"""What a drill's result says besides its measurements: who took part, what it was about, how was measured, and what
people wrote down afterwards. What nobody knows is empty, and never made up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from typing import TYPE_CHECKING

from ismgr_automation.core.json import JsonObject, canonical
from ismgr_automation.recovery.topics import SignRole, Topic

if TYPE_CHECKING:
    from pydantic import TypeAdapter

NOTE_FORMAT = "ismgr.drill-note/1"
SIGN_OFF_NAMESPACE = "ismgr-sign-off@v1"
"""The namespace of ``ssh-keygen -Y sign -n``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """Who took part, by name. ``planned`` is who the commit says made it, ``approved`` whose signatures were used,
    ``ran`` who held the lease, each as ``user@host``."""

    planned: tuple[str, ...] = ()
    approved: tuple[str, ...] = ()
    ran: tuple[str, ...] = ()

    @property
    def apart(self) -> bool:
        """Whether somebody approved who did not make the plan, by name and address."""
        planned = frozenset().union(*map(_marks, self.planned))
        return any(not _marks(one) & planned for one in self.approved)


def _marks(person: str) -> frozenset[str]:
    """Name and address of ``NAME <ADDRESS>``, or of either."""
    name, _, address = person.casefold().partition("<")
    return frozenset(filter(None, (name.strip(), address.strip(" >"))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """What was drilled: hosts and groups, their sites, and what the service's document says of it."""

    hosts: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    data_classes: tuple[str, ...] = ()
    tier: int | None = None
    """0 is the most critical."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What the recovery plan says that the drill stands for."""

    threat: str = ""
    severity: str = ""
    assumptions: tuple[str, ...] = ()
    third_parties: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    bia: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """How the client measured, times in milliseconds."""

    client: str
    endpoints: tuple[str, ...]
    every_ms: float
    patience_ms: float
    steady_ms: float
    clock: str = "CLOCK_MONOTONIC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """What somebody else said of a fence, ``at_ms`` on the clock of the drill."""

    leg: str
    by: str
    ok: bool
    at_ms: float
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is to be made better. ``owner`` is a person of a Team document."""

    run: str
    at: datetime
    by: str
    """Who wrote it down, as ``user@host``."""
    text: str
    owner: str
    due: date
    cause: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a person of a Team document says of something that no machine can know."""

    run: str
    at: datetime
    by: str
    """Who wrote it down, as ``user@host``."""
    topic: Topic
    text: str
    person: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignOff:
    """A person's signature under the result of a drill, whose ``digest`` it names. ``signature`` is armored, ``key``
    the public key line; ``person`` is whose it was when it was made, as a Team document named them."""

    run: str
    at: datetime
    by: str
    """Who wrote it down, as ``user@host``."""
    role: SignRole
    estate: str
    environment: str
    digest: str
    person: str = ""
    key: str = ""
    signature: str = ""

    def to_bytes(self) -> bytes:
        """The bytes that are signed: RFC 8785 JSON, the time in UTC and whole seconds."""
        return canonical(
            {
                "as": str(self.role),
                "at": self.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "digest": self.digest,
                "environment": self.environment,
                "estate": self.estate,
                "run": self.run,
            }
        )


Note = Finding | Statement | SignOff
_TYPES = {Finding: "finding", Statement: "statement", SignOff: "sign-off"}


@cache
def _adapter() -> TypeAdapter[Note]:
    from pydantic import TypeAdapter

    return TypeAdapter(Note)


def note_json(note: Note) -> JsonObject:
    """A note as JSON, of format ``ismgr.drill-note/1``."""
    body: JsonObject = _adapter().dump_python(note, mode="json")
    return {"type": _TYPES[type(note)], "format": NOTE_FORMAT, **body}


def read_note(body: JsonObject) -> Note:
    """The note that JSON was made from. Raises ``ValueError`` for anything else."""
    if body.get("format") != NOTE_FORMAT:
        raise ValueError(f"this is not of format {NOTE_FORMAT}: {body.get('format')!r}")
    return _adapter().validate_python({key: one for key, one in body.items() if key not in {"type", "format"}})
