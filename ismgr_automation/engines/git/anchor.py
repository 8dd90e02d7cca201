"""Heads of evidence chains on ``refs/ismgr/evidence``: one small file for each environment, one commit for each head.
Commits are only ever added, so that a push which would rewrite them is refused by the other side."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from ismgr_automation.core.errors import EngineFailed
from ismgr_automation.core.json import canonical
from ismgr_automation.engines.git.refs import RefFolder
from ismgr_automation.engines.git.repository import DEADLINE, ENGINE, Repository
from ismgr_automation.ports.evidence import Head

REF = "refs/ismgr/evidence"


class GitAnchor:
    """``ports.evidence.Anchor`` in the repository around the estate's folder; ``estate`` is its name, since a
    repository may hold several."""

    def __init__(self, directory: Path, estate: str, deadline: timedelta = DEADLINE) -> None:
        self._directory = directory
        self._estate = estate
        self._deadline = deadline

    def put(self, environment: str, head: Head, run: str) -> str:
        """Commit a head; raises ``InputError`` outside of a repository, ``EngineError`` when git fails."""
        content = canonical({"digest": head.digest, "run": run, "sequence": head.sequence})
        message = f"Run {run} of {self._estate}/{environment} ended at record {head.sequence}"
        commit = self._folder().add({self._path(environment): content + b"\n"}, message)
        return f"{REF} at {commit[:12]}"

    def heads(self, environment: str) -> tuple[tuple[Head, str], ...]:
        """Heads of every commit, oldest first; empty when nothing was ever anchored. Raises ``EngineFailed`` when one
        of the files is not ours."""
        return tuple(self._heads(environment))

    def _heads(self, environment: str) -> Iterator[tuple[Head, str]]:
        folder = self._folder()
        names = [f"{commit}:{self._path(environment)}" for commit in folder.history()]
        before = b""
        for name, content in folder.contents(names).items():
            if content != before:  # a commit for another environment leaves this file as it is
                yield _head(content, name)
            before = content

    def _path(self, environment: str) -> str:
        return f"{self._estate}/{environment}.json"

    def _folder(self) -> RefFolder:
        return RefFolder(Repository.around(self._directory, self._deadline), REF)


def _head(content: bytes, name: str) -> tuple[Head, str]:
    try:
        body = json.loads(content)
        return Head(sequence=int(body["sequence"]), digest=str(body["digest"])), str(body["run"])
    except (ValueError, KeyError, TypeError):
        raise EngineFailed(
            f"An anchor on {REF} cannot be read.",
            engine=ENGINE,
            subject=name,
            untouched="Nothing was touched.",
            next_step=f"`git show {name}` shows it; somebody else wrote it.",
        ) from None
