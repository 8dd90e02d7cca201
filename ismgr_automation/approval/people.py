"""Who the people of a revision's Teams are, and which keys are theirs. For counting, two entries that share a name, an
email or a key are one person; a role counts only for the keys of the entry that has it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ismgr_automation.estate.documents import Role, Team
from ismgr_automation.ports.signing import bare_key, fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One member of one Team. ``person`` is one number for all entries of one person; ``keys`` are fingerprints."""

    person: int
    team: str
    name: str
    email: str
    roles: frozenset[Role]
    keys: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """All members of all Teams of one revision; ``lines`` has the public key lines by fingerprint."""

    entries: tuple[Entry, ...]
    lines: Mapping[str, str]

    def person(self, key: str) -> int | None:
        """Whose key this is; None for an unknown one."""
        return next((one.person for one in self.entries if key in one.keys), None)

    def name(self, person: int) -> str:
        """What people call the person."""
        return next(one.name for one in self.entries if one.person == person)

    def holds(self, key: str, role: Role, team: str | None = None) -> bool:
        """Whether this key is one of a member with the role, in the Team if one is named."""
        return any(key in one.keys and role in one.roles and team in (None, one.team) for one in self.entries)

    def principal(self, key: str) -> str:
        """What an allowed-signers file calls the owner of a key: an email where there is one."""
        owner = next((one for one in self.entries if key in one.keys), None)
        return "" if owner is None else principal(owner.name, owner.email)

    def who(self, keys: Iterable[str], emails: Iterable[str] = ()) -> frozenset[int]:
        """The people behind keys and email addresses."""
        known, addresses = frozenset(keys), frozenset(map(str.casefold, emails))
        return frozenset(
            one.person for one in self.entries if one.keys & known or (one.email and one.email.casefold() in addresses)
        )

    def able(self, role: Role, team: str | None = None) -> frozenset[int]:
        """The people who have a role and a key to show it."""
        return frozenset(
            one.person for one in self.entries if one.keys and role in one.roles and team in (None, one.team)
        )


def register(teams: Mapping[str, Team]) -> Register:
    """The people of some Teams."""
    rows = [(team, member) for _, team in sorted(teams.items()) for member in team.members]
    marks = [frozenset(_marks(member.name, member.email, member.ssh_keys)) for _, member in rows]
    people = _same(marks)
    entries = tuple(
        Entry(
            person=person,
            team=team.name,
            name=member.name,
            email=member.email,
            roles=frozenset(member.roles),
            keys=frozenset(filter(None, map(fingerprint, member.ssh_keys))),
        )
        for (team, member), person in zip(rows, people, strict=True)
    )
    lines = {fingerprint(line): bare_key(line) for _, member in rows for line in member.ssh_keys if fingerprint(line)}
    return Register(entries=entries, lines=lines)


def principal(name: str, email: str) -> str:
    """A member as one word that is safe in an allowed-signers file: patterns and spaces mean something there.

    >>> principal("Ada Lovelace", ""), principal("Ada Lovelace", "ada@example.org")
    ('Ada-Lovelace', 'ada@example.org')
    """
    return re.sub(r"[^A-Za-z0-9@._+-]", "-", email or name)


def _marks(name: str, email: str, keys: Iterable[str]) -> Iterator[str]:
    yield f"name {' '.join(name.split()).casefold()}"
    if email:
        yield f"email {email.casefold()}"
    yield from (f"key {fingerprint(line)}" for line in keys if fingerprint(line))


def _same(marks: list[frozenset[str]]) -> list[int]:
    """Numbers for rows; rows that share a mark, directly or by others between them, have the same."""
    numbers = list(range(len(marks)))
    first: dict[str, int] = {}
    for row, mine in enumerate(marks):
        joined = {numbers[first[mark]] for mark in mine if mark in first} | {numbers[row]}
        least = min(joined)
        numbers = [least if one in joined else one for one in numbers]
        for mark in mine:
            first.setdefault(mark, row)
    return numbers
