"""What must be signed before a plan may be applied: by the rules of the base revision and of the proposed one, both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ismgr_automation.approval.touched import Touched
from ismgr_automation.estate.documents import ApprovalRule, Environment, EstateDocument, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """So many people with this role (and of this Team, if one is named) must sign, because of what is touched."""

    count: int
    role: Role
    team: str | None
    because: str

    def __str__(self) -> str:
        """In words: ``2 approvers of team clinic, because phi is touched``."""
        people = f"{self.count} {self.role}{'s' * (self.count != 1)}"
        return f"{people}{f' of team {self.team}' if self.team else ''}, because {self.because}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What an environment asks, by the base and the proposed documents together; the stricter of both."""

    base: tuple[ApprovalRule, ...]
    proposed: tuple[ApprovalRule, ...]
    signed_commits: bool
    break_glass: bool

    @property
    def wanted(self) -> bool:
        """Whether anything is asked at all."""
        return self.signed_commits or bool(self.base or self.proposed)


def guard(base: EstateDocument | None, proposed: EstateDocument, environment: str) -> Guard:
    """What is asked in an environment. One that the base does not know is judged by the rules of all that it knows: it
    could be an old one under a new name. ``base`` None: nothing was ever applied or pinned."""
    now = proposed.environments[environment]
    before: tuple[Environment, ...] = ()
    if base is not None:
        same = base.environments.get(environment)
        before = (same,) if same is not None else tuple(base.environments.values())
    return Guard(
        base=tuple(dict.fromkeys(rule for one in before for rule in one.approvals)),
        proposed=now.approvals,
        signed_commits=any(one.signed_commits for one in (*before, now)),
        break_glass=all(one.break_glass for one in (*before, now)),
    )


def requirements(rules: Iterable[ApprovalRule], touched: Touched) -> tuple[Requirement, ...]:
    """The rules that hold for what is touched."""
    return tuple(
        Requirement(count=rule.count, role=rule.role, team=rule.team, because=because)
        for rule in rules
        if (because := _because(rule, touched))
    )


def strictest(base: Iterable[Requirement], proposed: Iterable[Requirement]) -> tuple[Requirement, ...]:
    """Both must be met. Where they ask the same for the same reason, the larger count stands for both."""
    found: dict[Requirement, int] = {}
    for one in (*base, *proposed):
        key = replace(one, count=1)
        found[key] = max(one.count, found.get(key, 0))
    return tuple(replace(key, count=count) for key, count in found.items())


def _because(rule: ApprovalRule, touched: Touched) -> str:
    if not touched.anything:
        return ""
    if not (rule.stacks or rule.groups or rule.data_classes or rule.destroys or rule.urgent):
        return "something changes"
    reasons = " and ".join(_reasons(rule, touched))
    return reasons or ("people or settings of the environment change" if touched.judges else "")


def _reasons(rule: ApprovalRule, touched: Touched) -> Iterator[str]:
    if stacks := touched.stacks & set(rule.stacks):
        yield f"stack {_listed(stacks)} is touched"
    if groups := touched.groups & set(rule.groups):
        yield f"group {_listed(groups)} is touched"
    if classes := touched.data_classes & set(rule.data_classes):
        yield f"it touches what holds {_listed(classes)} data"
    if rule.destroys and touched.destroys:
        yield "something is deleted or replaced"
    if rule.urgent and touched.urgent:
        yield "windows and freezes are overridden"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
