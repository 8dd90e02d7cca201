"""Galaxy requirements, locked by version and checksum, and installed into a cache by digest. Nothing unlocked is used.

A requirements file has Ansible's own form. Its lock lies beside it (``requirements.yml`` -> ``requirements.lock.yml``)
and holds the SHA-256 of each artifact: of the archive, or of the tree of files for a Git commit. Dependencies are not
followed silently: a collection that needs another one has it named in the requirements, so that it is locked too.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

import yaml

from ismgr_automation.core.diagnostic import Diagnostic, Position
from ismgr_automation.core.errors import EngineFailed, InputError
from ismgr_automation.core.json import Json, digest
from ismgr_automation.engines import process
from ismgr_automation.engines.ansible import settings
from ismgr_automation.engines.ansible.archives import Collection, archive_digest, read_collection, tree_digest, unpack

FORMAT = "ismgr.galaxy-lock/1"
ENGINE = "ansible-galaxy"
DEADLINE = timedelta(minutes=10)

_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
_COLLECTION = re.compile(r"[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*")
_ARCHIVES = (".tar.gz", ".tgz", ".tar")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Kind(StrEnum):
    """What a requirement is."""

    COLLECTION = "collection"
    ROLE = "role"


class Type(StrEnum):
    """Where an artifact comes from."""

    GALAXY = "galaxy"
    """A Galaxy server, by name and version."""
    FILE = "file"
    """An archive: a path beside the requirements, or a ``file://`` URL."""
    GIT = "git"
    """A Git repository at a commit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One entry. ``version`` is a version, or the full id of a commit for Git; ``sha256`` is empty before locking."""

    kind: Kind
    type: Type
    name: str
    source: str
    version: str
    line: int
    sha256: str = ""


def lock_path(requirements: Path) -> Path:
    """Where the lock of a requirements file lies."""
    return requirements.with_name(f"{requirements.stem}.lock.yml")


def lock(requirements: Path) -> str:
    """The text of the lock: gets each artifact once and writes down its checksum.

    Raises ``InputError`` for an entry without an exact version, or one that needs something the file does not name;
    ``EngineFailed`` when an artifact cannot be had.
    """
    entries = _read(requirements, locked=False)
    artifacts: list[Json] = []
    with _scratch() as scratch:
        found: list[Collection] = []
        for number, entry in enumerate(entries):
            got = _get(entry, requirements, scratch / str(number))
            collection = read_collection(got) if entry.kind is Kind.COLLECTION else None
            if collection is not None:
                found.append(collection)
                _same_version(entry, collection, requirements)
            artifacts.append(
                {
                    "kind": str(entry.kind),
                    "type": str(entry.type),
                    "name": collection.name if collection else entry.name,
                    "source": entry.source,
                    "version": entry.version or (collection.version if collection else ""),
                    "sha256": _checksum(got),
                }
            )
        _complete(found, requirements)
    head = "# Written from the requirements beside it; ismgr installs exactly this.\n"
    body = {"format": FORMAT, "requirements": _content(requirements), "artifacts": artifacts}
    return head + yaml.safe_dump(body, sort_keys=False)


def install(requirements: Path, cache: Path) -> Path:
    """The folder with ``ansible_collections/`` and ``roles/`` of the locked artifacts, made when it is not there yet.

    Raises ``InputError`` when the lock is missing, older than its requirements, lacks a version or checksum, or does
    not fit an artifact; ``EngineFailed`` when an artifact cannot be had or installed.
    """
    path = lock_path(requirements)
    if not path.is_file():
        raise InputError(f"{requirements.name} has no lock.", next_step=f"Write {path.name} and commit it.")
    entries = _read(path, locked=True)
    if _document(path).get("requirements") != _content(requirements):
        raise InputError(
            f"{path.name} does not belong to {requirements.name} as it is now.", next_step="Lock it again."
        )
    locked: list[Json] = [f"{one.kind} {one.name} {one.version} {one.sha256}" for one in entries]
    place = cache / digest(locked).removeprefix("sha256:")
    if place.is_dir():
        return place
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _scratch(cache) as scratch:
            made = scratch / "made"
            (made / "ansible_collections").mkdir(parents=True)
            (made / "roles").mkdir()
            for number, entry in enumerate(entries):
                got = _get(entry, requirements, scratch / str(number))
                if _checksum(got) != entry.sha256:
                    raise _wrong(entry, path, f"{entry.name} {entry.version} does not have the locked checksum")
                _put(entry, got, made)
            # a folder appears whole or not at all; another process may have been faster
            if not place.is_dir():
                made.rename(place)
    except OSError as error:
        raise EngineFailed(
            f"Cannot install {path.name} into {cache}: {error.strerror or error}.",
            engine=ENGINE,
            subject=path.name,
            untouched="Nothing was installed.",
            next_step="Free space there, or make the folder writable.",
        ) from error
    return place


def _read(path: Path, *, locked: bool) -> tuple[Requirement, ...]:
    """The entries of a requirements file or a lock, each with its place; every mistake at once."""
    document = _document(path)
    wrong: list[Diagnostic] = []
    entries: list[Requirement] = []
    lines = _lines(path)
    groups: Sequence[tuple[str, Kind | None]] = (
        [("artifacts", None)] if locked else [("collections", Kind.COLLECTION), ("roles", Kind.ROLE)]
    )
    for key, kind in groups:
        items = document.get(key) or []
        if not isinstance(items, Sequence) or isinstance(items, str):
            wrong.append(Diagnostic(summary=f"{key} is not a list", position=Position(path.name, 1, 1)))
            continue
        for number, item in enumerate(items):
            line = lines.get((key, number), 1)
            body = item if isinstance(item, Mapping) else {"name": item}
            entry = _entry(body, kind or _kind(body), line)
            problem = _problem(entry, locked=locked)
            if problem:
                wrong.append(Diagnostic(summary=problem, position=Position(path.name, line, 1)))
            entries.append(entry)
    if wrong:
        raise InputError(f"{path.name} does not say exactly what to install.", diagnostics=wrong)
    return tuple(entries)


def _document(path: Path) -> Mapping[str, Json]:
    try:
        found = yaml.safe_load(path.read_text())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = Position(path.name, mark.line + 1, mark.column + 1) if mark else None
        wrong = Diagnostic(summary=error.problem or "not YAML", position=place)
        raise InputError(f"{path.name} cannot be read.", diagnostics=[wrong]) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}.") from error
    if isinstance(found, list):
        # the old form: a list of roles
        return {"roles": found}
    return found if isinstance(found, dict) else {}


def _lines(path: Path) -> Mapping[tuple[str, int], int]:
    """The line of each list item below each top key."""
    node = yaml.compose(path.read_text(), Loader=yaml.SafeLoader)
    if not isinstance(node, yaml.MappingNode):
        return {}
    return {
        (str(key.value), number): item.start_mark.line + 1
        for key, value in node.value
        if isinstance(value, yaml.SequenceNode)
        for number, item in enumerate(value.value)
    }


def _kind(body: Mapping[str, Json]) -> Kind:
    return Kind.ROLE if body.get("kind") == "role" else Kind.COLLECTION


def _entry(body: Mapping[str, Json], kind: Kind, line: int) -> Requirement:
    name = str(body.get("name") or "")
    source = str(body.get("src") or body.get("source") or "")
    scm = str(body.get("scm") or body.get("type") or "")
    place = source or name
    if scm == "git" or place.startswith("git+") or place.endswith(".git"):
        type_, place = Type.GIT, place.removeprefix("git+")
    elif scm == "galaxy" or (not scm and _COLLECTION.fullmatch(name or source) and not place.endswith(_ARCHIVES)):
        type_, place = Type.GALAXY, source if name else ""
    else:
        type_ = Type.FILE
    return Requirement(
        kind=kind,
        type=type_,
        name=name or Path(place).name.removesuffix(".git"),
        source=place,
        version=str(body.get("version") or ""),
        line=line,
        sha256=str(body.get("sha256") or ""),
    )


def _problem(entry: Requirement, *, locked: bool) -> str:
    """Why an entry cannot be relied on; empty when it can."""
    usable = re.fullmatch(r"[A-Za-z0-9_./][A-Za-z0-9_./:@~+-]*", entry.name) and not entry.source.startswith("-")
    named = re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", entry.name)
    role, server = entry.kind is Kind.ROLE, entry.type is Type.GALAXY
    rows = (
        (not usable, "the entry has no usable name"),
        (role and server, f"role {entry.name} has no archive to lock; name its Git repository at a commit, or a file"),
        (role and not named, f"role {entry.name!r} has no usable name; add 'name'"),
        (
            entry.type is Type.GIT and not _COMMIT.fullmatch(entry.version),
            f"{entry.name} has no commit as its version (a branch or tag can move; write the full id)",
        ),
        (
            server and not _VERSION.fullmatch(entry.version),
            f"{entry.name} has no exact version ({entry.version or 'none'} is none)",
        ),
        (
            entry.type is Type.FILE and entry.source.partition("://")[0] not in {"file", entry.source},
            f"{entry.name} comes from a URL that is neither file:// nor Git; keep the archive in the estate",
        ),
        (locked and not role and not entry.version, f"{entry.name} has no version"),
        (locked and not _SHA256.fullmatch(entry.sha256), f"{entry.name} has no sha256"),
    )
    return next((text for wrong, text in rows if wrong), "")


def _content(requirements: Path) -> str:
    document = _document(requirements)
    return digest({"collections": document.get("collections"), "roles": document.get("roles")})


def _get(entry: Requirement, requirements: Path, into: Path) -> Path:
    """The artifact as it came: an archive, or the folder of a commit."""
    into.mkdir(parents=True)
    match entry.type:
        case Type.FILE:
            path = requirements.parent / entry.source.removeprefix("file://")
            if not path.is_file():
                raise _wrong(entry, requirements, f"there is no archive {entry.source}")
            return path
        case Type.GIT:
            _command(
                ["git", "clone", "-q", "--no-checkout", "--", _git_place(entry, requirements), "tree"], entry, into
            )
            tree = into / "tree"
            _command(["git", "checkout", "-q", "--detach", entry.version], entry, tree)
            shutil.rmtree(tree / ".git")
            return tree
        case Type.GALAXY:
            server = ["--server", entry.source] if entry.source else []
            wanted = f"{entry.name}:{entry.version}"
            _galaxy(["collection", "download", "--no-deps", "-p", str(into), *server, wanted], entry, into)
            archives = sorted(into.glob("*.tar.gz"))
            if len(archives) != 1:
                raise EngineFailed(
                    f"{wanted} was not downloaded.",
                    engine=ENGINE,
                    subject=entry.name,
                    next_step="Look whether the server has it; an archive beside the requirements needs no server.",
                )
            return archives[0]


def _git_place(entry: Requirement, requirements: Path) -> str:
    local = requirements.parent / entry.source
    return str(local) if "://" not in entry.source and local.exists() else entry.source


def _checksum(got: Path) -> str:
    return tree_digest(got) if got.is_dir() else archive_digest(got)


def _put(entry: Requirement, got: Path, made: Path) -> None:
    match entry.kind:
        case Kind.COLLECTION:
            target = str(made)
            _galaxy(["collection", "install", "--offline", "--no-deps", "--force", "-p", target, str(got)], entry, made)
        case Kind.ROLE if got.is_dir():
            shutil.copytree(got, made / "roles" / entry.name, symlinks=True)
        case Kind.ROLE:
            unpack(got, made / "roles" / entry.name)


def _same_version(entry: Requirement, found: Collection, requirements: Path) -> None:
    if entry.type is not Type.GIT and entry.version and entry.version != found.version:
        raise _wrong(entry, requirements, f"{entry.name} is version {found.version}, not {entry.version}")


def _complete(found: Sequence[Collection], requirements: Path) -> None:
    """Every dependency must be named, or it would come unlocked."""
    names = {one.name for one in found}
    missing = sorted({need for one in found for need in one.needs} - names)
    if missing:
        raise InputError(
            f"{requirements.name}: the collections need others that are not named: {', '.join(missing)}.",
            next_step="Add them with their versions, and lock again.",
        )


def _galaxy(arguments: Sequence[str], entry: Requirement, folder: Path) -> None:
    config = folder / "ansible.cfg"
    config.write_text("")
    environment = settings.environment(os.environ, config=config, memory=folder / ".ansible")
    try:
        _command([str(Path(sys.executable).parent / "ansible-galaxy"), *arguments], entry, folder, environment)
    finally:
        config.unlink()
        shutil.rmtree(folder / ".ansible", ignore_errors=True)


def _command(argv: Sequence[str], entry: Requirement, folder: Path, env: Mapping[str, str] | None = None) -> None:
    own = settings.kept_environment(os.environ) | {"GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1"}
    done = process.run(argv, engine=ENGINE, subject=entry.name, deadline=DEADLINE, cwd=folder, env=env or own)
    if done.code != 0:
        raise EngineFailed(
            f"{entry.name} {entry.version} cannot be had from {entry.source or 'the Galaxy server'}.",
            engine=ENGINE,
            subject=entry.name,
            untouched="Nothing was installed.",
            next_step="Check its source and version; an archive beside the requirements needs no network.",
            detail=(done.stderr + done.stdout).strip(),
        )


def _wrong(entry: Requirement, path: Path, summary: str) -> InputError:
    place = Position(path.name, entry.line, 1)
    return InputError(
        f"{path.name} cannot be installed.",
        diagnostics=[Diagnostic(summary=summary, position=place)],
        untouched="Nothing was installed.",
    )


@contextmanager
def _scratch(beside: Path | None = None) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=".ismgr-", dir=beside))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
