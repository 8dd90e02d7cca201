"""Downloads over https and http: conditional, within limits, never from https down to http. Knows files and headers;
what is in them is not its business."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import IO
from urllib.parse import SplitResult, urljoin, urlsplit

import requests
import urllib3.exceptions

from ismgr_automation.core.errors import EngineFailed, InputError, Unreachable
from ismgr_automation.engines.advisories.limits import Limits
from ismgr_automation.engines.advisories.places import plain, too_large
from ismgr_automation.ports.hosts import Reach

ENGINE = "advisories"
_CHUNK_BYTES = 256 * 1024
_REDIRECTS = {
    HTTPStatus.MOVED_PERMANENTLY,
    HTTPStatus.FOUND,
    HTTPStatus.SEE_OTHER,
    HTTPStatus.TEMPORARY_REDIRECT,
    HTTPStatus.PERMANENT_REDIRECT,
}
_BROKEN = (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Validators:
    """What a server said of what it sent, and can be asked by: empty where it said nothing."""

    etag: str = ""
    last_modified: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """What came."""

    digest: str
    validators: Validators


class _Session(requests.Session):
    """Leaves redirects to us: requests would read the whole body of one, however long, also when it does not follow."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None of its business."""


def is_url(source: str) -> bool:
    """Whether a source is fetched, rather than opened. Raises ``InputError`` for a URL that we do not fetch."""
    parts = _split(source)
    if parts.scheme in {"http", "https"}:
        if "@" in parts.netloc:
            raise InputError(
                f"The URL of advisories at {plain(parts.hostname or '')} holds a user name or password.",
                next_step="Leave it out: advisories are public, and a proxy is named in the environment.",
            )
        return True
    if "://" in source and parts.scheme != "file":
        raise InputError(
            f"Advisories are not read over {plain(parts.scheme)}: {plain(source)}.",
            next_step="Name an https or http URL, a file:// URL, or a path.",
        )
    return False


def download(url: str, into: IO[bytes], known: Validators, limits: Limits) -> Download | None:
    """Write what the URL holds now; None when it is what ``known`` says already.

    Raises ``Unreachable`` when it cannot be had, also for an answer that breaks off, and ``InputError`` past the size.
    """
    until = time.monotonic() + limits.deadline.total_seconds()
    try:
        with _Session() as session:
            answer = _answer(session, url, known, limits, until)
            if answer.status_code == HTTPStatus.NOT_MODIFIED and known != Validators():
                return None
            if answer.status_code != HTTPStatus.OK:
                raise _away(url, f"the server answers {answer.status_code} {answer.reason}", Reach.REFUSED)
            return _saved(answer, url, into, limits, until)
    except _BROKEN as problem:
        raise _away(url, *_cause(problem)) from problem


def _answer(session: requests.Session, url: str, known: Validators, limits: Limits, until: float) -> requests.Response:
    """The first answer that is no redirect."""
    asked = {"If-None-Match": known.etag, "If-Modified-Since": known.last_modified}
    headers = {name: value for name, value in asked.items() if value}
    waits = limits.connect.total_seconds(), limits.read.total_seconds()
    here = url
    for _hop in range(limits.redirects + 1):
        answer = session.get(here, headers=headers, stream=True, allow_redirects=False, timeout=waits)
        if answer.status_code not in _REDIRECTS or "Location" not in answer.headers:
            return answer
        answer.close()
        there = _next(here, answer.headers["Location"])
        if not there:
            raise _away(url, f"it leads to {answer.headers['Location']}, which is not followed", Reach.REFUSED)
        _in_time(url, limits, until)
        here = there
    raise _away(url, f"it leads on more than {limits.redirects} times", Reach.REFUSED)


def _next(here: str, location: str) -> str:
    """Where a redirect leads; empty where we do not follow it."""
    try:
        there = urljoin(here, location)
        parts = urlsplit(there)
    except ValueError:
        return ""
    allowed = {"https"} if here.startswith("https:") else {"https", "http"}
    return there if parts.scheme in allowed and "@" not in parts.netloc else ""


def _split(source: str) -> SplitResult:
    try:
        return urlsplit(source)
    except ValueError as problem:
        raise InputError(f"{plain(source)} is no URL: {plain(str(problem))}.", next_step="Correct it.") from problem


def _saved(answer: requests.Response, url: str, into: IO[bytes], limits: Limits, until: float) -> Download:
    total = hashlib.sha256()
    size = 0
    for chunk in _chunks(answer):
        size += len(chunk)
        if size > limits.file_bytes:
            raise too_large(url, "the answer", limits.file_bytes)
        _in_time(url, limits, until)
        total.update(chunk)
        _write(into, chunk)
    validators = Validators(etag=answer.headers.get("ETag", ""), last_modified=answer.headers.get("Last-Modified", ""))
    return Download(digest=f"sha256:{total.hexdigest()}", validators=validators)


def _write(into: IO[bytes], chunk: bytes) -> None:
    try:
        into.write(chunk)
    except OSError as problem:
        raise EngineFailed(
            f"What was downloaded cannot be written: {problem.strerror or problem}.",
            engine=ENGINE,
            next_step="See that the disk of the cache has room.",
        ) from problem


def _chunks(answer: requests.Response) -> Iterator[bytes]:
    """As they come: whoever waits for a full chunk waits for ever for a server that sends one byte at a time."""
    while chunk := answer.raw.read1(_CHUNK_BYTES, decode_content=True):
        yield chunk


def _in_time(url: str, limits: Limits, until: float) -> None:
    if time.monotonic() > until:
        raise _away(url, f"it did not come within {limits.deadline.total_seconds():g} s", Reach.TIMEOUT)


def _cause(problem: BaseException) -> tuple[str, Reach]:
    """What went wrong in words, and as a word; the reason is often wrapped several times."""
    chain: list[BaseException] = []
    seen: list[object] = [problem]
    while seen:
        one = seen.pop()
        if isinstance(one, BaseException) and one not in chain:
            chain.append(one)
            seen += [*one.args, one.__cause__, one.__context__, getattr(one, "reason", None)]
    kinds: tuple[tuple[tuple[type[BaseException], ...], str, Reach], ...] = (
        ((urllib3.exceptions.NameResolutionError,), "its name does not resolve", Reach.DNS),
        ((requests.exceptions.SSLError, urllib3.exceptions.SSLError), "its certificate is not trusted", Reach.REFUSED),
        ((urllib3.exceptions.ProxyError,), "the proxy does not let us through", Reach.REFUSED),
        ((ConnectionRefusedError,), "nobody listens there", Reach.REFUSED),
        ((requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError), "no answer in time", Reach.TIMEOUT),
        ((urllib3.exceptions.DecodeError,), "what it sends is not compressed as it says", Reach.REFUSED),
        ((urllib3.exceptions.ProtocolError, ConnectionError), "the answer broke off", Reach.REFUSED),
    )
    for types, words, reach in kinds:
        if any(isinstance(one, types) for one in chain):
            return words, reach
    return str(problem), Reach.REFUSED


def _away(url: str, why: str, cause: Reach) -> Unreachable:
    return Unreachable(
        f"{plain(url)} cannot be had: {plain(why)}.",
        engine=ENGINE,
        subject=plain(url),
        cause=cause.value,
        next_step="Look at the URL and the proxy, or name a mirror or a file instead.",
    )
