"""Git as a source of desired state: lays out exactly one commit, or the working tree when that is asked for. Reads the
repository and writes into the folder it is given; it never changes a repository that is there, and decides nothing."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path, PurePosixPath
from types import ModuleType

from ismgr_automation.core.diagnostic import Diagnostic, did_you_mean
from ismgr_automation.core.errors import EngineFailed, EngineMissing, EngineTimedOut, InputError
from ismgr_automation.ports.source import Revision, Tree

ENGINE = "git"
NO_COMMIT = "0" * 40
"""What a working tree is based on before the first commit."""

_DEADLINE = timedelta(minutes=2)
_BATCH_BYTES = 64 * 1024 * 1024
_LFS = b"version https://git-lfs."
_LINK, _MODULE, _EXECUTABLE = "120000", "160000", "100755"


@dataclass(frozen=True, slots=True)
class _Item:
    """One entry of a tree: ``path`` is relative to the estate."""

    mode: str
    blob: str
    path: str
    size_bytes: int = 0


class GitSource:
    """The repository around an estate's folder; implements ``ports.source.Source``."""

    def __init__(self, directory: Path, deadline: timedelta = _DEADLINE) -> None:
        self._directory = directory
        self._deadline = deadline

    def checkout(self, ref: str | None, into: Path) -> Tree:
        """Lay out the estate at ``ref`` below ``into``; None is the working tree: tracked files as they lie there, and
        untracked ones that are not ignored.

        Attributes are not applied: the bytes are those of the commit. Raises ``InputError`` for a folder or ref that
        is not there, a link that leaves the tree, a submodule or an LFS pointer; ``EngineError`` when git fails.
        """
        repository = _Repository.around(self._directory, self._deadline)
        into.mkdir(mode=0o700, parents=True, exist_ok=True)
        if ref is None:
            return _worktree(repository, into)
        commit = repository.commit(ref)
        items = repository.tree(commit)
        _lay_out(repository, items, into)
        objects = {one.path: one.blob for one in items}
        return Tree(root=into, revision=Revision(commit=commit, ref=ref), objects=objects)


def start(directory: Path) -> bool:
    """Make the folder a Git repository, unless it is inside one already; says whether it did."""
    library = _library()
    try:
        _Repository.around(directory, _DEADLINE)
    except InputError:
        try:
            library.Repo.init(directory, initial_branch="main").close()
        except (library.GitCommandError, OSError) as problem:
            raise EngineFailed(
                f"git init failed in {directory}.",
                engine=ENGINE,
                subject=str(directory),
                detail=str(problem),
                next_step="Run it by hand.",
            ) from None
        return True
    return False


class _Repository:
    """Git commands on one repository, each with a deadline."""

    def __init__(self, top: Path, prefix: str, deadline: timedelta, *, bare: bool) -> None:
        self.top = top
        self.prefix = prefix
        self.bare = bare
        self._deadline = deadline

    @classmethod
    def around(cls, directory: Path, deadline: timedelta) -> _Repository:
        library = _library()
        folder = directory.resolve()
        try:
            with library.Repo(folder, search_parent_directories=True) as found:
                if found.bare:
                    return cls(Path(found.git_dir), "", deadline, bare=True)
                top = Path(str(found.working_tree_dir)).resolve()
        except library.NoSuchPathError:
            raise InputError(f"There is no folder {directory}.", next_step="Name another folder with -C.") from None
        except library.InvalidGitRepositoryError:
            raise InputError(
                f"{directory} is not inside a Git repository.",
                next_step="Run `git init` there, or name another folder with -C.",
            ) from None
        except library.GitError as problem:
            raise _failed(f"The repository around {directory} cannot be opened.", folder, str(problem)) from None
        except PermissionError as problem:
            raise InputError(
                f"The repository around {directory} cannot be read: {problem.strerror}.",
                next_step="Mend its permissions.",
            ) from None
        inside = folder.relative_to(top).as_posix() if folder != top else ""
        return cls(top, inside + "/" if inside else "", deadline, bare=False)

    def run(self, arguments: Sequence[str], stdin: bytes = b"") -> bytes:
        """Standard output of a git command. Raises what ``_explain`` makes of a failure."""
        library = _library()
        seconds = self._deadline.total_seconds()
        with tempfile.TemporaryFile() as feed:
            feed.write(stdin)
            feed.seek(0)
            try:
                output: bytes = library.Git(self.top).execute(
                    ["git", *arguments],
                    istream=feed,
                    stdout_as_string=False,
                    strip_newline_in_stdout=False,
                    kill_after_timeout=seconds,
                    env={"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"},
                )
            except library.GitCommandNotFound:
                raise _no_git() from None
            except library.GitCommandError as problem:
                raise self._explain(arguments[0], str(problem.stderr)) from None
            except library.GitError as problem:
                raise _failed(f"git {arguments[0]} failed in {self.top}.", self.top, str(problem)) from None
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
        return _failed(f"git {verb} failed in {self.top}.", self.top, said)

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

    def tree(self, commit: str) -> tuple[_Item, ...]:
        """Every entry below the estate's folder at a commit."""
        listed = self.run(["ls-tree", "-r", "-z", "-l", "--full-tree", commit, "--", self.prefix or "."])
        found = tuple(self._item(line) for line in listed.split(b"\0") if line)
        if not found and self.prefix:
            raise InputError(
                f"There is no folder {self.prefix.rstrip('/')} in commit {commit[:12]}.",
                next_step="Commit the estate first, or read the files as they are with --worktree.",
            )
        return found

    def _item(self, line: bytes) -> _Item:
        head, _, name = line.partition(b"\t")
        mode, kind, blob, size = head.decode("ascii").split()
        path = _sound(name).removeprefix(self.prefix)
        if kind == "commit" or mode == _MODULE:
            raise _submodule(path)
        # a blob that is not there has no size; reading it says so
        return _Item(mode, blob, path, int(size) if size.isdecimal() else 0)

    def blobs(self, items: Iterable[_Item]) -> Iterator[tuple[_Item, bytes]]:
        """Contents, read with as few processes and as little memory as will do."""
        batch: list[_Item] = []
        weight = 0
        for item in items:
            batch.append(item)
            weight += item.size_bytes
            if weight >= _BATCH_BYTES:
                yield from self._read(batch)
                batch, weight = [], 0
        if batch:
            yield from self._read(batch)

    def _read(self, batch: Sequence[_Item]) -> Iterator[tuple[_Item, bytes]]:
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
                raise _submodule(_sound(line.partition(b"\t")[2]).removeprefix(self.prefix))
        listed = self.run(["ls-files", "-z", "--cached", "--others", "--exclude-standard", *pathspec])
        # a name that ends with a slash is another repository inside this one: not part of this estate
        names = {_sound(name) for name in listed.split(b"\0") if name and not name.endswith(b"/")}
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


def _library() -> ModuleType:
    """GitPython, which looks for the git command when it is imported."""
    try:
        import git
    except ImportError:
        raise _no_git() from None
    return git


def _failed(summary: str, top: Path, detail: str) -> EngineFailed:
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


def _submodule(path: str) -> InputError:
    return InputError(
        f"{path} is a Git submodule, and its content is not part of the estate's commit.",
        next_step="Move what the estate needs from it into the estate, or keep it outside the estate's folder.",
    )


def _sound(name: bytes) -> str:
    """A path of a tree as text; refuses names that could write elsewhere or that JSON cannot carry."""
    try:
        path = name.decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"The file name {name!r} is not UTF-8.", next_step="Rename the file.") from None
    parts = path.split("/")
    if any(part in {"", ".", ".."} or part.lower() == ".git" for part in parts) or any(ord(one) < 32 for one in path):  # noqa: PLR2004  control characters
        raise InputError(f"The file name {path!r} cannot be laid out safely.", next_step="Rename the file.")
    return path


def _lay_out(repository: _Repository, items: Sequence[_Item], into: Path) -> None:
    links: list[tuple[str, str]] = []
    for item, content in repository.blobs(items):
        if item.mode == _LINK:
            links.append((item.path, os.fsdecode(content)))
            continue
        if content.startswith(_LFS) and len(content) < 1024:  # noqa: PLR2004  pointers are short by definition
            raise InputError(
                f"{item.path} is a Git LFS pointer, and its content is not part of the commit.",
                next_step="Keep files that the estate needs in Git itself.",
            )
        target = into / item.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(0o755 if item.mode == _EXECUTABLE else 0o644)
    _link(links, into)


def _link(links: Sequence[tuple[str, str]], into: Path) -> None:
    """Links come last, so that no file is ever written through one; then each must end inside the tree."""
    for path, target in links:
        (into / path).parent.mkdir(parents=True, exist_ok=True)
        (into / path).symlink_to(target)
    root = into.resolve()
    for path, target in links:
        end = Path(os.path.realpath(into / path))
        if PurePosixPath(target).is_absolute() or not end.is_relative_to(root):
            raise InputError(
                f"The symbolic link {path} leaves the estate: it points to {target}.",
                next_step="Point it to something inside the estate, or put a file there.",
            )


def _worktree(repository: _Repository, into: Path) -> Tree:
    if repository.bare:
        raise InputError(
            f"{repository.top} is a bare repository and has no working tree.", next_step="Name a commit with --ref."
        )
    plain: list[str] = []
    links: list[tuple[str, str]] = []
    for name in repository.listing():
        source, path = repository.top / name, name.removeprefix(repository.prefix)
        try:
            mode = source.lstat().st_mode
            if stat.S_ISLNK(mode):
                links.append((path, os.readlink(source)))  # noqa: PTH115  the text as it is, not a path
            elif stat.S_ISREG(mode):
                target = into / path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
                target.chmod(0o755 if mode & stat.S_IXUSR else 0o644)
                plain.append(name)
        except OSError as problem:
            raise InputError(
                f"{path} cannot be read: {problem.strerror}.", next_step="Somebody may be writing there; try again."
            ) from None
    _link(links, into)
    objects = {name.removeprefix(repository.prefix): blob for name, blob in repository.hash_files(plain).items()}
    objects |= {path: repository.hash_link(target) for path, target in links}
    revision = Revision(commit=repository.base(), ref="worktree", worktree=True)
    return Tree(root=into, revision=revision, objects=dict(sorted(objects.items())))
