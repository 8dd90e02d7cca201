"""What pgBackRest says of its repository, as values. What it does not say as we know it is an error, never a guess."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from ismgr_automation.core.errors import EngineFailed
from ismgr_automation.ports.backups import Backup, BackupKind, Catalogue

ENGINE = "pgbackrest"
NO_BACKUP = 2
"""Its status of a stanza that is well and has no backup yet."""
_SEGMENT = re.compile(r"([0-9A-F]{24})-[0-9a-f]{40}(?:\.[a-z0-9]+)?")


def catalogue_of(text: str, stanza: str) -> tuple[Catalogue, str]:
    """The catalogue from a line with the host's time and the JSON of ``info``, and the folder of the repository that
    holds the newest segment (empty: there is none). Raises ``EngineFailed``."""
    clock, _, body = text.partition("\n")
    try:
        read_at = datetime.fromtimestamp(float(clock), UTC)
        known = next((one for one in json.loads(body) if one["name"] == stanza), None)
        if known is None:
            return Catalogue(read_at=read_at, trouble=f"the repository knows no stanza {stanza}"), ""
        return _known(known, read_at)
    except (ValueError, KeyError, IndexError, TypeError) as problem:
        raise EngineFailed(
            f"What pgBackRest says of {stanza} cannot be read: {problem!r}.",
            engine=ENGINE,
            subject=stanza,
            next_step="Look at `pgbackrest info --output=json` there; its format 5 of version 2.45 is known.",
            detail=text[:500],
        ) from None


def _known(known: dict[str, Any], read_at: datetime) -> tuple[Catalogue, str]:
    status = known["status"]
    trouble = "" if status["code"] in {0, NO_BACKUP} else str(status["message"])
    details = [str(one["status"]["message"]) for one in known.get("repo", []) if one["status"]["code"] not in {0, 2}]
    # one archive for each version of the cluster: the last one is in use
    archive = known["archive"][-1] if known.get("archive") else {"min": None, "max": None, "id": ""}
    catalogue = Catalogue(
        read_at=read_at,
        cipher=str(known.get("cipher", "")),
        trouble="; ".join(dict.fromkeys(filter(None, [trouble, *details]))),
        backups=tuple(sorted((_backup(one) for one in known.get("backup", [])), key=lambda one: one.label)),
        wal_first=archive["min"] or "",
        wal_last=archive["max"] or "",
    )
    last = catalogue.wal_last
    return catalogue, f"archive/{known['name']}/{archive['id']}/{last[:16]}" if last else ""


def _backup(one: dict[str, Any]) -> Backup:
    info = one["info"]
    return Backup(
        label=one["label"],
        kind=BackupKind(one["type"]),
        began_at=datetime.fromtimestamp(one["timestamp"]["start"], UTC),
        ended_at=datetime.fromtimestamp(one["timestamp"]["stop"], UTC),
        size_bytes=info["size"],
        stored_bytes=info["repository"].get("size", info["repository"]["delta"]),
        wal_first=one["archive"]["start"] or "",
        wal_last=one["archive"]["stop"] or "",
        broken=bool(one["error"]),
    )


def archived_at(text: str, segment: str) -> datetime | None:
    """When a segment came into the archive, from the listing of its folder; None where it is not in there."""
    for name, one in json.loads(text).items():
        found = _SEGMENT.fullmatch(name)
        if found and found[1] == segment:
            return datetime.fromtimestamp(one["time"], UTC)
    return None


def verified(text: str) -> str:
    """Why a repository is not well, from what ``verify`` prints; empty where it is."""
    stanza = re.search(r"^status: (.*)$", text, re.MULTILINE)
    if stanza is None:
        return "verify did not say how it is"
    if stanza[1] == "ok":
        return ""
    lines = [line.strip() for line in text.splitlines()]
    bad = [f"{above}, {line}" for above, line in pairwise(lines) if re.search(r"(missing|invalid|other): [1-9]", line)]
    return "; ".join(bad) or f"status {stanza[1]}"
