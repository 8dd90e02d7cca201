"""Readings of hosts as JSON, compressed for a column, and back. Pure: no other room reads that text, and no database is
asked here."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ismgr_automation.core.errors import EngineFailed
from ismgr_automation.core.json import Json, JsonObject, canonical
from ismgr_automation.ports.packages import Boot, HostFacts, Installed, Mapped, Move, Need, Offered, Stale

FORMAT = "ismgr.facts/1"

_LEVEL = 1
"""A reading of 400 packages is 40 kB, and less than a third of it so; higher levels take longer and save little."""


def facts_json(facts: HostFacts) -> JsonObject:
    """A reading as JSON. Packages are lists in the order of their fields, because a fleet has a million of them, and
    seconds are text: fractions have no short canonical form."""
    return {
        "format": FORMAT,
        "host": facts.host,
        "read_at": _time(facts.read_at),
        "distribution": facts.distribution,
        "release": facts.release,
        "codename": facts.codename,
        "kernel": facts.kernel,
        "kernel_installed": facts.kernel_installed,
        "boot": [facts.boot.boot_id, facts.boot.init_started],
        "installed": [_installed_row(one) for one in facts.installed],
        "offered": [_offered_row(one) for one in facts.offered],
        "broken": facts.broken,
        "lists_read_at": _time(facts.lists_read_at) if facts.lists_read_at is not None else None,
        "stale": [[one.pid, one.command, one.unit, one.files] for one in facts.stale],
        "reboot": str(facts.reboot),
        "reboot_why": facts.reboot_why,
        "services": facts.services,
        "free_bytes": facts.free_bytes,
        "mapped": [[one.unit, *one.packages] for one in facts.mapped] if facts.mapped is not None else None,
        "unseen": facts.unseen,
        "seconds": repr(facts.seconds),
    }


def read_facts(body: Mapping[str, Any]) -> HostFacts:
    """A reading from the JSON that ``facts_json`` made. Raises ``EngineFailed`` for another format, and what Python
    raises for a document that is damaged: ``KeyError``, ``TypeError``, ``ValueError``."""
    if body["format"] != FORMAT:
        raise EngineFailed(
            f"The reading of {body['host']} has the format {body['format']!r}, and this ismgr knows {FORMAT!r}.",
            engine="database",
            subject=str(body["host"]),
            untouched="Nothing was touched.",
            next_step="Use the newer ismgr that wrote it on this machine as well.",
        )
    boot_id, init_started = body["boot"]
    return HostFacts(
        host=body["host"],
        read_at=datetime.fromisoformat(body["read_at"]),
        distribution=body["distribution"],
        release=body["release"],
        codename=body["codename"],
        kernel=body["kernel"],
        kernel_installed=body["kernel_installed"],
        boot=Boot(boot_id=boot_id, init_started=init_started),
        installed=tuple(map(_installed, body["installed"])),
        offered=tuple(map(_offered, body["offered"])),
        broken=tuple(body["broken"]),
        lists_read_at=datetime.fromisoformat(body["lists_read_at"]) if body["lists_read_at"] is not None else None,
        stale=tuple(map(_stale, body["stale"])),
        reboot=Need(body["reboot"]),
        reboot_why=tuple(body["reboot_why"]),
        services=tuple(body["services"]),
        free_bytes=body["free_bytes"],
        # readings of before this was looked at have none
        mapped=_mapped(body.get("mapped")),
        unseen=body["unseen"],
        seconds=float(body["seconds"]),
    )


def pack(facts: HostFacts) -> bytes:
    """A reading for a column."""
    return zlib.compress(canonical(facts_json(facts)), _LEVEL)


def unpack(column: bytes, host: str, place: str) -> HostFacts:
    """A reading from a column; ``place`` is the database. Raises ``EngineFailed`` for what cannot be read."""
    try:
        return read_facts(json.loads(zlib.decompress(column)))
    except (ValueError, KeyError, TypeError, zlib.error) as problem:
        raise EngineFailed(
            f"The reading of {host} in the database {place} is damaged.",
            engine="database",
            subject=host,
            untouched="Nothing was touched.",
            next_step=f"Read {host} again: the new reading takes its place.",
            detail=f"{type(problem).__name__}: {problem}",
        ) from None


def moves_text(moves: Sequence[Move]) -> str:
    """Moves for a column."""
    return canonical([_move_json(one) for one in moves]).decode()


def read_moves(text: str) -> tuple[Move, ...]:
    """Moves from a column."""
    return tuple(
        Move(
            name=body["name"],
            architecture=body["architecture"],
            before=body["before"],
            after=body["after"],
            digest=body["digest"],
        )
        for body in json.loads(text)
    )


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _installed_row(one: Installed) -> Json:
    return [one.name, one.architecture, one.version, one.source, one.source_version, one.section, one.status]


def _installed(row: Sequence[Any]) -> Installed:
    name, architecture, version, source, source_version, section, status = row
    return Installed(
        name=name,
        architecture=architecture,
        version=version,
        source=source,
        source_version=source_version,
        section=section,
        status=status,
    )


def _offered_row(one: Offered) -> Json:
    return [
        one.name,
        one.architecture,
        one.version,
        one.source,
        one.source_version,
        one.section,
        one.digest,
        one.size_bytes,
        one.origin,
        one.suite,
        one.component,
        one.candidate,
    ]


def _offered(row: Sequence[Any]) -> Offered:
    name, architecture, version, source, source_version, section, digest, size, origin, suite, component, candidate = (
        row
    )
    return Offered(
        name=name,
        architecture=architecture,
        version=version,
        source=source,
        source_version=source_version,
        section=section,
        digest=digest,
        size_bytes=size,
        origin=origin,
        suite=suite,
        component=component,
        candidate=candidate,
    )


def _mapped(rows: Sequence[Any] | None) -> tuple[Mapped, ...] | None:
    if rows is None:
        return None
    return tuple(Mapped(unit=unit, packages=tuple(packages)) for unit, *packages in rows)


def _stale(row: Sequence[Any]) -> Stale:
    pid, command, unit, files = row
    return Stale(pid=pid, command=command, unit=unit, files=tuple(files))


def _move_json(move: Move) -> Json:
    return {
        "name": move.name,
        "architecture": move.architecture,
        "before": move.before,
        "after": move.after,
        "digest": move.digest,
    }
