"""Which files of a tree hold documents: rules over paths, and over what documents name. Nothing is opened here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from ismgr_automation import shipped
from ismgr_automation.core.json import Json

CONTENT_FOLDERS = ("playbooks", "stacks", "policies", "verify")
"""Folders of the estate whose YAML belongs to engines: playbooks, programs, policy packs, suites."""

FOREIGN = re.compile(
    r"(Pulumi(\.[^/]+)?|(docker-)?compose[^/]*|mkdocs|galaxy|requirements|molecule|Chart|Taskfile)\.ya?ml\Z"
)
"""File names that other tools have taken."""

KIND_LINE = re.compile(rb"^kind:[ \t]*['\"]?(Estate|Team|Site|Stack|HostGroup|Service)\b", re.MULTILINE)

FOREIGN_TEXT = re.compile(rb"^apiVersion:|{{|{%", re.MULTILINE)
"""What an unreadable file of another tool has: a manifest's first key, or the brackets of a template."""

_PATH_KEYS: Mapping[str, tuple[str, ...]] = {
    "Stack": ("program",),
    "HostGroup": ("playbook", "verify"),
    "Estate": ("inventories",),
}
_BESIDE = ("roles", "group_vars", "host_vars", "tasks", "vars", "templates", "files", "handlers", "collections")
"""What Ansible reads beside a playbook or an inventory."""


def candidates(files: Iterable[str]) -> tuple[str, ...]:
    """YAML files that may hold documents, sorted: outside content folders and hidden ones, not another tool's name.

    >>> candidates(["a.yaml", "stacks/x/Pulumi.yaml", ".github/ci.yml", "sites/dc1.yml", "notes.txt"])
    ('a.yaml', 'sites/dc1.yml')
    """
    return tuple(sorted(path for path in files if _may_hold(path)))


def misplaced(files: Iterable[str]) -> tuple[str, ...]:
    """YAML files below content folders, where documents are not looked for."""
    return tuple(
        sorted(path for path in files if _is_yaml(path) and path.partition("/")[0] in CONTENT_FOLDERS and "/" in path)
    )


def _is_yaml(path: str) -> bool:
    return path.endswith((".yaml", ".yml"))


def _may_hold(path: str) -> bool:
    parts = path.split("/")
    hidden = any(part.startswith(".") for part in parts)
    content = len(parts) > 1 and parts[0] in CONTENT_FOLDERS
    return _is_yaml(path) and not hidden and not content and not FOREIGN.match(parts[-1])


def named_by(kind: str, value: Mapping[str, Json]) -> Iterator[str]:
    """Paths of the tree that a document hands to an engine; YAML at or below them is the engine's."""
    for key in _PATH_KEYS.get(kind, ()):
        found = value.get(key)
        for one in found if isinstance(found, list) else [found]:
            if isinstance(one, str) and one and not shipped.is_shipped(one):
                yield from _with_neighbours(key, one.strip("/"))
    ansible = value.get("ansible") if kind == "Estate" else None
    if isinstance(ansible, Mapping):
        roles = ansible.get("roles_path")
        named = [*(roles if isinstance(roles, list) else []), ansible.get("requirements")]
        yield from (one.strip("/") for one in named if isinstance(one, str) and one)


def _with_neighbours(key: str, path: str) -> Iterator[str]:
    yield path
    if key in {"playbook", "inventories"}:
        folder = path.rpartition("/")[0]
        yield from (f"{folder}/{name}" if folder else name for name in _BESIDE)


def below(path: str, named: frozenset[str]) -> bool:
    """Whether a path is one of the named ones or lies below one."""
    parts = path.split("/")
    return any("/".join(parts[: count + 1]) in named for count in range(len(parts)))


def folders_of(files: Iterable[str]) -> frozenset[str]:
    """Every folder that holds a file, directly or not."""
    found: set[str] = set()
    for path in files:
        folder = path.rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return frozenset(found)
