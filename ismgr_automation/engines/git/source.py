"""Git as a source of desired state: lays out exactly one commit, or the working tree when that is asked for. Reads the
repository and writes into the folder it is given; it never changes a repository that is there, and decides nothing."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

from ismgr_automation.core.errors import EngineFailed, InputError
from ismgr_automation.engines.git.repository import DEADLINE, ENGINE, NO_COMMIT, Item, Repository, library, sound
from ismgr_automation.ports.source import Revision, Tree

_LFS = b"version https://git-lfs."
_LINK, _EXECUTABLE = "120000", "100755"


class GitSource:
    """The repository around an estate's folder; implements ``ports.source.Source``."""

    def __init__(self, directory: Path, deadline: timedelta = DEADLINE) -> None:
        self._directory = directory
        self._deadline = deadline

    def checkout(self, ref: str | None, into: Path) -> Tree:
        """Lay out the estate at ``ref`` below ``into``; None is the working tree: tracked files as they lie there, and
        untracked ones that are not ignored.

        Attributes are not applied: the bytes are those of the commit. Raises ``InputError`` for a folder or ref that
        is not there, a link that leaves the tree, a submodule or an LFS pointer; ``EngineError`` when git fails.
        """
        repository = Repository.around(self._directory, self._deadline)
        into.mkdir(mode=0o700, parents=True, exist_ok=True)
        if ref is None:
            return _worktree(repository, into)
        commit = repository.commit(ref)
        items = repository.tree(commit)
        _lay_out(repository, items, into)
        objects = {one.path: one.blob for one in items}
        return Tree(root=into, revision=Revision(commit=commit, ref=ref), objects=objects)

    def committed(self, tree: Tree, path: str) -> datetime | None:
        """When a file or folder of a tree that was laid out got the content that it has there, by the date of the
        commit. None for what is not in Git as it is there, and where a shallow clone ends before its last change."""
        repository = Repository.around(self._directory, self._deadline)
        commit = tree.revision.commit
        here = _below(path, tree.objects)
        if not here or commit == NO_COMMIT:
            return None
        listed = repository.run(["ls-tree", "-r", "-z", "--full-tree", commit, "--", f"{repository.prefix}{path}"])
        rows = [line.partition(b"\t") for line in listed.split(b"\0") if line]
        there = {sound(name).removeprefix(repository.prefix): head.split()[2].decode() for head, _, name in rows}
        if there != here:
            return None
        place = f":(top,literal){repository.prefix}{path}"
        found = repository.run(["log", "-1", "--format=%ct %P", "--end-of-options", commit, "--", place])
        seconds, *parents = found.decode("ascii").split()
        # the oldest commit of a shallow clone seems to have made all that is there
        if not parents and repository.run(["rev-parse", "--is-shallow-repository"]).strip() == b"true":
            return None
        return datetime.fromtimestamp(int(seconds), UTC)

    def author(self, commit: str) -> str:
        """Who made a commit, as it says: ``NAME <EMAIL>``; empty for what is no commit."""
        if commit == NO_COMMIT:
            return ""
        repository = Repository.around(self._directory, self._deadline)
        found = repository.run(["log", "-1", "--format=%an <%ae>", "--end-of-options", commit, "--"])
        return found.decode("utf-8", "replace").strip()


def start(directory: Path) -> bool:
    """Make the folder a Git repository, unless it is inside one already; says whether it did."""
    git = library()
    try:
        Repository.around(directory, DEADLINE)
    except InputError:
        try:
            git.Repo.init(directory, initial_branch="main").close()
        except (git.GitCommandError, OSError) as problem:
            raise EngineFailed(
                f"git init failed in {directory}.",
                engine=ENGINE,
                subject=str(directory),
                detail=str(problem),
                next_step="Run it by hand.",
            ) from None
        return True
    return False


def _below(path: str, objects: Mapping[str, str]) -> Mapping[str, str]:
    """A file, or the files of a folder, with their ids."""
    folder = f"{path.rstrip('/')}/"
    return {name: blob for name, blob in objects.items() if name == path or name.startswith(folder)}


def _lay_out(repository: Repository, items: Sequence[Item], into: Path) -> None:
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


def _worktree(repository: Repository, into: Path) -> Tree:
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
