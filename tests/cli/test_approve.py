"""`ismgr approve`, `approvals` and `trust` as people type them, with real keys; and the page about them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ismgr_automation.cli.main import run
from ismgr_automation.planning.planfile import write
from tests.approval import cast
from tests.cli.conftest import Said
from tests.signing import IDENTITY, Keys, SignedRepo, gnupg

PAGE = Path(__file__).parents[2] / "docs/how-to/approve.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SITE = """\
kind: Stack
name: names
program: stacks/names
---
kind: Stack
name: servers
program: stacks/names
"""


@dataclass(slots=True)
class Clinic:
    repo: SignedRepo
    capsys: pytest.CaptureFixture[str]

    def say(self, *arguments: str | Path) -> Said:
        code = run(["-C", str(self.repo.root), *map(str, arguments)])
        captured = self.capsys.readouterr()
        return Said(code, captured.out, captured.err)

    def plan(self, *, stack: str = "servers", worktree: bool = False) -> Path:
        """A plan file of the commit that HEAD is."""
        made = cast.plan(cast.change(f"stack/{stack}"), commit=self.repo.git("rev-parse", "HEAD"), worktree=worktree)
        path = self.repo.root.parent / "plan.json"
        path.write_text(write(made))
        return path

    def key(self, name: str) -> Path:
        return self.repo.keys.path(name)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return Keys(tmp_path_factory.mktemp("keys"))


def documents(keys: Keys, environment: str) -> dict[str, str]:
    """The page's own documents, with real keys and the environment's name."""
    found = dict[str, str]()
    for kind, text in BLOCK.findall(PAGE.read_text()):
        if kind == "yaml":
            real = text.replace("  production:", f"  {environment}:")
            for name in ("ada", "ben", "cem"):
                real = real.replace(f"{name.upper()}_PUBLIC_KEY", keys.public(name))
            found[text.splitlines()[0].removeprefix("# ")] = real
    program = {"stacks/names/Pulumi.yaml": "name: names\nruntime: python\n", "stacks/names/__main__.py": ""}
    return {**found, **program, "site.yaml": SITE}


@pytest.fixture
def clinic(tmp_path, keys, capsys, monkeypatch):
    for name, value in {**IDENTITY, "ISMGR_TRUST": str(tmp_path / "trust")}.items():
        monkeypatch.setenv(name, value)
    made = Clinic(SignedRepo(tmp_path / "repo", keys).init(), capsys)
    made.repo.commit("base", documents(keys, "prod"), by="ada")
    assert made.say("trust", "pin", "--yes").code == 0
    made.repo.commit("a change", by="ada")
    return made


def test_a_plan_is_approved_by_one_who_may(clinic):
    plan = clinic.plan()
    before = clinic.say("approvals", plan)
    assert before.code == 3
    assert "1 approver, because something changes: 0 signed (still asked: Ben, Cem)" in before.out
    said = clinic.say("approve", plan, "--key", clinic.key("ben"), "--yes")
    assert said.code == 0, said.err
    assert "1 to update." in said.out
    assert "Not approved." in said.out
    assert "-I ben@example.org" in said.out
    after = clinic.say("--json", "approvals", plan)
    assert after.code == 0
    assert after.result["requirements"][0]["signed"] == ["Ben"]
    assert after.result["met"] is True


def test_the_author_and_strangers_are_told_why_they_do_not_count(clinic):
    plan = clinic.plan()
    for name in ("ada", "mallory"):
        assert clinic.say("approve", plan, "--key", clinic.key(name), "--yes").code == 0
    said = clinic.say("approvals", plan)
    assert said.code == 3
    assert "does not count Ada: this person made a commit that is to be applied" in said.out
    assert "the key is nobody's in the Teams of the base revision" in said.out


def test_what_git_signs_with_signs_and_may_be_kept_in_git(clinic):
    clinic.repo.git("config", "gpg.format", "ssh")
    clinic.repo.git("config", "user.signingkey", str(clinic.key("cem")))
    plan = clinic.plan()
    said = clinic.say("approve", plan, "--to", "git", "--yes")
    assert said.code == 0, said.err
    assert "refs/ismgr/approvals:sha256-" in said.out
    assert not Path(f"{plan}.approvals").exists()
    assert clinic.say("approvals", plan).code == 0


def test_in_json_an_approval_is_one_object(clinic):
    said = clinic.say("--json", "approve", clinic.plan(), "--key", clinic.key("ben"), "--yes", "--valid", "30m")
    body = said.result
    assert (body["type"], body["estate"], body["environment"]) == ("approved", "clinic", "prod")
    left = datetime.fromisoformat(body["not_after"]) - datetime.now(UTC)
    assert 1700 < left.total_seconds() <= 1800


def test_broken_glass_is_shown_as_such(clinic):
    plan = clinic.plan(stack="names")
    why = ("--break-glass", "--reason", "disk full")
    assert clinic.say("approve", plan, "--key", clinic.key("cem"), *why, "--yes").code == 0
    said = clinic.say("approvals", plan)
    assert said.code == 0
    assert "BREAK-GLASS by Cem: disk full" in said.out
    assert "passed over 2 approvers, because stack names is touched" in said.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--key", "nothing"), "There is no key file nothing"),
        (("--agent-key", "nothing"), "nothing is no public key"),
        (("--key", "x", "--agent-key", "y"), "two ways to sign"),
        (("--valid", "soon"), "'soon' is not a time"),
        (("--valid", "99999999999d"), "is too long"),
        (("--break-glass",), "Break-glass needs a reason"),
        (("--reason", "x"), "a reason is for break-glass only"),
        ((), "It is not said which key to sign with"),
    ],
)
def test_a_slip_is_told_before_anything_is_signed(clinic, arguments, words):
    plan = clinic.plan()
    said = clinic.say("approve", plan, "--yes", *arguments)
    assert said.code == 1
    assert words in said.err
    assert not Path(f"{plan}.approvals").exists()


def test_nobody_to_ask_is_no_signature(clinic):
    plan = clinic.plan()
    assert clinic.say("approve", plan, "--key", clinic.key("ben")).code == 1
    assert not Path(f"{plan}.approvals").exists()


def test_a_plan_of_a_working_tree_is_not_approved(clinic):
    said = clinic.say("approve", clinic.plan(worktree=True), "--key", clinic.key("ben"), "--yes")
    assert said.code == 3
    assert "nobody can tell who made it" in said.err


def test_without_a_pin_one_may_sign_and_is_told_what_cannot_be_told(clinic, monkeypatch, tmp_path):
    monkeypatch.setenv("ISMGR_TRUST", str(tmp_path / "elsewhere"))
    plan = clinic.plan()
    said = clinic.say("approve", plan, "--key", clinic.key("ben"), "--yes")
    assert said.code == 0
    assert "What is needed cannot be told here" in said.out
    refused = clinic.say("approvals", plan)
    assert refused.code == 3
    assert "ismgr trust pin --ref" in refused.err


def test_pins_are_shown_and_verified_commit_by_commit(clinic, tmp_path):
    shown = clinic.say("trust", "show")
    assert "ben@example.org  SHA256:" in shown.out
    good = clinic.say("trust", "verify")
    assert (good.code, "1 of 1 commits since" in good.out) == (0, True)
    clinic.repo.commit("hidden")
    clinic.repo.commit("by ben", by="ben")
    bad = clinic.say("--json", "trust", "verify")
    assert bad.code == 3
    assert {one["title"]: one["why"] for one in bad.result["commits"]} == {
        "by ben": "ben@example.org has no role author",
        "hidden": "it is not signed",
        "a change": "",
    }
    assert "it is not signed" in clinic.say("trust", "verify").out


def test_unsigned_code_is_not_even_planned(clinic):
    clinic.repo.commit("hidden")
    said = clinic.say("plan")
    assert said.code == 3
    assert "it is not signed" in said.err


def test_openpgp_keys_are_pinned_as_well(clinic, tmp_path):
    with gnupg(tmp_path / "home") as gpg:
        key = gpg.key("Forge <forge@example.org>")
        (tmp_path / "forge.asc").write_text(gpg.export(key))
        settings = ["-c", f"user.signingkey={key}", "-c", "gpg.format=openpgp"]
        clinic.repo.git(*settings, "commit", "-q", "-S", "--allow-empty", "-m", "merge", GNUPGHOME=str(gpg.home))
    assert clinic.say("trust", "verify").code == 3
    said = clinic.say("trust", "pin", "--ref", "HEAD~1", "--keyring", tmp_path / "forge.asc", "--yes")
    assert said.code == 0, said.err
    assert clinic.say("trust", "verify").code == 0
    assert "OpenPGP key-1.asc" in clinic.say("trust", "show").out


def test_nothing_is_pinned_that_nobody_agreed_to(clinic, tmp_path, monkeypatch):
    monkeypatch.setenv("ISMGR_TRUST", str(tmp_path / "elsewhere"))
    assert clinic.say("trust", "pin").code == 1
    assert "Nothing is pinned" in clinic.say("trust", "show").out
    nobody = documents(clinic.repo.keys, "prod")["team.yaml"].split("members:")[0]
    open_estate = "kind: Estate\nname: clinic\nowner: platform\nenvironments: {prod: {}}\n"
    clinic.repo.commit("no keys", {"team.yaml": nobody, "estate.yaml": open_estate}, by="ada")
    said = clinic.say("trust", "pin", "--yes")
    assert said.code == 1
    assert "nobody could sign anything" in said.err


def test_the_commands_of_the_page_do_what_it_says(keys, tmp_path):
    home = tmp_path / "home"
    (home / ".ssh").mkdir(mode=0o700, parents=True)
    for name in ("ada", "ben", "cem"):
        for end in ("", ".pub"):
            copy = home / ".ssh" / f"id_{name}{end}"
            copy.write_bytes(Path(f"{keys.path(name)}{end}").read_bytes())
            copy.chmod(0o600)
    clinic = Clinic(SignedRepo(tmp_path / "repo", keys).init(), None)  # type: ignore[arg-type]  nothing is typed here
    clinic.repo.commit("base", documents(keys, "production"), by="ada")
    blocks = [text for kind, text in BLOCK.findall(PAGE.read_text()) if kind == "sh"]
    environment = {name: value for name, value in os.environ.items() if name not in {"ISMGR_TRUST", "XDG_CONFIG_HOME"}}
    environment |= {**IDENTITY, "HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def typed(text: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=clinic.repo.root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    signing = next(number for number, text in enumerate(blocks) if "git commit" in text) + 1
    said = typed("\n".join(blocks[:signing]))
    assert "1 of 1 commits since" in said
    plan = cast.plan(cast.change("stack/servers"), commit=clinic.repo.git("rev-parse", "HEAD"))
    (clinic.repo.root / "plan.json").write_text(write(replace(plan, environment="production")))
    said = typed("\n".join(blocks[signing:]))
    assert "Not approved." in said
    assert "Approved." in said
    assert 'Good "ismgr-approval@v1" signature for ben@example.org' in said
    assert 'Good "ismgr-approval@v1" signature for cem@example.org' in said
    assert len(list((clinic.repo.root / "plan.json.approvals").glob("*.json"))) == 3
