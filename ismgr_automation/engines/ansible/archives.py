"""Reads archives and folders of Ansible content: checksums, what a collection says about itself, safe unpacking."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from ismgr_automation.core.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """What a collection says about itself; ``needs`` are the names of the collections that it depends on."""

    name: str
    version: str
    needs: tuple[str, ...]


def archive_digest(path: Path) -> str:
    """SHA-256 of the file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_digest(folder: Path) -> str:
    """SHA-256 over the sorted paths, kinds, modes (executable or not) and contents below a folder."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*"), key=lambda one: one.relative_to(folder).as_posix()):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            kind, content = "link", os.fsencode(path.readlink())
        elif path.is_file():
            kind = "program" if os.access(path, os.X_OK) else "file"
            content = path.read_bytes()
        else:
            continue
        line = [name, kind, hashlib.sha256(content).hexdigest()]
        total.update(json.dumps(line).encode() + b"\n")
    return total.hexdigest()


def read_collection(got: Path) -> Collection:
    """What the collection in an archive or a folder says about itself. Raises ``InputError``."""
    try:
        if got.is_dir():
            info = yaml.safe_load((got / "galaxy.yml").read_text())
        else:
            with tarfile.open(got) as archive:
                member = archive.extractfile("MANIFEST.json")
                info = json.load(member)["collection_info"] if member else {}
        needs = info.get("dependencies") or {}
        return Collection(
            name=f"{info['namespace']}.{info['name']}",
            version=str(info["version"]),
            needs=tuple(sorted(map(str, needs))) if isinstance(needs, Mapping) else (),
        )
    except (OSError, KeyError, ValueError, AttributeError, TypeError, tarfile.TarError, yaml.YAMLError) as error:
        raise InputError(f"{got.name} is no Ansible collection: {error}.") from error


def unpack(archive: Path, into: Path) -> None:
    """Unpack a role's archive; a single top folder is left out. Raises ``InputError`` for paths that lead out."""
    raw = into.with_name(f".{into.name}.raw")
    try:
        with tarfile.open(archive) as opened:
            opened.extractall(raw, filter="data")
    except tarfile.TarError as error:
        raise InputError(f"{archive.name} cannot be unpacked: {error}.") from error
    inside = list(raw.iterdir())
    if len(inside) == 1 and inside[0].is_dir():
        inside[0].rename(into)
        raw.rmdir()
    else:
        raw.rename(into)
