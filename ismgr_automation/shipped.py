"""Finds the content that comes with ismgr: playbooks, stacks, policies and examples. Reads files and changes none."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path

PREFIX = "ismgr:"
"""A path in a document that begins with this is shipped content: ``ismgr:playbooks/database.yml``."""

FOLDERS = ("playbooks", "stacks", "policies", "examples")
"""The folders that ship; a user's estate has folders of the same names."""

_IGNORED = frozenset({"__pycache__"})


@cache
def root() -> Path:
    """The folder that holds ``FOLDERS``: inside the package when installed from a wheel, the checkout's root otherwise.

    Raises ``FileNotFoundError`` when neither is there, which means that the installation is broken.
    """
    package = Path(__file__).resolve().parent
    for candidate in (package / "content", package.parent):
        if all((candidate / folder).is_dir() for folder in FOLDERS):
            return candidate
    raise FileNotFoundError(
        f"the content that ships with ismgr is neither in {package / 'content'} nor in {package.parent}; "
        "install ismgr_automation again"
    )


def is_shipped(path: str) -> bool:
    """Whether a path of a document names shipped content.

    >>> is_shipped("ismgr:stacks/servers"), is_shipped("stacks/servers")
    (True, False)
    """
    return path.startswith(PREFIX)


def resolve(path: str, estate_root: Path) -> Path:
    """Where a path of a document lies: below ``root()`` with the prefix, below the estate's folder without.

    The file need not exist. Raises ``ValueError`` for a path that leaves its folder, and for shipped content outside
    ``FOLDERS``: an installation has other things beside them.

    >>> resolve("playbooks/site.yml", Path("/srv/estate")).as_posix()
    '/srv/estate/playbooks/site.yml'
    """
    inner = path.removeprefix(PREFIX)
    parts = Path(inner).parts
    if not parts or Path(inner).is_absolute() or ".." in parts:
        raise ValueError(f"{path!r} must stay inside its folder")
    if not is_shipped(path):
        return estate_root / inner
    if parts[0] not in FOLDERS:
        known = ", ".join(f"{PREFIX}{folder}/..." for folder in FOLDERS)
        raise ValueError(f"{path!r} is not shipped with ismgr; what ships is {known}")
    return root() / inner


def files(folder: Path) -> tuple[Path, ...]:
    """Every file below a folder, relative to it and sorted; hidden ones and what Python compiled are left out."""
    found: list[Path] = []
    for base, inner, names in os.walk(folder):
        inner[:] = [name for name in inner if not _left_out(name)]
        found += [Path(base, name) for name in names if not _left_out(name)]
    return tuple(sorted(path.relative_to(folder) for path in found if path.is_file()))


def names() -> frozenset[str]:
    """Every shipped file as documents name it, without the prefix: ``playbooks/database.yml``."""
    return frozenset(f"{folder}/{one.as_posix()}" for folder in FOLDERS for one in files(root() / folder))


def digest() -> str:
    """``sha256:`` and 64 digits over the names and bytes of all shipped files: equal for equal content, wherever it is.

    A plan names it, because a plan made with other playbooks is another plan.
    """
    total = hashlib.sha256()
    for folder in FOLDERS:
        for inner in files(root() / folder):
            body = hashlib.sha256((root() / folder / inner).read_bytes()).hexdigest()
            total.update(f"{body}  {folder}/{inner.as_posix()}\n".encode())
    return "sha256:" + total.hexdigest()


def _left_out(part: str) -> bool:
    return part.startswith(".") or part in _IGNORED
