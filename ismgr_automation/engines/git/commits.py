"""Who signed the commits of a range, from the raw commit objects. Git's own verification is not asked: what it trusts
and which program it runs is in settings that a repository or a user may have changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from ismgr_automation.core.errors import EngineFailed, InputError
from ismgr_automation.engines.git.repository import DEADLINE, ENGINE, Repository
from ismgr_automation.engines.signing.openpgp import Keyring, keyring
from ismgr_automation.engines.signing.ssh import SshVerifier, Worth
from ismgr_automation.ports.history import COMMIT_NAMESPACE, CommitSignature, Flaw, Signers

_SSH = "-----BEGIN SSH SIGNATURE-----"
_OPENPGP = ("-----BEGIN PGP SIGNATURE-----", "-----BEGIN PGP MESSAGE-----")
_SIGNATURES = {40: b"gpgsig", 64: b"gpgsig-sha256"}
"""The header that signs a commit, by the length of its id."""

_WORTHS = {
    Worth.GOOD: None,
    Worth.BAD: Flaw.BAD,
    Worth.UNKNOWN_KEY: Flaw.UNKNOWN_KEY,
    Worth.EXPIRED: Flaw.EXPIRED,
    Worth.REVOKED: Flaw.REVOKED,
}
_PGP_WORTHS = {"bad": Flaw.BAD, "unknown": Flaw.UNKNOWN_KEY, "expired": Flaw.EXPIRED, "revoked": Flaw.REVOKED}


_AT_ONCE = 4
_Ground = tuple[Signers, tuple[tuple[str, int, int], ...]]
_SEEN: dict[tuple[str, _Ground], CommitSignature] = {}
"""By commit and all that its verdict depends on: signers, and the files of keys as they were. A commit is what its id
says, so only the end of a key's time could be noticed late, and that by one process only."""


@dataclass(frozen=True, slots=True)
class _Commit:
    """A raw commit taken apart: ``signed`` is what its signature covers."""

    id: str
    parents: tuple[str, ...]
    signature: str
    signed: bytes
    title: str


class GitHistory:
    """``ports.history.History`` of the repository around an estate's folder."""

    def __init__(self, directory: Path, deadline: timedelta = DEADLINE) -> None:
        self._directory = directory
        self._deadline = deadline

    def folder(self) -> str:
        """The estate's folder inside its repository; empty at the top."""
        return Repository.around(self._directory, self._deadline).prefix.rstrip("/")

    def descends(self, commit: str, ancestor: str) -> bool:
        """Whether ``commit`` is ``ancestor`` or comes after it; false when either is not there."""
        repository = Repository.around(self._directory, self._deadline)
        if not all(_is_there(repository, one) for one in (commit, ancestor)):
            return False
        try:
            return not repository.run(["rev-list", "--max-count=1", ancestor, f"^{commit}"]).strip()
        except EngineFailed:
            return False  # a commit between them is missing

    def signatures(self, base: str, proposed: str, signers: Signers) -> tuple[CommitSignature, ...]:
        """Every commit that ``proposed`` has and ``base`` has not, each with what its signature is worth. What this
        process has looked at is remembered: a run asks the same several times.

        Raises ``InputError`` when the repository lacks part of that history, ``EngineError`` when git fails.
        """
        commits = _range(Repository.around(self._directory, self._deadline), base, proposed)
        ground = (signers, _stamps(signers))
        new = [one for one in commits if (one.id, ground) not in _SEEN]
        verifier = SshVerifier(signers.revoked)
        if new:
            with keyring(signers.keyring) as ring, ThreadPoolExecutor(_AT_ONCE) as pool:
                judged = pool.map(lambda one: _judge(one, signers, verifier, ring), new)
                _SEEN.update({(one.id, ground): verdict for one, verdict in zip(new, judged, strict=True)})
        return tuple(_SEEN[one.id, ground] for one in commits)


def _range(repository: Repository, base: str, proposed: str) -> tuple[_Commit, ...]:
    for one in (base, proposed):
        if not _is_there(repository, one):
            raise _incomplete(repository, f"there is no commit {one[:12]}")
    # not sorted: a sorted walk says nothing at all about a commit that was tampered with to be its own parent
    listed = repository.run(["rev-list", proposed, f"^{base}"]).decode("ascii").split()
    commits = tuple(_take_apart(name, raw) for name, raw in _read(repository, listed).items())
    _refuse_gaps(repository, base, commits)
    return commits


def _refuse_gaps(repository: Repository, base: str, commits: Sequence[_Commit]) -> None:
    """What commits themselves name as parents must be in the range or behind the base: a shallow clone, or one that was
    tampered with, would hide commits otherwise."""
    inside = {one.id for one in commits}
    edge = sorted({parent for one in commits for parent in one.parents} - inside)
    if not edge:
        return
    asked = "".join(f"{one}\n" for one in [*edge, f"^{base}"]).encode("ascii")
    try:
        hidden = repository.run(["rev-list", "--max-count=1", "--stdin"], asked).strip()
    except EngineFailed:
        raise _incomplete(repository, "commits between the two are missing") from None
    if hidden:
        raise _incomplete(repository, f"commit {hidden.decode('ascii')[:12]} is hidden by a shallow clone")


def _incomplete(repository: Repository, why: str) -> InputError:
    return InputError(
        f"The history of {repository.top} is not complete here: {why}.",
        next_step="Fetch all of it: `git fetch --unshallow`, or a clone without --depth.",
    )


def _is_there(repository: Repository, commit: str) -> bool:
    answer = repository.run(["cat-file", "--batch-check"], f"{commit}\n".encode()).split()
    return len(answer) == 3 and answer[:2] == [commit.encode(), b"commit"]  # noqa: PLR2004  id, type, size


def _read(repository: Repository, names: Sequence[str]) -> Mapping[str, bytes]:
    answer = repository.run(["cat-file", "--batch"], "".join(f"{one}\n" for one in names).encode("ascii"))
    found: dict[str, bytes] = {}
    start = 0
    for name in names:
        end = answer.index(b"\n", start)
        size = int(answer[start:end].split()[2])
        raw = answer[end + 1 : end + 1 + size]
        start = end + 2 + size
        form = hashlib.sha1 if len(name) == 40 else hashlib.sha256  # noqa: PLR2004  hexadecimal digits of SHA-1
        if form(b"commit %d\0" % len(raw) + raw, usedforsecurity=False).hexdigest() != name:
            raise EngineFailed(
                f"Commit {name[:12]} does not hold what its name says.",
                engine=ENGINE,
                subject=str(repository.top),
                untouched="Nothing was touched.",
                next_step="Run `git fsck`, and fetch the repository anew.",
            )
        found[name] = raw
    return found


def _take_apart(name: str, raw: bytes) -> _Commit:
    """Split a commit into its signature and what it covers: the object without its signature headers, as Git has it."""
    head, _, message = raw.partition(b"\n\n")
    kept: list[bytes] = []
    signature: list[bytes] = []
    current = b""
    for line in head.split(b"\n"):
        key, _, value = line.partition(b" ")
        current = current if line.startswith(b" ") else key
        if current in _SIGNATURES.values():
            if current == _SIGNATURES[len(name)]:
                signature.append(line[1:] if line.startswith(b" ") else value)
        else:
            kept.append(line)
    return _Commit(
        id=name,
        parents=tuple(line.split()[1].decode("ascii") for line in kept if line.startswith(b"parent ")),
        signature=b"\n".join(signature).decode("utf-8", "replace"),
        signed=b"\n".join(kept) + b"\n\n" + message,
        title=message.decode("utf-8", "replace").strip().partition("\n")[0][:72],
    )


def _judge(commit: _Commit, signers: Signers, verifier: SshVerifier, ring: Keyring | None) -> CommitSignature:
    flaw, key, emails = _worth(commit, signers, verifier, ring)
    return CommitSignature(
        commit=commit.id, title=commit.title, flaw=flaw, key=key, emails=emails, merge=len(commit.parents) > 1
    )


def _worth(
    commit: _Commit, signers: Signers, verifier: SshVerifier, ring: Keyring | None
) -> tuple[Flaw | None, str, tuple[str, ...]]:
    armored = commit.signature
    if not armored:
        return Flaw.UNSIGNED, "", ()
    if armored.startswith(_SSH):
        judged = verifier.judge(commit.signed, armored, COMMIT_NAMESPACE, signers.keys)
        return _WORTHS[judged.worth], judged.key, ()
    if not armored.startswith(_OPENPGP):
        return Flaw.UNSUPPORTED, "", ()
    if ring is None:
        return Flaw.UNKNOWN_KEY, "", ()
    found = ring.judge(commit.signed, armored)
    return _PGP_WORTHS.get(found.worth), f"openpgp:{found.key}" if found.key else "", found.emails


def _stamps(signers: Signers) -> tuple[tuple[str, int, int], ...]:
    """What tells that a file of keys was changed."""
    folder, revoked = signers.keyring, signers.revoked
    files = sorted(folder.iterdir()) if folder is not None and folder.is_dir() else []
    found = [(path, path.stat()) for path in (*files, *([revoked] if revoked is not None else []))]
    return tuple((str(path), status.st_mtime_ns, status.st_size) for path, status in found)


def signing_key(directory: Path) -> str:
    """What this user's Git signs with, as ``user.signingkey`` says: a file, or a public key line. Empty when nothing is
    set, or when it is an OpenPGP key. It chooses a key to sign with; nothing is ever trusted because of it."""
    repository = Repository.around(directory, DEADLINE)
    found = dict(_settings(repository))
    if found.get("gpg.format") != "ssh":
        return ""
    return found.get("user.signingkey", "").removeprefix("key::")


def _settings(repository: Repository) -> Iterator[tuple[str, str]]:
    try:
        listed = repository.run(["config", "-z", "--get-regexp", r"^(gpg\.format|user\.signingkey)$"])
    except EngineFailed:
        return  # neither is set
    for entry in listed.decode("utf-8", "replace").split("\0"):
        name, _, value = entry.partition("\n")
        yield name, value
