"""What a fault's undo is: written down before anything is broken, complete by itself, and read again by who comes
later. It holds no secret, only where one is kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from ismgr_automation.core.errors import InputError
from ismgr_automation.core.json import Json, JsonObject
from ismgr_automation.ports.faults import FaultRequest, Harm

PREFIX = "ismgr-fault-"
"""How the timers of faults are called on hosts."""

TABLE = "ismgr_fault_"
"""How tables of a host's packet filter begin that belong to faults."""

HANDLE = "fa17:"
"""The handle of queues that belong to faults."""

ROOM = "/var/lib/ismgr-faults"
"""Where hosts keep what they know of faults; it outlives a boot, as some of them do."""

_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,180}")


class Way(StrEnum):
    """How a host does it. Which one it can is found out there."""

    SIGNAL = "signal"
    """SIGSTOP to each process of the server."""
    FREEZER = "freezer"
    """The kernel's freezer holds the control group of the server's unit."""
    FILTER = "filter"
    """Rules in the packet filter drop what is forwarded."""
    QUEUE = "queue"
    """A token bucket on the interface (tc tbf)."""
    POLICER = "policer"
    """Rules in the packet filter drop what is too much: nobody queues."""
    LIMIT = "limit"
    """The server's processes may write no file any more (RLIMIT_FSIZE): the disk itself is not filled."""
    SETTINGS = "settings"
    """The server is told that transactions are read-only: its file system is not touched."""
    POWER = "power"
    """A BMC."""


Values = Mapping[str, str]
"""What a host must know to mend, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hurt:
    """How one host is hurt."""

    way: Way
    values: Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """One fault of a run."""

    run: str
    fault: str
    harm: Harm
    hosts: Mapping[str, Hurt]

    @property
    def key(self) -> str:
        """What it is called on hosts."""
        return key_of(self.run, self.fault)

    def json(self) -> JsonObject:
        """For a journal."""
        hosts: Json = {name: {"way": one.way.value, **one.values} for name, one in sorted(self.hosts.items())}
        unit = f"{PREFIX}{self.key}"
        return {"run": self.run, "fault": self.fault, "do": self.harm.value, "unit": unit, "hosts": hosts}


def key_of(run: str, fault: str) -> str:
    """What a fault is called on hosts. Raises ``InputError`` for what cannot be a file's and a unit's name.

    >>> key_of("r1", "cut-off")
    'r1-cut-off'
    """
    key = f"{run}-{fault}"
    if not _KEY.fullmatch(key):
        raise InputError(f"{key!r} cannot be the name of a fault on a host.")
    return key


def table_of(request: FaultRequest) -> str:
    """The table of a fault in a packet filter."""
    return TABLE + re.sub(r"[^A-Za-z0-9_]", "_", key_of(request.run, request.name))


def read_undo(words: JsonObject) -> Undo:
    """What a journal, or a host, has kept. Raises ``InputError`` for what is no undo of a fault."""
    try:
        undo = Undo(
            run=str(words["run"]),
            fault=str(words["fault"]),
            harm=Harm(str(words["do"])),
            hosts={name: _hurt(one) for name, one in _object(words["hosts"]).items()},
        )
    except (KeyError, ValueError) as error:
        raise InputError("This is no undo of a fault.", next_step="Look with `ismgr drill faults`.") from error
    key_of(undo.run, undo.fault)
    return undo


def _hurt(words: Json) -> Hurt:
    values = {name: str(one) for name, one in _object(words).items()}
    return Hurt(way=Way(values.pop("way")), values=values)


def _object(words: Json) -> JsonObject:
    if not isinstance(words, Mapping):
        raise ValueError(words)  # noqa: TRY004  caught by who reads: a journal is data
    return words
