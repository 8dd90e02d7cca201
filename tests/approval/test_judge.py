"""Who counts, for what, and what every signature that does not count is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.approval.judge import Authors, Signed, judge
from ismgr_automation.approval.requirements import Requirement
from ismgr_automation.estate.documents import Role
from ismgr_automation.ports.history import CommitSignature, Flaw
from tests.approval.cast import APPROVER, CLINIC, DIGEST, NOW, key, member, people, question, signed, team

TWO = Requirement(count=2, role=APPROVER, team=None, because="something changes")
ONE = replace(TWO, count=1)
NOBODY = Authors()
GLASS = {"break_glass": True, "reason": "database full"}


def test_two_of_three_are_enough_and_one_is_not() -> None:
    alone = judge(question(), [TWO], [signed("ben")], people(), NOBODY)
    assert not alone.met
    assert alone.missing == ("2 approvers, because something changes: 1 signed (still asked: ada, cy)",)
    both = judge(question(), [TWO], [signed("ben"), signed("cy", 2)], people(), NOBODY)
    assert both.met
    assert both.answers[0].people == ("ben", "cy")
    assert sorted(one.person for one in both.counted) == ["ben", "cy"]


def test_without_a_requirement_nothing_is_asked() -> None:
    assert judge(question(), [], [], people(), NOBODY).met


def test_a_person_counts_once_whatever_keys_and_signatures_there_are() -> None:
    twice = [signed("ada"), signed("ada-laptop", 2), signed("ada", 3)]
    found = judge(question(), [TWO], twice, people(), NOBODY)
    assert not found.met
    assert found.answers[0].people == ("ada",)


@pytest.mark.parametrize(
    ("other", "shared"),
    [
        (member("Ada", APPROVER, keys=("elsewhere",)), "a name"),
        (member("A. L.", APPROVER, keys=("elsewhere",), email="ADA@example.org"), "an email"),
        (member("A. L.", APPROVER, keys=("elsewhere", "ada")), "a key"),
    ],
)
def test_two_entries_that_share_something_are_one_person(other: object, shared: str) -> None:
    crowd = people(CLINIC, team("night", other))
    found = judge(question(), [TWO], [signed("ada"), signed("elsewhere", 2)], crowd, NOBODY)
    assert not found.met, shared


def test_a_role_counts_for_the_keys_of_its_own_entry_only() -> None:
    # another person of the same name must not become an approver by it
    crowd = people(CLINIC, team("night", member("ben", keys=("stranger",))))
    found = judge(question(), [ONE], [signed("stranger")], crowd, NOBODY)
    assert not found.met
    assert "at the base revision this key is that of no approver" in found.refused[0]


def test_only_members_of_the_named_team_count() -> None:
    night = team("night", member("fay", APPROVER))
    asked = replace(ONE, team="night")
    assert not judge(question(), [asked], [signed("ben")], people(CLINIC, night), NOBODY).met
    assert judge(question(), [asked], [signed("fay")], people(CLINIC, night), NOBODY).met
    nobody = judge(question(), [replace(ONE, team="new")], [signed("ben")], people(), NOBODY)
    assert "only 0 at the base revision can sign" in nobody.missing[0]


def test_every_requirement_must_be_met() -> None:
    asked = [ONE, Requirement(count=1, role=Role.OPERATOR, team=None, because="phi")]
    assert not judge(question(), asked, [signed("ben")], people(), NOBODY).met


WRONG = [
    (signed(""), "the signature is not over what the approval says"),
    (replace(signed("ben"), trouble="its key was revoked"), "its key was revoked"),
    (signed("ben", estate="other"), "it is for another estate: other"),
    (signed("ben", environment="lab"), "it is for another environment: lab"),
    (signed("ben", digest="sha256:" + "b" * 64), "it is for another digest"),
    (signed("ben", not_after=NOW - timedelta(seconds=1)), "it was good until 2026-11-22 11:59 UTC"),
    (signed("ben", 7), "an earlier run has used it"),
    (signed("mallory"), "the key is nobody's in the Teams of the base revision"),
    (signed("dot"), "at the base revision this key is that of no approver"),
    (signed("eve", **GLASS), "break-glass is not allowed in this environment"),
]


@pytest.mark.parametrize(("one", "sentence"), WRONG, ids=[sentence for _, sentence in WRONG])
def test_a_signature_that_does_not_count_is_told_why(one: Signed, sentence: str) -> None:
    found = judge(question(used=frozenset({f"{7:032x}"})), [ONE], [one], people(), NOBODY)
    assert not found.met
    assert sentence in found.refused[0]
    assert found.counted == ()


def test_the_author_never_counts_with_any_key() -> None:
    wrote = Authors(keys=frozenset({key("ada-laptop")}))
    for name in ("ada", "ada-laptop"):
        found = judge(question(), [ONE], [signed(name)], people(), wrote)
        assert not found.met
        assert "this person made a commit that is to be applied" in found.refused[0]
    assert not judge(question(), [ONE], [signed("ada")], people(), Authors(emails=frozenset({"Ada@example.org"}))).met
    assert judge(question(), [ONE], [signed("ben")], people(), wrote).met


def test_a_commit_whose_author_nobody_can_tell_is_missing_something() -> None:
    commits = [
        CommitSignature(commit="1" * 40, title="Sound", key=key("dot")),
        CommitSignature(commit="2" * 40, title="Hidden", flaw=Flaw.UNSIGNED),
    ]
    authors = Authors.of(commits)
    assert authors.keys == {key("dot")}
    found = judge(question(), [ONE], [signed("ben")], people(), authors)
    assert found.missing == ('nobody can tell who made commit 222222222222 "Hidden": it is not signed',)


def test_break_glass_is_one_person_with_the_role_and_a_reason_and_loud() -> None:
    asked = question(break_glass=True)
    found = judge(asked, [TWO], [signed("eve", **GLASS)], people(), NOBODY)
    assert found.met
    assert found.break_glass == "BREAK-GLASS by eve: database full"
    assert [one.person for one in found.counted] == ["eve"]
    assert not judge(asked, [TWO], [signed("ben", **GLASS)], people(), NOBODY).met
    silent = judge(asked, [TWO], [signed("eve", break_glass=True, reason=" ")], people(), NOBODY)
    assert "break-glass needs a reason" in silent.refused[0]
    wrote = judge(asked, [TWO], [signed("eve", **GLASS)], people(), Authors(keys=frozenset({key("eve")})))
    assert wrote.break_glass == "BREAK-GLASS by eve, who also made a commit of it: database full"


def test_glass_is_not_broken_when_it_need_not_be() -> None:
    found = judge(question(break_glass=True), [ONE], [signed("ben"), signed("eve", 2, **GLASS)], people(), NOBODY)
    assert found.met
    assert found.break_glass == ""
    assert [one.person for one in found.counted] == ["ben"]


def test_one_approval_in_two_stores_is_used_once() -> None:
    copies = [signed("ben"), replace(signed("ben"), approval=replace(signed("ben").approval, origin="git"))]
    assert len(judge(question(), [ONE], copies, people(), NOBODY).counted) == 1


NAMES = ["ada", "ada-laptop", "ben", "cy", "dot", "eve", "mallory", ""]
BAD: list[dict[str, object]] = [
    {"environment": "lab"},
    {"estate": "other"},
    {"digest": DIGEST[:-1] + "b"},
    {"not_after": NOW - timedelta(days=1)},
]
valid = st.builds(signed, st.sampled_from(NAMES), st.integers(10, 14))
invalid = st.one_of(
    st.builds(
        lambda name, number, bad: signed(name, number, **bad),
        st.sampled_from(NAMES),
        st.integers(10, 14),
        st.sampled_from(BAD),
    ),
    st.builds(signed, st.sampled_from(["", "mallory"]), st.integers(10, 14)),
    st.builds(signed, st.sampled_from(NAMES), st.just(7)),
    st.builds(lambda name: replace(signed(name, 15), trouble="revoked"), st.sampled_from(NAMES)),
)
wrote = st.builds(
    lambda names: Authors(keys=frozenset(map(key, names))), st.lists(st.sampled_from(NAMES[:-1]), max_size=2)
)
asked = st.lists(
    st.builds(
        lambda count, role: Requirement(count=count, role=role, team=None, because="x"),
        st.integers(1, 3),
        st.sampled_from([APPROVER, Role.AUTHOR]),
    ),
    min_size=1,
    max_size=2,
)
USED = question(used=frozenset({f"{7:032x}"}), break_glass=True)


@given(asked, st.lists(valid, max_size=5), invalid, wrote)
def test_an_invalid_signature_never_turns_a_refusal_into_a_pass(asked, approvals, bad, authors) -> None:
    before = judge(USED, asked, approvals, people(), authors)
    after = judge(USED, asked, [*approvals, bad], people(), authors)
    assert after.met == before.met
    assert after.counted == before.counted


@given(asked, st.lists(valid, min_size=1, max_size=5), st.integers(0, 4), wrote)
def test_a_signature_less_never_turns_missing_into_met(asked, approvals, index, authors) -> None:
    before = judge(USED, asked, approvals, people(), authors)
    fewer = [one for number, one in enumerate(approvals) if number != index % len(approvals)]
    after = judge(USED, asked, fewer, people(), authors)
    assert before.met or not after.met


@given(asked, st.lists(valid, max_size=6), wrote)
def test_n_of_m_is_exact_and_no_author_is_among_them(asked, approvals, authors) -> None:
    crowd = people()
    found = judge(USED, asked, approvals, crowd, authors)
    persons = {"ada": "ada", "ada-laptop": "ada", "ben": "ben", "cy": "cy", "dot": "dot", "eve": "eve"}
    roles = {"ada": {Role.AUTHOR, APPROVER}, "ben": {APPROVER}, "cy": {APPROVER}, "dot": {Role.AUTHOR}, "eve": set()}
    by_key = {key(name): person for name, person in persons.items()}
    authoring = {by_key[one] for one in authors.keys if one in by_key}
    signers = {by_key[one.key] for one in approvals if one.key in by_key} - authoring
    enough = all(len([one for one in signers if each.role in roles[one]]) >= each.count for each in asked)
    assert found.met == enough
    assert not authoring & {one.person for one in found.counted}
