"""Record sets on an authoritative name server: read by query, changed by signed update (RFC 2136), verified by read.

Each change carries a prerequisite, so that the server itself refuses it when somebody else was faster.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import errno
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from time import monotonic

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.tsig
import dns.update
from dns.rcode import Rcode

from ismgr_automation.core.errors import (
    Cancelled,
    CredentialRejected,
    EngineError,
    EngineFailed,
    EngineTimedOut,
    InputError,
    Refused,
    Unreachable,
)
from ismgr_automation.core.secret import Secret

ENGINE = "dns"
ALGORITHMS: tuple[str, ...] = ("hmac-sha256", "hmac-sha384", "hmac-sha512", "hmac-sha224")
"""TSIG algorithms that we sign with; MD5 and SHA-1 are left out on purpose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A TSIG key; ``secret`` is its base64 text."""

    name: str
    algorithm: str = "hmac-sha256"
    secret: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The primary server of a zone and how we sign. ``answer`` is for one connection or one answer, ``change`` for an
    accepted update to become visible."""

    subject: str
    address: str
    port: int = 53
    key: Key
    answer: timedelta = timedelta(seconds=10)
    change: timedelta = timedelta(seconds=15)
    poll: timedelta = timedelta(milliseconds=200)
    cancelled: threading.Event = field(default_factory=threading.Event)
    sent: threading.Event = field(default_factory=threading.Event)
    """Set once an update was sent that the server has not refused."""

    def __str__(self) -> str:
        return f"{self.subject}: the name server {self.address} port {self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSet:
    """All records of one type at one name. ``name`` and ``zone`` end with a dot; ``records`` are canonical and sorted,
    so that equal sets are equal values. Build one with ``record_set``."""

    zone: str
    name: str
    type: str
    ttl: int
    records: tuple[str, ...]


class Failure(StrEnum):
    """What a response code or an exception means to us. Closed: ``RCODES`` and ``EXCEPTIONS`` map onto these."""

    NONE = "none"
    ABSENT = "absent"
    CREDENTIAL = "credential"
    NOT_ALLOWED = "not-allowed"
    NOT_THE_ZONE = "not-the-zone"
    EXISTS = "exists"
    CHANGED = "changed"
    UNSUPPORTED = "unsupported"
    TIMED_OUT = "timed-out"
    GARBLED = "garbled"
    FAILED = "failed"


RCODES: Mapping[Rcode, Failure] = {
    Rcode.NOERROR: Failure.NONE,
    Rcode.NXDOMAIN: Failure.ABSENT,
    Rcode.FORMERR: Failure.UNSUPPORTED,
    Rcode.NOTIMP: Failure.UNSUPPORTED,
    Rcode.DSOTYPENI: Failure.UNSUPPORTED,
    Rcode.BADVERS: Failure.UNSUPPORTED,
    Rcode.BADMODE: Failure.UNSUPPORTED,
    Rcode.BADALG: Failure.CREDENTIAL,
    Rcode.BADKEY: Failure.CREDENTIAL,
    Rcode.BADTIME: Failure.CREDENTIAL,
    Rcode.BADTRUNC: Failure.CREDENTIAL,
    Rcode.BADNAME: Failure.CREDENTIAL,
    Rcode.BADCOOKIE: Failure.FAILED,
    Rcode.SERVFAIL: Failure.FAILED,
    Rcode.REFUSED: Failure.NOT_ALLOWED,
    Rcode.NOTAUTH: Failure.NOT_THE_ZONE,
    Rcode.NOTZONE: Failure.NOT_THE_ZONE,
    Rcode.YXDOMAIN: Failure.EXISTS,
    Rcode.YXRRSET: Failure.EXISTS,
    Rcode.NXRRSET: Failure.CHANGED,
}
"""Every response code. (BADSIG shares its number with BADVERS; dnspython raises an exception for it.)"""

EXCEPTIONS: tuple[tuple[tuple[type[Exception], ...], Failure], ...] = (
    ((dns.tsig.PeerError, dns.tsig.BadKey, dns.tsig.BadSignature, dns.tsig.BadTime), Failure.CREDENTIAL),
    ((dns.tsig.BadAlgorithm, dns.message.UnknownTSIGKey), Failure.CREDENTIAL),
    ((dns.exception.Timeout, TimeoutError), Failure.TIMED_OUT),
    ((dns.exception.DNSException, EOFError, OSError, ValueError), Failure.GARBLED),
)
"""The first row that fits decides."""

_SENTENCES: Mapping[Failure, tuple[str, str]] = {
    Failure.CREDENTIAL: ("does not accept our TSIG key", "Compare the key's name, algorithm, secret and both clocks."),
    Failure.NOT_ALLOWED: ("refuses this to our TSIG key", "Allow the key to transfer and update the zone."),
    Failure.NOT_THE_ZONE: ("is not the primary of this zone", "Correct the server or the zone."),
    Failure.EXISTS: ("already has records there", "Set adopt to true to take them over, or choose another name."),
    Failure.CHANGED: ("says that somebody else changed the records meanwhile", "Refresh, and plan again."),
    Failure.UNSUPPORTED: ("does not support this", "Check that the server takes dynamic updates (RFC 2136)."),
    Failure.TIMED_OUT: ("did not answer in time", "Look whether the server is overloaded."),
    Failure.GARBLED: ("answered with something that is not DNS, or hung up", "Check the server's address and port."),
    Failure.FAILED: ("failed", "Look at the server's own log."),
    Failure.ABSENT: ("does not know the name", "Correct the zone."),
}


Change = Callable[[Server, RecordSet], RecordSet]
"""``create`` or ``replace``."""


def absolute(name: str, zone: str) -> str:
    """The name with its zone and a dot at the end; ``@`` is the zone itself. A name ending with a dot stays.

    Raises ``ValueError`` when it is no name or lies outside the zone.

    >>> absolute("www", "two-sites.test")
    'www.two-sites.test.'
    """
    try:
        origin = dns.name.from_text(zone)
        full = dns.name.from_text(name, origin)
    except dns.exception.DNSException as error:
        raise ValueError(f"{name!r} in zone {zone!r} is not a domain name: {error}") from error
    if not full.is_subdomain(origin):
        raise ValueError(f"{full} is not inside the zone {origin}")
    return full.canonicalize().to_text()


def record_set(*, zone: str, name: str, type: str, ttl: int, records: Iterable[str]) -> RecordSet:  # noqa: A002
    """A record set in canonical form. Raises ``ValueError`` saying which record of which type cannot be read."""
    origin = absolute("@", zone)
    kind = record_type(type)
    texts = sorted({_canonical(record, kind, origin) for record in records})
    if not texts:
        raise ValueError("a record set has at least one record")
    if dns.rdatatype.is_singleton(kind) and len(texts) > 1:
        raise ValueError(f"a name has at most one {type} record")
    return RecordSet(zone=origin, name=absolute(name, zone), type=type.upper(), ttl=ttl, records=tuple(texts))


def record_type(text: str) -> dns.rdatatype.RdataType:
    """The type of a record that people may manage; raises ``ValueError`` for others (SOA, DNSSEC's own, ANY ...)."""
    try:
        kind = dns.rdatatype.from_text(text)
    except dns.exception.DNSException as error:
        raise ValueError(f"{text!r} is not a record type") from error
    if dns.rdatatype.is_metatype(kind) or text.upper() in {"SOA", "RRSIG", "NSEC", "NSEC3", "NSEC3PARAM", "DNSKEY"}:
        raise ValueError(f"records of type {text} belong to the server")
    return kind


def read(server: Server, zone: str, name: str, type: str) -> RecordSet | None:  # noqa: A002
    """What the server has at this name and type now, or None. Changes nothing."""
    kind = record_type(type)
    owner = dns.name.from_text(absolute(name, zone))
    query = dns.message.make_query(owner, kind)
    query.flags &= ~dns.flags.RD
    answer = _ask(server, query)
    match RCODES[answer.rcode()]:
        case Failure.NONE | Failure.ABSENT:
            pass
        case failure:
            raise _error(server, failure, dns.rcode.to_text(answer.rcode()))
    if not answer.flags & dns.flags.AA:
        raise _error(server, Failure.NOT_THE_ZONE, "its answer is not authoritative")
    return answered(answer, zone, name, type)


def answered(answer: dns.message.Message, zone: str, name: str, type: str) -> RecordSet | None:  # noqa: A002
    """The record set that an answer shows; None where it shows none."""
    owner = dns.name.from_text(absolute(name, zone))
    found = answer.get_rrset(dns.message.ANSWER, owner, dns.rdataclass.IN, dns.rdatatype.from_text(type))
    if found is None:
        return None
    return record_set(zone=zone, name=name, type=type, ttl=found.ttl, records=[rdata.to_text() for rdata in found])


def create(server: Server, wanted: RecordSet) -> RecordSet:
    """Add the records where nothing is. Records that are there already and equal are fine; others raise ``Refused``."""
    found = read(server, wanted.zone, wanted.name, wanted.type)
    if found == wanted:
        return found
    if found is not None:
        raise Refused(
            f"{server} already has {wanted.type} records at {wanted.name} that this resource does not own: "
            f"{', '.join(found.records)} (ttl {found.ttl}).",
            next_step="Import them, set adopt to true to take them over, or choose another name.",
        )
    update = _update(wanted)
    if wanted.type == "CNAME":
        update.absent(wanted.name)
    else:
        update.absent(wanted.name, wanted.type)
        update.absent(wanted.name, "CNAME")  # else the server would drop the new records without a word
    update.add(wanted.name, _rdataset(wanted))
    return _applied(server, update, wanted)


def replace(server: Server, wanted: RecordSet) -> RecordSet:
    """Make the records exactly these, whatever is there; fails if somebody changes them between our look and this."""
    found = read(server, wanted.zone, wanted.name, wanted.type)
    if found == wanted:
        return found
    update = _update(wanted)
    if found is None:
        update.absent(wanted.name, wanted.type)
    else:
        update.present(wanted.name, _exactly(found))
    update.replace(wanted.name, _rdataset(wanted))
    return _applied(server, update, wanted)


def put(server: Server, wanted: RecordSet) -> RecordSet:
    """Make the records exactly these, whatever is there and whoever changes them meanwhile; returns once they show."""
    update = _update(wanted)
    update.replace(wanted.name, _rdataset(wanted))
    return _applied(server, update, wanted)


def delete(server: Server, zone: str, name: str, type: str) -> None:  # noqa: A002
    """Remove the records; fine when there are none."""
    found = read(server, zone, name, type)
    if found is None:
        return
    update = _update(found)
    update.present(found.name, _exactly(found))
    update.delete(found.name, found.type)
    _send(server, update)
    _verified(server, found, None)


def _update(target: RecordSet) -> dns.update.UpdateMessage:
    return dns.update.UpdateMessage(target.zone)


def _rdataset(target: RecordSet) -> dns.rdataset.Rdataset:
    return dns.rdataset.from_text_list("IN", target.type, target.ttl, target.records)


def _exactly(found: RecordSet) -> dns.rdataset.Rdataset:
    """For a prerequisite: its time to live must be zero (RFC 2136, 2.4.2), dnspython leaves that to us."""
    return _rdataset(dataclasses.replace(found, ttl=0))


def _applied(server: Server, update: dns.update.UpdateMessage, wanted: RecordSet) -> RecordSet:
    _send(server, update)
    _verified(server, wanted, wanted)
    return wanted


def _send(server: Server, update: dns.update.UpdateMessage) -> None:
    """Sent once: an update whose answer was lost is not repeated, the caller looks at what is there."""
    server.sent.set()
    try:
        answer = _ask(server, update)
    except (Unreachable, CredentialRejected):
        server.sent.clear()
        raise
    failure = RCODES[answer.rcode()]
    if failure is not Failure.NONE:
        server.sent.clear()
        raise _error(server, failure, dns.rcode.to_text(answer.rcode()))


def _verified(server: Server, target: RecordSet, wanted: RecordSet | None) -> None:
    end = monotonic() + server.change.total_seconds()
    while not server.cancelled.is_set():
        found = read(server, target.zone, target.name, target.type)
        if found == wanted:
            return
        if monotonic() > end:
            shows = f"{', '.join(found.records)} (ttl {found.ttl})" if found else "nothing"
            raise EngineFailed(
                f"{server} accepted the update and still shows {shows} at {target.name} {target.type}.",
                engine=ENGINE,
                subject=server.subject,
                next_step="Look at the server's own log.",
            )
        server.cancelled.wait(server.poll.total_seconds())
    raise Cancelled(f"Stopped by request while verifying {target.name} {target.type}.")


def _ask(server: Server, message: dns.message.Message) -> dns.message.Message:
    if server.cancelled.is_set():
        raise Cancelled("Stopped by request.")
    message.use_tsig(_key(server.key))
    with _translated(server), _connected(server) as connection:
        return dns.query.tcp(message, server.address, timeout=server.answer.total_seconds(), sock=connection)


def _key(key: Key) -> dns.tsig.Key:
    """Raises ``InputError`` for a secret that is not base64; the secret itself is in no message."""
    try:
        secret = base64.b64decode(key.secret.reveal().strip(), validate=True)
        return dns.tsig.Key(dns.name.from_text(key.name), secret, dns.name.from_text(key.algorithm))
    except (binascii.Error, ValueError, dns.exception.DNSException):
        raise InputError(
            f"The secret of TSIG key {key.name!r} is not base64.",
            next_step="Store the key's secret as keymgr prints it.",
        ) from None


_NO_ROUTE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT, errno.EHOSTDOWN})


@contextmanager
def _connected(server: Server) -> Iterator[socket.socket]:
    """A connection of our own, so that "no connection" and "no answer" are told apart."""
    try:
        connection = socket.create_connection((server.address, server.port), server.answer.total_seconds())
    except socket.gaierror as error:
        raise _unreachable(server, "dns", "has a name that does not resolve", "Correct its name.") from error
    except ConnectionRefusedError as error:
        raise _unreachable(server, "refused", "refused the connection", "Nobody listens there.") from error
    except OSError as error:
        cause = "timeout" if isinstance(error, TimeoutError) or error.errno in _NO_ROUTE else "refused"
        raise _unreachable(server, cause, f"cannot be reached ({error})", "Check the route to it.") from error
    with connection:
        connection.settimeout(0)
        yield connection


@contextmanager
def _translated(server: Server) -> Iterator[None]:
    try:
        yield
    except EngineError:
        raise
    except (dns.exception.DNSException, EOFError, OSError, ValueError) as error:
        raise _error(server, classify(error), str(error) or type(error).__name__) from error


def classify(error: Exception) -> Failure:
    """What an exception of dnspython or a socket means."""
    return next((failure for kinds, failure in EXCEPTIONS if isinstance(error, kinds)), Failure.FAILED)


def _error(server: Server, failure: Failure, detail: str) -> EngineError:
    sentence, advice = _SENTENCES[failure]
    summary = f"{server} {sentence} ({detail})."
    kind: type[EngineError]
    match failure:
        case Failure.CREDENTIAL | Failure.NOT_ALLOWED:
            summary = f"{server} {sentence} {server.key.name!r} ({detail})."
            kind = CredentialRejected
        case Failure.TIMED_OUT:
            kind = EngineTimedOut
        case _:
            kind = EngineFailed
    return kind(summary, engine=ENGINE, subject=server.subject, next_step=advice, detail=detail)


def _unreachable(server: Server, cause: str, sentence: str, advice: str) -> Unreachable:
    return Unreachable(f"{server} {sentence}.", engine=ENGINE, subject=server.subject, cause=cause, next_step=advice)


def _canonical(record: str, kind: dns.rdatatype.RdataType, origin: str) -> str:
    """One spelling for each value: full names in lower case, one form of addresses."""
    try:
        parsed = dns.rdata.from_text(
            dns.rdataclass.IN, kind, record, origin=dns.name.from_text(origin), relativize=False
        )
        wire = parsed.to_digestable()
        return dns.rdata.from_wire(dns.rdataclass.IN, kind, wire, 0, len(wire)).to_text()
    except (dns.exception.DNSException, ValueError) as error:
        raise ValueError(f"{record!r} is not a {dns.rdatatype.to_text(kind)} record: {error}") from error
