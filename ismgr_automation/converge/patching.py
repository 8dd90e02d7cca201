"""What people ask of patching besides plans: what is due where, what hosts are like, who waits, what was done. Looks
only, but for what ``refresh`` and ``leave_queue`` say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ismgr_automation.converge.ground import whole_ground
from ismgr_automation.converge.requests import at_hand
from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.upkeep import Judged, Reading, judge, kept_readings, members, read_hosts, services
from ismgr_automation.core.address import baseline
from ismgr_automation.core.json import JsonObject
from ismgr_automation.patching import vex
from ismgr_automation.patching.knowledge import releases
from ismgr_automation.patching.status import Covered, Status, status
from ismgr_automation.planning.change import Finding, Level
from ismgr_automation.planning.fleet import Fleet
from ismgr_automation.ports.advisories import SourceRead
from ismgr_automation.ports.packages import HostFacts, PackageResult
from ismgr_automation.ports.patching import Patched, Waiting

REFRESH = timedelta(minutes=5)
"""How long hosts may take to read the indexes of their repositories."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How the estate stands: what is due, by which advisories of which date, and what is wrong with exemptions."""

    status: Status
    findings: tuple[Finding, ...]
    sources: tuple[SourceRead, ...]
    oldest: datetime | None
    """When the host was read whose reading is oldest; None where nothing was read."""
    unadvised: tuple[str, ...] = ()
    """Hosts that were read, and of whose release no source speaks: what they have is unknown, and counts as breach."""


def standing(scope: Scope, now: datetime, *, read: bool = True) -> Standing:
    """What is due on every host that a baseline selects. Without ``read`` the last readings count, whatever their age;
    hosts of which there is none, or that do not answer, count as breach."""
    fleet = whole_ground(scope).fleet
    mine = members(scope, fleet)
    names = [one.name for hosts in mine.values() for one in hosts]
    reading = _reading(scope, fleet, names, now, read=read)
    judged, findings = judge(scope, fleet, mine, reading, now.astimezone(UTC).date())
    covered = Covered(
        hosts=names,
        groups=fleet.membership,
        services=services(scope, fleet),
        unread=[name for name in names if name not in reading.facts],
    )
    updates = [update for one in judged for update in one.updates]
    sources = {one.source: one for listed in judged for one in listed.advisories.sources}
    silent = {name: hosts for one in judged for name, hosts in _silent(one, reading).items()}
    return Standing(
        status=status(updates, covered, now.astimezone(UTC).date()),
        findings=(*findings, *(_silence(*key, hosts) for key, hosts in sorted(silent.items()))),
        sources=tuple(sources[name] for name in sorted(sources)),
        oldest=min((one.read_at for one in reading.facts.values()), default=None),
        unadvised=tuple(sorted(name for hosts in silent.values() for name in hosts)),
    )


def _silent(one: Judged, reading: Reading) -> Mapping[tuple[str, str], list[str]]:
    """The hosts of whose release no source of their baseline speaks, by baseline and release."""
    spoken, found = releases(one.advisories), dict[tuple[str, str], list[str]]()
    for name in sorted(one.read):
        release = reading.facts[name].codename
        if release not in spoken:
            found.setdefault((one.document.name, release), []).append(name)
    return found


def _silence(name: str, release: str, hosts: Sequence[str]) -> Finding:
    return Finding(
        level=Level.WARN,
        subject=baseline(name),
        summary=f"no advisories of baseline/{name} speak of release {release or 'unknown'}: "
        f"nobody knows which vulnerabilities {', '.join(hosts)} have",
        next_step="Name a source of format debian or osv that covers it in the baseline's `advisories`.",
    )


def facts(scope: Scope, now: datetime, *, read: bool = True) -> Reading:
    """What hosts are like: read now, or as they were read last."""
    fleet = whole_ground(scope).fleet
    names = [one.name for hosts in members(scope, fleet).values() for one in hosts]
    return read_hosts(scope, fleet, names, now) if read else kept_readings(scope, names)


def refresh(scope: Scope) -> tuple[PackageResult, ...]:
    """Let hosts read the indexes of their repositories anew. No package is touched."""
    fleet = whole_ground(scope).fleet
    names = sorted(one.name for hosts in members(scope, fleet).values() for one in hosts)
    if not names:
        return ()
    return scope.engines.upkeep.packages.refresh(at_hand(scope, fleet, names), REFRESH, scope.context)


def waiting(scope: Scope) -> tuple[Waiting, ...]:
    """Hosts that could not be reached when it was their turn, the longest waiting first."""
    return scope.engines.upkeep.records.waiting()


def leave_queue(scope: Scope, hosts: Sequence[str]) -> None:
    """Take hosts out of the queue: they answered, and nothing was left to do there."""
    scope.engines.upkeep.records.dequeue(hosts)


def history(scope: Scope, host: str | None = None, limit: int = 200) -> tuple[Patched, ...]:
    """What runs installed, the newest first."""
    return scope.engines.upkeep.records.patched(host, limit)


def open_vex(scope: Scope, author: str, now: datetime) -> JsonObject:
    """The exemptions that hold and what they cover, as an OpenVEX document, by the last readings of hosts."""
    fleet = whole_ground(scope).fleet
    mine = members(scope, fleet)
    reading = kept_readings(scope, [one.name for hosts in mine.values() for one in hosts])
    judged, _ = judge(scope, fleet, mine, reading, now.astimezone(UTC).date())
    updates = [update for one in judged for update in one.updates]
    return vex.document(updates, scope.estate.exemptions, reading.facts, vex.Issuer(author=author, timestamp=now))


def _reading(scope: Scope, fleet: Fleet, names: list[str], now: datetime, *, read: bool) -> Reading:
    """Read now; of hosts that do not answer the last reading counts, and its age is told."""
    if not read:
        return kept_readings(scope, names)
    found = read_hosts(scope, fleet, names, now)
    before: Mapping[str, HostFacts] = kept_readings(scope, found.lost).facts
    return Reading(facts={**before, **found.facts}, lost=found.lost)
