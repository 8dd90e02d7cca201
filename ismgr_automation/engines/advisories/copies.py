"""The copies of what was downloaded, and what was read out of sources before. A file is written whole or not at all,
and what is damaged here counts as not there."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ismgr_automation.core.errors import EngineFailed
from ismgr_automation.engines.advisories.fetch import ENGINE, Download, Validators

GRACE = timedelta(hours=1)
"""So long a content stays that no URL has any more: another process may be reading it."""
MOST_RESULTS = 16
"""So many results are kept, those that were used last: each may have 15 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One URL as it was when it was last had."""

    path: Path
    digest: str
    fetched_at: datetime
    """When the server last said that this is what it has."""
    validators: Validators


class Copies:
    """A folder: contents by their digest, a small file of facts by the digest of the URL, results by their key."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def look(self, url: str) -> Copy | None:
        """The copy of a URL, if there is a whole one."""
        facts = self._json(self._facts(url))
        try:
            copy = Copy(
                path=self._content(str(facts["digest"])),
                digest=str(facts["digest"]),
                fetched_at=datetime.fromisoformat(facts["fetched_at"]),
                validators=Validators(etag=str(facts["etag"]), last_modified=str(facts["last_modified"])),
            )
        except (KeyError, TypeError, ValueError):
            return None
        if copy.fetched_at.tzinfo is None or not copy.path.is_file():
            return None
        return copy

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """A file that is gone afterwards, unless it was kept. Raises ``EngineFailed`` when the folder cannot be
        written."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._folder, suffix=".part")
        except OSError as problem:
            raise self._unwritable(problem) from problem
        os.close(handle)
        try:
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def keep(self, url: str, came: Path, got: Download, now: datetime) -> Copy:
        """Make what came the copy of the URL. The content stands before any fact names it."""
        copy = Copy(path=self._content(got.digest), digest=got.digest, fetched_at=now, validators=got.validators)
        try:
            with came.open("rb") as file:
                os.fsync(file.fileno())
            came.replace(copy.path)
        except OSError as problem:
            raise self._unwritable(problem) from problem
        self.note(url, copy)
        self._tidy(now)
        return copy

    def note(self, url: str, copy: Copy) -> None:
        """Write down the facts of a copy, in place of those that were there."""
        facts = {
            "url": url,
            "digest": copy.digest,
            "fetched_at": copy.fetched_at.isoformat(),
            "etag": copy.validators.etag,
            "last_modified": copy.validators.last_modified,
        }
        try:
            self._write(self._facts(url), facts)
        except OSError as problem:
            raise self._unwritable(problem) from problem

    def forget(self, url: str) -> None:
        """Drop the facts of a copy, if there are any: the next reading downloads it anew."""
        with suppress(OSError):
            self._facts(url).unlink()

    def result(self, key: str) -> Any:
        """What was kept under a key: plain JSON, or None."""
        path = self._folder / f"{key}.result.json"
        found = self._json(path)
        with suppress(OSError):
            os.utime(path)
        return found

    def keep_result(self, key: str, value: Any) -> None:
        """Keep it, if the folder can be written; without it the next reading takes longer, and nothing else."""
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._write(self._folder / f"{key}.result.json", value)
            results = sorted(self._folder.glob("*.result.json"), key=lambda one: one.stat().st_mtime, reverse=True)
            for one in results[MOST_RESULTS:]:
                one.unlink()

    def _facts(self, url: str) -> Path:
        return self._folder / f"{hashlib.sha256(url.encode('utf-8', 'surrogatepass')).hexdigest()}.copy.json"

    def _content(self, digest: str) -> Path:
        return self._folder / f"{_digits(digest)}.content"

    def _json(self, path: Path) -> Any:
        with suppress(OSError, ValueError, RecursionError):
            return json.loads(path.read_bytes())
        return None

    def _write(self, path: Path, value: Any) -> None:
        handle, name = tempfile.mkstemp(dir=self._folder, suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(json.dumps(value, separators=(",", ":")))
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)

    def _tidy(self, now: datetime) -> None:
        every = [self._json(path) for path in self._folder.glob("*.copy.json")]
        used = {facts.get("digest", "") for facts in every if isinstance(facts, dict)}
        for path in [*self._folder.glob("*.content"), *self._folder.glob("*.part")]:
            with suppress(OSError):
                if f"sha256:{path.stem}" not in used and path.stat().st_mtime < (now - GRACE).timestamp():
                    path.unlink()

    def _unwritable(self, problem: OSError) -> EngineFailed:
        return EngineFailed(
            f"Advisories cannot be kept in {self._folder}: {problem.strerror or problem}.",
            engine=ENGINE,
            next_step="Make the folder writable and see that the disk has room.",
        )


def _digits(digest: str) -> str:
    """Of a digest that we wrote ourselves; anything else is the name of no file."""
    digits = digest.removeprefix("sha256:")
    if len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):  # noqa: PLR2004  a SHA-256
        raise ValueError("this is no digest")
    return digits
