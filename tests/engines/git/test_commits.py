"""Who signed the commits of a range: every commit, whatever a repository's settings, replacements and shallows say."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ismgr_automation.core.errors import EngineFailed, InputError
from ismgr_automation.engines.git.commits import GitHistory, signing_key
from ismgr_automation.ports.history import COMMIT_NAMESPACE, Flaw, Signers
from ismgr_automation.ports.signing import AllowedSigner, fingerprint
from tests.signing import IDENTITY, Keys, SignedRepo, gnupg


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def repo(tmp_path, keys):
    return SignedRepo(tmp_path / "repo", keys).init()


def signers(keys: Keys, *names: str, **more: Path) -> Signers:
    return Signers(
        keys=tuple(
            AllowedSigner(principal=name, key=keys.public(name), namespaces=(COMMIT_NAMESPACE,)) for name in names
        ),
        **more,
    )


def looked(repo: SignedRepo, base: str, *names: str, proposed: str = "", **more: Path) -> dict[str, Flaw | None]:
    proposed = proposed or repo.git("rev-parse", "HEAD")
    found = GitHistory(repo.root).signatures(base, proposed, signers(repo.keys, *names, **more))
    return {one.title: one.flaw for one in found}


def test_each_commit_since_the_base_says_who_signed_it(repo, keys):
    base = repo.commit("base")
    repo.commit("first", by="ada")
    repo.commit("second", by="ben")
    found = GitHistory(repo.root).signatures(base, repo.git("rev-parse", "HEAD"), signers(keys, "ada", "ben"))
    assert [(one.title, one.flaw, one.key) for one in found] == [
        ("second", None, fingerprint(keys.public("ben"))),
        ("first", None, fingerprint(keys.public("ada"))),
    ]


def test_git_itself_agrees_about_what_is_signed(repo, keys, tmp_path):
    base = repo.commit("base")
    odd = "Latin \udce9 title\n\nbody with gpgsig \n gpgsig-----BEGIN"
    repo.git("commit", "-q", "--allow-empty", "--cleanup=verbatim", "-m", odd, by="ada")
    repo.git("commit", "-q", "--allow-empty", "--allow-empty-message", "-m", "", by="ada")
    repo.git("-c", "i18n.commitEncoding=latin1", "commit", "-q", "--allow-empty", "-m", "encoded", by="ada")
    allowed = tmp_path / "allowed"
    allowed.write_text(f"ada {keys.public('ada')}\n")
    log = repo.git("-c", f"gpg.ssh.allowedSignersFile={allowed}", "log", "--format=%G?", f"{base}..HEAD")
    assert log.split() == ["G", "G", "G"]
    found = GitHistory(repo.root).signatures(base, repo.git("rev-parse", "HEAD"), signers(keys, "ada"))
    assert [one.flaw for one in found] == [None, None, None]


def test_an_unsigned_commit_in_the_middle_is_seen(repo):
    base = repo.commit("base")
    repo.commit("first", by="ada")
    repo.commit("hidden")
    repo.commit("last", by="ada")
    assert looked(repo, base, "ada") == {"last": None, "hidden": Flaw.UNSIGNED, "first": None}


def test_an_unsigned_commit_behind_a_signed_merge_is_seen(repo):
    base = repo.commit("base")
    repo.git("checkout", "-q", "-b", "side")
    repo.commit("hidden")
    repo.git("checkout", "-q", "main")
    repo.commit("straight", by="ada")
    repo.git("merge", "-q", "--no-ff", "-m", "merge", "side", by="ada")
    assert looked(repo, base, "ada") == {"merge": None, "straight": None, "hidden": Flaw.UNSIGNED}


def test_a_merge_is_signed_itself_or_seen(repo):
    base = repo.commit("base")
    repo.git("checkout", "-q", "-b", "side")
    repo.commit("side", by="ada")
    repo.git("checkout", "-q", "main")
    repo.git("merge", "-q", "--no-ff", "-m", "merge", "side")
    assert looked(repo, base, "ada") == {"merge": Flaw.UNSIGNED, "side": None}


def test_a_key_that_is_nobodys_or_was_revoked_is_seen(repo, keys, tmp_path):
    base = repo.commit("base")
    repo.commit("mine", by="ada")
    repo.commit("strange", by="mallory")
    revoked = tmp_path / "revoked"
    revoked.write_text(keys.public("ada") + "\n")
    assert looked(repo, base, "ada") == {"strange": Flaw.UNKNOWN_KEY, "mine": None}
    assert looked(repo, base, "ada", revoked=revoked) == {"strange": Flaw.UNKNOWN_KEY, "mine": Flaw.REVOKED}


def test_settings_of_the_repository_make_nobody_trusted(repo, keys, tmp_path):
    base = repo.commit("base")
    repo.commit("strange", by="mallory")
    allowed = tmp_path / "allowed"
    allowed.write_text(f"ada {keys.public('mallory')}\n")
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 0\n")
    program.chmod(0o755)
    for name, value in (
        ("gpg.format", "ssh"),
        ("gpg.ssh.allowedSignersFile", allowed),
        ("gpg.ssh.program", program),
        ("gpg.program", program),
        ("core.fsmonitor", program),
    ):
        repo.git("config", name, str(value))
    assert looked(repo, base, "ada") == {"strange": Flaw.UNKNOWN_KEY}
    assert not (tmp_path / "ran").exists()


def _rewritten(repo: SignedRepo, commit: str, old: bytes, new: bytes) -> str:
    raw = subprocess.run(["git", "cat-file", "commit", commit], cwd=repo.root, check=True, capture_output=True).stdout
    assert old in raw
    made = subprocess.run(
        ["git", "hash-object", "-w", "-t", "commit", "--stdin"],
        cwd=repo.root,
        input=raw.replace(old, new, 1),
        check=True,
        capture_output=True,
    )
    return made.stdout.decode().strip()


def test_a_signature_moved_to_another_commit_is_bad(repo):
    base = repo.commit("base")
    signed = repo.commit("signed", by="ada")
    other = repo.commit("evil")
    tree = repo.git("rev-parse", f"{other}^{{tree}}").encode()
    moved = _rewritten(repo, signed, repo.git("rev-parse", f"{signed}^{{tree}}").encode(), tree)
    assert looked(repo, base, "ada", proposed=moved) == {"signed": Flaw.BAD}


def test_an_unknown_kind_of_signature_is_said(repo):
    base = repo.commit("base")
    signed = repo.commit("signed", by="ada")
    odd = _rewritten(repo, signed, b"BEGIN SSH SIGNATURE", b"BEGIN SIGNED MESSAGE")
    assert looked(repo, base, "ada", proposed=odd) == {"signed": Flaw.UNSUPPORTED}


def test_replaced_and_grafted_commits_hide_nothing(repo):
    base = repo.commit("base")
    hidden = repo.commit("hidden")
    repo.commit("last", by="ada")
    good = repo.git("commit-tree", f"{hidden}^{{tree}}", "-p", base, "-m", "good", by="ada")
    repo.git("replace", hidden, good)
    last = repo.git("rev-parse", "HEAD")
    assert looked(repo, base, "ada") == {"last": None, "hidden": Flaw.UNSIGNED}
    repo.git("replace", "-d", hidden)
    (repo.root / ".git/info").mkdir(exist_ok=True)
    (repo.root / ".git/info/grafts").write_text(f"{last} {base}\n")
    assert looked(repo, base, "ada") == {"last": None, "hidden": Flaw.UNSIGNED}


def test_a_shallow_history_is_refused_and_never_taken_for_a_whole_one(repo, keys, tmp_path):
    base = repo.commit("base")
    repo.commit("hidden")
    last = repo.commit("last", by="ada")
    repo.git("clone", "-q", "--depth", "1", f"file://{repo.root}", str(tmp_path / "shallow"))
    with pytest.raises(InputError, match="not complete here") as error:
        GitHistory(tmp_path / "shallow").signatures(base, last, signers(keys, "ada"))
    assert "unshallow" in error.value.next_step
    # a shallow file that only cuts off what should not be seen
    (repo.root / ".git/shallow").write_text(f"{last}\n")
    with pytest.raises(InputError, match="not complete here"):
        looked(repo, base, "ada")


def test_an_object_that_is_not_what_its_name_says_is_noticed(repo, keys):
    base = repo.commit("base")
    evil, good = repo.commit("evil"), repo.commit("good", by="ada")
    folder = repo.root / ".git/objects"
    target = folder / evil[:2] / evil[2:]
    target.chmod(0o644)
    target.write_bytes((folder / good[:2] / good[2:]).read_bytes())
    with pytest.raises(EngineFailed):
        GitHistory(repo.root).signatures(base, evil, signers(keys, "ada"))


def test_a_range_may_be_empty_and_goes_back_too(repo):
    base = repo.commit("base")
    later = repo.commit("later", by="ada")
    assert looked(repo, later, "ada", proposed=base) == {}
    assert looked(repo, later, "ada", proposed=later) == {}
    history = GitHistory(repo.root)
    assert history.descends(later, base)
    assert history.descends(base, base)
    assert not history.descends(base, later)
    assert not history.descends(later, "1" * 40)
    with pytest.raises(InputError, match="there is no commit 111111111111"):
        looked(repo, "1" * 40, "ada")


def test_openpgp_commits_are_checked_against_the_pinned_keys(repo, tmp_path):
    base = repo.commit("base")
    with gnupg(tmp_path / "home") as gpg:
        ada, eve = gpg.key("Ada <ada@example.org>"), gpg.key("Eve <eve@example.org>")
        for name, key in (("mine", ada), ("strange", eve)):
            settings = ["-c", f"user.signingkey={key}", "-c", "gpg.format=openpgp"]
            repo.git(*settings, "commit", "-q", "-S", "--allow-empty", "-m", name, GNUPGHOME=str(gpg.home))
        ring = tmp_path / "keyring"
        ring.mkdir()
        assert looked(repo, base, keyring=ring) == {"strange": Flaw.UNKNOWN_KEY, "mine": Flaw.UNKNOWN_KEY}
        (ring / "ada.asc").write_text(gpg.export(ada))
    assert looked(repo, base, keyring=ring) == {"strange": Flaw.UNKNOWN_KEY, "mine": None}
    found = GitHistory(repo.root).signatures(base, repo.git("rev-parse", "HEAD"), Signers(keys=(), keyring=ring))
    assert (found[1].key, found[1].emails) == (f"openpgp:{ada}", ("ada@example.org",))


def test_the_folder_of_an_estate_inside_its_repository(repo):
    repo.commit("base", {"infra/estate.yaml": "x"})
    assert GitHistory(repo.root).folder() == ""
    assert GitHistory(repo.root / "infra").folder() == "infra"


def test_the_key_that_git_signs_with_is_taken_from_its_settings(repo, monkeypatch):
    for name, value in IDENTITY.items():
        monkeypatch.setenv(name, value)
    assert signing_key(repo.root) == ""
    repo.git("config", "user.signingkey", "ABCDEF")
    assert signing_key(repo.root) == ""
    repo.git("config", "gpg.format", "ssh")
    repo.git("config", "user.signingkey", "key::ssh-ed25519 AAAA")
    assert signing_key(repo.root) == "ssh-ed25519 AAAA"
    repo.git("config", "user.signingkey", "~/.ssh/id.pub")
    assert signing_key(repo.root) == "~/.ssh/id.pub"
