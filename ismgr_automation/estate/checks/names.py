"""Checks of names: every name once, and every name that is mentioned exists. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ismgr_automation.core.diagnostic import Diagnostic, Position, Severity, did_you_mean
from ismgr_automation.core.json import Json
from ismgr_automation.estate.documents import EstateDocument, HostGroup, OutputType, Service, Stack, Team
from ismgr_automation.estate.draft import Draft, Entry, unknown, wrong
from ismgr_automation.estate.fields import OutputValue, SiteValue

ROOT_FILE = "estate.yaml"
ALWAYS_THERE = "env"
"""The secret backend that every estate has."""


def one_estate(draft: Draft) -> Iterator[Diagnostic]:
    """Exactly one document of kind Estate, in the file where everybody looks."""
    found = [entry for entry in draft.entries if entry.kind == "Estate"]
    if not found:
        if not any(kind == "Estate" for kind, _ in draft.claimed):
            place = Position(ROOT_FILE, 1, 1)
            yield wrong(place, "no document of kind Estate", f"one in {ROOT_FILE} at the root; `ismgr init` writes one")
        return
    for entry in found:
        if entry.marked.path != ROOT_FILE:
            yield wrong(
                entry.marked.at("kind"), "the Estate document is not at the root", f"the document in {ROOT_FILE}"
            )
    for entry in found[1:]:
        place = found[0].marked.at("kind")
        yield wrong(entry.marked.at("kind"), f"a second document of kind Estate; the first is at {place}", "one in all")


def unique(draft: Draft) -> Iterator[Diagnostic]:
    """No two documents of a kind have one name."""
    first: dict[tuple[str, str], Entry] = {}
    for entry in draft.entries:
        if entry.kind in {"", "Estate"} or not entry.name:
            continue
        before = first.setdefault((entry.kind, entry.name), entry)
        if before is not entry:
            place = before.marked.at("name")
            yield wrong(entry.marked.at("name"), f"{entry.label} is already at {place}", "a name that is not taken")


def estate_names(draft: Draft) -> Iterator[Diagnostic]:
    """Owner and default environment of the estate."""
    for entry, estate in draft.each(EstateDocument):
        yield from _team(draft, entry, estate.owner)
        chosen = estate.default_environment
        if chosen is not None and chosen not in estate.environments:
            known = frozenset(estate.environments)
            yield unknown("environment", chosen, known, entry.marked.at("default_environment"), entry.label)


def service_names(draft: Draft) -> Iterator[Diagnostic]:
    """Owners, groups and services that services name."""
    for entry, service in draft.each(Service):
        yield from _team(draft, entry, service.owner)
        for index, name in enumerate(service.groups):
            if name not in draft.names("HostGroup"):
                place = entry.marked.at("groups", index)
                yield unknown("group", name, draft.names("HostGroup"), place, entry.label)
        for index, name in enumerate(service.depends_on):
            if name not in draft.names("Service"):
                place = entry.marked.at("depends_on", index)
                yield unknown("service", name, draft.names("Service"), place, entry.label)


def members(draft: Draft) -> Iterator[Diagnostic]:
    """A key stands for one person: nobody can approve twice under two names."""
    owners: dict[str, tuple[str, Position]] = {}
    for entry, team in draft.each(Team):
        for index, member in enumerate(team.members):
            for count, line in enumerate(member.ssh_keys):
                key = " ".join(line.split()[:2])
                place = entry.marked.at("members", index, "ssh_keys", count)
                who, where = owners.setdefault(key, (member.name, place))
                if who != member.name:
                    yield wrong(
                        place,
                        f"this key of {member.name} is already that of {who}, at {where}",
                        "a key that nobody else has",
                    )


def references(draft: Draft) -> Iterator[Diagnostic]:
    """``{output: ...}`` and ``{site: ...}`` in configs and variables."""
    for entry, stack in draft.each(Stack):
        for key, value in stack.config.items():
            if isinstance(value, SiteValue) and value.site not in draft.names("Site"):
                place = entry.marked.at("config", key, "site")
                yield unknown("site", value.site, draft.names("Site"), place, entry.label)
            if isinstance(value, OutputValue):
                yield from _output(draft, entry, value, entry.marked.at("config", key, "output"))
    for entry, group in draft.each(HostGroup):
        for key, variable in group.variables.items():
            if isinstance(variable, OutputValue):
                yield from _output(draft, entry, variable, entry.marked.at("variables", key, "output"))


def host_outputs(draft: Draft) -> Iterator[Diagnostic]:
    """``hosts`` of a stack names one of its outputs, of type hosts."""
    for entry, stack in draft.each(Stack):
        if not stack.hosts:
            for name, spec in stack.outputs.items():
                if spec.type is OutputType.HOSTS:
                    yield Diagnostic(
                        summary=f"output {name!r} of {entry.label} is of type hosts and nothing takes its hosts",
                        position=entry.marked.key("outputs", name),
                        expected=f"hosts: {name}",
                        severity=Severity.WARNING,
                    )
            continue
        place = entry.marked.at("hosts")
        spec_of = stack.outputs.get(stack.hosts)
        if spec_of is None:
            yield _undeclared(entry.label, stack.hosts, frozenset(stack.outputs), place)
        elif spec_of.type is not OutputType.HOSTS:
            summary = f"output {stack.hosts!r} of {entry.label} has type {spec_of.type}, and lists hosts"
            yield wrong(entry.marked.at("outputs", stack.hosts, "type"), summary, "type: hosts")
        elif spec_of.secret:
            place = entry.marked.at("outputs", stack.hosts, "secret")
            yield wrong(place, f"output {stack.hosts!r} of {entry.label} lists hosts and is secret", "secret: false")


def secret_backends(draft: Draft) -> Iterator[Diagnostic]:
    """Every reference to a secret names a backend of the estate."""
    known = frozenset({ALWAYS_THERE})
    for _, estate in draft.each(EstateDocument):
        known |= frozenset(estate.secrets)
    if not any(True for _ in draft.each(EstateDocument)):
        return
    for entry in draft.entries:
        if entry.model is None:
            continue
        for path, text in _secrets(entry.marked.value, ()):
            backend = text.partition(":")[0]
            if backend not in known:
                yield unknown("secret backend", backend, known, entry.marked.at(*path), entry.label)


def _team(draft: Draft, entry: Entry, owner: str) -> Iterator[Diagnostic]:
    if owner not in draft.names("Team"):
        yield unknown("team", owner, draft.names("Team"), entry.marked.at("owner"), entry.label)


def _output(draft: Draft, entry: Entry, value: OutputValue, place: Position) -> Iterator[Diagnostic]:
    owner, _, name = value.output.rpartition(".")
    if owner not in draft.names("Stack"):
        yield unknown("stack", owner, draft.names("Stack"), place, entry.label)
        return
    stack = draft.sound(Stack, owner)
    if stack is not None and name not in stack.outputs:
        yield _undeclared(f"Stack {owner!r}", name, frozenset(stack.outputs), place)


def _undeclared(label: str, name: str, known: frozenset[str], place: Position) -> Diagnostic:
    suggestion = did_you_mean(name, sorted(known))
    listed = f"one of {', '.join(sorted(known))}" if known else "an entry below its 'outputs'"
    return wrong(place, f"{label} declares no output {name!r}", "" if suggestion else listed, suggestion)


def _secrets(value: Json, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """References to secrets, deep ones in plain config values included: programs open those too."""
    if isinstance(value, Mapping):
        inner = value.get("secret") if len(value) == 1 else None
        if isinstance(inner, str) and ":" in inner:
            yield (*path, "secret"), inner
            return
        for key, item in value.items():
            yield from _secrets(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _secrets(item, (*path, index))
