"""Whether the approvals that are there are enough. Each signature was checked before and comes with the key that made
it; here it is decided who counts, for what, and what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ismgr_automation.approval.people import Register
from ismgr_automation.approval.requirements import Requirement
from ismgr_automation.estate.documents import Role
from ismgr_automation.ports.approvals import Approval, Permission
from ismgr_automation.ports.history import CommitSignature


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """An approval and the fingerprint of the key that really made its signature; empty when the signature is not over
    the permission's bytes. ``trouble`` says why a key of the Teams does not count all the same."""

    approval: Approval
    key: str
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What approval is asked for, and the circumstances: the nonces that earlier runs used up, and whether break-glass
    is allowed."""

    estate: str
    environment: str
    digest: str
    now: datetime
    used: frozenset[str] = frozenset()
    break_glass: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Authors:
    """Who made the proposed commits: keys that signed them, emails of OpenPGP keys, and commits whose author nobody can
    tell (one sentence each)."""

    keys: frozenset[str] = frozenset()
    emails: frozenset[str] = frozenset()
    unknown: tuple[str, ...] = ()

    @classmethod
    def of(cls, commits: Iterable[CommitSignature]) -> Authors:
        """The authors of checked commits."""
        found = list(commits)
        good = [one for one in found if one.flaw is None]
        return cls(
            keys=frozenset(one.key for one in good),
            emails=frozenset(email for one in good for email in one.emails),
            unknown=tuple(told(one, why) for one in found if (why := flaw(one))),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One requirement, and who meets it."""

    requirement: Requirement
    people: tuple[str, ...]

    @property
    def met(self) -> bool:
        """Whether enough people signed."""
        return len(self.people) >= self.requirement.count


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """An approval that counts, and whose it is: the person's name, and the word for them in allowed-signers files."""

    person: str
    principal: str
    approval: Approval


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a plan may be applied as far as approvals go. ``missing`` says what is not there, ``refused`` why each
    signature that does not count does not, one line each; ``counted`` are those that the run uses up. ``break_glass``
    is not empty when one person alone let it pass: it says who and why, and must be shown loudly."""

    answers: tuple[Answer, ...] = ()
    missing: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    counted: tuple[Counted, ...] = ()
    break_glass: str = ""

    @property
    def met(self) -> bool:
        """Whether it may be applied."""
        return not self.missing


def judge(
    question: Question,
    requirements: Sequence[Requirement],
    approvals: Iterable[Signed],
    people: Register,
    authors: Authors,
) -> Verdict:
    """Weigh approvals. A person counts once for a rule, however many keys and signatures there are; who made a proposed
    commit never counts, with no key. ``people`` are those of the base revision."""
    if not requirements:
        return Verdict()
    wrote = people.who(authors.keys, authors.emails)
    refused: list[str] = []
    good: list[Signed] = []
    glass: list[Signed] = []
    for one in sorted(approvals, key=lambda one: (one.approval.permission.nonce, one.key, one.approval.origin)):
        why = _obstacle(one, question, people) or _no_part(one, requirements, people, wrote)
        if one.approval.permission.break_glass:
            why = why or _no_glass(one, question, people)
        if why:
            refused.append(f"{_who(one, people)}: {why}{f' ({one.approval.origin})' if one.approval.origin else ''}")
        else:
            (glass if one.approval.permission.break_glass else good).append(one)
    answers = tuple(_answer(one, good, people) for one in requirements)
    missing = (*_missing(answers, people, wrote), *(f"nobody can tell who made {one}" for one in authors.unknown))
    if missing and glass:
        return _broken(answers, glass[0], refused, people, wrote)
    return Verdict(answers=answers, missing=missing, refused=tuple(refused), counted=_counted(good, people))


def flaw(commit: CommitSignature) -> str:
    """What is wrong with a commit's signature, and by which key it is; empty when nothing is."""
    if commit.flaw is None:
        return ""
    return f"{commit.flaw}{f' ({commit.key})' if commit.key else ''}"


def told(commit: CommitSignature, why: str) -> str:
    """A commit and what is wrong with it."""
    return f'commit {commit.commit[:12]} "{commit.title}": {why}'


def _obstacle(one: Signed, question: Question, people: Register) -> str:
    """Why an approval counts for nobody; empty when nothing stands against it."""
    permission = one.approval.permission
    if not one.key:
        return "the signature is not over what the approval says"
    if wrong := one.trouble or _elsewhere(permission, question):
        return wrong
    if question.now > permission.not_after:
        return f"it was good until {permission.not_after.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    if permission.nonce in question.used:
        return "an earlier run has used it"
    return "" if people.person(one.key) is not None else "the key is nobody's in the Teams of the base revision"


def _elsewhere(permission: Permission, question: Question) -> str:
    asked: Mapping[str, tuple[str, str]] = {
        "estate": (permission.estate, question.estate),
        "environment": (permission.environment, question.environment),
        "digest": (permission.digest, question.digest),
    }
    return next((f"it is for another {name}: {has}" for name, (has, wants) in asked.items() if has != wants), "")


def _no_part(one: Signed, requirements: Sequence[Requirement], people: Register, wrote: frozenset[int]) -> str:
    """Why this person's approval helps with none of the requirements."""
    permission = one.approval.permission
    if permission.break_glass:
        return ""
    if people.person(one.key) in wrote:
        return "this person made a commit that is to be applied"
    if not any(people.holds(one.key, each.role, each.team) for each in requirements):
        roles = sorted({f"{each.role}{f' of team {each.team}' if each.team else ''}" for each in requirements})
        return f"at the base revision this key is that of no {' and no '.join(roles)}"
    return ""


def _no_glass(one: Signed, question: Question, people: Register) -> str:
    if not question.break_glass:
        return "break-glass is not allowed in this environment"
    if not people.holds(one.key, Role.BREAK_GLASS):
        return f"at the base revision this key has no role {Role.BREAK_GLASS}"
    if not one.approval.permission.reason.strip():
        return "break-glass needs a reason"
    return ""


def _counts(one: Signed, requirement: Requirement, people: Register) -> bool:
    return people.holds(one.key, requirement.role, requirement.team)


def _answer(requirement: Requirement, good: Iterable[Signed], people: Register) -> Answer:
    found = {people.person(one.key) for one in good if _counts(one, requirement, people)}
    names = sorted(people.name(person) for person in found if person is not None)
    return Answer(requirement=requirement, people=tuple(names))


def _missing(answers: Iterable[Answer], people: Register, wrote: frozenset[int]) -> list[str]:
    found: list[str] = []
    for one in answers:
        if one.met:
            continue
        asked = one.requirement
        able = people.able(asked.role, asked.team) - wrote
        waiting = sorted({people.name(person) for person in able} - set(one.people))
        if len(able) < asked.count:
            hint = f"only {len(able)} at the base revision can sign, the authors of its commits left out"
        else:
            hint = f"still asked: {', '.join(waiting)}"
        found.append(f"{asked}: {len(one.people)} signed ({hint})")
    return found


def _broken(
    answers: tuple[Answer, ...], one: Signed, refused: list[str], people: Register, wrote: frozenset[int]
) -> Verdict:
    counted = _counted([one], people)
    author = ", who also made a commit of it" if people.person(one.key) in wrote else ""
    return Verdict(
        answers=answers,
        refused=tuple(refused),
        counted=counted,
        break_glass=f"BREAK-GLASS by {counted[0].person}{author}: {one.approval.permission.reason.strip()}",
    )


def _counted(good: Iterable[Signed], people: Register) -> tuple[Counted, ...]:
    """Each approval once, wherever it was found, and however often."""
    found = {(one.approval.permission.nonce, one.key): one for one in good}
    return tuple(
        Counted(person=_who(one, people), principal=people.principal(one.key), approval=one.approval)
        for one in found.values()
    )


def _who(one: Signed, people: Register) -> str:
    person = people.person(one.key) if one.key else None
    return people.name(person) if person is not None else one.key or "somebody"
