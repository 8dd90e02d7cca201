"""Anchors on a ref: they only ever grow, whoever writes, and a push can only ever add."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ismgr_automation.core.errors import EngineFailed
from ismgr_automation.engines.git.anchor import REF, GitAnchor
from ismgr_automation.ports.evidence import Head


def git(folder: Path, *arguments: str, ok: bool = True) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is ok, done.stderr
    return done.stdout.strip() if ok else done.stderr


@pytest.fixture(params=["bare", "worktree"])
def folder(request, tmp_path):
    root = tmp_path / "repo"
    git(tmp_path, "init", "-q", "-b", "main", *(["--bare"] if request.param == "bare" else []), str(root))
    return root


def head(number: int) -> Head:
    return Head(sequence=number, digest=f"sha256:{number:064x}")


def test_heads_come_back_by_environment_oldest_first(folder):
    anchor = GitAnchor(folder, "clinic")
    assert anchor.heads("prod") == ()
    anchor.put("prod", head(3), "run-1")
    anchor.put("lab", head(9), "run-2")
    where = anchor.put("prod", head(7), "run-3")
    assert where.startswith(f"{REF} at ")
    assert anchor.heads("prod") == ((head(3), "run-1"), (head(7), "run-3"))
    assert anchor.heads("lab") == ((head(9), "run-2"),)
    assert GitAnchor(folder, "other").heads("prod") == ()


def test_the_same_head_twice_is_one_commit(folder):
    anchor = GitAnchor(folder, "clinic")
    assert anchor.put("prod", head(3), "run-1") == anchor.put("prod", head(3), "run-1")
    assert git(folder, "rev-list", "--count", REF) == "1"


def test_writers_at_the_same_time_all_come_through(folder):
    def put(number: int) -> None:
        GitAnchor(folder, "clinic").put(f"env{number % 2}", head(number), f"run-{number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, range(8)))
    found = [run for name in ("env0", "env1") for _, run in GitAnchor(folder, "clinic").heads(name)]
    assert sorted(found) == [f"run-{number}" for number in range(8)]


def test_nothing_else_in_the_repository_moves(tmp_path):
    root = tmp_path / "repo"
    git(tmp_path, "init", "-q", "-b", "main", str(root))
    (root / "a").write_text("x")
    git(root, "add", "a")
    hook = root / ".git/hooks/reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/hook-ran\n")
    hook.chmod(0o755)
    GitAnchor(root, "clinic").put("prod", head(1), "run-1")
    assert git(root, "status", "--porcelain") == "A  a"
    assert git(root, "for-each-ref", "--format=%(refname)") == REF
    assert not (tmp_path / "hook-ran").exists()


def test_a_push_that_would_rewrite_anchors_is_refused(tmp_path):
    git(tmp_path, "init", "-q", "--bare", "remote.git")
    for name in ("one", "two"):
        git(tmp_path, "init", "-q", name)
        GitAnchor(tmp_path / name, "clinic").put("prod", head(1), f"run-of-{name}")
    git(tmp_path / "one", "push", "-q", "../remote.git", REF)
    said = git(tmp_path / "two", "push", "-q", "../remote.git", REF, ok=False)
    assert "rejected" in said
    assert GitAnchor(tmp_path / "remote.git", "clinic").heads("prod") == ((head(1), "run-of-one"),)


def test_a_file_that_is_not_ours_is_named(folder):
    anchor = GitAnchor(folder, "clinic")
    anchor.put("prod", head(1), "run-1")
    from ismgr_automation.engines.git.refs import RefFolder
    from ismgr_automation.engines.git.repository import DEADLINE, Repository

    RefFolder(Repository.around(folder, DEADLINE), REF).add({"clinic/prod.json": b"nonsense"}, "Not ours")
    with pytest.raises(EngineFailed, match="cannot be read"):
        anchor.heads("prod")
