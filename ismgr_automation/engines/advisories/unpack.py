"""Bytes out of files, folders, gzip and zip, within limits. Writes nothing: a path inside an archive is only a name."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from ismgr_automation.core.errors import InputError
from ismgr_automation.engines.advisories.limits import Limits
from ismgr_automation.engines.advisories.places import too_large, wrong, wrong_at

_GZIP = b"\x1f\x8b"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_CHUNK_BYTES = 1024 * 1024
RECORDS = (".json", ".jsonl", ".ndjson")
"""What files of records are called in a folder or an archive; others are left alone."""


def digest_of(path: Path, name: str, limits: Limits) -> str:
    """``sha256:`` and digits over a file's bytes, or over the names and bytes of a folder's records."""
    total = hashlib.sha256()
    if not path.is_dir():
        _hash(path, name, total, limits.file_bytes)
        return f"sha256:{total.hexdigest()}"
    for one in _files_below(path, name, limits):
        inner = hashlib.sha256()
        _hash(one, name, inner, limits.member_bytes)
        total.update(f"{inner.hexdigest()} {one.relative_to(path).as_posix()}\n".encode("utf-8", "surrogateescape"))
    return f"sha256:{total.hexdigest()}"


def text_of(path: Path, name: str, limits: Limits) -> str:
    """The text of one file, which may be compressed with gzip. Raises ``InputError`` for what is too large, no text, or
    cut off."""
    return decoded(_content(path, name, limits), name)


def texts_of(path: Path, name: str, limits: Limits) -> Iterator[tuple[str, str]]:
    """Name and text of each file of records: the file itself, or those in the folder or zip archive."""
    if path.is_dir():
        for one in _files_below(path, name, limits):
            label = f"{name}/{one.relative_to(path).as_posix()}"
            yield label, decoded(_content(one, label, limits), label)
        return
    with _opened(path, name) as file:
        zipped = file.read(4) in _ZIP
    if zipped:
        yield from _members(path, name, limits)
    else:
        yield name, text_of(path, name, limits)


def decoded(content: bytes, name: str) -> str:
    """UTF-8, with or without a byte order mark."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        before = content[: problem.start].decode("utf-8", "replace")
        raise wrong_at(name, before, len(before), "this is no text in UTF-8") from problem


def json_of(text: str, name: str, first_line: int = 1) -> Any:
    """A JSON value. Refuses what readers of JSON disagree about (a key twice, NaN), and nesting without end; raises
    ``InputError`` with line and column, or with the key. ``first_line`` is where the text begins in its file."""
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except json.JSONDecodeError as problem:
        moved = "\n" * (first_line - 1)
        raise wrong_at(name, moved + text, len(moved) + problem.pos, f"no JSON: {problem.msg}") from problem
    except RecursionError:
        raise wrong(name, "its values are nested too deeply") from None
    except ValueError as problem:
        raise wrong(name, str(problem)) from problem


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _value in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return made


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _content(path: Path, name: str, limits: Limits) -> bytes:
    with _opened(path, name) as file:
        content: bytes = file.read(limits.file_bytes + 1)
    if len(content) > limits.file_bytes:
        raise too_large(name, "the file", limits.file_bytes)
    if not content.startswith(_GZIP):
        return content
    try:
        with gzip.open(path) as packed:
            content = packed.read(limits.file_bytes + 1)
    except (OSError, EOFError, zlib.error) as problem:
        raise wrong(name, f"what gzip packed is damaged ({problem})") from problem
    if len(content) > limits.file_bytes:
        raise too_large(name, "what gzip packed", limits.file_bytes)
    return content


def _members(path: Path, name: str, limits: Limits) -> Iterator[tuple[str, str]]:
    left = limits.unpacked_bytes
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > limits.members:
                raise wrong(name, f"it has more than {limits.members:,} members")
            for member in members:
                if member.is_dir() or not member.filename.lower().endswith(RECORDS):
                    continue
                label = f"{name}/{member.filename}"
                most = min(left, limits.member_bytes)
                with archive.open(member) as packed:
                    # what the archive says of its sizes is not believed: this much is unpacked, and no more
                    content = packed.read(most + 1)
                if len(content) > most:
                    raise too_large(label, "what zip packed", most)
                left -= len(content)
                yield label, decoded(content, label)
    except InputError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        RuntimeError,
        NotImplementedError,
        ValueError,
    ) as problem:
        raise wrong(name, f"the zip archive is damaged or of a kind that is not read ({problem})") from problem


def _files_below(folder: Path, name: str, limits: Limits) -> list[Path]:
    """Links are not followed: what is read lies in the folder."""
    found: list[Path] = []
    size = 0
    for base, inner, names in os.walk(folder, onerror=_raised):
        inner[:] = sorted(one for one in inner if not one.startswith("."))
        for one in (Path(base, leaf) for leaf in names if leaf.lower().endswith(RECORDS) and not leaf.startswith(".")):
            if one.is_symlink() or not one.is_file():
                continue
            found.append(one)
            size += one.stat().st_size
            if len(found) > limits.members:
                raise wrong(name, f"it has more than {limits.members:,} files")
            if size > limits.unpacked_bytes:
                raise too_large(name, "the folder", limits.unpacked_bytes)
    return sorted(found)


def _raised(problem: OSError) -> NoReturn:
    """A folder that may not be looked into is not an empty one."""
    raise wrong(str(problem.filename), problem.strerror or str(problem)) from problem


def _hash(path: Path, name: str, into: Any, most: int) -> None:
    read = 0
    with _opened(path, name) as file:
        while chunk := file.read(_CHUNK_BYTES):
            read += len(chunk)
            if read > most:
                raise too_large(name, path.name, most)
            into.update(chunk)


def _opened(path: Path, name: str) -> Any:
    try:
        # a pipe would make us wait for a writer who never comes
        if not path.is_file():
            raise wrong(name, "there is no such file" if not path.exists() else "it is no plain file")
        return path.open("rb")
    except OSError as problem:
        raise wrong(name, problem.strerror or str(problem)) from problem
