"""Finds a usable Pulumi engine on this machine. It only looks: getting one is ``download`` and ``build``.

The order: ``ISMGR_ENGINE``, a compatible ``pulumi`` on PATH, our own cache.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from ismgr_automation.core.errors import EngineMissing, EngineTimedOut, IsmgrError
from ismgr_automation.engines import process

PINNED = "3.230.0"
"""The engine that we get when none is there, and that the tests run with; equal to the version of the SDK."""

OLDEST = (3, 227, 0)
"""The oldest engine that we accept. From here on an unknown stack has an exit code of its own (6), which we rely on;
inline programs for refresh (3.181) and property diffs in the event log (3.224) came before. Newer engines of the same
major version serve older SDKs by the vendor's own promise."""

Version = tuple[int, int, int]

_VERSION_DEADLINE = timedelta(seconds=20)


class Origin(StrEnum):
    """How an engine came to be where it is."""

    SETTING = "setting"
    PATH = "path"
    CACHE = "cache"


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """An engine that answered ``pulumi version`` with a version that we accept (without the leading ``v``)."""

    path: Path
    version: str
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where to look and how to get an engine. ``variables`` is this process's environment unless a test says otherwise.

    Environment variables: ``ISMGR_ENGINE`` (path of an executable), ``ISMGR_ENGINE_CACHE`` (folder),
    ``ISMGR_ENGINE_RELEASES`` (URL of the vendor's releases or of a mirror with the same layout).
    """

    cache: Path
    releases: str
    engine: Path | None = None
    version: str = PINNED
    connect_timeout: timedelta = timedelta(seconds=3)
    download_deadline: timedelta = timedelta(minutes=5)
    build_deadline: timedelta = timedelta(minutes=30)
    variables: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @property
    def cached(self) -> Path:
        """Where the pinned engine lies in our cache."""
        return self.cache / self.version / "pulumi"


RELEASES = "https://github.com/pulumi/pulumi/releases/download"
"""Where the vendor publishes ``v3.230.0/pulumi-v3.230.0-linux-x64.tar.gz`` and the checksums beside it."""


def settings(variables: Mapping[str, str] | None = None) -> Settings:
    """The settings of this machine, from its environment variables."""
    import platformdirs

    found = os.environ if variables is None else variables
    own = found.get("ISMGR_ENGINE", "")
    cache = found.get("ISMGR_ENGINE_CACHE", "")
    return Settings(
        engine=Path(own) if own else None,
        cache=Path(cache) if cache else Path(platformdirs.user_cache_dir("ismgr")) / "engine",
        releases=found.get("ISMGR_ENGINE_RELEASES", "") or RELEASES,
        variables=found,
    )


def find(where: Settings | None = None) -> Engine:
    """The engine to use. Raises ``EngineMissing`` that lists everything looked at, and each way to get one.

    An ``ISMGR_ENGINE`` that cannot be used is an error even if another engine is there: somebody asked for that one.
    """
    where = where or settings()
    looked: list[str] = []
    for origin, path, label in _places(where):
        if path is None:
            looked.append(label)
            continue
        engine = _ask(origin, path, label, looked)
        if engine is not None:
            return engine
        if origin is Origin.SETTING:
            break
    raise missing(where, looked)


def missing(where: Settings, looked: list[str]) -> EngineMissing:
    """The one error for *no engine*: what was looked at and each way to get one."""
    oldest = ".".join(map(str, OLDEST))
    return EngineMissing(
        engine="Pulumi",
        needed=f"version 3, {oldest} or newer; no language plug-ins are needed",
        found=looked,
        ways=(
            f"`ismgr engine install`: the vendor's release {where.version} or a build with Go, into {where.cache}",
            "any installation of Pulumi that puts `pulumi` on PATH",
            "ISMGR_ENGINE=/path/to/pulumi",
        ),
    )


def _places(where: Settings) -> tuple[tuple[Origin, Path | None, str], ...]:
    on_path = shutil.which("pulumi", path=where.variables.get("PATH", os.defpath))
    cached = where.cached
    return (
        *(((Origin.SETTING, where.engine, f"ISMGR_ENGINE={where.engine}"),) if where.engine else ()),
        (Origin.PATH, Path(on_path) if on_path else None, on_path or "PATH: no `pulumi` there"),
        (
            Origin.CACHE,
            cached if cached.exists() else None,
            f"{cached}: not there" if not cached.exists() else str(cached),
        ),
    )


def _ask(origin: Origin, path: Path, label: str, looked: list[str]) -> Engine | None:
    """Ask an executable for its version; notes in ``looked`` why it will not do."""
    if origin is Origin.CACHE and os.access(path, os.X_OK):
        # asked when it was got, and nobody else writes there: a plan need not ask again
        return Engine(path=path, version=path.parent.name, origin=origin)
    try:
        version = ask_version(path)
    except (EngineMissing, EngineTimedOut) as problem:
        why = problem.found[0].rpartition(": ")[2] if isinstance(problem, EngineMissing) else "it did not answer"
        looked.append(f"{label}: {why}")
        return None
    except IsmgrError as problem:
        looked.append(f"{label}: {problem.summary}")
        return None
    if version is None:
        looked.append(f"{label}: it does not say a version")
        return None
    if not OLDEST <= version < (OLDEST[0] + 1, 0, 0):
        oldest = ".".join(map(str, OLDEST))
        looked.append(f"{label}: version {'.'.join(map(str, version))}, and {oldest} or newer of major 3 is needed")
        return None
    return Engine(path=path, version=".".join(map(str, version)), origin=origin)


def ask_version(path: Path) -> Version | None:
    """Run ``pulumi version``; None when what it says is not a version."""
    done = process.run(
        [str(path), "version"],
        engine="pulumi",
        subject="version",
        deadline=_VERSION_DEADLINE,
        env={**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "1"},
    )
    return read_version(done.stdout) if done.code == 0 else None


def read_version(text: str) -> Version | None:
    """The three numbers of ``v3.230.0`` or ``3.231.0-alpha.1``; None for anything else.

    >>> read_version("v3.230.0")
    (3, 230, 0)
    """
    match = re.match(r"v?(\d+)\.(\d+)\.(\d+)", text.strip())
    return (int(match[1]), int(match[2]), int(match[3])) if match else None
