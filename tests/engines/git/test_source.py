"""Git as a source: exactly the commit, or exactly the working tree; and every way to say no."""

from __future__ import annotations

import os
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import git
import pytest

from ismgr_automation.core.errors import EngineError, EngineMissing, EngineTimedOut, InputError, IsmgrError
from ismgr_automation.engines.git import NO_COMMIT, GitSource, start
from ismgr_automation.ports.source import Tree

IDENTITY = {
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
}


class Repo:
    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments: str, stdin: str | None = None, at: datetime | None = None) -> str:
        done = subprocess.run(
            ["git", *arguments],
            check=False,
            cwd=self.root,
            env={**os.environ, **IDENTITY, **({"GIT_COMMITTER_DATE": at.isoformat()} if at else {})},
            input=stdin,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def write(self, path: str, content: str | bytes) -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
        return target

    def commit(self) -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "A commit")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repo(tmp_path):
    return Repo(tmp_path / "repo")


@pytest.fixture
def lay_out(tmp_path):
    def do(folder: Path, ref: str | None, **more) -> Tree:
        return GitSource(folder, **more).checkout(ref, tmp_path / "out")

    return do


def content(tree: Tree) -> dict[str, bytes]:
    return {
        path.relative_to(tree.root).as_posix(): path.read_bytes()
        for path in tree.root.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def test_a_commit_is_laid_out_with_its_bytes_modes_links_and_blob_ids(repo, lay_out):
    repo.write("estate.yaml", "kind: Estate\n")
    repo.write("empty", "")
    repo.write("data.bin", bytes(range(256)) * 1000)
    repo.write("bin/run.sh", "#!/bin/sh\n").chmod(0o755)
    (repo.root / "link").symlink_to("bin/run.sh")
    (repo.root / "folder").symlink_to("bin")
    (repo.root / "dangling").symlink_to("nothing")
    repo.write("name with spaces and ü.yaml", "x")
    commit = repo.commit()
    tree = lay_out(repo.root, "HEAD")
    assert (tree.revision.commit, tree.revision.ref, tree.revision.worktree) == (commit, "HEAD", False)
    assert content(tree) == {
        "estate.yaml": b"kind: Estate\n",
        "empty": b"",
        "data.bin": bytes(range(256)) * 1000,
        "bin/run.sh": b"#!/bin/sh\n",
        "name with spaces and ü.yaml": b"x",
    }
    assert stat.S_IMODE((tree.root / "bin/run.sh").stat().st_mode) == 0o755
    assert stat.S_IMODE((tree.root / "estate.yaml").stat().st_mode) == 0o644
    assert stat.S_IMODE(tree.root.stat().st_mode) == 0o700
    assert (tree.root / "link").readlink() == Path("bin/run.sh")
    listed = repo.git("-c", "core.quotepath=false", "ls-tree", "-r", "HEAD").splitlines()
    assert tree.objects == {line.partition("\t")[2]: line.split()[2] for line in listed}


def test_the_dirty_tree_is_never_read_for_a_ref(repo, lay_out):
    repo.write("estate.yaml", "committed\n")
    repo.write("gone.yaml", "x")
    repo.commit()
    repo.write("estate.yaml", "dirty\n")
    repo.write("new.yaml", "x")
    (repo.root / "gone.yaml").unlink()
    repo.git("add", "-A")
    assert content(lay_out(repo.root, "main")) == {"estate.yaml": b"committed\n", "gone.yaml": b"x"}


def test_the_working_tree_is_tracked_and_new_files_as_they_lie_there(repo, lay_out):
    repo.write("estate.yaml", "committed\n")
    repo.write("gone.yaml", "x")
    repo.write(".gitignore", "*.log\n.secrets/\n")
    (repo.root / "link").symlink_to("estate.yaml")
    commit = repo.commit()
    repo.write("estate.yaml", "dirty\n")
    repo.write("new.yaml", "new\n")
    repo.write("ignored.log", "x")
    repo.write(".secrets/password", "x")
    (repo.root / "gone.yaml").unlink()
    tree = lay_out(repo.root, None)
    assert (tree.revision.commit, tree.revision.worktree) == (commit, True)
    assert sorted(content(tree)) == [".gitignore", "estate.yaml", "new.yaml"]
    assert sorted(tree.objects) == [".gitignore", "estate.yaml", "link", "new.yaml"]
    repo.git("add", "-A")
    listed = repo.git("ls-files", "--stage").splitlines()
    assert tree.objects == {line.partition("\t")[2]: line.split()[1] for line in listed}


def test_a_working_tree_without_changes_has_the_objects_of_its_commit(repo, lay_out, tmp_path):
    repo.write("a/b.yaml", "x")
    repo.write("c.yaml", "y")
    repo.commit()
    committed = lay_out(repo.root, "HEAD")
    assert GitSource(repo.root).checkout(None, tmp_path / "other").objects == committed.objects


def test_an_estate_may_be_a_folder_of_its_repository(repo, lay_out, tmp_path):
    repo.write("infra/estate.yaml", "x")
    repo.write("infra/sites/dc1.yaml", "y")
    repo.write("infrastructure/other.yaml", "z")
    repo.write("README.md", "z")
    repo.commit()
    assert sorted(lay_out(repo.root / "infra", "HEAD").objects) == ["estate.yaml", "sites/dc1.yaml"]
    repo.write("infra/new.yaml", "x")
    tree = GitSource(repo.root / "infra").checkout(None, tmp_path / "other")
    assert sorted(tree.objects) == ["estate.yaml", "new.yaml", "sites/dc1.yaml"]
    assert sorted(content(tree)) == ["estate.yaml", "new.yaml", "sites/dc1.yaml"]


def test_a_folder_that_the_commit_does_not_have_is_named(repo, lay_out):
    repo.write("README.md", "x")
    repo.commit()
    repo.write("infra/estate.yaml", "x")
    with pytest.raises(InputError, match="no folder infra in commit"):
        lay_out(repo.root / "infra", "HEAD")


def test_tags_short_ids_and_older_commits_are_refs(repo, lay_out, tmp_path):
    repo.write("a", "1")
    first = repo.commit()
    repo.git("tag", "-a", "v1", "-m", "one")
    repo.write("a", "2")
    repo.commit()
    for index, ref in enumerate(["v1", first[:10], "HEAD~1", first]):
        assert GitSource(repo.root).checkout(ref, tmp_path / str(index)).revision.commit == first


def test_attributes_do_not_change_what_a_commit_holds(repo, lay_out):
    repo.write(".gitattributes", "secret.yaml export-ignore\nident.txt ident export-subst\n*.txt text eol=crlf\n")
    repo.write("secret.yaml", "x")
    repo.write("ident.txt", "$Id$ $Format:%H$\n")
    repo.commit()
    found = content(lay_out(repo.root, "HEAD"))
    assert found["secret.yaml"] == b"x"
    assert found["ident.txt"] == b"$Id$ $Format:%H$\n"


def test_an_unknown_ref_gets_the_near_one(repo, lay_out):
    repo.write("a", "1")
    repo.commit()
    repo.git("branch", "production")
    with pytest.raises(InputError, match=r"there is no ref 'prodution'.*did you mean 'production'"):
        lay_out(repo.root, "prodution")
    with pytest.raises(InputError, match=r"there are main, production"):
        lay_out(repo.root, "xyz")


@pytest.mark.parametrize("ref", ["--upload-pack=evil", "-x", "", "a b", "main..main", "HEAD:a"])
def test_no_text_is_taken_as_an_option_or_as_something_else(repo, lay_out, ref):
    repo.write("a", "1")
    repo.commit()
    with pytest.raises(InputError):
        lay_out(repo.root, ref)


def test_no_commit_yet_is_an_error_for_a_ref_and_none_for_the_working_tree(repo, lay_out, tmp_path):
    repo.write("estate.yaml", "x")
    with pytest.raises(InputError, match="has no commit yet"):
        lay_out(repo.root, "HEAD")
    tree = GitSource(repo.root).checkout(None, tmp_path / "other")
    assert (tree.revision.commit, sorted(tree.objects)) == (NO_COMMIT, ["estate.yaml"])


def test_a_detached_head_is_as_good_as_a_branch(repo, lay_out):
    repo.write("a", "1")
    first = repo.commit()
    repo.write("a", "2")
    repo.commit()
    repo.git("checkout", "-q", first)
    assert content(lay_out(repo.root, "HEAD")) == {"a": b"1"}


def test_a_bare_repository_has_commits_and_no_working_tree(repo, lay_out, tmp_path):
    repo.write("a", "1")
    repo.commit()
    bare = tmp_path / "bare.git"
    repo.git("clone", "-q", "--bare", str(repo.root), str(bare))
    assert content(lay_out(bare, "main")) == {"a": b"1"}
    with pytest.raises(InputError, match="bare repository"):
        GitSource(bare).checkout(None, tmp_path / "other")


def test_a_linked_working_tree_is_a_repository(repo, lay_out, tmp_path):
    repo.write("a", "1")
    repo.commit()
    repo.git("worktree", "add", "-q", "-b", "other", str(tmp_path / "linked"))
    (tmp_path / "linked/a").write_text("2")
    assert content(lay_out(tmp_path / "linked", None)) == {"a": b"2"}


def test_a_folder_that_is_no_repository_or_is_not_there_is_named(tmp_path, lay_out):
    (tmp_path / "plain").mkdir()
    with pytest.raises(InputError, match="not inside a Git repository"):
        lay_out(tmp_path / "plain", "HEAD")
    with pytest.raises(InputError, match="There is no folder"):
        lay_out(tmp_path / "nothing", "HEAD")


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "a/../../outside", "step/.."])
@pytest.mark.parametrize("ref", ["HEAD", None])
def test_a_link_that_leaves_the_tree_is_refused(repo, lay_out, target, ref):
    repo.write("a/b/c", "x")
    (repo.root / "a/b/root").symlink_to("../..")
    (repo.root / "step").symlink_to("a/b/root")
    (repo.root / "link").symlink_to(target)
    repo.commit()
    with pytest.raises(InputError, match="symbolic link link leaves the estate"):
        lay_out(repo.root, ref)


def test_a_link_to_another_folder_of_the_repository_leaves_the_estate(repo, lay_out):
    repo.write("shared/a", "x")
    repo.write("infra/estate.yaml", "x")
    (repo.root / "infra/shared").symlink_to("../shared")
    repo.commit()
    with pytest.raises(InputError, match="leaves the estate"):
        lay_out(repo.root / "infra", "HEAD")


def _raw_tree(repo: Repo, name: str) -> None:
    """A commit that no honest git would make."""
    blob = repo.git("hash-object", "-w", "--stdin", stdin="x")
    body = f"100644 {name}\0".encode() + bytes.fromhex(blob)
    done = subprocess.run(
        ["git", "hash-object", "-w", "-t", "tree", "--literally", "--stdin"],
        cwd=repo.root,
        input=body,
        capture_output=True,
        check=True,
    )
    commit = repo.git("commit-tree", done.stdout.decode().strip(), "-m", "evil")
    repo.git("update-ref", "refs/heads/evil", commit)


@pytest.mark.parametrize("name", ["..", ".git", ".GIT", "a\nb"])
def test_a_name_that_could_write_elsewhere_is_refused(repo, lay_out, tmp_path, name):
    _raw_tree(repo, name)
    with pytest.raises(InputError, match="cannot be laid out safely"):
        lay_out(repo.root, "evil")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_name_that_is_not_utf8_is_refused(repo, lay_out):
    repo.write("x", "1")
    (repo.root / "x").rename(os.fsdecode(os.fsencode(repo.root) + b"/caf\xe9"))
    repo.commit()
    with pytest.raises(InputError, match="is not UTF-8"):
        lay_out(repo.root, "HEAD")


@pytest.mark.parametrize("ref", ["HEAD", None])
def test_a_submodule_is_named(repo, lay_out, tmp_path, ref):
    other = Repo(tmp_path / "other")
    other.write("a", "1")
    other.commit()
    repo.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(other.root), "roles/shared")
    repo.commit()
    with pytest.raises(InputError, match="roles/shared is a Git submodule"):
        lay_out(repo.root, ref)


def test_another_repository_inside_the_working_tree_is_not_part_of_it(repo, lay_out):
    repo.write("estate.yaml", "x")
    inner = Repo(repo.root / "build")
    inner.write("a", "1")
    inner.commit()
    assert sorted(lay_out(repo.root, None).objects) == ["estate.yaml"]


def test_an_lfs_pointer_is_named(repo, lay_out):
    repo.write("image.bin", "version https://git-lfs.example/spec/v1\noid sha256:00\nsize 12\n")
    repo.commit()
    with pytest.raises(InputError, match=r"image\.bin is a Git LFS pointer"):
        lay_out(repo.root, "HEAD")


def test_a_repository_of_somebody_else_is_explained(repo, lay_out, monkeypatch):
    repo.write("a", "1")
    repo.commit()
    for name, value in IDENTITY.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(InputError, match="belongs to another user") as error:
        lay_out(repo.root, "HEAD")
    assert f"safe.directory {repo.root}" in error.value.next_step


def test_a_damaged_repository_is_an_engine_error_with_gits_words(repo, lay_out):
    path = repo.write("a", "some content")
    repo.commit()
    blob = repo.git("hash-object", str(path))
    (repo.root / ".git/objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(EngineError):
        lay_out(repo.root, "HEAD")


def test_a_git_that_hangs_is_stopped_at_the_deadline(repo, lay_out, tmp_path, monkeypatch):
    repo.write("a", "1")
    repo.commit()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "bin/git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    with pytest.raises(EngineTimedOut, match=r"did not finish in 0\.5 s"):
        lay_out(repo.root, "HEAD", deadline=timedelta(seconds=0.5))


ARGUMENTS = {
    git.exc.CheckoutError: ("words", [], [], []),
    git.exc.RepositoryDirtyError: (None, "words"),
}
"""What the constructors want that are not like the others."""


def _kinds(root: type[Exception]) -> list[type[Exception]]:
    return [root, *(kind for child in root.__subclasses__() for kind in _kinds(child))]


@pytest.mark.parametrize("kind", _kinds(git.exc.GitError))
@pytest.mark.parametrize("moment", ["opening", "running"])
def test_every_exception_of_the_library_becomes_one_of_ours(repo, lay_out, monkeypatch, kind, moment):
    repo.write("a", "1")
    repo.commit()

    def fail(*_arguments, **_named):
        raise kind(*ARGUMENTS.get(kind, (["git"], 1) if issubclass(kind, git.exc.CommandError) else ("words",)))

    if moment == "opening":
        monkeypatch.setattr(git, "Repo", fail)
    else:
        monkeypatch.setattr(git.Git, "execute", fail)
    with pytest.raises(IsmgrError) as error:
        lay_out(repo.root, "HEAD")
    assert not isinstance(error.value, git.exc.GitError)


def test_a_machine_without_git_is_told_how_to_get_it(repo, lay_out, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EngineMissing, match="apt-get install git"):
        lay_out(repo.root, "HEAD")


def test_a_folder_is_made_a_repository_once(tmp_path):
    (tmp_path / "new/inner").mkdir(parents=True)
    assert start(tmp_path / "new")
    assert not start(tmp_path / "new/inner")
    assert (tmp_path / "new/.git/HEAD").read_text() == "ref: refs/heads/main\n"


MONDAY, FRIDAY = datetime(2026, 11, 2, 12, tzinfo=UTC), datetime(2026, 11, 6, 12, tzinfo=UTC)


def committed_at(repo: Repo, when: datetime) -> None:
    repo.git("add", "-A")
    repo.git("commit", "-q", "-m", "A commit", at=when)


@pytest.fixture
def dated(repo: Repo) -> Repo:
    """Advisories of Monday, in an estate that is a folder of its repository and was changed on Friday."""
    repo.write("estate/advisories/debian.json", "{}")
    repo.write("estate/advisories/ours/one.json", "{}")
    repo.write("estate/estate.yaml", "kind: Estate\n")
    committed_at(repo, MONDAY)
    repo.write("estate/estate.yaml", "kind: Estate\nname: clinic\n")
    committed_at(repo, FRIDAY)
    return repo


@pytest.mark.parametrize(
    ("path", "when"),
    [
        ("advisories/debian.json", MONDAY),
        ("advisories/ours", MONDAY),
        ("advisories", MONDAY),
        ("estate.yaml", FRIDAY),
        ("advisories/other.json", None),
        ("advisories/*.json", None),
    ],
)
@pytest.mark.parametrize("ref", ["HEAD", None])
def test_a_file_is_as_old_as_the_commit_that_changed_it_last(dated, lay_out, ref, path, when):
    folder = dated.root / "estate"
    assert GitSource(folder).committed(lay_out(folder, ref), path) == when


def test_what_is_not_in_git_as_it_is_has_no_date(dated, lay_out):
    dated.write("estate/advisories/debian.json", "{ }")
    dated.write("estate/advisories/new.json", "{}")
    folder = dated.root / "estate"
    tree = lay_out(folder, None)
    paths = ["advisories/debian.json", "advisories/new.json", "advisories", "advisories/ours"]
    assert [GitSource(folder).committed(tree, one) for one in paths] == [None, None, None, MONDAY]


def test_a_tree_before_the_first_commit_has_no_dates(repo, lay_out):
    repo.write("debian.json", "{}")
    assert GitSource(repo.root).committed(lay_out(repo.root, None), "debian.json") is None


def test_a_shallow_clone_gives_no_younger_date_than_the_truth(dated, tmp_path, lay_out):
    dated.git("clone", "-q", "--depth", "1", f"file://{dated.root}", str(tmp_path / "shallow"))
    folder = tmp_path / "shallow" / "estate"
    assert GitSource(folder).committed(lay_out(folder, "HEAD"), "advisories/debian.json") is None


def test_who_made_a_commit_is_as_the_commit_says(repo):
    repo.write("estate.yaml", "x")
    commit = repo.commit()
    source = GitSource(repo.root)
    name, email = IDENTITY["GIT_AUTHOR_NAME"], IDENTITY["GIT_AUTHOR_EMAIL"]
    assert source.author(commit) == f"{name} <{email}>"
    assert source.author(NO_COMMIT) == ""
    with pytest.raises(IsmgrError):
        source.author("f" * 40)
