"""Whether a host must be restarted, by a baseline's policy and what was read of it after its packages moved; and what
can be expected of that beforehand. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from ismgr_automation.estate.maintenance import RebootPolicy
from ismgr_automation.planning.timing import usual
from ismgr_automation.ports.packages import INIT, HostFacts, Mapped, Move, Need

SHORTEST = timedelta(minutes=1)
"""A host is never given up sooner, whatever its history says."""

PATIENCE = 3.0
"""How many times as long as it usually takes a host may take to come back."""


KERNEL = "linux-image-"
"""What the packages of kernels begin with."""

BUSES = frozenset({"dbus.service", "dbus-broker.service"})
"""Services that nobody restarts under those that use them."""

ASKING: Mapping[str, str] = {
    "libc6": "PID 1 and nearly every service have it mapped",
    "systemd": "it is PID 1",
    "libsystemd-shared": "PID 1 has it mapped",
    "libsystemd0": "PID 1 has it mapped",
    "libssl3": "PID 1 and many services have it mapped",
    "dbus": "the bus cannot be restarted alone",
    "dbus-broker": "the bus cannot be restarted alone",
}
"""Packages of Debian whose new versions usually ask for a restart, and why: for hosts that do not tell what they have
mapped."""

AT_BOOT: Mapping[str, str] = {
    "intel-microcode": "microcode is loaded when a host starts",
    "amd64-microcode": "microcode is loaded when a host starts",
}
"""Packages that nothing has mapped, and that take effect with a restart only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What is foretold of one host: whether it must be restarted after its moves, a line for each reason, which
    services are restarted otherwise (None: nobody can say), and what the policy makes of it, in words. What counts is
    what is read afterwards."""

    reboot: Need
    why: tuple[str, ...] = ()
    services: tuple[str, ...] | None = None
    then: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What is restarted on one host: all of it, or services, and why."""

    reboot: bool
    services: tuple[str, ...] = ()
    why: str = ""


def due(policy: RebootPolicy, facts: HostFacts) -> Due:
    """What a policy does about a host. Where nobody can tell whether a reboot is needed it is one: a library that is
    still in use is as vulnerable as before."""
    reasons = "; ".join(facts.reboot_why)
    match policy:
        case RebootPolicy.NEVER:
            return Due(reboot=False, services=facts.services, why=reasons)
        case RebootPolicy.ALWAYS:
            return Due(reboot=True, why=reasons or "the baseline says always")
        case RebootPolicy.IF_NEEDED:
            match facts.reboot:
                case Need.YES:
                    return Due(reboot=True, why=reasons or "the host asks for it")
                case Need.UNKNOWN:
                    return Due(reboot=True, why=reasons or "nobody can tell whether it is needed")
                case Need.NO:
                    return Due(reboot=False, services=facts.services, why=reasons)


def expected(policy: RebootPolicy, facts: HostFacts | None, moves: Sequence[Move]) -> Expected:
    """What moves are going to ask of a host, by what was read of it, and what a policy makes of that. ``facts`` is None
    for a host that was not read."""
    need, why = _foreseen(facts, moves)
    services = _services(facts, {one.name for one in moves}) if facts is not None else None
    match policy:
        case RebootPolicy.NEVER:
            told = "" if need is Need.NO else "told only, somebody else restarts it"
            return Expected(reboot=need, why=why, services=services, then=told)
        case RebootPolicy.ALWAYS:
            # who is restarted as a whole needs no service restarted besides
            asked = ("the baseline says always", *(why if need is Need.YES else ()))
            return Expected(reboot=Need.YES, why=asked, services=(), then="restarted")
        case RebootPolicy.IF_NEEDED:
            match need:
                case Need.YES:
                    return Expected(reboot=need, why=why, services=services, then="restarted if that is found then")
                case Need.UNKNOWN:
                    told = "restarted unless it is found then not to need it"
                    return Expected(reboot=need, why=why, services=services, then=told)
                case Need.NO:
                    return Expected(reboot=need, why=why, services=services)


def _foreseen(facts: HostFacts | None, moves: Sequence[Move]) -> tuple[Need, tuple[str, ...]]:
    """Whether the host must be restarted after these moves, and a line for each reason."""
    if facts is None:
        return Need.UNKNOWN, ("it was not read",)
    names = sorted({one.name for one in moves})
    yes = [f"needed already: {one}" for one in _needed(facts)]
    unknown: list[str] = []
    for name in names:
        if name.startswith(KERNEL):
            # in a container nothing is known of the kernel that runs: it may be somebody else's
            told = yes if facts.kernel_installed else unknown
            told.append(f"another kernel comes with {name}")
        elif name in AT_BOOT:
            yes.append(f"{name}: {AT_BOOT[name]}")
    if facts.mapped is None:
        yes += [f"{name}: {ASKING[name]} (by a list: the host does not tell)" for name in names if name in ASKING]
    else:
        yes += _in_memory(facts.mapped, names)
    if facts.reboot is Need.UNKNOWN:
        unknown += facts.reboot_why or ("nobody can tell whether it is needed",)
    if yes:
        return Need.YES, tuple(yes)
    return (Need.UNKNOWN, tuple(unknown)) if unknown else (Need.NO, ())


def _needed(facts: HostFacts) -> tuple[str, ...]:
    """Why a host had to be restarted before anything moved."""
    return facts.reboot_why or ("the host asks for it",) if facts.reboot is Need.YES else ()


def _in_memory(mapped: Sequence[Mapped], names: Sequence[str]) -> Iterator[str]:
    """What cannot be restarted alone and runs from packages that move."""
    for one in mapped:
        moving = ", ".join(name for name in names if name in one.packages)
        if moving and one.unit == INIT:
            yield f"PID 1 has {moving} mapped"
        elif moving and one.unit in BUSES:
            yield f"{one.unit} has {moving} mapped, and cannot be restarted alone"


def _services(facts: HostFacts, names: Collection[str]) -> tuple[str, ...] | None:
    """Services that run from packages that move, and those that run on replaced files already."""
    if facts.mapped is None:
        return None
    asked = {one.unit for one in facts.mapped if set(names) & set(one.packages)} - BUSES - {INIT}
    return tuple(sorted(asked | set(facts.services)))


def patience(history: Sequence[timedelta], otherwise: timedelta) -> timedelta:
    """How long to wait for a host to come back: three times the 95th percentile of what it took before, and at least
    a minute; ``otherwise`` as long as there is no history.

    >>> patience([timedelta(seconds=40)] * 5, timedelta(minutes=10))
    datetime.timedelta(seconds=120)
    """
    if not history:
        return otherwise
    return max(usual(history) * PATIENCE, SHORTEST)
