"""Since when versions are known to us, on ``refs/ismgr/first-seen``: lines of text that people can read, beside the
branches that plans read. Entries are only ever added. No age is judged here, and no clock read.

One file for each source package, in folders as Debian's pool has them (``ESTATE/Debian/o/openssl``), and in it one line
for each version and digest, the oldest first::

    2026-11-02T08:15:00Z Debian/openssl 3.0.15-1~deb12u1 sha256:4f1e...

A commit rewrites the files of the packages that have news and the few folders above them; a look-up reads one small
file for each package, all in one process. ``git grep openssl refs/ismgr/first-seen`` finds a package by hand.

Machines that write to ledgers of their own join them by ``exchange``, over a remote that they share: the other's ref is
fetched under another name, taken in by ``absorb``, and pushed on top of what is there. The union of both is taken, the
earlier time of each version, in a commit that has both as parents; so the push adds to what is there, and whoever
fetches it only has to follow. Times only ever move to an earlier one that somebody wrote down: whoever may push to the
ref can make a version older, and it wants the protection of a branch.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, unquote

from ismgr_automation.core.errors import EngineFailed
from ismgr_automation.core.events import Emit, StepReported
from ismgr_automation.engines.git.refs import RefFolder
from ismgr_automation.engines.git.remote import Remote
from ismgr_automation.engines.git.repository import DEADLINE, ENGINE, Repository
from ismgr_automation.ports.patching import Exchanged, VersionKey

REF = "refs/ismgr/first-seen"

Entries = Mapping[VersionKey, datetime]

_TRIES = 10
PAUSE = timedelta(seconds=2)
_EMPTY = "-"
_PLAIN = "/+:~"


class GitFirstSeen:
    """``ports.patching.FirstSeen`` in the repository around the estate's folder; ``estate`` is its name, since a
    repository may hold several; ``pause`` is the longest between two tries to push. Raises ``InputError`` outside of a
    repository, ``EngineError`` when git fails or a file is not ours."""

    def __init__(self, directory: Path, estate: str, deadline: timedelta = DEADLINE, pause: timedelta = PAUSE) -> None:
        self._directory = directory
        self._estate = estate
        self._deadline = deadline
        self._pause = pause

    def known(self, keys: Sequence[VersionKey]) -> Entries:
        """Those that were seen before, with when."""
        folder = self._folder()
        return _known(keys, self._read(folder, folder.tip(), {self._path(key.source) for key in keys}))

    def ever(self, sources: Sequence[str]) -> Entries:
        """All that was ever seen of these, with when."""
        folder, wanted = self._folder(), frozenset(sources)
        files = self._read(folder, folder.tip(), {self._path(one) for one in wanted})
        return {key: at for entries in files.values() for key, at in entries.items() if key.source in wanted}

    def see(self, keys: Sequence[VersionKey], now: datetime) -> int:
        """Remember those that were never seen; nothing is committed when all were. Returns how many were new."""
        wanted = {key: self._path(key.source) for key in keys}
        folder = self._folder()
        new: list[VersionKey] = []

        def files(tip: str) -> Mapping[str, bytes]:
            # whoever came between us and the tip has been first, also for a version that we both saw
            there = self._read(folder, tip, set(wanted.values()))
            new[:] = [key for key, path in wanted.items() if key not in there.get(path, {})]
            added: dict[str, dict[VersionKey, datetime]] = {}
            for key in new:
                added.setdefault(wanted[key], dict(there.get(wanted[key], {})))[key] = now.astimezone(UTC)
            return {path: _text(entries) for path, entries in added.items()}

        folder.build(files, f"See new versions for {self._estate}")
        return len(new)

    def absorb(self, ref: str) -> int:
        """Take in what another machine saw, which was fetched as ``ref``: all of its entries, of all estates, the
        earlier time of each. Returns how many entries are new or earlier now. Raises ``InputError`` for a ref that is
        not there; a file of it that is not ours is an ``EngineFailed``, and nothing is taken in."""
        repository = self._repository()
        folder = RefFolder(repository, REF)
        other = repository.commit(ref)
        changed = 0
        if folder.contains(folder.tip(), other):
            return changed

        def files(tip: str) -> Mapping[str, bytes]:
            nonlocal changed
            mine, theirs = (folder.listing(tip) if tip else {}), folder.listing(other)
            differing = {path for path, blob in theirs.items() if mine.get(path) != blob}
            ours, found = self._read(folder, tip, differing & mine.keys()), self._read(folder, other, differing)
            merged = {path: _earliest(ours.get(path, {}), entries) for path, entries in found.items()}
            changed = sum(len(both.items() - ours.get(path, {}).items()) for path, both in merged.items())
            return {path: _text(both) for path, both in merged.items() if both != ours.get(path)}

        folder.build(files, f"Take in what {ref} saw", other)
        return changed

    def everything(self) -> Entries:
        """All that was ever seen for this estate, with when."""
        folder = self._folder()
        tip = folder.tip()
        inside = f"{self._estate}/"
        paths = {path for path in folder.listing(tip) if path.startswith(inside)} if tip else set()
        return {key: at for entries in self._read(folder, tip, paths).values() for key, at in entries.items()}

    def exchange(self, remote: str, emit: Emit) -> Exchanged:
        """Join with what a remote has, for all estates, without force; again when somebody else was faster. Raises
        ``SettingsError``, ``Unreachable``, ``CredentialRejected``; then what was taken so far stays here."""
        repository = self._repository()
        folder, other = RefFolder(repository, REF), Remote(repository, remote)
        taken = 0
        for attempt in range(_TRIES):
            with other.fetched(REF) as theirs:
                emit(StepReported(step="fetch", detail=f"{REF} from {remote}: {theirs[:12] or 'it has none yet'}"))
                taken += self.absorb(theirs) if theirs else 0
                ours = folder.tip()
                if ours == theirs:
                    return Exchanged(taken=taken)
                given = self._news(folder, theirs, ours)
                if other.push(ours, REF, theirs):
                    emit(StepReported(step="push", detail=f"{REF} to {remote}: {ours[:12]}"))
                    return Exchanged(taken=taken, given=given)
            emit(StepReported(step="again", detail=f"somebody else pushed to {remote} meanwhile"))
            time.sleep(random.uniform(0, min(self._pause.total_seconds(), 0.1 * 2**attempt)))  # noqa: S311  no secret
        raise EngineFailed(
            f"{REF} could not be pushed to {remote}: others were faster, or just at it, {_TRIES} times.",
            engine=ENGINE,
            subject=remote,
            untouched="The remote has nothing of ours yet; what it had is here now.",
            next_step="Try again.",
        )

    def _news(self, folder: RefFolder, old: str, new: str) -> int:
        """How many entries of a commit another (empty: none) lacks, or has with a later time."""
        before, after = (folder.listing(old) if old else {}), folder.listing(new)
        differing = {path for path, blob in after.items() if before.get(path) != blob}
        mine, theirs = self._read(folder, new, differing), self._read(folder, old, differing & before.keys())
        return sum(len(entries.items() - theirs.get(path, {}).items()) for path, entries in mine.items())

    @staticmethod
    def _read(folder: RefFolder, commit: str, paths: Iterable[str]) -> Mapping[str, Entries]:
        """The entries of files, by path; those that are not there are left out."""
        if not commit:
            return {}
        found = folder.contents([f"{commit}:{path}" for path in sorted(paths)])
        return {name.partition(":")[2]: _entries(content, name) for name, content in found.items()}

    def _path(self, source: str) -> str:
        return f"{self._estate}/{_place(source)}"

    def _repository(self) -> Repository:
        return Repository.around(self._directory, self._deadline)

    def _folder(self) -> RefFolder:
        return RefFolder(self._repository(), REF)


def _place(source: str) -> str:
    """Where the entries of a source belong inside an estate's folder."""
    origin, _, package = source.rpartition("/")
    name = _segment(package)
    pool = name[:4] if name.startswith("lib") else name[:1]
    return f"{_segment(origin)}/{pool}/{name}"


def _known(keys: Sequence[VersionKey], files: Mapping[str, Entries]) -> Entries:
    all_of_them = {key: at for entries in files.values() for key, at in entries.items()}
    return {key: all_of_them[key] for key in keys if key in all_of_them}


def _earliest(one: Entries, other: Entries) -> Entries:
    return {**one, **{key: min(at, one.get(key, at)) for key, at in other.items()}}


def _text(entries: Entries) -> bytes:
    """The one text of entries."""
    return "".join(_line(key, at) for key, at in sorted(entries.items(), key=lambda one: (one[1], one[0]))).encode()


def _line(key: VersionKey, at: datetime) -> str:
    when = at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return f"{when} {_word(key.source)} {_word(key.version)} {_word(key.digest)}\n"


def _entries(content: bytes, name: str) -> Entries:
    """The entries of a file (``COMMIT:ESTATE/PLACE``). What we would not have written so, and there, is not ours."""
    try:
        entries = dict(map(_entry, content.decode("ascii").splitlines()))
        if (
            entries
            and _text(entries) == content
            and {_place(key.source) for key in entries} == {name.partition("/")[2]}
        ):
            return entries
    except ValueError:
        pass
    raise EngineFailed(
        f"A file of versions on {REF} cannot be read.",
        engine=ENGINE,
        subject=name,
        untouched="Nothing was touched.",
        next_step=f"`git show {name}` shows it; somebody else wrote it. Put back the file of the commit before.",
    )


def _entry(line: str) -> tuple[VersionKey, datetime]:
    when, source, version, digest = line.split(" ")
    at = datetime.fromisoformat(when)
    return VersionKey(source=_plain(source), version=_plain(version), digest=_plain(digest)), at


def _word(text: str) -> str:
    """Any text as one word. What Debian allows in names and versions stays as it is."""
    word = quote(text, safe=_PLAIN, errors="surrogatepass")
    return "%2D" if word == _EMPTY else word or _EMPTY


def _plain(word: str) -> str:
    return "" if word == _EMPTY else unquote(word, errors="surrogatepass")


def _segment(text: str) -> str:
    """Any text as a part of a path, as strict as git is with names: no dot in front, no tilde."""
    word = _word(text).replace("/", "%2F").replace("~", "%7E").replace(":", "%3A")
    return f"%2E{word[1:]}" if word.startswith(".") else word
