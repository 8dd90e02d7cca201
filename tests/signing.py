"""Real keys of people who do not exist, and repositories whose commits they sign. No test is in here."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

IDENTITY = {
    "GIT_AUTHOR_NAME": "Somebody",
    "GIT_AUTHOR_EMAIL": "somebody@example.org",
    "GIT_COMMITTER_NAME": "Somebody",
    "GIT_COMMITTER_EMAIL": "somebody@example.org",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
}


def call(*command: str | Path, cwd: Path | None = None, stdin: str | None = None, **more: str) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run(
        list(map(str, command)),
        check=False,
        cwd=cwd,
        env={**os.environ, **more},
        input=stdin,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


@dataclass(frozen=True, slots=True)
class Keys:
    """SSH keys by the names of people, made when they are asked for."""

    folder: Path
    made: dict[str, Path] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        """The private key file."""
        if name not in self.made:
            path = self.folder / name
            call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", path)
            self.made[name] = path
        return self.made[name]

    def public(self, name: str) -> str:
        """The public key line."""
        return Path(f"{self.path(name)}.pub").read_text().strip()


@dataclass(frozen=True, slots=True)
class SignedRepo:
    """A repository; each commit says whose key signs it, an empty name for none."""

    root: Path
    keys: Keys

    def init(self) -> SignedRepo:
        """Make it."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.git("init", "-q", "-b", "main")
        return self

    def git(self, *arguments: str | Path, stdin: str | None = None, by: str = "", **more: str) -> str:
        """A git command; ``by`` signs with an SSH key."""
        settings: list[str] = []
        if by:
            settings = [
                "-c",
                "gpg.format=ssh",
                "-c",
                f"user.signingkey={self.keys.path(by)}",
                "-c",
                "commit.gpgsign=true",
            ]
        return call("git", *settings, *arguments, cwd=self.root, stdin=stdin, **{**IDENTITY, **more})

    def commit(self, title: str, files: Mapping[str, str] | None = None, *, by: str = "", **more: str) -> str:
        """Commit files; returns the commit."""
        for path, text in (files or {title: title}).items():
            target = self.root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", title, by=by, **more)
        return self.git("rev-parse", "HEAD")


@dataclass(frozen=True, slots=True)
class Gpg:
    """A GnuPG home with its own keys."""

    home: Path

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """One gpg call."""
        return call(
            "gpg", "--batch", "--yes", "--pinentry-mode", "loopback", "--passphrase", "", *arguments,
            stdin=stdin, GNUPGHOME=str(self.home),
        )  # fmt: skip

    def key(self, who: str, expires: str = "never") -> str:
        """Make a key; returns its fingerprint."""
        self.run("--quick-generate-key", who, "ed25519", "sign", expires)
        rows = self.run("--with-colons", "--list-keys", who).splitlines()
        return next(row.split(":")[9] for row in rows if row.startswith("fpr:"))

    def export(self, key: str) -> str:
        """The public key, armored."""
        return self.run("--armor", "--export", key)


@contextmanager
def gnupg(folder: Path) -> Iterator[Gpg]:
    """A home whose agent is gone afterwards."""
    folder.mkdir(mode=0o700)
    try:
        yield Gpg(folder)
    finally:
        subprocess.run(
            ["gpgconf", "--kill", "all"], env={**os.environ, "GNUPGHOME": str(folder)}, check=False, capture_output=True
        )
