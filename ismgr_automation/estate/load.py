"""Reads the documents of a tree: every mistake at once, in order, or one Estate. The only file of this room that opens
files; what it finds wrong is returned, never raised."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from ismgr_automation import shipped
from ismgr_automation.core.address import Address, Kind
from ismgr_automation.core.diagnostic import Diagnostic, Position, Severity, did_you_mean
from ismgr_automation.estate import tree
from ismgr_automation.estate.consistency import check
from ismgr_automation.estate.documents import KINDS, HostGroup, Service, Site, Stack, Team
from ismgr_automation.estate.draft import Draft, Entry
from ismgr_automation.estate.maintenance import Exemption, Freeze, MaintenanceWindow, PatchBaseline
from ismgr_automation.estate.marks import MOST_BYTES, Marked, Spot, claims, parse
from ismgr_automation.estate.model import Estate
from ismgr_automation.estate.recovery import RecoveryPlan
from ismgr_automation.estate.schedule import DrillSchedule
from ismgr_automation.estate.sentences import kind_of, translate

Kept = TypeVar(
    "Kept",
    Team,
    Site,
    Stack,
    HostGroup,
    Service,
    PatchBaseline,
    MaintenanceWindow,
    Freeze,
    Exemption,
    RecoveryPlan,
    DrillSchedule,
)

_ADDRESS_KINDS: Mapping[str, Kind] = {
    "Team": Kind.TEAM,
    "Site": Kind.SITE,
    "Stack": Kind.STACK,
    "HostGroup": Kind.GROUP,
    "Service": Kind.SERVICE,
    "PatchBaseline": Kind.BASELINE,
    "MaintenanceWindow": Kind.WINDOW,
    "Freeze": Kind.FREEZE,
    "Exemption": Kind.EXEMPTION,
    "RecoveryPlan": Kind.RECOVERY,
    "DrillSchedule": Kind.SCHEDULE,
}
_OURS = frozenset(key for model in KINDS.values() for key in model.model_fields) - {"description"}


def load(root: Path, files: Iterable[str]) -> tuple[Estate | None, tuple[Diagnostic, ...]]:
    """Read every document of a tree. ``files`` are its paths relative to ``root``, with forward slashes.

    Returns the Estate when nothing is an error (diagnostics may hold warnings), else None and every mistake, sorted by
    place. Never raises for what a file holds; a file that cannot be read is a diagnostic as well.
    """
    paths = frozenset(files)
    found = _read(root, paths)
    entries = tuple(_entry(one, found.said) for one in found.documents)
    # a document with a misspelt kind is one mistake: whoever names it is not wrong as well
    near = {(did_you_mean(one.kind, KINDS), one.name) for one in entries if one.kind not in KINDS}
    draft = Draft(
        entries=entries,
        claimed=frozenset(found.claimed | near),
        files=paths,
        folders=tree.folders_of(paths),
        shipped=shipped.names(),
    )
    diagnostics = tuple(sorted([*found.said, *check(draft)], key=_order))
    if any(one.severity is Severity.ERROR for one in diagnostics):
        return None, diagnostics
    return _estate(draft), diagnostics


def files_below(root: Path) -> tuple[str, ...]:
    """Every file of a folder that is not in Git, hidden folders left out; links are not followed."""
    found: list[str] = []
    for folder, inner, names in os.walk(root):
        inner[:] = [name for name in inner if not name.startswith(".")]
        found += [(Path(folder) / name).relative_to(root).as_posix() for name in names]
    return tuple(sorted(found))


class _Found:
    def __init__(self) -> None:
        self.documents: list[Marked] = []
        self.said: list[Diagnostic] = []
        self.claimed: set[tuple[str, str]] = set()


def _read(root: Path, paths: frozenset[str]) -> _Found:
    found = _Found()
    read: dict[str, tuple[tuple[Marked, ...], tuple[Diagnostic, ...], bytes]] = {}
    for path in tree.candidates(paths):
        try:
            content = _content(root / path)
        except OSError as problem:
            summary = f"the file cannot be read: {problem.strerror or problem}"
            read[path] = ((), (Diagnostic(summary=summary, position=Position(path, 1, 1)),), b"")
            continue
        read[path] = (*parse(path, content), content)
    named = frozenset(
        one
        for documents, _, _ in read.values()
        for document in documents
        if isinstance(document.value, Mapping)
        for one in tree.named_by(str(document.value.get("kind")), document.value)
    )
    for path, (documents, said, content) in read.items():
        if tree.below(path, named) or _is_foreign(documents, said, content):
            continue
        found.documents += documents
        found.said += said
        if said:
            found.claimed |= set(claims(content.decode("utf-8", "replace")))
    found.said += _misplaced(root, paths)
    return found


def _content(path: Path) -> bytes:
    """At most one byte more than a file may have: enough to see that it is too large."""
    with path.open("rb") as file:
        return file.read(MOST_BYTES + 1)


def _is_foreign(documents: Sequence[Marked], said: Sequence[Diagnostic], content: bytes) -> bool:
    """Whether a whole file is clearly something else: lists only (tasks of a playbook), another system's manifests or
    templates, or mappings that share no key with any kind of ours."""
    if said and not documents:
        return bool(tree.FOREIGN_TEXT.search(content)) and not tree.KIND_LINE.search(content)
    return not any(_looks_ours(one.value) for one in documents)


def _looks_ours(value: object) -> bool:
    if not isinstance(value, Mapping):
        return False
    if "apiVersion" in value:
        return False
    return not _OURS.isdisjoint(value) or any(did_you_mean(str(key), ["kind"]) for key in value)


def _misplaced(root: Path, paths: Iterable[str]) -> Iterator[Diagnostic]:
    for path in tree.misplaced(paths):
        try:
            content = _content(root / path)
        except OSError:
            continue  # an engine's file; the engine will say so if it needs it
        if match := tree.KIND_LINE.search(content):
            line = content.count(b"\n", 0, match.start()) + 1
            folder = path.partition("/")[0]
            yield Diagnostic(
                summary=f"this looks like a {match[1].decode()} document, and documents in {folder}/ are not read",
                position=Position(path, line, 1),
                expected=f"the document in a folder that is not one of {', '.join(tree.CONTENT_FOLDERS)}",
                severity=Severity.WARNING,
            )


def _entry(marked: Marked, said: list[Diagnostic]) -> Entry:
    value = marked.value
    if not isinstance(value, Mapping):
        summary = f"a document is {kind_of(value)}"
        said.append(Diagnostic(summary=summary, position=marked.at(), expected="a mapping with kind and name"))
        return Entry(kind="", name="", model=None, marked=marked)
    kind, name = value.get("kind"), value.get("name")
    entry = Entry(
        kind=kind if isinstance(kind, str) else "",
        name=name if isinstance(name, str) else "",
        model=None,
        marked=marked,
    )
    model = KINDS.get(entry.kind)
    if model is None:
        said.append(_no_kind(marked, value))
        return entry
    try:
        document = model.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as problem:
        errors = problem.errors(include_url=False)
        said.extend(translate(entry.label, model, marked, errors))
        return entry
    return Entry(kind=entry.kind, name=entry.name, model=document, marked=marked)


def _no_kind(marked: Marked, value: Mapping[str, object]) -> Diagnostic:
    known = ", ".join(KINDS)
    if "kind" in value:
        kind = value["kind"]
        suggestion = did_you_mean(kind, KINDS) if isinstance(kind, str) else ""
        shown = repr(kind) if isinstance(kind, str) else kind_of(kind)
        return Diagnostic(
            summary=f"the kind of this document is {shown}",
            position=marked.at("kind"),
            expected=f"one of {known}",
            suggestion=suggestion,
        )
    near = next((key for key in value if did_you_mean(key, ["kind"])), None)
    place = marked.key(near) if near is not None else marked.at()
    return Diagnostic(
        summary="this document has no 'kind'",
        position=place,
        expected=f"kind: one of {known}",
        suggestion="kind" if near is not None else "",
    )


def _order(one: Diagnostic) -> tuple[str, int, int, str]:
    place = one.position or Position("", 0, 0)
    return (place.path, place.line, place.column, one.summary)


def _estate(draft: Draft) -> Estate:
    document = next(entry.model for entry in draft.entries if entry.kind == "Estate")
    assert document is not None and document.kind == "Estate"  # noqa: S101, PT018  no error was found before
    positions: dict[Address, Position] = {}
    fields: dict[tuple[Address, str], Position] = {}
    for entry in draft.entries:
        if entry.kind in _ADDRESS_KINDS:
            address = Address(_ADDRESS_KINDS[entry.kind], entry.name)
            positions[address] = entry.marked.at("name")
            for path, position in _places(entry.marked.path, entry.marked.spot, ""):
                fields[address, path] = position
    return Estate(
        document=document,
        teams=_by_name(draft, Team),
        sites=_by_name(draft, Site),
        stacks=_by_name(draft, Stack),
        groups=_by_name(draft, HostGroup),
        services=_by_name(draft, Service),
        baselines=_by_name(draft, PatchBaseline),
        windows=_by_name(draft, MaintenanceWindow),
        freezes=_by_name(draft, Freeze),
        exemptions=_by_name(draft, Exemption),
        recoveries=_by_name(draft, RecoveryPlan),
        schedules=_by_name(draft, DrillSchedule),
        positions=positions,
        fields=fields,
        files=tuple(sorted({entry.marked.path for entry in draft.entries})),
    )


def _by_name(draft: Draft, model: type[Kept]) -> Mapping[str, Kept]:
    return dict(sorted((entry.name, document) for entry, document in draft.each(model)))


def _places(path: str, spot: Spot, prefix: str) -> Iterator[tuple[str, Position]]:
    for key, child in spot.children.items():
        dotted = f"{prefix}{key}"
        yield dotted, Position(path, child.line, child.column)
        if child.children:
            yield from _places(path, child, f"{dotted}.")
