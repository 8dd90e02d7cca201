"""How we talk to a BMC: one connector over sushy's, safe retries, and the one table that turns its failures into ours.

Nothing here knows what a power state is, and nothing here opens a secret reference.
"""

from __future__ import annotations

import errno
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import requests
import urllib3.exceptions
from sushy import connector as sushy_connector  # type: ignore[import-untyped]
from sushy import exceptions as sushy_exceptions

from ismgr_automation.core.errors import (
    Cancelled,
    CredentialRejected,
    EngineError,
    EngineFailed,
    EngineTimedOut,
    Throttled,
    Unreachable,
)

ENGINE = "redfish"


class Failure(StrEnum):
    """The ways in which a conversation with a BMC fails. Closed: ``FAILURES`` and ``STATUSES`` map onto these."""

    DNS = "dns"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    TLS = "tls"
    BROKEN = "broken"
    """Connected, and hung up without an answer."""
    SLOW = "slow"
    """Connected, and no answer within the read timeout."""
    REJECTED = "rejected"
    THROTTLED = "throttled"
    NOT_FOUND = "not-found"
    GARBLED = "garbled"
    """Answered with something that is not Redfish."""
    UNSUPPORTED = "unsupported"
    """Speaks Redfish, and cannot do what was asked."""
    FAILED = "failed"
    """Answered that it failed."""


STATUSES: Mapping[int, Failure] = {
    401: Failure.REJECTED,
    403: Failure.REJECTED,
    404: Failure.NOT_FOUND,
    405: Failure.UNSUPPORTED,
    406: Failure.UNSUPPORTED,
    429: Failure.THROTTLED,
    501: Failure.UNSUPPORTED,
    503: Failure.THROTTLED,
}
"""Statuses that say more than "failed"; every other one from 400 on is FAILED."""

FAILURES: Mapping[type[Exception], Failure | None] = {
    sushy_exceptions.SushyError: Failure.FAILED,
    sushy_exceptions.ConnectionError: None,
    sushy_exceptions.HTTPError: None,
    sushy_exceptions.BadRequestError: None,
    sushy_exceptions.ResourceNotFoundError: None,
    sushy_exceptions.ServerSideError: None,
    sushy_exceptions.AccessError: None,
    sushy_exceptions.NotAcceptableError: None,
    sushy_exceptions.MissingXAuthToken: Failure.REJECTED,
    sushy_exceptions.MissingAttributeError: Failure.GARBLED,
    sushy_exceptions.MalformedAttributeError: Failure.GARBLED,
    sushy_exceptions.MissingHeaderError: Failure.GARBLED,
    sushy_exceptions.MissingActionError: Failure.UNSUPPORTED,
    sushy_exceptions.InvalidParameterValueError: Failure.UNSUPPORTED,
    sushy_exceptions.UnknownDefaultError: Failure.UNSUPPORTED,
    sushy_exceptions.ExtensionError: Failure.UNSUPPORTED,
    sushy_exceptions.OEMExtensionNotFoundError: Failure.UNSUPPORTED,
    sushy_exceptions.ArchiveParsingError: Failure.GARBLED,
}
"""Every exception of sushy. None means that the cause (of a connection) or the status (of an answer) decides."""

ANSWERS_OF_ANOTHER_SHAPE = (AttributeError, KeyError, TypeError, ValueError)
"""What sushy's parsers raise on JSON that is well formed and not Redfish, or not JSON at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Who an error speaks about: the resource's own name, the BMC's URL and the user we log in as."""

    subject: str
    url: str
    username: str

    def __str__(self) -> str:
        return f"{self.subject}: the BMC {self.url}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long we wait. ``read`` is for one answer; ``change`` for an accepted change to become true; ``shutdown`` for
    a graceful shutdown before power is cut; ``patience`` for all retries of one request together."""

    connect: timedelta = timedelta(seconds=5)
    read: timedelta = timedelta(seconds=30)
    change: timedelta = timedelta(minutes=5)
    shutdown: timedelta = timedelta(minutes=2)
    patience: timedelta = timedelta(seconds=60)
    poll: timedelta = timedelta(milliseconds=500)


def classify(error: Exception) -> Failure:
    """Which failure an exception of sushy, requests or the parsers stands for."""
    if isinstance(error, sushy_exceptions.HTTPError) and FAILURES.get(type(error)) is None:
        return STATUSES.get(error.status_code or 0, Failure.FAILED)
    if isinstance(error, sushy_exceptions.ConnectionError):
        return _connection_failure(error)
    known = FAILURES.get(type(error))
    if known is not None:
        return known
    return Failure.GARBLED if isinstance(error, ANSWERS_OF_ANOTHER_SHAPE) else Failure.FAILED


def translate(error: Exception, target: Target, *, untouched: str = "") -> EngineError:
    """Our error for theirs. The sentence names the resource and the BMC; ``detail`` keeps the BMC's own words."""
    failure = classify(error)
    detail = str(error)
    common: dict[str, str] = {"engine": ENGINE, "subject": target.subject}
    match failure:
        case Failure.DNS | Failure.REFUSED | Failure.TIMEOUT | Failure.TLS | Failure.BROKEN:
            sentence, advice = _UNREACHABLE[failure]
            cause = Failure.REFUSED if failure is Failure.BROKEN else failure
            return Unreachable(f"{target} {sentence}.", cause=cause.value, next_step=advice, **common)
        case Failure.SLOW:
            summary = f"{target} did not answer in time."
            step = "Look whether the BMC is overloaded, or raise timeouts.readSeconds."
            return EngineTimedOut(summary, untouched=untouched, next_step=step, detail=detail, **common)
        case Failure.REJECTED:
            summary = f"{target} rejected the credential of user {target.username!r}."
            step = "Correct the user name or the password (or the secret that passwordRef points at)."
            return CredentialRejected(summary, untouched=untouched, next_step=step, detail=detail, **common)
        case Failure.THROTTLED:
            summary = f"{target} asks to come back later ({_status(error)}), and still did after the retries."
            step = "Wait until the BMC has finished what it is doing, then apply again."
            return Throttled(summary, untouched=untouched, next_step=step, detail=detail, **common)
        case Failure.NOT_FOUND:
            summary = f"{target} does not know {_path(error)}."
            step = "Correct the system id; leave it out when the BMC manages one system."
        case Failure.GARBLED:
            summary = f"{target} answered with something that is not Redfish: {_one_line(detail)}"
            step = "Check that the endpoint is a Redfish service, not a web page or a proxy."
        case Failure.UNSUPPORTED:
            summary = f"{target} cannot do this: {_one_line(detail)}"
            step = "Leave the property out for this machine, or update the BMC's firmware."
        case Failure.FAILED:
            summary = f"{target} failed: {_one_line(detail)}"
            step = "Look at the BMC's own log."
    return EngineFailed(summary, untouched=untouched, next_step=step, detail=detail, **common)


_UNREACHABLE: Mapping[Failure, tuple[str, str]] = {
    Failure.DNS: ("has a name that does not resolve", "Correct the endpoint, or the resolver of this machine."),
    Failure.REFUSED: ("refused the connection", "Nobody listens there: check the address and port of the endpoint."),
    Failure.TIMEOUT: (
        "did not accept a connection in time",
        "Check the route to the management network.",
    ),
    Failure.TLS: (
        "showed a certificate that is not signed by the pinned authority, or not made for this address",
        "Compare the certificate with the file in `ca`; do not go on before you know why.",
    ),
    Failure.BROKEN: ("hung up without an answer", "Look whether the BMC is restarting, then try again."),
}


class Connector(sushy_connector.Connector):  # type: ignore[misc]
    """sushy's connector with our rules: one pinned authority, no proxy or netrc from the environment, no blind repeat.

    A GET is repeated after 429, 502, 503, 504 and after a broken connection; a PATCH, which sets a value, after 429 and
    503; a POST never (the caller looks at the world first). ``touched`` is true once a change may have arrived.
    """

    def __init__(self, url: str, *, ca: Path | None, timeouts: Timeouts, cancelled: threading.Event) -> None:
        super().__init__(
            url,
            verify=str(ca) if ca else system_authorities(),
            response_callback=self._remember,
            server_side_retries=1,  # sushy's own loop repeats every verb, POST too: one means no repeat
            default_request_timeout=timeouts.read.total_seconds(),
            connect_timeout=timeouts.connect.total_seconds(),
        )
        self._session.trust_env = False  # else REQUESTS_CA_BUNDLE would win over the pinned authority
        self._timeouts = timeouts
        self._cancelled = cancelled
        self._retry_after: str | None = None
        self.touched = False

    def _remember(self, response: requests.Response) -> None:
        self._retry_after = response.headers.get("Retry-After")

    def _op(self, method: str, path: str = "", **options: Any) -> requests.Response:
        options["server_side_retries_left"] = 0
        spent = timedelta()
        for attempt in range(1_000):
            if self._cancelled.is_set():
                raise Cancelled("Stopped by request.")
            try:
                response: requests.Response = super()._op(method, path, **options)
            except sushy_exceptions.SushyError as error:
                failure = classify(error)
                self.touched |= method != "GET" and may_have_arrived(failure)
                if not _may_repeat(method, error, failure):
                    raise
                wait = self.pause(attempt)
                spent += wait
                if spent > self._timeouts.patience:
                    raise
                self._cancelled.wait(wait.total_seconds())
            else:
                self.touched |= method != "GET"
                return response
        raise AssertionError("patience ends before a thousand pauses")

    def pause(self, attempt: int) -> timedelta:
        """How long to wait before the next try: as the BMC asked (at most 30 s), else 0.25, 0.5, 1 ... up to 8 s."""
        asked = _seconds_asked(self._retry_after)
        self._retry_after = None
        return timedelta(seconds=min(asked, 30.0) if asked is not None else min(0.25 * 2.0 ** min(attempt, 8), 8.0))


def may_have_arrived(failure: Failure) -> bool:
    """Whether a change that ended so may have been made all the same."""
    return failure in {Failure.BROKEN, Failure.SLOW, Failure.FAILED, Failure.GARBLED}


def system_authorities() -> str | bool:
    """The authorities of this machine, where OpenSSL keeps them; requests alone would trust a bundle of its own."""
    paths = ssl.get_default_verify_paths()
    return paths.cafile or paths.capath or True


_AGAIN = frozenset({429, 502, 503, 504})


def _may_repeat(method: str, error: Exception, failure: Failure) -> bool:
    status = getattr(error, "status_code", None)
    match method:
        case "GET":
            return failure is Failure.BROKEN or status in _AGAIN
        case "PATCH":
            return failure is Failure.THROTTLED
        case _:
            return False


def _seconds_asked(header: str | None) -> float | None:
    if not header:
        return None
    if header.strip().isdigit():
        return float(header)
    try:
        at = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (at - datetime.now(UTC)).total_seconds()) if at.tzinfo else None


_NO_ROUTE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT, errno.EHOSTDOWN})
_CAUSES: tuple[tuple[tuple[type[BaseException], ...], Failure], ...] = (
    ((ssl.SSLError, requests.exceptions.SSLError, urllib3.exceptions.SSLError), Failure.TLS),
    ((socket.gaierror, urllib3.exceptions.NameResolutionError), Failure.DNS),
    ((ConnectionRefusedError,), Failure.REFUSED),
    ((requests.exceptions.ReadTimeout, urllib3.exceptions.ReadTimeoutError), Failure.SLOW),
    ((requests.exceptions.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError), Failure.TIMEOUT),
)


def _connection_failure(error: BaseException) -> Failure:
    """The first row of ``_CAUSES`` that is found anywhere below; requests and urllib3 wrap the cause several times."""
    chain = tuple(_chain(error))
    for kinds, failure in _CAUSES:
        if any(isinstance(link, kinds) for link in chain):
            return failure
    if any(isinstance(link, OSError) and link.errno in _NO_ROUTE for link in chain):
        return Failure.TIMEOUT
    return Failure.BROKEN


def _chain(error: BaseException) -> Iterator[BaseException]:
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting:
        link = waiting.pop(0)
        if not isinstance(link, BaseException) or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        waiting += [link.__cause__, link.__context__, getattr(link, "reason", None), *link.args]


def _status(error: BaseException) -> str:
    status = getattr(error, "status_code", None)
    return f"HTTP {status}" if status else "busy"


def _path(error: BaseException) -> str:
    words = [word for word in str(error).split() if word.startswith(("http", "/"))]
    return words[0].rstrip(".,") if words else "the resource that was asked for"


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 300 else f"{line[:297]}..."  # noqa: PLR2004 - a sentence, not a page
