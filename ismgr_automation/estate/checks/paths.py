"""Checks of paths: programs, playbooks, suites and files that documents name are in the tree, or shipped. Both are
sets of names; nothing is looked at on disk."""

from __future__ import annotations

import difflib
import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from ismgr_automation import shipped
from ismgr_automation.core.diagnostic import Diagnostic, Position
from ismgr_automation.estate.checks.secrets import backends_of
from ismgr_automation.estate.documents import (
    AnsibleVaultBackend,
    EstateDocument,
    HashicorpVaultBackend,
    HostGroup,
    Site,
    Stack,
)
from ismgr_automation.estate.draft import Draft, wrong
from ismgr_automation.estate.maintenance import MaintenanceWindow, PatchBaseline
from ismgr_automation.estate.tree import folders_of

_NEAR = 0.75
"""Paths share folders and endings: a near one must be nearer than a near word."""

_SUITE = re.compile(r"(test_[^/]*|[^/]*_test)\.py\Z")


@dataclass(frozen=True, slots=True)
class _Names:
    """Files and folders of one tree."""

    files: frozenset[str]
    folders: frozenset[str]

    def has(self, path: str) -> bool:
        return path in self.files or path in self.folders

    def near(self, path: str, among: Iterable[str]) -> str:
        close = difflib.get_close_matches(path, sorted(among), n=1, cutoff=_NEAR)
        return close[0] if close else ""


def programs(draft: Draft) -> Iterator[Diagnostic]:
    """A program is a folder with Pulumi.yaml."""
    trees = _trees(draft)
    for entry, stack in draft.each(Stack):
        tree, path, prefix = _choose(trees, stack.program)
        place = entry.marked.at("program")
        if path in tree.files:
            yield wrong(place, f"the program {stack.program!r} is a file", "the folder that holds Pulumi.yaml")
        elif path not in tree.folders:
            projects = {str(PurePosixPath(one).parent) for one in tree.files if _is_project(one)}
            yield _missing(f"program {stack.program!r}", place, prefix, tree.near(path, projects - {"."}))
        elif f"{path}/Pulumi.yaml" not in tree.files and f"{path}/Pulumi.yml" not in tree.files:
            yield wrong(place, f"the folder {stack.program!r} holds no Pulumi.yaml", "the folder of a Pulumi project")


def playbooks(draft: Draft) -> Iterator[Diagnostic]:
    """A playbook is a file."""
    trees = _trees(draft)
    for entry, group in draft.each(HostGroup):
        tree, path, prefix = _choose(trees, group.playbook)
        place = entry.marked.at("playbook")
        if path in tree.folders:
            yield wrong(place, f"the playbook {group.playbook!r} is a folder", "a file with plays")
        elif path not in tree.files:
            yaml = (one for one in tree.files if one.endswith((".yml", ".yaml")))
            yield _missing(f"playbook {group.playbook!r}", place, prefix, tree.near(path, yaml))


def suites(draft: Draft) -> Iterator[Diagnostic]:
    """A suite is a Python file, or a folder that holds test files."""
    trees = _trees(draft)
    for entry, group in draft.each(HostGroup):
        for index, name in enumerate(group.verify):
            tree, path, prefix = _choose(trees, name)
            place = entry.marked.at("verify", index)
            if path in tree.folders:
                if not any(one.startswith(f"{path}/") and _SUITE.search(one) for one in tree.files):
                    yield wrong(place, f"the folder {name!r} holds no tests", "files called test_*.py")
            elif path not in tree.files:
                tests = {one for one in tree.files if _SUITE.search(one)}
                folders = {str(PurePosixPath(one).parent) for one in tests}
                yield _missing(f"suite {name!r}", place, prefix, tree.near(path, tests | folders))
            elif not path.endswith(".py"):
                yield wrong(place, f"the suite {name!r} is not a Python file", "a file called test_*.py, or a folder")


def other_files(draft: Draft) -> Iterator[Diagnostic]:
    """Inventories, role folders, requirements, pinned host keys, encrypted files and authorities."""
    trees = _trees(draft)
    for entry, estate in draft.each(EstateDocument):
        at = entry.marked.at
        named: list[tuple[str, str | None, Position]] = [
            *(("inventory", one, at("inventories", i)) for i, one in enumerate(estate.inventories)),
            *(("roles folder", one, at("ansible", "roles_path", i)) for i, one in enumerate(estate.ansible.roles_path)),
            ("requirements file", estate.ansible.requirements, at("ansible", "requirements")),
            ("file of known hosts", estate.ssh.known_hosts, at("ssh", "known_hosts")),
        ]
        yield from _present(trees, named)
        for where, name, backend in backends_of(estate):
            at_backend = (*where, name)
            if isinstance(backend, AnsibleVaultBackend):
                files = enumerate(backend.files)
                yield from _present(trees, [("encrypted file", one, at(*at_backend, "files", i)) for i, one in files])
            elif isinstance(backend, HashicorpVaultBackend):
                yield from _present(trees, [("authority", backend.ca, at(*at_backend, "ca"))])
    for entry, site in draft.each(Site):
        yield from _present(
            trees,
            [
                ("authority", machine.bmc.ca, entry.marked.at("machines", index, "bmc", "ca"))
                for index, machine in enumerate(site.machines)
            ],
        )


def maintenance_files(draft: Draft) -> Iterator[Diagnostic]:
    """Calendars of windows, advisories that are kept in the estate, and programs of it that make snapshots."""
    trees = _trees(draft)
    for entry, window in draft.each(MaintenanceWindow):
        yield from _present(trees, [("calendar", window.calendar, entry.marked.at("calendar"))])
    for entry, baseline in draft.each(PatchBaseline):
        yield from _present(
            trees,
            [
                ("advisory source", one.source, entry.marked.at("advisories", index, "source"))
                for index, one in enumerate(baseline.advisories)
                if "://" not in one.source
            ],
        )
        program = baseline.snapshots.command[0] if baseline.snapshots is not None else ""
        if "/" in program and not program.startswith("/"):
            place = entry.marked.at("snapshots", "command", 0)
            yield from _present(trees, [("snapshot command", posixpath.normpath(program), place)])


def _present(trees: tuple[_Names, _Names], named: Iterable[tuple[str, str | None, Position]]) -> Iterator[Diagnostic]:
    for what, name, place in named:
        if name is None:
            continue
        tree, path, prefix = _choose(trees, name)
        if not tree.has(path):
            yield _missing(f"{what} {name!r}", place, prefix, tree.near(path, tree.files))


def _trees(draft: Draft) -> tuple[_Names, _Names]:
    return _Names(draft.files, draft.folders), _Names(draft.shipped, folders_of(draft.shipped))


def _choose(trees: tuple[_Names, _Names], name: str) -> tuple[_Names, str, str]:
    if shipped.is_shipped(name):
        return trees[1], str(PurePosixPath(name.removeprefix(shipped.PREFIX))), shipped.PREFIX
    return trees[0], str(PurePosixPath(name)), ""


def _is_project(path: str) -> bool:
    return path.endswith(("/Pulumi.yaml", "/Pulumi.yml"))


def _missing(what: str, place: Position, prefix: str, near: str) -> Diagnostic:
    where = "shipped with ismgr" if prefix else "in the tree"
    expected = "" if near else "a path relative to the estate's folder"
    return wrong(place, f"the {what} is not {where}", expected, f"{prefix}{near}" if near else "")
