"""``ports.advisories.AdvisoryReader`` over files and URLs: gets each source, has it parsed once, and puts them
together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ismgr_automation.core.errors import EngineError, InputError
from ismgr_automation.engines.advisories import debian, epss, fetch, findings, kev, osv, places, results, unpack
from ismgr_automation.engines.advisories.copies import Copies, Copy
from ismgr_automation.engines.advisories.findings import Findings
from ismgr_automation.engines.advisories.limits import Limits
from ismgr_automation.engines.advisories.moments import file_time, http_date
from ismgr_automation.engines.advisories.releases import INSTALLED, codenames
from ismgr_automation.ports.advisories import Advisories, Basis, SourceRead, Wanted

STANDARD = Limits()
ASK_AFTER = timedelta(hours=1)
PARSED_LONG = frozenset({"debian", "osv"})
"""Formats that take longer to parse than their result takes to read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Got:
    """One source that lies on this machine. ``dated`` is of its file or answer, for data that says nothing itself."""

    wanted: Wanted
    path: Path
    digest: str
    dated: datetime | None
    fetched_at: datetime
    basis: Basis = Basis.ANSWER
    problem: str = ""


def _now() -> datetime:
    return datetime.now(UTC)


class FileAdvisories:
    """Reads sources, with copies of what was downloaded and of what was parsed in the folder ``cache``.

    A URL is asked again when its copy is older than ``ask_after``, by ETag and date. ``installed`` is the list of
    Debian's releases on this machine.
    """

    def __init__(
        self,
        cache: Path,
        *,
        limits: Limits = STANDARD,
        ask_after: timedelta = ASK_AFTER,
        now: Callable[[], datetime] = _now,
        installed: Path = INSTALLED,
    ) -> None:
        self._copies = Copies(cache)
        self._limits = limits
        self._ask_after = ask_after
        self._now = now
        self._installed = installed

    def read(self, wanted: Sequence[Wanted], releases: Sequence[str], *, fresh: bool = False) -> Advisories:
        """All sources together, only what concerns these releases; ``sources`` are sorted by format and name. Raises
        ``InputError`` and ``Unreachable`` as the port says, and ``EngineFailed`` when the cache cannot be written."""
        reading = _Reading(releases=tuple(sorted(set(releases))), known=codenames(self._installed))
        parsed: dict[str, Findings] = {}
        got = [self._got(one, reading, parsed, fresh=fresh) for one in _sorted(wanted)]
        key = reading.key(*([one.wanted.format, one.digest] for one in got))
        kept = self._copies.result(key)
        try:
            return _answer(got, kept)
        except results.DAMAGED:
            kept = self._together(got, reading, parsed)
            self._copies.keep_result(key, kept)
            return _answer(got, kept)

    def _together(self, got: Sequence[_Got], reading: _Reading, parsed: dict[str, Findings]) -> Mapping[str, object]:
        sources = {}
        for one in got:
            name = _source_key(one)
            sources[name] = parsed.get(name) or self._findings(one, reading)
        every = list(sources.values())
        fixes = findings.fixes_of(every)
        cves = {fix.cve for some in fixes.values() for fix in some}
        return {
            "fixes": results.fixes_out(fixes),
            "vulnerabilities": results.vulnerabilities_out(findings.vulnerabilities_of(cves, every)),
            "sources": {
                name: [one.entries, one.dated.isoformat() if one.dated else None] for name, one in sources.items()
            },
        }

    def _findings(self, got: _Got, reading: _Reading) -> Findings:
        """What a source says: from what was kept, or parsed."""
        if got.wanted.format not in PARSED_LONG:
            return self._parsed(got, reading)
        key = reading.key(got.wanted.format, got.digest)
        try:
            return results.findings_in(self._copies.result(key))
        except results.DAMAGED:
            found = self._parsed(got, reading)
            self._copies.keep_result(key, results.findings_out(found))
            return found

    def _parsed(self, got: _Got, reading: _Reading) -> Findings:
        path, name, limits = got.path, places.plain(got.wanted.source), self._limits
        match got.wanted.format:
            case "debian":
                found = debian.read(path, name, reading.releases, limits)
            case "osv":
                found = osv.read(path, name, reading.releases, limits, reading.known)
            case "kev":
                found = kev.read(path, name, limits)
            case "epss":
                found = epss.read(path, name, limits)
            case other:
                raise InputError(
                    f"There is no format of advisories {other!r}.", next_step="Use debian, osv, kev or epss."
                )
        if unpack.digest_of(path, name, limits) != got.digest:
            # a copy that was damaged would be called unchanged by its server for ever
            self._copies.forget(got.wanted.source)
            raise places.wrong(name, "it changed while it was read")
        return found

    def _got(self, one: Wanted, reading: _Reading, parsed: dict[str, Findings], *, fresh: bool) -> _Got:
        if not fetch.is_url(one.source):
            return self._local(one)
        copy = self._copies.look(one.source)
        if copy is not None and not fresh and timedelta() <= self._now() - copy.fetched_at < self._ask_after:
            return _of_copy(one, copy)
        try:
            return self._download(one, copy, reading, parsed)
        except (EngineError, InputError) as problem:
            if copy is None:
                raise
            return _of_copy(one, copy, problem=problem.summary)

    def _download(self, one: Wanted, copy: Copy | None, reading: _Reading, parsed: dict[str, Findings]) -> _Got:
        """What the URL holds now. It becomes the copy only after it was understood."""
        with self._copies.incoming() as path:
            known = copy.validators if copy is not None else fetch.Validators()
            with path.open("wb") as file:
                came = fetch.download(one.source, file, known, self._limits)
            now = self._now()
            if came is None and copy is not None:
                copy = replace(copy, fetched_at=now)
                self._copies.note(one.source, copy)
                return _of_copy(one, copy)
            if came is None:
                raise places.wrong(one.source, "the server says that nothing has changed, and there is no copy")
            got = _Got(wanted=one, path=path, digest=came.digest, dated=None, fetched_at=now)
            found = self._findings(got, reading)
            if not found.entries:
                raise places.wrong(one.source, "it is empty")
            parsed[_source_key(got)] = found
            return _of_copy(one, self._copies.keep(one.source, path, came, now))

    def _local(self, one: Wanted) -> _Got:
        path = _path(one.source)
        digest = unpack.digest_of(path, places.plain(one.source), self._limits)
        dated = file_time(path.stat().st_mtime)
        return _Got(wanted=one, path=path, digest=digest, dated=dated, fetched_at=self._now(), basis=Basis.FILE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """What the result of parsing depends on besides the source."""

    releases: tuple[str, ...]
    known: Mapping[str, str]

    def key(self, *parts: object) -> str:
        """The name of a result."""
        return results.key_of(self.releases, dict(self.known), *parts)


def _answer(got: Sequence[_Got], kept: Mapping[str, object]) -> Advisories:
    """Raises one of ``results.DAMAGED`` when what was kept is nothing, or not what we wrote."""
    rows = dict(kept)
    return Advisories(
        fixes=results.fixes_in(rows["fixes"]),
        vulnerabilities=results.vulnerabilities_in(rows["vulnerabilities"]),
        sources=tuple(_told(one, rows["sources"]) for one in got),
    )


def _told(got: _Got, rows: object) -> SourceRead:
    if not isinstance(rows, Mapping):
        raise TypeError("the sources are not by their name")
    entries, dated = rows[_source_key(got)]
    return SourceRead(
        source=got.wanted.source,
        format=got.wanted.format,
        digest=got.digest,
        dated=datetime.fromisoformat(dated) if dated is not None else got.dated,
        fetched_at=got.fetched_at,
        entries=entries,
        problem=got.problem,
        basis=Basis.DATA if dated is not None else got.basis,
    )


def _source_key(got: _Got) -> str:
    return f"{got.wanted.format} {got.digest}"


def _of_copy(one: Wanted, copy: Copy, problem: str = "") -> _Got:
    return _Got(
        wanted=one,
        path=copy.path,
        digest=copy.digest,
        dated=http_date(copy.validators.last_modified),
        fetched_at=copy.fetched_at,
        problem=problem,
    )


def _path(source: str) -> Path:
    """Of a path or a ``file://`` URL. Raises ``InputError`` for one of another machine."""
    if not source.startswith("file://"):
        return Path(source)
    parts = urlsplit(source)
    if parts.netloc not in {"", "localhost"}:
        raise InputError(
            f"{places.plain(source)} is on another machine.", next_step="Write file:// and an absolute path."
        )
    return Path(unquote(parts.path))


def _sorted(wanted: Sequence[Wanted]) -> list[Wanted]:
    return sorted(set(wanted), key=lambda one: (one.format, one.source))
