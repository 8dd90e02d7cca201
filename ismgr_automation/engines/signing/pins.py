"""Pins as folders of this user, outside of every repository: ``trust/ESTATE/`` with ``pin.json``, ``allowed_signers``,
``keyring/`` and, if somebody puts it there, ``revoked_keys``. Folders that others may write are refused."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
from pathlib import Path

from ismgr_automation.core.diagnostic import Diagnostic, Position
from ismgr_automation.core.errors import InputError
from ismgr_automation.engines.signing.ssh import allowed_line
from ismgr_automation.ports.signing import AllowedSigner, bare_key, fingerprint
from ismgr_automation.ports.trust import Pin

FORMAT = "ismgr.pin/1"
VARIABLE = "ISMGR_TRUST"
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_OPTION = re.compile(r'(namespaces|valid-after|valid-before)="([^"]*)"', re.IGNORECASE)


def place() -> Path:
    """Where pins are kept: the folder that ISMGR_TRUST names, else below this user's configuration."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    import platformdirs

    return platformdirs.user_config_path("ismgr") / "trust"


class FilePins:
    """``ports.trust.Pins`` in a folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder if folder is not None else place()

    def all(self) -> tuple[Pin, ...]:
        """Every pin. Raises ``InputError`` for one that cannot be read or that other users may change."""
        try:
            names = sorted(one.name for one in self._folder.iterdir() if (one / "pin.json").exists())
        except FileNotFoundError:
            return ()
        except OSError as problem:
            raise _unreadable(self._folder, f"it cannot be read: {problem.strerror}") from None
        return tuple(_read(self._folder / name) for name in names)

    def write(self, pin: Pin, keys: tuple[bytes, ...] = ()) -> Pin:
        """Write a pin; its keyring is replaced when ``keys`` are given. Raises ``InputError`` when that cannot be."""
        folder = self._folder / pin.estate
        try:
            for one in (self._folder, folder, folder / "keyring"):
                one.mkdir(mode=0o700, parents=True, exist_ok=True)
            lines = [allowed_line(one) for one in pin.signers]
            _put(folder / "allowed_signers", "".join(f"{line}\n" for line in lines).encode())
            if keys:
                for old in (folder / "keyring").iterdir():
                    old.unlink()
            for number, key in enumerate(keys, start=1):
                _put(folder / "keyring" / f"key-{number}.asc", key)
            body = {"format": FORMAT, "estate": pin.estate, "folder": pin.folder, "commit": pin.commit}
            _put(folder / "pin.json", json.dumps(body, indent=2).encode() + b"\n")
        except OSError as problem:
            raise _unreadable(folder, f"it cannot be written: {problem.strerror}") from None
        return _read(folder)


def _put(path: Path, content: bytes) -> None:
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(content)
    new.chmod(0o600)
    new.replace(path)


def _read(folder: Path) -> Pin:
    signers = folder / "allowed_signers"
    for one in (folder.parent, folder, folder / "pin.json", signers, folder / "keyring", folder / "revoked_keys"):
        _refuse_others(one)
    try:
        body = json.loads((folder / "pin.json").read_text(encoding="utf-8"))
        text = signers.read_text(encoding="utf-8")
    except (OSError, ValueError) as problem:
        raise _unreadable(folder, f"a file of it cannot be read: {problem}") from None
    fields = [body.get(name) if isinstance(body, dict) else None for name in ("format", "estate", "folder", "commit")]
    form, estate, inside, commit = (one if isinstance(one, str) else "" for one in fields)
    if form != FORMAT or estate != folder.name or not _NAME.fullmatch(estate) or not _COMMIT.fullmatch(commit):
        raise _unreadable(folder, f"its pin.json is not one of format {FORMAT!r} for {folder.name}")
    keyring, revoked = folder / "keyring", folder / "revoked_keys"
    return Pin(
        estate=estate,
        folder=inside,
        commit=commit,
        signers=parse_signers(text, str(signers)),
        place=str(folder),
        keyring=keyring if keyring.is_dir() else None,
        revoked=revoked if revoked.is_file() else None,
    )


def parse_signers(text: str, path: str) -> tuple[AllowedSigner, ...]:
    """The lines of an allowed-signers file. Raises ``InputError`` with the place of each line that is not understood:
    an option that we would drop could be the one that limits a key."""
    found: list[AllowedSigner] = []
    wrong: list[Diagnostic] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        signer = _signer(line)
        if signer is None:
            expected = 'PRINCIPAL namespaces="git,..." KEYTYPE KEY, with valid-after and valid-before if needed'
            wrong.append(
                Diagnostic(summary="this line is not understood", position=Position(path, number, 1), expected=expected)
            )
        else:
            found.append(signer)
    if wrong:
        raise InputError(f"{path} cannot be used.", diagnostics=wrong, next_step="Mend it, or pin again.")
    return tuple(found)


def _signer(line: str) -> AllowedSigner | None:
    try:
        words = shlex.split(line, comments=False, posix=False)
    except ValueError:
        return None
    if len(words) < 4:  # noqa: PLR2004  principal, options, key type, key
        return None
    principal, options, *key = words
    matched = list(_OPTION.finditer(options))
    if ",".join(one[0] for one in matched) != options or not fingerprint(" ".join(key)):
        return None
    given = {one[1].lower(): one[2] for one in matched}
    signer = AllowedSigner(
        principal=principal,
        key=bare_key(" ".join(key)),
        namespaces=tuple(one for one in given.get("namespaces", "").split(",") if one),
        valid_after=given.get("valid-after", ""),
        valid_before=given.get("valid-before", ""),
    )
    try:
        allowed_line(signer)
    except InputError:
        return None
    return signer


def _refuse_others(path: Path) -> None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return
    except OSError as problem:
        raise _unreadable(path, f"it cannot be read: {problem.strerror}") from None
    if status.st_uid not in {0, os.geteuid()} or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise InputError(
            f"{path} may be written by others, and what is pinned there proves nothing.",
            next_step=f"Look at what it holds, then run `chmod go-w {path}` as its owner.",
        )


def _unreadable(path: Path, why: str) -> InputError:
    return InputError(f"The pin in {path} cannot be used: {why}.", next_step="Pin again with `ismgr trust pin`.")
