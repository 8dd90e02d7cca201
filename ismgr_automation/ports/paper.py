"""How the verbs of a recovery are done by hand: commands for the day when nothing of ours runs. Texts, made from the
same requests as the verbs; no secret stands in any of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from ismgr_automation.ports.packages import Fleet
from ismgr_automation.ports.recovery import BackendRequest, FenceRequest, NameRequest
from ismgr_automation.ports.upkeep import BmcAccess, Cluster


class When(StrEnum):
    """When a block of commands is to be run."""

    ALWAYS = "always"
    OTHERWISE = "otherwise"
    """Only where the block before it did not end as it should."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One block of commands for a shell (bash) in front of a person. It may be run again. ``sees`` is the last line
    that it prints where it worked; what else it prints is for reading."""

    title: str
    script: str
    sees: str
    who: str = ""
    """Who must run it, where that is not whoever did the block before: a fence is confirmed by somebody else."""
    when: When = When.ALWAYS
    fails: str = ""
    """What another last line means, and what to do then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """The old primary ``host`` is to follow ``to``, which members reach at ``address``. ``planned``: it was stopped
    cleanly, with all that it wrote on the other side. ``way`` is that of ``ports.recovery.Standby.rejoin``."""

    cluster: Cluster
    host: str
    to: str
    address: str
    planned: bool
    way: str


class Paper(Protocol):
    """Writes down by which commands a verb is done. Raises ``InputError`` for what a verb cannot be asked for."""

    def desk(self, fleet: Fleet, authorities: Mapping[str, str]) -> tuple[Order, ...]:
        """What the other blocks need: a folder ``runbook`` with an SSH configuration of all hosts, their pinned keys,
        and the certificates (PEM) by which BMCs are known, by machine."""
        ...

    def fence(self, request: FenceRequest, instead: BmcAccess | None) -> tuple[Order, ...]:
        """Raise it, and have others confirm it. ``instead``: the BMC that cuts the power of a host that cannot be
        reached for another fence."""
        ...

    def unfence(self, request: FenceRequest, cluster: Cluster) -> tuple[Order, ...]:
        """Stop what is behind it, so that it can come up as a standby only, and lift it."""
        ...

    def demote(self, cluster: Cluster, host: str, to: str) -> tuple[Order, ...]:
        """As ``ports.recovery.Standby.demote``."""
        ...

    def promote(self, cluster: Cluster, to: str) -> tuple[Order, ...]:
        """As ``ports.recovery.Standby.promote``."""
        ...

    def rejoin(self, request: Return) -> tuple[Order, ...]:
        """As ``ports.recovery.Standby.rejoin``."""
        ...

    def backend(self, request: BackendRequest) -> tuple[Order, ...]:
        """A block for each balancer."""
        ...

    def name(self, request: NameRequest, key_place: str) -> tuple[Order, ...]:
        """By signed update. ``key_place`` says for people where the key lies."""
        ...
