"""What is kept, in memory: the ledger, secrets, content, and a source of revisions. ``MemorySource`` alone writes
files: laying out a tree is its job."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ismgr_automation.core.address import Address
from ismgr_automation.core.errors import InputError
from ismgr_automation.core.json import digest, keyed_digest
from ismgr_automation.core.secret import Secret, SecretRef
from ismgr_automation.ports.memory.world import MemoryWorld
from ismgr_automation.ports.source import Revision, Tree


@dataclass(frozen=True, slots=True)
class MemoryLedger:
    """``ports.ledger.Ledger``; ``rows`` has inputs and commit by address."""

    world: MemoryWorld
    rows: dict[Address, tuple[str, str]] = field(default_factory=dict)

    def applied(self, address: Address) -> str | None:
        """The inputs of the row."""
        self.world.called("applied", address.name)
        return self.rows[address][0] if address in self.rows else None

    def record(self, address: Address, inputs: str, commit: str) -> None:
        """Write the row."""
        self.world.called("record", address.name)
        self.rows[address] = (inputs, commit)

    def forget(self, address: Address) -> None:
        """Drop the row."""
        self.world.called("forget", address.name)
        self.rows.pop(address, None)


@dataclass(frozen=True, slots=True)
class MemoryContent:
    """``ports.content.Content`` over names alone; put a text into ``versions`` to say that something was edited."""

    root: Path
    versions: dict[str, str] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        """Below the root; shipped content is in its folder ``shipped``."""
        return self.root / name.replace("ismgr:", "shipped/")

    def digest(self, name: str) -> str:
        """Of the name and its version."""
        return digest([name, self.versions.get(name, "")])


@dataclass(frozen=True, slots=True)
class MemorySecretStore:
    """``ports.secrets.SecretStore``; ``opened`` notes which references were opened, ``versioned`` whose version was
    asked. Without a ``key`` versions are empty, as for an estate without a passphrase."""

    values: Mapping[str, str]
    opened: list[SecretRef] = field(default_factory=list)
    versioned: list[SecretRef] = field(default_factory=list)
    key: bytes = b"the key of a rehearsal"

    def open(self, ref: SecretRef) -> Secret:
        """The secret in ``values``, by its reference's text."""
        self.opened.append(ref)
        return Secret(self._value(ref))

    def version(self, ref: SecretRef) -> str:
        """A keyed digest of the value, as for the kinds of backends that count no versions."""
        self.versioned.append(ref)
        value = self._value(ref)
        return keyed_digest(self.key, [str(ref), value]) if self.key else ""

    def _value(self, ref: SecretRef) -> str:
        if str(ref) not in self.values:
            raise InputError(f"There is no secret {ref}.", next_step="Put it into the values of this store.")
        return self.values[str(ref)]


@dataclass(frozen=True, slots=True)
class MemorySource:
    """``ports.source.Source`` over texts by path. The commit is a digest of all files."""

    files: dict[str, str]

    def checkout(self, ref: str | None, into: Path) -> Tree:
        """Lay the files out; every ref is the same revision."""
        for path, text in self.files.items():
            target = into / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        objects = {path: _blob(text) for path, text in self.files.items()}
        commit = digest(objects).removeprefix("sha256:")[:40]
        return Tree(root=into, revision=Revision(commit=commit, ref=ref or "", worktree=ref is None), objects=objects)


def _blob(text: str) -> str:
    """The id that Git would give."""
    data = text.encode()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
