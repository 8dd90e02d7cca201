"""Which sign-offs of a drill count: who signed, for whom, and whether the result is still the one that was signed. Each
signature was checked before, and comes with the key that made it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import assert_never

from ismgr_automation.approval.people import Register
from ismgr_automation.core.json import JsonObject
from ismgr_automation.estate.documents import Role
from ismgr_automation.recovery.particulars import SignOff
from ismgr_automation.recovery.topics import SignRole


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A sign-off and the fingerprint of the key that really made its signature; empty when that is not over the
    sign-off's bytes. ``trouble`` says why a key of the Teams does not count all the same."""

    sign_off: SignOff
    key: str
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What must have been signed: this result of this run. ``owner`` is the Team that owns the service."""

    estate: str
    environment: str
    run: str
    digest: str
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """A sign-off, whose it is, and why it does not count; ``void`` is empty for one that does. ``who`` is the same
    number for all keys of one person, None for a key of nobody."""

    sign_off: SignOff
    person: str
    who: int | None = None
    void: str = ""

    @property
    def counts(self) -> bool:
        """Whether it stands."""
        return not self.void


def weigh(question: Question, found: Iterable[Checked], people: Register) -> tuple[Weighed, ...]:
    """All sign-offs, in the order in which they come. ``people`` are those of the base revision."""
    return tuple(_weighed(one, question, people) for one in found)


def unproven(found: Iterable[SignOff], why: str) -> tuple[Weighed, ...]:
    """Sign-offs that nobody can check here, and why."""
    return tuple(Weighed(sign_off=one, person=one.person, void=why) for one in found)


def by_two(found: Sequence[Weighed]) -> bool:
    """Whether owner and management are two people: one who signs for both looks at his own work."""
    owners, managers = ({one.who for one in found if one.counts and one.sign_off.role is role} for role in SignRole)
    return any(owner != manager for owner in owners for manager in managers)


def sign_off_json(found: Sequence[Weighed]) -> list[JsonObject]:
    """Sign-offs for pipelines."""
    return [
        {
            "as": str(one.sign_off.role),
            "person": one.person,
            "at": one.sign_off.at.isoformat(),
            "digest": one.sign_off.digest,
            "counts": one.counts,
            "void": one.void,
        }
        for one in found
    ]


def _weighed(one: Checked, question: Question, people: Register) -> Weighed:
    who = people.person(one.key) if one.key else None
    name = people.name(who) if who is not None else one.key or one.sign_off.person or "somebody"
    void = _obstacle(one, question) or (
        "the key is nobody's in the Teams of the base revision" if who is None else _no_right(one, question, people)
    )
    return Weighed(sign_off=one.sign_off, person=name, who=who, void=void)


def _obstacle(one: Checked, question: Question) -> str:
    """Why a signature means nothing here, whoever made it."""
    said = one.sign_off
    if not one.key:
        return "the signature is not over what the sign-off says"
    if one.trouble:
        return one.trouble
    for name, has, wants in (
        ("estate", said.estate, question.estate),
        ("environment", said.environment, question.environment),
        ("drill", said.run, question.run),
    ):
        if has != wants:
            return f"it is for another {name}: {has}"
    if said.digest != question.digest:
        return f"the result was changed after it was signed: {said.digest} was signed, and it is {question.digest} now"
    return ""


def _no_right(one: Checked, question: Question, people: Register) -> str:
    """Why this key may not sign for whom it signs."""
    if people.holds(one.key, Role.RUNNER):
        return f"a machine account with role {Role.RUNNER} signs nothing off"
    match one.sign_off.role:
        case SignRole.OWNER:
            own = any(each.team == question.owner and one.key in each.keys for each in people.entries)
            return "" if own else f"at the base revision this key is of nobody in team {question.owner}"
        case SignRole.MANAGEMENT:
            manages = people.holds(one.key, Role.MANAGEMENT)
            return "" if manages else f"at the base revision this key has no role {Role.MANAGEMENT}"
        case _:
            assert_never(one.sign_off.role)
