"""Checks of approval rules: what they name exists, and somebody can meet them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ismgr_automation.core.diagnostic import Diagnostic, Severity, did_you_mean
from ismgr_automation.estate.documents import ApprovalRule, Environment, EstateDocument, Role, Service, Team
from ismgr_automation.estate.draft import Draft, Entry, unknown, wrong

Path = tuple[str | int, ...]


def approval_names(draft: Draft) -> Iterator[Diagnostic]:
    """Teams, stacks, groups and data classes that rules name."""
    classes = frozenset(one for _, service in draft.each(Service) for one in service.data_classes)
    for entry, path, rule in _rules(draft):
        if rule.team is not None and rule.team not in draft.names("Team"):
            yield unknown("team", rule.team, draft.names("Team"), entry.marked.at(*path, "team"), entry.label)
        named: Sequence[tuple[str, str, tuple[str, ...], frozenset[str]]] = (
            ("stacks", "stack", rule.stacks, draft.names("Stack")),
            ("groups", "group", rule.groups, draft.names("HostGroup")),
        )
        for key, kind, wanted, known in named:
            for index, name in enumerate(wanted):
                if name not in known:
                    yield unknown(kind, name, known, entry.marked.at(*path, key, index), entry.label)
        for index, name in enumerate(rule.data_classes):
            if name not in classes:
                yield wrong(
                    entry.marked.at(*path, "data_classes", index),
                    f"no Service has the data class {name!r}",
                    "" if did_you_mean(name, classes) else "a data class of a Service",
                    did_you_mean(name, classes),
                )


def approval_counts(draft: Draft) -> Iterator[Diagnostic]:
    """A rule that asks for more people than there are could never be met."""
    for entry, path, rule in _rules(draft):
        if rule.team is not None and rule.team not in draft.names("Team"):
            continue
        able = _able(draft, rule.role, rule.team)
        if len(able) < rule.count:
            people = (
                "nobody has" if not able else f"only {', '.join(sorted(able))} {'have' if len(able) > 1 else 'has'}"
            )
            where = f" in team {rule.team}" if rule.team else ""
            yield wrong(
                entry.marked.at(*path),
                f"this rule asks for {rule.count} of role {rule.role}{where}, and {people} the role and an SSH key",
                "members with the role and ssh_keys, or a smaller count",
            )


def approval_people(draft: Draft) -> Iterator[Diagnostic]:
    """Settings that nobody could make use of."""
    for entry, name, environment in _environments(draft):
        if environment.break_glass and not _able(draft, Role.BREAK_GLASS, None):
            yield _idle(entry, ("environments", name, "break_glass"), Role.BREAK_GLASS, "nobody may break the glass")
        if environment.signed_commits and not _able(draft, Role.AUTHOR, None):
            place: Path = ("environments", name, "signed_commits")
            yield _idle(entry, place, Role.AUTHOR, "only OpenPGP keys of the pinned keyring can sign commits")


def sign_off_people(draft: Draft) -> Iterator[Diagnostic]:
    """A drill is signed off by people: a machine account is no management, and who has no key signs nothing."""
    for entry, team in draft.each(Team):
        for number, member in enumerate(team.members):
            if Role.MANAGEMENT not in member.roles:
                continue
            where = entry.marked.at("members", number, "roles", member.roles.index(Role.MANAGEMENT))
            if Role.RUNNER in member.roles:
                yield wrong(
                    where,
                    f"{member.name} has role {Role.RUNNER}, a machine account, and cannot be {Role.MANAGEMENT}",
                    f"a member of its own for the person who has role {Role.MANAGEMENT}",
                )
            elif not member.ssh_keys:
                yield Diagnostic(
                    summary=f"{member.name} has role {Role.MANAGEMENT} and no SSH key: no drill can be signed off so",
                    position=where,
                    expected="ssh_keys of this member",
                    severity=Severity.WARNING,
                )


def runner_keys(draft: Draft) -> Iterator[Diagnostic]:
    """The evidence of an environment is signed with one key."""
    for entry, name, environment in _environments(draft):
        evidence = environment.evidence
        if evidence.runner_key is not None and evidence.runner_agent is not None:
            yield wrong(
                entry.marked.key("environments", name, "evidence", "runner_agent"),
                f"environment {name} names two runner keys",
                "either runner_key (a secret) or runner_agent (the public half of a key in an agent)",
            )


def _idle(entry: Entry, path: Path, role: Role, consequence: str) -> Diagnostic:
    return Diagnostic(
        summary=f"no member has role {role} and an SSH key: {consequence}",
        position=entry.marked.at(*path),
        expected=f"a member with role {role} and ssh_keys",
        severity=Severity.WARNING,
    )


def _environments(draft: Draft) -> Iterator[tuple[Entry, str, Environment]]:
    for entry, estate in draft.each(EstateDocument):
        for name, environment in estate.environments.items():
            yield entry, name, environment


def _rules(draft: Draft) -> Iterator[tuple[Entry, Path, ApprovalRule]]:
    for entry, name, environment in _environments(draft):
        for index, rule in enumerate(environment.approvals):
            yield entry, ("environments", name, "approvals", index), rule


def _able(draft: Draft, role: Role, team: str | None) -> frozenset[str]:
    return frozenset(
        member.name
        for _, one in draft.each(Team)
        for member in one.members
        if team in {None, one.name} and role in member.roles and member.ssh_keys
    )
