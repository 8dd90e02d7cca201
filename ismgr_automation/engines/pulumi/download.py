"""Gets the vendor's release of the engine: the tarball and its checksum, never a script. Nothing is run from here."""

from __future__ import annotations

import hashlib
import platform
import shutil
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from threading import Event
from typing import cast

from ismgr_automation.core.errors import Cancelled, EngineFailed, EngineTimedOut, Unreachable
from ismgr_automation.engines.pulumi.locate import Settings

_MACHINES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}
_CHUNK_BYTES = 1024 * 1024
_CHECKSUMS_AT_MOST_BYTES = 1024 * 1024
_KEEP = ("pulumi", "pulumi-language-python", "pulumi-language-python-exec")
"""What we take out of the release: the engine, and what plain ``pulumi up`` of a Python program needs."""


def release(where: Settings, into: Path, cancelled: Event) -> Path:
    """Download, verify and unpack the pinned release below ``into`` (an empty folder); returns the engine's path.

    Raises ``Unreachable`` when the releases cannot be reached within ``connect_timeout``, ``EngineFailed`` when what
    came is not what its checksum says or has no engine in it, ``EngineTimedOut`` past ``download_deadline``.
    """
    name = tarball_name(where.version)
    base = f"{where.releases.rstrip('/')}/v{where.version}"
    until = time.monotonic() + where.download_deadline.total_seconds()
    expected = _expected_digest(where, base, name)
    tarball = into / name
    with _open(where, f"{base}/{name}") as answer:
        actual = _save(answer, tarball, until, where, cancelled)
    if actual != expected:
        raise _failed(where, f"{name} has SHA-256 {actual}, and its checksum file says {expected}; it was thrown away")
    try:
        engine = _unpack(tarball, into)
    except (tarfile.TarError, EOFError) as problem:
        raise _failed(where, f"{name} cannot be unpacked: {problem}") from problem
    finally:
        tarball.unlink(missing_ok=True)
    if engine is None:
        raise _failed(where, f"{name} holds no pulumi/pulumi")
    return engine


def tarball_name(version: str) -> str:
    """The vendor's file name for this machine.

    Raises ``EngineFailed`` for a machine that the vendor does not publish for.
    """
    machine = _MACHINES.get(platform.machine().lower())
    if machine is None or platform.system() != "Linux":
        raise EngineFailed(
            f"The vendor publishes no engine for {platform.system()} on {platform.machine()}.",
            engine="pulumi",
            next_step="It can be built with Go.",
        )
    return f"pulumi-v{version}-linux-{machine}.tar.gz"


def _expected_digest(where: Settings, base: str, name: str) -> str:
    with _open(where, f"{base}/pulumi-{where.version}-checksums.txt") as answer:
        text = answer.read(_CHECKSUMS_AT_MOST_BYTES).decode("utf-8", errors="replace")
    for line in text.splitlines():
        digest, _, file = line.partition(" ")
        if file.strip().lstrip("*") == name:
            return digest.lower()
    raise _failed(where, f"its checksum file does not name {name}")


def _open(where: Settings, url: str) -> HTTPResponse:
    if not url.startswith(("https://", "http://")):
        raise _failed(where, f"{url} is neither https nor http")
    try:
        # the time-out bounds connecting and each read; the whole is bounded where it is read
        answer = urllib.request.urlopen(url, timeout=where.connect_timeout.total_seconds())  # noqa: S310  checked above
    except urllib.error.HTTPError as problem:
        raise _failed(where, f"{url} answers {problem.code} {problem.reason}") from problem
    except (OSError, HTTPException) as problem:
        raise _away(where, url, problem) from problem
    return cast("HTTPResponse", answer)


def _save(answer: HTTPResponse, path: Path, until: float, where: Settings, cancelled: Event) -> str:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in iter(_reader(answer, where), b""):
            digest.update(chunk)
            file.write(chunk)
            if cancelled.is_set():
                raise Cancelled("The download was stopped on request; what had come was thrown away.")
            if time.monotonic() > until:
                raise EngineTimedOut(
                    f"The release did not come within {where.download_deadline.total_seconds():g} s.",
                    engine="pulumi",
                    next_step="Try again on a faster line, or name a mirror in ISMGR_ENGINE_RELEASES.",
                )
    return digest.hexdigest()


def _reader(answer: HTTPResponse, where: Settings) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            return answer.read(_CHUNK_BYTES)
        except (OSError, HTTPException) as problem:
            raise _away(where, answer.geturl(), problem) from problem

    return read


def _unpack(tarball: Path, into: Path) -> Path | None:
    """Take out the few executables that we keep, by name; links and everything else stay inside."""
    found: Path | None = None
    with tarfile.open(tarball, "r:gz") as archive:
        for member in archive:
            name = PurePosixPath(member.name).name
            stream = archive.extractfile(member) if member.isfile() and name in _KEEP else None
            if stream is None:
                continue
            with stream, (into / name).open("wb") as file:
                shutil.copyfileobj(stream, file)
            (into / name).chmod(0o755)
            found = into / name if name == "pulumi" else found
    return found


def _away(where: Settings, url: str, problem: Exception) -> Unreachable:
    reason = getattr(problem, "reason", None) or problem
    return Unreachable(
        f"The vendor's release cannot be reached: {url}: {reason}.",
        engine="pulumi",
        subject=f"release {where.version}",
        cause="timeout" if isinstance(reason, TimeoutError) else "refused",
        next_step="Name a mirror in ISMGR_ENGINE_RELEASES if there is one.",
    )


def _failed(where: Settings, what: str) -> EngineFailed:
    return EngineFailed(
        f"The vendor's release {where.version} cannot be used: {what}.",
        engine="pulumi",
        subject=f"release {where.version}",
        next_step="Look at ISMGR_ENGINE_RELEASES if it is set.",
    )
