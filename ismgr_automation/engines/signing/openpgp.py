"""OpenPGP signatures of commits, against public keys from one folder and no others: a GnuPG home of its own for each
check, no user settings, no network."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from ismgr_automation.core.errors import InputError
from ismgr_automation.engines import process

ENGINE = "gpg"
_DEADLINE = timedelta(seconds=60)
_EMAIL = re.compile(r"<([^<>\s]+@[^<>\s]+)>")
_FATES = {"EXPKEYSIG": "expired", "EXPSIG": "expired", "REVKEYSIG": "revoked", "BADSIG": "bad", "ERRSIG": "unknown"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PgpJudged:
    """``worth`` is good, bad, unknown, expired or revoked; ``key`` the fingerprint of the primary key."""

    worth: str
    key: str = ""
    emails: tuple[str, ...] = ()


class Keyring:
    """A GnuPG home of our own that holds the pinned keys; see ``keyring``."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def judge(self, data: bytes, armored: str) -> PgpJudged:
        """What a detached signature over some bytes is worth. One that holds several signatures is bad."""
        with tempfile.NamedTemporaryFile(dir=self._home, suffix=".asc") as file:
            file.write(armored.encode())
            file.flush()
            done = self.run(["--status-fd", "1", "--verify", file.name, "-"], data)
        lines = [line.split() for line in done.stdout.splitlines() if line.startswith("[GNUPG:] ")]
        said = [words[1:] for words in lines]
        verdicts = [words for words in said if words[0] in {"GOODSIG", *_FATES}]
        if len(verdicts) != 1 or sum(words[0] == "NEWSIG" for words in said) > 1:
            return PgpJudged(worth="bad" if verdicts or not said else "unknown")
        worth = "good" if verdicts[0][0] == "GOODSIG" else _FATES[verdicts[0][0]]
        valid = next((words for words in said if words[0] == "VALIDSIG"), None)
        if worth == "good" and (valid is None or done.code != 0):
            return PgpJudged(worth="bad")
        key = valid[-1] if valid is not None else verdicts[0][1]
        return PgpJudged(worth=worth, key=key, emails=self._emails(key) if worth == "good" else ())

    def _emails(self, key: str) -> tuple[str, ...]:
        listed = self.run(["--with-colons", "--list-keys", key], b"").stdout
        rows = [line.split(":") for line in listed.splitlines() if line.startswith("uid:")]
        return tuple(dict.fromkeys(found[1].lower() for row in rows for found in _EMAIL.finditer(row[9])))

    def run(self, arguments: list[str], stdin: bytes) -> process.Finished:
        """One gpg call on this home."""
        # the pinned folder is all the trust there is, and no key is fetched from anywhere
        settings = [
            "--batch",
            "--no-tty",
            "--no-options",
            "--no-auto-key-retrieve",
            "--disable-dirmngr",
            "--no-autostart",
        ]
        return process.run(
            ["gpg", *settings, "--trust-model", "always", "--homedir", str(self._home), *arguments],
            engine=ENGINE,
            subject="an OpenPGP signature",
            deadline=_DEADLINE,
            stdin=stdin,
            env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self._home), "LC_ALL": "C"},
        )


@contextmanager
def keyring(folder: Path | None) -> Iterator[Keyring | None]:
    """The public keys in the files of a folder, ready to check with; None when there is no folder or no file in it.

    Raises ``InputError`` for a file that gpg cannot read, ``EngineMissing`` without gpg.
    """
    files = sorted(one for one in folder.iterdir() if one.is_file()) if folder is not None and folder.is_dir() else []
    if not files:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="ismgr-gpg-") as home:
        ring = Keyring(Path(home))
        for file in files:
            done = ring.run(["--import", "--import-options", "import-minimal"], file.read_bytes())
            if done.code != 0:
                raise InputError(
                    f"{file} holds no OpenPGP public key that can be read.",
                    next_step="Write it with `gpg --armor --export KEY`, or take it out of the keyring folder.",
                )
        yield ring
