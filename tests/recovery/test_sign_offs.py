"""Which sign-offs of a drill count, and what their clause has then."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ismgr_automation.approval.people import Register, register
from ismgr_automation.estate.documents import Role, Team
from ismgr_automation.recovery.clauses import Field, Standard
from ismgr_automation.recovery.coverage import coverage, held
from ismgr_automation.recovery.particulars import SignOff, note_json, read_note
from ismgr_automation.recovery.sign_offs import Checked, Question, Weighed, unproven, weigh
from ismgr_automation.recovery.topics import SignRole
from tests.approval.cast import key, member, public
from tests.recovery.results import NOON, case, result

DIGEST, OTHER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
ASKED = Question(estate="clinic", environment="lab", run=result().run, digest=DIGEST, owner="registry")
PEOPLE: Register = register(
    {
        "registry": Team(
            kind="Team", name="registry", members=(member("cleo"), member("bot", Role.RUNNER), member("mia"))
        ),
        "board": Team(
            kind="Team", name="board", members=(member("mia", Role.MANAGEMENT), member("max", Role.MANAGEMENT))
        ),
        "others": Team(kind="Team", name="others", members=(member("ben", Role.APPROVER, Role.AUDITOR),)),
    }
)
OWNER, MANAGEMENT = SignRole.OWNER, SignRole.MANAGEMENT


def sign_off(who: str, role: SignRole = OWNER, **more: Any) -> SignOff:
    known: dict[str, Any] = {
        "run": result().run, "at": NOON, "by": "eve@ops1", "role": role, "estate": "clinic", "environment": "lab",
        "digest": DIGEST, "person": who, "key": public(who), "signature": "a signature",
    }  # fmt: skip
    return SignOff(**{**known, **more})


def weighed(*signed: tuple[str, SignRole], **more: Any) -> tuple[Weighed, ...]:
    return weigh(ASKED, [Checked(sign_off=sign_off(who, role, **more), key=key(who)) for who, role in signed], PEOPLE)


@pytest.mark.parametrize(("who", "role"), [("cleo", OWNER), ("mia", OWNER), ("mia", MANAGEMENT), ("max", MANAGEMENT)])
def test_the_team_of_the_service_signs_as_owner_and_who_has_the_role_as_management(who: str, role: SignRole) -> None:
    [found] = weighed((who, role))
    assert (found.person, found.void, found.counts) == (who, "", True)


VOID: dict[str, tuple[str, SignRole, dict[str, Any], str]] = {
    "another result": ("cleo", OWNER, {"digest": OTHER}, f"changed after it was signed: {OTHER} was signed, and it is"),
    "another drill": ("cleo", OWNER, {"run": "r"}, "it is for another drill: r"),
    "another estate": ("cleo", OWNER, {"estate": "x"}, "it is for another estate: x"),
    "another environment": ("cleo", OWNER, {"environment": "x"}, "it is for another environment: x"),
    "no owner": ("ben", OWNER, {}, "of nobody in team registry"),
    "of another team": ("max", OWNER, {}, "of nobody in team registry"),
    "no management": ("cleo", MANAGEMENT, {}, "has no role management"),
    "a machine": ("bot", OWNER, {}, "a machine account"),
    "a stranger": ("mallory", OWNER, {}, "nobody's in the Teams"),
}


@pytest.mark.parametrize("name", VOID)
def test_a_sign_off_that_does_not_count_says_why(name: str) -> None:
    who, role, more, words = VOID[name]
    [found] = weighed((who, role), **more)
    assert words in found.void
    assert not found.counts


def test_a_signature_over_other_bytes_is_nobodys_and_a_revoked_key_says_so() -> None:
    [bad] = weigh(ASKED, [Checked(sign_off=sign_off("cleo"), key="")], PEOPLE)
    assert bad.void == "the signature is not over what the sign-off says"
    expired = Checked(sign_off=sign_off("cleo"), key=key("cleo"), trouble="its key has expired")
    [revoked] = weigh(ASKED, [expired], PEOPLE)
    assert revoked.void == "its key has expired"
    [alone] = unproven([sign_off("cleo")], "nothing is pinned")
    assert (alone.person, alone.void) == ("cleo", "nothing is pinned")


COVERED: dict[str, tuple[tuple[tuple[str, SignRole], ...], tuple[str, ...]]] = {
    "owner alone": ((("cleo", OWNER),), ("sign off by management",)),
    "management alone": ((("max", MANAGEMENT),), ("sign off by the owner",)),
    "one person as both": ((("mia", OWNER), ("mia", MANAGEMENT)), ("sign off by two people",)),
    "both, one of them twice": ((("mia", OWNER), ("mia", MANAGEMENT), ("cleo", OWNER)), ()),
    "both": ((("cleo", OWNER), ("max", MANAGEMENT)), ()),
    "a void one": ((("cleo", OWNER), ("cleo", MANAGEMENT)), ("sign off by management",)),
}


@pytest.mark.parametrize("name", COVERED)
def test_the_clause_is_covered_by_two_people_and_then_all_marks_are_given(name: str) -> None:
    signed, missing = COVERED[name]
    found = replace(case(), sign_offs=weighed(*signed))
    assert next(one.missing for one in held(found) if one.field is Field.SIGN_OFF) == missing
    asks = {Standard.HIPAA, Standard.ISO_22301, Standard.DORA}
    assert {one.standard for one in coverage(found) if not one.complete} == (asks if missing else set())


def test_what_is_signed_has_a_fixed_form_and_is_kept_with_the_note() -> None:
    one = sign_off("cleo")
    assert (
        one.to_bytes()
        == (
            f'{{"as":"owner","at":"{NOON:%Y-%m-%dT%H:%M:%SZ}","digest":"{DIGEST}","environment":"lab","estate":"clinic",'
            f'"run":"{one.run}"}}'
        ).encode()
    )
    body = note_json(one)
    assert (body["type"], body["format"]) == ("sign-off", "ismgr.drill-note/1")
    assert read_note(body) == one
