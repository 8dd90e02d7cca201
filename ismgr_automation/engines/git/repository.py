"""Git commands on one repository, each with a deadline. Hooks never run, and what is read is what commits really hold:
nothing that a repository's own settings or replacements could put in its place."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import ModuleType

from ismgr_automation.core.diagnostic import Diagnostic, did_you_mean
from ismgr_automation.core.errors import EngineFailed, EngineMissing, EngineTimedOut, InputError

ENGINE = "git"
NO_COMMIT = "0" * 40
"""What a working tree is based on before the first commit."""

DEADLINE = timedelta(minutes=2)
_BATCH_BYTES = 64 * 1024 * 1024
_MODULE = "160000"

# a hook must not run because we look at something; replaced, grafted and cached parents must not hide a commit
_SETTINGS = ("-c", "core.hooksPath=/dev/null", "-c", "core.commitGraph=false", "-c", "core.fsmonitor=false")
_ENVIRONMENT: Mapping[str, str] = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_GRAFT_FILE": "/dev/null",
}


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a tree: ``path`` is relative to the estate."""

    mode: str
    blob: str
    path: str
    size_bytes: int = 0


class Repository:
    """Git commands on one repository, each with a deadline."""

    def __init__(self, top: Path, prefix: str, deadline: timedelta, *, bare: bool) -> None:
        self.top = top
        self.prefix = prefix
        self.bare = bare
        self._deadline = deadline

    @classmethod
    def around(cls, directory: Path, deadline: timedelta) -> Repository:
        """The repository that a folder lies in; raises ``InputError`` when there is none."""
        git = library()
        folder = directory.resolve()
        try:
            with git.Repo(folder, search_parent_directories=True) as found:
                if found.bare:
                    return cls(Path(found.git_dir), "", deadline, bare=True)
                top = Path(str(found.working_tree_dir)).resolve()
        except git.NoSuchPathError:
            raise InputError(f"There is no folder {directory}.", next_step="Name another folder with -C.") from None
        except git.InvalidGitRepositoryError:
            raise InputError(
                f"{directory} is not inside a Git repository.",
                next_step="Run `git init` there, or name another folder with -C.",
            ) from None
        except git.GitError as problem:
            raise failed(f"The repository around {directory} cannot be opened.", folder, str(problem)) from None
        except PermissionError as problem:
            raise InputError(
                f"The repository around {directory} cannot be read: {problem.strerror}.",
                next_step="Mend its permissions.",
            ) from None
        inside = folder.relative_to(top).as_posix() if folder != top else ""
        return cls(top, inside + "/" if inside else "", deadline, bare=False)

    def run(self, arguments: Sequence[str], stdin: bytes = b"", more: Mapping[str, str] | None = None) -> bytes:
        """Standard output of a git command, with ``more`` in its environment. Raises what ``_explain`` makes of a
        failure."""
        git = library()
        seconds = self._deadline.total_seconds()
        with tempfile.TemporaryFile() as feed:
            feed.write(stdin)
            feed.seek(0)
            try:
                output: bytes = git.Git(self.top).execute(
                    ["git", *_SETTINGS, *arguments],
                    istream=feed,
                    stdout_as_string=False,
                    strip_newline_in_stdout=False,
                    kill_after_timeout=seconds,
                    env={**_ENVIRONMENT, **(more or {})},
                )
            except git.GitCommandNotFound:
                raise _no_git() from None
            except git.GitCommandError as problem:
                raise self._explain(arguments[0], str(problem.stderr)) from None
            except git.GitError as problem:
                raise failed(f"git {arguments[0]} failed in {self.top}.", self.top, str(problem)) from None
        return output

    def _explain(self, verb: str, words: str) -> Exception:
        said = words.strip().removeprefix("stderr:").strip().strip("'")
        if "dubious ownership" in said:
            return InputError(
                f"Git does not trust {self.top}: the folder belongs to another user.",
                next_step=f"Check who owns it, then run `git config --global --add safe.directory {self.top}`.",
            )
        if said.startswith("Timeout:"):
            seconds = f"{self._deadline.total_seconds():g}"
            return EngineTimedOut(
                f"git {verb} did not finish in {seconds} s and was stopped.",
                engine=ENGINE,
                subject=str(self.top),
                untouched="Nothing was touched.",
                next_step="Is the repository on a slow or lost network drive? Try again.",
            )
        return failed(f"git {verb} failed in {self.top}.", self.top, said)

    def commit(self, ref: str) -> str:
        """The commit that a ref names; raises ``InputError`` with what was probably meant."""
        try:
            return self._commit(ref)
        except EngineFailed:
            pass
        names = self.run(["for-each-ref", "--format=%(refname:short)"]).decode("utf-8", "replace").split()
        if not names:
            raise InputError(
                f"The repository at {self.top} has no commit yet.",
                next_step="Run `git add . && git commit`, or read the files as they are with --worktree.",
            )
        if self._is_there(ref):
            raise InputError(f"{ref} is not a commit.", next_step="Name a branch, a tag or a commit id.")
        expected = "a branch, a tag or a commit id; there are " + ", ".join(names[:8])
        near = did_you_mean(ref, [*names, "HEAD"])
        wrong = Diagnostic(summary=f"there is no ref {ref!r}", expected="" if near else expected, suggestion=near)
        raise InputError(f"The repository at {self.top} has no commit {ref!r}.", diagnostics=[wrong])

    def _commit(self, ref: str) -> str:
        found = self.run(["rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}"])
        return found.decode("ascii").strip()

    def _is_there(self, ref: str) -> bool:
        try:
            self.run(["rev-parse", "--verify", "--quiet", "--end-of-options", ref])
        except EngineFailed:
            return False
        return True

    def base(self) -> str:
        """The commit that the working tree is based on."""
        try:
            return self._commit("HEAD")
        except EngineFailed:
            return NO_COMMIT

    def tree(self, commit: str) -> tuple[Item, ...]:
        """Every entry below the estate's folder at a commit."""
        listed = self.run(["ls-tree", "-r", "-z", "-l", "--full-tree", commit, "--", self.prefix or "."])
        found = tuple(self._item(line) for line in listed.split(b"\0") if line)
        if not found and self.prefix:
            raise InputError(
                f"There is no folder {self.prefix.rstrip('/')} in commit {commit[:12]}.",
                next_step="Commit the estate first, or read the files as they are with --worktree.",
            )
        return found

    def _item(self, line: bytes) -> Item:
        head, _, name = line.partition(b"\t")
        mode, kind, blob, size = head.decode("ascii").split()
        path = sound(name).removeprefix(self.prefix)
        if kind == "commit" or mode == _MODULE:
            raise submodule(path)
        # a blob that is not there has no size; reading it says so
        return Item(mode, blob, path, int(size) if size.isdecimal() else 0)

    def blobs(self, items: Iterable[Item]) -> Iterator[tuple[Item, bytes]]:
        """Contents, read with as few processes and as little memory as will do."""
        batch: list[Item] = []
        weight = 0
        for item in items:
            batch.append(item)
            weight += item.size_bytes
            if weight >= _BATCH_BYTES:
                yield from self._read(batch)
                batch, weight = [], 0
        if batch:
            yield from self._read(batch)

    def _read(self, batch: Sequence[Item]) -> Iterator[tuple[Item, bytes]]:
        asked = "".join(f"{one.blob}\n" for one in batch).encode("ascii")
        answer = memoryview(self.run(["cat-file", "--batch"], asked))
        start = 0
        for item in batch:
            end = bytes(answer[start : start + 200]).index(b"\n") + start
            words = bytes(answer[start:end]).split()
            if len(words) != 3:  # noqa: PLR2004  id, type, size
                raise EngineFailed(
                    f"The repository at {self.top} lacks the content of {item.path}.",
                    engine=ENGINE,
                    subject=str(self.top),
                    untouched="Nothing was touched.",
                    next_step="Run `git fsck`; a partial clone has to fetch it first.",
                )
            size = int(words[2])
            yield item, bytes(answer[end + 1 : end + 1 + size])
            start = end + 2 + size

    def listing(self) -> tuple[str, ...]:
        """Files of the working tree below the estate: tracked ones that still exist, and untracked not ignored ones."""
        pathspec = ["--", self.prefix or "."]
        tracked = self.run(["ls-files", "-z", "--stage", *pathspec])
        for line in tracked.split(b"\0"):
            if line.startswith(_MODULE.encode("ascii")):
                raise submodule(sound(line.partition(b"\t")[2]).removeprefix(self.prefix))
        listed = self.run(["ls-files", "-z", "--cached", "--others", "--exclude-standard", *pathspec])
        # a name that ends with a slash is another repository inside this one: not part of this estate
        names = {sound(name) for name in listed.split(b"\0") if name and not name.endswith(b"/")}
        return tuple(sorted(name for name in names if os.path.lexists(self.top / name)))

    def hash_files(self, names: Sequence[str]) -> dict[str, str]:
        """Blob ids that files of the working tree would have if they were committed now."""
        if not names:
            return {}
        asked = "".join(f"{name}\n" for name in names).encode("utf-8")
        answer = self.run(["hash-object", "--stdin-paths"], asked).decode("ascii").split()
        return dict(zip(names, answer, strict=True))

    def hash_link(self, target: str) -> str:
        """Blob id of a symbolic link."""
        form = self.run(["rev-parse", "--show-object-format"]).decode("ascii").strip()
        content = os.fsencode(target)
        return hashlib.new(form, b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def library() -> ModuleType:
    """GitPython, which looks for the git command when it is imported."""
    try:
        import git
    except ImportError:
        raise _no_git() from None
    return git


def failed(summary: str, top: Path, detail: str) -> EngineFailed:
    """The error for a git that failed, with its words."""
    return EngineFailed(
        summary,
        engine=ENGINE,
        subject=str(top),
        untouched="Nothing was touched.",
        next_step="`git fsck` says whether the repository is sound.",
        detail=detail,
    )


def _no_git() -> EngineMissing:
    return EngineMissing(
        engine=ENGINE, needed="2.24 or newer", found=["git on PATH: not there"], ways=["apt-get install git"]
    )


def submodule(path: str) -> InputError:
    """The error for a submodule inside an estate."""
    return InputError(
        f"{path} is a Git submodule, and its content is not part of the estate's commit.",
        next_step="Move what the estate needs from it into the estate, or keep it outside the estate's folder.",
    )


def sound(name: bytes) -> str:
    """A path of a tree as text; refuses names that could write elsewhere or that JSON cannot carry."""
    try:
        path = name.decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"The file name {name!r} is not UTF-8.", next_step="Rename the file.") from None
    parts = path.split("/")
    if any(part in {"", ".", ".."} or part.lower() == ".git" for part in parts) or any(ord(one) < 32 for one in path):  # noqa: PLR2004  control characters
        raise InputError(f"The file name {path!r} cannot be laid out safely.", next_step="Rename the file.")
    return path
