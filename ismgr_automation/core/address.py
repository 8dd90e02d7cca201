"""The only identity that crosses rooms: what kind of thing, and its name."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What an address can point at."""

    STACK = "stack"
    GROUP = "group"
    HOST = "host"
    MACHINE = "machine"
    SERVICE = "service"
    SITE = "site"
    TEAM = "team"
    BASELINE = "baseline"
    WINDOW = "window"
    FREEZE = "freeze"
    EXEMPTION = "exemption"
    RECOVERY = "recovery"
    SCHEDULE = "schedule"


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """``kind/name``, for example ``stack/dc1-servers`` or ``host/db1.dc1``.

    >>> str(Address(Kind.HOST, "db1.dc1"))
    'host/db1.dc1'
    """

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``kind/name``; raises ``ValueError`` with the known kinds when it is something else.

        >>> Address.parse("stack/dc1-servers").name
        'dc1-servers'
        """
        kind, slash, name = text.partition("/")
        if not slash or not name or kind not in set(Kind):
            known = ", ".join(f"{one}/NAME" for one in Kind)
            raise ValueError(f"{text!r} is not an address; addresses look like {known}")
        return cls(Kind(kind), name)


def stack(name: str) -> Address:
    """The address of a Stack document."""
    return Address(Kind.STACK, name)


def group(name: str) -> Address:
    """The address of a HostGroup document."""
    return Address(Kind.GROUP, name)


def host(name: str) -> Address:
    """The address of a host, by its inventory name."""
    return Address(Kind.HOST, name)


def recovery(name: str) -> Address:
    """The address of a RecoveryPlan document, and of the change that a drill of it is."""
    return Address(Kind.RECOVERY, name)


def schedule(name: str) -> Address:
    """The address of a DrillSchedule document."""
    return Address(Kind.SCHEDULE, name)


def baseline(name: str) -> Address:
    """The address of a PatchBaseline document, and of the changes that it asks for."""
    return Address(Kind.BASELINE, name)
