"""The gate over real keys and real repositories, and those who try to get past it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ismgr_automation import wiring
from ismgr_automation.approval.judge import Verdict
from ismgr_automation.approval.people import register
from ismgr_automation.converge.gate import Proposal, commits, refuse_unsigned, stand, unfit, weigh
from ismgr_automation.core.address import Address
from ismgr_automation.core.errors import InputError, NotApproved, NotSigned
from ismgr_automation.engines.git.approvals import GitApprovals
from ismgr_automation.engines.signing import FileSigner
from ismgr_automation.estate.load import load
from ismgr_automation.planning.change import Action
from ismgr_automation.planning.fleet import Fleet, Sighting
from ismgr_automation.planning.plan import Plan
from ismgr_automation.ports.approvals import NAMESPACE, Approval, Permission
from ismgr_automation.ports.history import COMMIT_NAMESPACE
from ismgr_automation.ports.hosts import Host
from ismgr_automation.ports.signing import AllowedSigner
from ismgr_automation.ports.trust import Pin
from tests.approval import cast
from tests.signing import Keys, SignedRepo, gnupg

NOW = datetime.now(UTC).replace(microsecond=0)

ESTATE = """\
kind: Estate
name: clinic
owner: platform
environments:
  prod:
    approvals: [{count: 2}]
    signed_commits: true
    break_glass: true
  lab: {}
default_environment: prod
"""
ROLES = {"ada": "author", "ben": "approver", "cy": "approver", "dot": "author, approver", "eve": "break-glass"}


@dataclass(slots=True)
class Clinic:
    """A repository of a clinic whose first commit is pinned."""

    repo: SignedRepo
    monkeypatch: pytest.MonkeyPatch
    pinned: str = ""
    last: str = ""
    used: frozenset[str] = frozenset()
    given: list[Approval] = field(default_factory=list)
    environment: str = "prod"
    people: dict[str, str] = field(default_factory=lambda: dict(ROLES))
    folder: str = "."

    def team(self, *, keys: Mapping[str, tuple[str, ...]] | None = None) -> str:
        """The Team document."""
        lines = ["kind: Team", "name: platform", "members:"]
        for name, roles in self.people.items():
            mine = (keys or {}).get(name, (name,))
            lines += [f"- name: {name}", f"  roles: [{roles}]", "  ssh_keys:"]
            lines += [f"  - {self.repo.keys.public(one)}" for one in mine]
        return "\n".join(lines) + "\n"

    def commit(self, title: str, *, by: str = "ada", **files: str) -> str:
        """Commit documents, signed by somebody; the estate's files are called estate and team."""
        paths = {"estate": "estate.yaml", "team": "team.yaml"}
        return self.repo.commit(title, {paths.get(key, key): text for key, text in files.items()} or None, by=by)

    def pin(self, commit: str) -> None:
        """What `ismgr trust pin` does."""
        people = register(self.proposal(commit).documents.teams)
        space = (COMMIT_NAMESPACE, NAMESPACE)
        signers = tuple(
            AllowedSigner(principal=people.principal(key), key=line, namespaces=space)
            for key, line in people.lines.items()
        )
        wiring.safeguards(self.repo.root).pins.write(Pin(estate="clinic", folder="", commit=commit, signers=signers))
        self.pinned = commit

    def proposal(self, ref: str = "HEAD", *, worktree: bool = False) -> Proposal:
        directory = self.repo.root / self.folder
        into = self.repo.root.parent / f"out-{len(list(self.repo.root.parent.iterdir()))}"
        tree = wiring.source(directory).checkout(None if worktree else ref, into)
        documents, diagnostics = load(tree.root, tree.objects)
        assert documents is not None, diagnostics
        return Proposal(
            safeguards=wiring.safeguards(directory),
            revision=tree.revision,
            documents=documents,
            environment=self.environment,
            last=self.last,
            used=self.used,
        )

    def plan(self, *changes, **more) -> Plan:
        made = cast.plan(*(changes or (cast.change("stack/names"),)), commit=self.repo.git("rev-parse", "HEAD"), **more)
        return replace(made, environment=self.environment)

    def sign(self, *names: str, plan: Plan | None = None, hours: int = 1, **more) -> list[Approval]:
        """Approvals by people; taken by the next look."""
        plan = plan or self.plan()
        for name in names:
            given = {"estate": "clinic", "environment": self.environment, "digest": plan.digest}
            given |= {"not_after": NOW + timedelta(hours=hours), "nonce": f"{len(self.given) + 1:032x}"}
            said = Permission(**{**given, **more})
            signature = FileSigner(self.repo.keys.path(name)).sign(said.to_bytes(), NAMESPACE)
            self.given.append(Approval(permission=said, signature=signature, origin=f"by {name}"))
        return self.given

    def look(self, *, plan: Plan | None = None, ref: str = "HEAD") -> Verdict:
        return weigh(self.proposal(ref), plan or self.plan(), NOW, self.given)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def clinic(tmp_path, keys, monkeypatch):
    monkeypatch.setenv("ISMGR_TRUST", str(tmp_path / "trust"))
    made = Clinic(SignedRepo(tmp_path / "repo", keys).init(), monkeypatch)
    made.pin(made.commit("base", estate=ESTATE, team=made.team()))
    made.commit("a change")
    return made


def test_two_approvers_who_did_not_write_it_are_enough(clinic):
    assert not clinic.look().met
    clinic.sign("ben", "cy")
    found = clinic.look()
    assert found.met, found
    assert [one.principal for one in found.counted] == ["ben", "cy"]
    refuse_unsigned(clinic.proposal())


def test_approvals_on_the_ref_count_as_those_that_are_given(clinic):
    for one in clinic.sign("ben", "cy"):
        GitApprovals(clinic.repo.root).add(one)
    clinic.given.clear()
    assert clinic.look().met


def test_an_environment_that_asks_nothing_needs_nothing(clinic):
    clinic.environment = "lab"
    assert clinic.look().met
    assert not refuse_unsigned(clinic.proposal()).guard.wanted


def test_a_plan_that_does_nothing_needs_nothing(clinic):
    assert clinic.look(plan=replace(clinic.plan(), changes=(), waves=())).met


def test_without_a_pin_the_command_that_pins_is_said(clinic, tmp_path, monkeypatch):
    monkeypatch.setenv("ISMGR_TRUST", str(tmp_path / "elsewhere"))
    with pytest.raises(NotApproved, match="no root of trust is pinned") as error:
        clinic.look()
    assert "ismgr trust pin --ref" in error.value.next_step
    with pytest.raises(NotApproved):
        refuse_unsigned(clinic.proposal())
    # what the last run asked for is asked for, even when the proposal asks nothing any more
    clinic.last = clinic.pinned
    clinic.commit(
        "free", estate=ESTATE.replace("approvals", "#").replace("signed_commits: true", "signed_commits: false")
    )
    with pytest.raises(NotApproved, match="no root of trust is pinned"):
        clinic.look()
    clinic.last = ""
    assert clinic.look().met


def attack_rule_deleted(clinic: Clinic) -> None:
    clinic.commit("no rules", estate=ESTATE.replace("[{count: 2}]", "[]").replace("true", "false"))


def attack_count_lowered(clinic: Clinic) -> None:
    clinic.commit("one is enough", estate=ESTATE.replace("count: 2", "count: 1"))
    clinic.sign("ben")


def attack_environment_renamed(clinic: Clinic) -> None:
    clinic.commit("renamed", estate=ESTATE.replace("  lab: {}\n", "  production: {}\n"))
    clinic.environment = "production"


def attack_own_key_added(clinic: Clinic) -> None:
    clinic.people["mallory"] = "author, approver"
    clinic.people["trudy"] = "approver"
    clinic.commit("two friends", team=clinic.team())
    clinic.sign("mallory", "trudy")


def attack_own_key_under_another_name(clinic: Clinic) -> None:
    clinic.commit("a new laptop", team=clinic.team(keys={"ben": ("ben", "mallory"), "cy": ("trudy",)}))
    clinic.sign("mallory", "trudy")


def attack_two_keys_of_one_person(clinic: Clinic) -> None:
    keys = {"ben": ("ben", "ben-laptop")}
    clinic.pin(clinic.commit("ben has two keys", team=clinic.team(keys=keys)))
    clinic.commit("more")
    clinic.sign("ben", "ben-laptop", "ben")


def attack_author_approves(clinic: Clinic) -> None:
    clinic.commit("mine", by="dot")
    clinic.sign("dot", "ben")


def attack_author_by_a_second_key(clinic: Clinic) -> None:
    clinic.pin(clinic.commit("dot has two keys", team=clinic.team(keys={"dot": ("dot", "dot-laptop")})))
    clinic.commit("mine", by="dot")
    clinic.sign("dot-laptop", "ben")


def attack_allowed_signers_in_the_repository(clinic: Clinic) -> None:
    mine = clinic.repo.root.parent / "mine"
    mine.write_text(f"ben {clinic.repo.keys.public('mallory')}\ncy {clinic.repo.keys.public('trudy')}\n")
    clinic.repo.git("config", "gpg.ssh.allowedSignersFile", str(mine))
    clinic.sign("mallory", "trudy")


def attack_other_environment(clinic: Clinic) -> None:
    clinic.sign("ben", "cy", environment="lab")


def attack_other_estate(clinic: Clinic) -> None:
    clinic.sign("ben", "cy", estate="other")


def attack_other_plan(clinic: Clinic) -> None:
    clinic.sign("ben", "cy", plan=clinic.plan(cast.change("stack/other")))


def attack_digest_swapped_afterwards(clinic: Clinic) -> None:
    clinic.sign("ben", "cy", plan=clinic.plan(cast.change("stack/other")))
    digest = clinic.plan().digest
    clinic.given[:] = [replace(one, permission=replace(one.permission, digest=digest)) for one in clinic.given]


def attack_after_expiry(clinic: Clinic) -> None:
    clinic.sign("ben", "cy", hours=-1)


def attack_longer_afterwards(clinic: Clinic) -> None:
    clinic.sign("ben", "cy", hours=-1)
    later = NOW + timedelta(days=1)
    clinic.given[:] = [replace(one, permission=replace(one.permission, not_after=later)) for one in clinic.given]


def attack_second_use(clinic: Clinic) -> None:
    clinic.used = frozenset(one.permission.nonce for one in clinic.sign("ben", "cy"))


def attack_signed_for_another_purpose(clinic: Clinic) -> None:
    for name in ("ben", "cy"):
        (said,) = clinic.sign(name)[-1:]
        signature = FileSigner(clinic.repo.keys.path(name)).sign(said.permission.to_bytes(), COMMIT_NAMESPACE)
        clinic.given[-1] = replace(said, signature=signature)


def attack_signed_over_pretty_json(clinic: Clinic) -> None:
    for name in ("ben", "cy"):
        (said,) = clinic.sign(name)[-1:]
        pretty = said.permission.to_bytes().replace(b",", b", ")
        clinic.given[-1] = replace(said, signature=FileSigner(clinic.repo.keys.path(name)).sign(pretty, NAMESPACE))


def attack_somebody_elses_key_claimed(clinic: Clinic) -> None:
    for name, claimed in (("mallory", "ben"), ("trudy", "cy")):
        (said,) = clinic.sign(name)[-1:]
        lie = replace(said.signature, key=clinic.repo.keys.public(claimed))
        clinic.given[-1] = replace(said, signature=lie)


def attack_break_glass_without_the_role(clinic: Clinic) -> None:
    clinic.sign("ben", break_glass=True, reason="I want to")


def attack_break_glass_where_it_is_no_more(clinic: Clinic) -> None:
    clinic.commit("no glass", estate=ESTATE.replace("break_glass: true", "break_glass: false"))
    clinic.sign("eve", break_glass=True, reason="fire")


def attack_key_revoked_on_this_machine(clinic: Clinic) -> None:
    revoked = clinic.repo.root.parent / "trust/clinic/revoked_keys"
    revoked.write_text(f"{clinic.repo.keys.public('ben')}\n")
    clinic.sign("ben", "cy")


def attack_key_taken_out_of_the_pin(clinic: Clinic) -> None:
    pinned = clinic.repo.root.parent / "trust/clinic/allowed_signers"
    pinned.write_text("".join(f"{line}\n" for line in pinned.read_text().splitlines() if not line.startswith("ben ")))
    clinic.sign("ben", "cy")


def attack_key_pinned_for_commits_only(clinic: Clinic) -> None:
    pinned = clinic.repo.root.parent / "trust/clinic/allowed_signers"
    lines = pinned.read_text().splitlines()
    only = [line.replace(f",{NAMESPACE}", "") if line.startswith("ben ") else line for line in lines]
    assert only != lines
    pinned.write_text("".join(f"{line}\n" for line in only))
    clinic.sign("ben", "cy")


ATTACKS: list[tuple[Callable[[Clinic], None], str]] = [
    (attack_rule_deleted, "2 approvers, because something changes: 0 signed"),
    (attack_count_lowered, "1 signed (still asked: cy, dot)"),
    (attack_environment_renamed, "2 approvers, because something changes: 0 signed"),
    (attack_own_key_added, "the key is nobody's in the Teams of the base revision"),
    (attack_own_key_under_another_name, "the key is nobody's in the Teams of the base revision"),
    (attack_two_keys_of_one_person, "1 signed"),
    (attack_author_approves, "this person made a commit that is to be applied"),
    (attack_author_by_a_second_key, "this person made a commit that is to be applied"),
    (attack_allowed_signers_in_the_repository, "the key is nobody's in the Teams of the base revision"),
    (attack_other_environment, "it is for another environment: lab"),
    (attack_other_estate, "it is for another estate: other"),
    (attack_other_plan, "it is for another digest"),
    (attack_digest_swapped_afterwards, "the signature is not over what the approval says"),
    (attack_after_expiry, "it was good until"),
    (attack_longer_afterwards, "the signature is not over what the approval says"),
    (attack_second_use, "an earlier run has used it"),
    (attack_signed_for_another_purpose, "the signature is not over what the approval says"),
    (attack_signed_over_pretty_json, "the signature is not over what the approval says"),
    (attack_somebody_elses_key_claimed, "the signature is not over what the approval says"),
    (attack_break_glass_without_the_role, "at the base revision this key has no role break-glass"),
    (attack_break_glass_where_it_is_no_more, "break-glass is not allowed in this environment"),
    (attack_key_revoked_on_this_machine, "its key has expired, was revoked, or is not among the pinned signers"),
    (attack_key_pinned_for_commits_only, "its key has expired, was revoked, or is not among the pinned signers"),
    (attack_key_taken_out_of_the_pin, "its key has expired, was revoked, or is not among the pinned signers"),
]


@pytest.mark.parametrize(("attack", "sentence"), ATTACKS, ids=[one.__name__ for one, _ in ATTACKS])
def test_nobody_gets_past_the_gate(clinic, attack, sentence):
    attack(clinic)
    found = clinic.look()
    assert not found.met
    assert any(sentence in line for line in (*found.missing, *found.refused)), found


def test_break_glass_passes_alone_and_says_so(clinic):
    clinic.sign("eve", break_glass=True, reason="database full")
    found = clinic.look()
    assert found.met
    assert found.break_glass == "BREAK-GLASS by eve: database full"


def test_a_new_estate_name_does_not_lose_its_pin(clinic):
    clinic.commit("another name", estate=ESTATE.replace("name: clinic", "name: klinik").replace("true", "false"))
    with pytest.raises(NotApproved, match="pinned as clinic, and the documents call it klinik"):
        stand(clinic.proposal())


def test_history_without_the_pinned_commit_does_not_lose_its_pin(clinic):
    clinic.repo.git("checkout", "-q", "--orphan", "new")
    clinic.commit("no past", estate=ESTATE.replace("name: clinic", "name: klinik").replace("true", "false"))
    with pytest.raises(NotApproved, match="pinned as clinic"):
        stand(clinic.proposal())
    clinic.commit("the old name", estate=ESTATE)
    with pytest.raises(NotSigned, match="does not come after the pinned one"):
        refuse_unsigned(clinic.proposal())


def test_a_pin_of_another_repository_or_folder_is_said(clinic, keys, tmp_path):
    other = Clinic(SignedRepo(tmp_path / "other", keys).init(), clinic.monkeypatch)
    other.commit("another base", estate=ESTATE, team=other.team())
    with pytest.raises(NotApproved, match="is not in this repository"):
        stand(other.proposal())
    clinic.repo.commit("moved", {"infra/estate.yaml": ESTATE, "infra/team.yaml": clinic.team()}, by="ada")
    clinic.folder = "infra"
    with pytest.raises(NotApproved, match="is pinned in the folder"):
        stand(clinic.proposal())


def test_a_working_tree_is_never_signed(clinic):
    with pytest.raises(NotSigned, match="the working tree is not signed"):
        refuse_unsigned(clinic.proposal(worktree=True))
    with pytest.raises(NotApproved, match="nobody can tell who made a working tree"):
        weigh(clinic.proposal(worktree=True), clinic.plan(), NOW)
    with pytest.raises(NotApproved, match="nobody can tell who made a working tree"):
        clinic.look(plan=clinic.plan(worktree=True))


def unsigned_in_the_middle(clinic: Clinic) -> None:
    clinic.commit("hidden", by="")
    clinic.commit("on top")


def unsigned_behind_a_merge(clinic: Clinic) -> None:
    clinic.repo.git("checkout", "-q", "-b", "side")
    clinic.commit("hidden", by="")
    clinic.repo.git("checkout", "-q", "main")
    clinic.commit("straight")
    clinic.repo.git("merge", "-q", "--no-ff", "-m", "merge", "side", by="ada")


def signed_by_a_stranger(clinic: Clinic) -> None:
    clinic.commit("hidden", by="mallory")


def signed_by_one_who_is_no_author(clinic: Clinic) -> None:
    clinic.commit("hidden", by="ben")


def signed_by_one_who_made_himself_an_author(clinic: Clinic) -> None:
    clinic.people["mallory"] = "author"
    clinic.commit("hidden", by="mallory", team=clinic.team())


def no_more_signatures_asked(clinic: Clinic) -> None:
    clinic.commit("hidden", by="", estate=ESTATE.replace("signed_commits: true", "signed_commits: false"))


@pytest.mark.parametrize(
    ("attack", "sentence"),
    [
        (unsigned_in_the_middle, "it is not signed"),
        (unsigned_behind_a_merge, "it is not signed"),
        (signed_by_a_stranger, "it is signed by an unknown key"),
        (signed_by_one_who_is_no_author, "ben has no role author"),
        (signed_by_one_who_made_himself_an_author, "it is signed by an unknown key"),
        (no_more_signatures_asked, "it is not signed"),
    ],
)
def test_code_that_is_not_signed_is_not_run(clinic, attack, sentence):
    refuse_unsigned(clinic.proposal())
    attack(clinic)
    with pytest.raises(NotSigned) as error:
        refuse_unsigned(clinic.proposal())
    assert len(error.value.commits) == 1
    assert '"hidden"' in error.value.commits[0]
    assert sentence in error.value.commits[0]


def test_an_unsigned_commit_hides_its_author_from_approvals_too(clinic):
    free = ESTATE.replace("signed_commits: true", "signed_commits: false")
    clinic.pin(clinic.commit("signatures are not asked", estate=free))
    clinic.commit("hidden", by="")
    refuse_unsigned(clinic.proposal())
    clinic.sign("ben", "cy")
    found = clinic.look()
    assert not found.met
    assert "nobody can tell who made commit" in found.missing[0]


def test_the_base_moves_with_the_last_finished_run(clinic):
    clinic.people["fay"] = "author, approver"
    added = clinic.commit("fay joins", team=clinic.team())
    clinic.commit("by fay", by="fay")
    with pytest.raises(NotSigned):
        refuse_unsigned(clinic.proposal())
    clinic.last = added
    assert refuse_unsigned(clinic.proposal()).base == added
    # a run of a commit that does not come from the pinned one is no base
    clinic.last = "1" * 40
    assert stand(clinic.proposal()).base == clinic.pinned


def test_going_back_to_a_commit_before_the_last_run_needs_approvals_as_any_plan(clinic):
    before = clinic.repo.git("rev-parse", "HEAD")
    clinic.last = clinic.commit("later")
    refuse_unsigned(clinic.proposal(before))
    assert not clinic.look(ref=before).met
    clinic.sign("ben", "cy")
    assert clinic.look(ref=before).met


def test_a_base_that_cannot_be_read_any_more_stops_only_those_who_pinned(clinic, tmp_path, monkeypatch):
    clinic.last = clinic.commit("broken", estate=ESTATE + "nonsense: true\n")
    clinic.commit("mended", estate=ESTATE)
    with pytest.raises(InputError):
        stand(clinic.proposal())
    clinic.commit("free", estate=ESTATE.replace("true", "false").replace("[{count: 2}]", "[]"))
    monkeypatch.setenv("ISMGR_TRUST", str(tmp_path / "elsewhere"))
    assert clinic.look().met


def test_an_author_by_openpgp_is_known_by_email(clinic, tmp_path):
    with gnupg(tmp_path / "home") as gpg:
        key = gpg.key("Dot <dot@example.org>")
        clinic.repo.keys.path("dot")
        team = clinic.team().replace("- name: dot\n", "- name: dot\n  email: Dot@example.org\n")
        clinic.pin(clinic.commit("dot has an email", team=team))
        settings = ["-c", f"user.signingkey={key}", "-c", "gpg.format=openpgp"]
        clinic.repo.git(*settings, "commit", "-q", "-S", "--allow-empty", "-m", "mine", GNUPGHOME=str(gpg.home))
        (tmp_path / "trust/clinic/keyring/dot.asc").write_text(gpg.export(key))
    ground = refuse_unsigned(clinic.proposal())
    assert [unfit(one, ground.people) for one in commits(clinic.proposal(), ground)] == [""]
    clinic.sign("dot", "ben")
    assert any("this person made a commit" in line for line in clinic.look().refused)


def test_what_holds_patients_data_or_is_deleted_asks_for_more(clinic):
    rules = "[{count: 1, destroys: true}, {count: 2, stacks: [names]}]"
    estate = ESTATE.replace("[{count: 2}]", rules)
    files = {
        "estate.yaml": estate,
        "names.yaml": "kind: Stack\nname: names\nprogram: stacks/names\n",
        "stacks/names/Pulumi.yaml": "name: names\nruntime: python\n",
        "stacks/names/__main__.py": "",
    }
    clinic.pin(clinic.repo.commit("rules", files, by="ada"))
    clinic.commit("more")
    gone = clinic.plan(cast.change("stack/other", Action.DELETE))
    clinic.sign("ben", plan=gone)
    assert clinic.look(plan=gone).met
    assert len(clinic.look().answers) == 1


HOSPITAL = {
    "estate.yaml": ESTATE.replace("[{count: 2}]", "[{count: 1, data_classes: [phi]}]"),
    "site.yaml": """\
kind: Stack
name: servers
program: stacks/servers
hosts: hosts
outputs: {hosts: {type: hosts}}
---
kind: HostGroup
name: databases
selector: host.labels.role == "db"
playbook: p.yml
needs: [servers]
---
kind: HostGroup
name: everybody
selector: "true"
playbook: p.yml
needs: [servers]
---
kind: Service
name: records
owner: platform
groups: [databases]
data_classes: [phi]
---
kind: Service
name: site
owner: platform
groups: [everybody]
data_classes: [phi, public]
""",
    "p.yml": "[]\n",
    "stacks/servers/Pulumi.yaml": "name: servers\nruntime: python\n",
    "stacks/servers/__main__.py": "",
}
PATIENTS = HOSPITAL["site.yaml"].replace("[phi, public]", "[public]")
DB1 = Host(name="db1", address="192.0.2.1", origin="stack/servers", labels={"role": "db"})
FLEET = Fleet(sightings=(Sighting(host=DB1, stack=Address.parse("stack/servers")),), membership={}, unbounded=())


@pytest.mark.parametrize(
    ("site", "planned", "fleet", "asked"),
    [
        # taken off its rule by the very commit that is judged
        (PATIENTS.replace("groups: [databases]", "groups: []"), "group/databases", None, True),
        # hosts taken out of the group by it
        (PATIENTS.replace('"db"', '"none"'), "stack/servers", FLEET, True),
        # a playbook of another group on a host with patients' data, which only the fleet can tell
        (PATIENTS, "group/everybody", FLEET, True),
        (PATIENTS, "group/everybody", None, False),
    ],
)
def test_what_held_patients_data_before_the_commit_is_judged_so(clinic, site, planned, fleet, asked):
    clinic.pin(clinic.repo.commit("hospital", {**HOSPITAL, "site.yaml": PATIENTS}, by="ada"))
    clinic.repo.commit("less", {"site.yaml": site}, by="ada")
    proposal = replace(clinic.proposal(), fleet=lambda: fleet)
    plan = clinic.plan(cast.change(planned, Action.CONFIGURE, targets=("db1",) if "group" in planned else ()))
    assert weigh(proposal, plan, NOW).met is not asked


ASKED = ESTATE.replace("[{count: 2}]", "[{count: 1, team: platform, stacks: [servers]}, {count: 2, destroys: true}]")
JUDGED = {**HOSPITAL, "estate.yaml": ASKED.replace("signed_commits: true", "signed_commits: false")}


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        pytest.param("estate.yaml", ", {count: 2, destroys: true}", "", id="a rule is deleted"),
        pytest.param("estate.yaml", "count: 2", "count: 1", id="a rule asks for fewer"),
        pytest.param("estate.yaml", "    break_glass: true\n", "    plan_lifetime: 720h\n", id="a setting changes"),
        pytest.param("team.yaml", "[author]", "[author, approver]", id="an author becomes approver"),
        pytest.param("team.yaml", "- name: eve", "- name: mallory", id="somebody gets another's key"),
    ],
)
def test_a_commit_that_changes_who_judges_needs_every_rule_of_the_base(clinic, path, old, new):
    files = {**JUDGED, "team.yaml": clinic.team()}
    clinic.pin(clinic.repo.commit("rules", files, by="ada"))
    assert old in files[path]
    clinic.repo.commit("mine", {path: files[path].replace(old, new)}, by="ada")
    # no rule asks for this stack
    plan = clinic.plan(cast.change("stack/other"))
    found = clinic.look(plan=plan)
    because = "because people or settings of the environment change"
    assert [line.partition(":")[0] for line in found.missing] == [
        f"1 approver of team platform, {because}",
        f"2 approvers, {because}",
    ]
    # what is not whole is not the base afterwards
    part = replace(plan, inputs=replace(plan.inputs, selection=("stack/other",)))
    assert clinic.look(plan=part).met
    clinic.sign("ada", "ben", plan=plan)
    assert not clinic.look(plan=plan).met
    clinic.sign("cy", plan=plan)
    assert clinic.look(plan=plan).met


def test_a_description_of_a_team_changes_nobody_who_judges(clinic):
    clinic.pin(clinic.repo.commit("rules", {**JUDGED, "team.yaml": clinic.team()}, by="ada"))
    clinic.repo.commit("told", {"team.yaml": clinic.team() + "description: those on call\n"}, by="ada")
    assert clinic.look(plan=clinic.plan(cast.change("stack/other"))).met


@pytest.mark.parametrize(
    ("site", "asked"),
    [
        (PATIENTS, False),
        (PATIENTS.replace("[public]", "[other]").replace("[phi]", "[public]").replace("[other]", "[phi]"), True),
        (PATIENTS.replace("groups: [databases]", "groups: []"), True),
        (PATIENTS.replace('"db"', '"none"'), True),
        (PATIENTS.replace("data_classes: [public]", "data_classes: [public, phi]"), False),
    ],
)
def test_what_holds_patients_data_is_not_relabelled_by_an_apply_of_something_else(clinic, site, asked):
    clinic.pin(clinic.repo.commit("hospital", {**HOSPITAL, "site.yaml": PATIENTS}, by="ada"))
    clinic.repo.commit("less", {"site.yaml": site}, by="ada")
    proposal = replace(clinic.proposal(), fleet=lambda: FLEET)
    assert weigh(proposal, clinic.plan(cast.change("stack/other")), NOW).met is not asked


WAIVER = """\
kind: Exemption
name: carried
scope: host.labels.role == "db"
owner: platform
approver: ben
reason: the vendor is asked
issued: 2026-11-01
expires: 2026-11-20
"""


@pytest.mark.parametrize(
    ("agreed", "proposed", "asked"),
    [
        pytest.param(None, WAIVER, True, id="brought"),
        pytest.param(WAIVER, WAIVER.replace("11-20", "11-30"), True, id="prolonged"),
        pytest.param(WAIVER.replace("role", "other"), WAIVER, True, id="widened"),
        pytest.param(WAIVER, WAIVER, False, id="agreed on"),
        pytest.param(None, WAIVER.replace('"db"', '"web"'), False, id="of other hosts"),
    ],
)
def test_a_commit_does_not_waive_for_itself_what_it_would_need_approval_to_patch(clinic, agreed, proposed, asked):
    quiet = PATIENTS.replace("groups: [everybody]", "groups: []")
    files = {**HOSPITAL, "site.yaml": quiet, **({"exemption.yaml": agreed} if agreed else {})}
    clinic.pin(clinic.repo.commit("hospital", files, by="ada"))
    clinic.repo.commit("waive", {"exemption.yaml": proposed, "p.yml": "[]\n# again\n"}, by="ada")
    web = Host(name="web1", address="192.0.2.2", origin="stack/servers", labels={"role": "web"})
    sightings = (*FLEET.sightings, Sighting(host=web, stack=Address.parse("stack/servers")))
    proposal = replace(clinic.proposal(), fleet=lambda: replace(FLEET, sightings=sightings))
    # what is applied has nothing to do with the host that is left unpatched
    plan = clinic.plan(cast.change("group/everybody", Action.CONFIGURE, targets=("web1",)))
    assert weigh(proposal, plan, NOW).met is not asked


def test_the_gate_runs_no_code_of_the_estate(clinic, tmp_path):
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("reference-transaction", "post-checkout", "pre-commit"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        (hooks / name).chmod(0o755)
    clinic.repo.git("config", "core.hooksPath", str(hooks))
    for one in clinic.sign("ben", "cy"):
        GitApprovals(clinic.repo.root).add(one)
    assert clinic.look().met
    assert not Path(tmp_path / "ran").exists()
