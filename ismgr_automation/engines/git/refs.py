"""A small tree of files on a ref of our own. It only ever grows by commits on top of what is there (compare and swap),
in a bare repository as in a working one; branches, indexes and working trees are never touched."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ismgr_automation.core.errors import EngineFailed
from ismgr_automation.engines.git.repository import ENGINE, Repository

_TRIES = 40
_LONGEST_PAUSE_SECONDS = 0.2
_NOBODY = {
    "GIT_AUTHOR_NAME": "ismgr",
    "GIT_AUTHOR_EMAIL": "ismgr@localhost",
    "GIT_COMMITTER_NAME": "ismgr",
    "GIT_COMMITTER_EMAIL": "ismgr@localhost",
}


class RefFolder:
    """The files of the commit that ``ref`` points at."""

    def __init__(self, repository: Repository, ref: str) -> None:
        self._repository = repository
        self.ref = ref

    def tip(self) -> str:
        """The commit that the ref points at; empty when there is none yet."""
        listed = self._git("for-each-ref", "--format=%(refname) %(objectname)", self.ref).split("\n")
        return next((line.split()[1] for line in listed if line.startswith(f"{self.ref} ")), "")

    def history(self) -> tuple[str, ...]:
        """Every commit of the ref, oldest first."""
        tip = self.tip()
        return tuple(self._git("rev-list", "--first-parent", "--reverse", tip).split()) if tip else ()

    def files(self, folder: str) -> Mapping[str, bytes]:
        """What lies in a folder, by name; folders below it are left out."""
        tip = self.tip()
        if not tip:
            return {}
        listed = self._repository.run(["ls-tree", "-z", "--full-tree", tip, f"{folder}/"])
        rows = [line.partition(b"\t") for line in listed.split(b"\0") if line]
        blobs = {
            name.decode("utf-8", "replace"): head.split()[2].decode() for head, _, name in rows if b" blob " in head
        }
        found = self.contents(list(blobs.values()))
        return {name.rpartition("/")[2]: found[blob] for name, blob in blobs.items() if blob in found}

    def contents(self, names: Sequence[str]) -> Mapping[str, bytes]:
        """The bytes of files by the names that git understands (an id, ``COMMIT:PATH``); missing ones are left out."""
        if not names:
            return {}
        answer = self._repository.run(["cat-file", "--batch"], "".join(f"{one}\n" for one in names).encode())
        found: dict[str, bytes] = {}
        start = 0
        for name in names:
            end = answer.index(b"\n", start)
            words = answer[start:end].split()
            start = end + 1
            if len(words) == 3 and words[1] == b"blob":  # noqa: PLR2004  id, type, size
                size = int(words[2])
                found[name] = answer[start : start + size]
                start += size + 1
        return found

    def listing(self, commit: str) -> Mapping[str, str]:
        """The blob of every file of a commit, by path."""
        listed = self._repository.run(["ls-tree", "-r", "-z", "--full-tree", commit])
        rows = [line.partition(b"\t") for line in listed.split(b"\0") if line]
        return {path.decode("utf-8", "replace"): head.split()[2].decode() for head, _, path in rows}

    def contains(self, commit: str, older: str) -> bool:
        """Whether the history of a commit (empty: of none) has an older one in it."""
        return bool(commit) and not self._git("rev-list", "--max-count=1", older, f"^{commit}")

    def add(self, files: Mapping[str, bytes], message: str) -> str:
        """Commit files on top of what is there, as often as it takes when others write too; returns the commit.

        Nothing is committed when all of it is there already. Raises ``EngineFailed`` when others never let us through.
        """
        return self.build(lambda _tip: files, message)

    def build(self, files: Callable[[str], Mapping[str, bytes]], message: str, other: str = "") -> str:
        """As ``add``, for files that depend on what is there: they are asked for anew with each tip (empty: there is
        none yet). ``other`` is a commit whose history joins ours; where it holds all that we have, we only follow it.
        """
        for attempt in range(_TRIES):
            tip = self.tip()
            commit = self._commit(tip, files(tip), message, other)
            if commit == tip or self._swap(commit, tip):
                return commit
            time.sleep(random.uniform(0, min(_LONGEST_PAUSE_SECONDS, 0.01 * 2**attempt)))  # noqa: S311  no secret
        raise EngineFailed(
            f"{self.ref} could not be written: others kept writing to it, or its lock is stuck.",
            engine=ENGINE,
            subject=self.ref,
            untouched="Nothing was touched.",
            next_step=f"Look for {self.ref}.lock in the Git directory; remove it when no git command runs any more.",
        )

    def _commit(self, tip: str, files: Mapping[str, bytes], message: str, other: str) -> str:
        """A commit with the files on top of the tip: the tip itself, or the other, where it says nothing new."""
        joins = bool(other) and not self.contains(tip, other)
        if not files and not joins:
            return tip
        tree = self._tree(tip, files)
        if tip and not joins and tree == self._tree_of(tip):
            return tip
        if joins and tree == self._tree_of(other) and (not tip or self.contains(other, tip)):
            return other
        parents = [word for one in (tip, other if joins else "") if one for word in ("-p", one)]
        return self._git("commit-tree", tree, *parents, stdin=message.encode(), more=_NOBODY)

    def _tree_of(self, commit: str) -> str:
        return self._git("rev-parse", "--verify", "--end-of-options", f"{commit}^{{tree}}")

    def _tree(self, tip: str, files: Mapping[str, bytes]) -> str:
        with tempfile.TemporaryDirectory(prefix="ismgr-index-") as folder:
            index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
            if tip:
                self._git("read-tree", tip, more=index)
            blobs = self._blobs(list(files.values()), Path(folder))
            rows = [f"100644 {blob}\t{path}\n" for path, blob in zip(files, blobs, strict=True)]
            self._git("update-index", "--add", "--index-info", stdin="".join(rows).encode(), more=index)
            return self._git("write-tree", more=index)

    def _blobs(self, contents: Sequence[bytes], folder: Path) -> list[str]:
        """Write contents, as they are, with one process for all; what they are called."""
        paths = [folder / str(number) for number in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        asked = "".join(f"{path}\n" for path in paths).encode()
        return self._git("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=asked).split()

    def _swap(self, commit: str, tip: str) -> bool:
        """Point the ref at the commit, unless somebody else moved it meanwhile."""
        expected = tip or "0" * len(commit)
        try:
            self._git("update-ref", "--create-reflog", self.ref, commit, expected)
        except EngineFailed as problem:
            if "cannot lock ref" in problem.detail or "unable to lock" in problem.detail.lower():
                return False
            raise
        return True

    def _git(self, *arguments: str, stdin: bytes = b"", more: Mapping[str, str] | None = None) -> str:
        return self._repository.run(arguments, stdin, more).decode("utf-8", "replace").strip()
