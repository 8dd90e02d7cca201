"""A runbook in the hands of a person: its blocks are taken from the Markdown, and run in their order by a shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_BLOCK = re.compile(r"^```sh( otherwise)?\n(.*?)\n```\n\nLast line: `([^`]+)`", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What is typed, and the last line that must come."""

    script: str
    sees: str
    otherwise: bool


def blocks(text: str) -> tuple[Block, ...]:
    """Every block of a printed runbook, in order."""
    found = [Block(script=script, sees=sees, otherwise=bool(only)) for only, script, sees in _BLOCK.findall(text)]
    assert len(found) == text.count("```sh"), "a block without its last line"
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who stands in a folder, has the key to log in with and a checkout of the estate, and knows secrets, by a word of
    the question for them. ``programs`` is looked through before what this machine has."""

    folder: Path
    key: Path
    estate: Path
    secrets: Mapping[str, str] = field(default_factory=dict)
    programs: Path | None = None

    def does(self, some: Sequence[Block]) -> None:
        """Run blocks until one does not end as it should."""
        for one in some:
            done = self.types(one)
            last = (done.stdout.strip().splitlines() or [""])[-1]
            assert last == one.sees, f"{one.script}\n\n{done.stdout}\n{done.stderr}"

    def types(self, block: Block) -> subprocess.CompletedProcess[str]:
        """Run one block, with the programs of this environment on the path."""
        own = [str(self.programs)] if self.programs is not None else []
        programs = os.pathsep.join([*own, str(Path(sys.executable).parent), os.environ["PATH"]])
        known = [secret for word, secret in self.secrets.items() if f"read -rsp '{word}" in block.script]
        return subprocess.run(
            ["bash", "-c", block.script],
            cwd=self.folder,
            env={**os.environ, "PATH": programs, "RUNBOOK_KEY": str(self.key), "RUNBOOK_ESTATE": str(self.estate)},
            input="".join(f"{one}\n" for one in known),
            text=True,
            capture_output=True,
            check=False,
            timeout=300,
        )
