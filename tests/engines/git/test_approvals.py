"""Approvals on a ref: found by digest, added by several at once, pushed and fetched like any ref."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from ismgr_automation.engines.git.approvals import REF, GitApprovals
from ismgr_automation.engines.git.refs import RefFolder
from ismgr_automation.engines.git.repository import DEADLINE, Repository
from ismgr_automation.engines.signing import FileSigner
from ismgr_automation.ports.approvals import NAMESPACE, Approval, Permission
from tests.signing import Keys, SignedRepo

DIGEST = "sha256:" + "a" * 64


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(params=["bare", "worktree"])
def folder(request, tmp_path, keys):
    repo = SignedRepo(tmp_path / "repo", keys).init()
    repo.commit("base")
    if request.param == "worktree":
        return repo.root
    repo.git("clone", "-q", "--bare", str(repo.root), str(tmp_path / "bare.git"))
    return tmp_path / "bare.git"


def approval(keys: Keys, number: int, name: str = "ada", digest: str = DIGEST) -> Approval:
    said = Permission(
        estate="clinic",
        environment="prod",
        digest=digest,
        not_after=datetime(2026, 11, 23, tzinfo=UTC),
        nonce=f"{number:032x}",
    )
    return Approval(permission=said, signature=FileSigner(keys.path(name)).sign(said.to_bytes(), NAMESPACE))


def test_approvals_are_found_by_digest_with_the_bytes_that_were_signed(folder, keys):
    store = GitApprovals(folder)
    assert store.find(DIGEST) == ()
    mine = approval(keys, 1)
    where = store.add(mine)
    store.add(approval(keys, 2, digest="sha256:" + "b" * 64))
    (found,) = store.find(DIGEST)
    assert (found.permission, found.signature, found.origin) == (mine.permission, mine.signature, where)
    assert store.find("sha256:../../x") == ()


def test_people_who_sign_at_the_same_time_are_all_kept(folder, keys):
    many = [approval(keys, number, name) for number, name in enumerate(["ada", "ben", "cy", "dot"])]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(GitApprovals(folder).add, many))
    assert {one.permission.nonce for one in GitApprovals(folder).find(DIGEST)} == {f"{n:032x}" for n in range(4)}


def test_a_malformed_one_is_left_out_with_a_warning(folder, keys):
    GitApprovals(folder).add(approval(keys, 1))
    tree = RefFolder(Repository.around(folder, DEADLINE), REF)
    tree.add({f"{DIGEST.replace(':', '-')}/{'2' * 32}.json": b'{ "pretty": "json" }'}, "Not ours")
    with pytest.warns(RuntimeWarning, match="is no approval and does not count"):
        assert len(GitApprovals(folder).find(DIGEST)) == 1


def test_approvals_travel_by_push_and_fetch(keys, tmp_path):
    here = SignedRepo(tmp_path / "here", keys).init()
    here.commit("base")
    here.git("init", "-q", "--bare", str(tmp_path / "remote.git"))
    GitApprovals(here.root).add(approval(keys, 1))
    here.git("push", "-q", str(tmp_path / "remote.git"), REF)
    there = SignedRepo(tmp_path / "there", keys).init()
    there.git("fetch", "-q", str(tmp_path / "remote.git"), f"{REF}:{REF}")
    assert len(GitApprovals(there.root).find(DIGEST)) == 1
