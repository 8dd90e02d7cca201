"""How an estate stands: counts by state for hosts, groups, services and severities, and a row for each vulnerability.
Values only; what is unknown is counted as what it is, and is a breach to whoever asks whether all is well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date

from ismgr_automation.core.json import JsonObject
from ismgr_automation.estate.maintenance import Severity
from ismgr_automation.patching.sla import BREACHES, State
from ismgr_automation.patching.updates import Decision, Exposure, Update

COLUMNS = (
    *("host", "package", "architecture", "installed", "target", "newest", "cve", "severity", "state", "due"),
    *("days_left", "fixed", "exploited", "epss", "standing", "rule", "why", "exemptions"),
)
"""The names of a row's values, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One vulnerability of one package of one host, or an update that mends none (``cve`` is empty)."""

    host: str
    package: str
    architecture: str
    installed: str
    target: str
    newest: str
    cve: str
    severity: Severity | None
    state: State
    due: date | None
    days_left: int | None
    """Until it is due; negative: since it was."""
    fixed: str
    exploited: bool
    epss: float
    standing: str
    rule: str
    why: str
    exemptions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What stands open for one host, group, service or severity."""

    name: str
    counts: Mapping[State, int]
    """Vulnerabilities by state; every state is there."""
    oldest_due: date | None = None
    """The first day on which one of them is or was due, those that are excepted left out."""
    updates: int = 0
    """Packages that may be moved now."""
    unread: int = 0
    """Hosts of which nothing is known: they count as breach."""

    @property
    def breaches(self) -> int:
        """How much counts as breach."""
        return sum(self.counts[one] for one in BREACHES) + self.unread


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How the estate stands on a day."""

    day: date
    updates: tuple[Update, ...]
    """What was counted, by host and package: see ``rows``."""
    total: Tally
    hosts: tuple[Tally, ...]
    groups: tuple[Tally, ...]
    services: tuple[Tally, ...]
    severities: tuple[Tally, ...]
    unread: tuple[str, ...]
    """Hosts of which nothing is known, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """Whom the status is about. ``hosts`` are all that have a baseline, also those of which nothing could be read."""

    hosts: Collection[str]
    groups: Mapping[str, Collection[str]] = field(default_factory=dict)
    services: Mapping[str, Collection[str]] = field(default_factory=dict)
    unread: Collection[str] = ()


def status(updates: Collection[Update], covered: Covered, day: date) -> Status:
    """Count everything. Groups and services name their hosts; who is not in ``covered.hosts`` counts nowhere."""
    by_host: dict[str, list[Update]] = {name: [] for name in sorted(covered.hosts)}
    for one in updates:
        if one.host in by_host:
            by_host[one.host].append(one)
    unread = frozenset(covered.unread) & set(by_host)
    parts = _parts(updates)
    hosts = {name: _host(name, [parts[id(one.decision)] for one in found]) for name, found in by_host.items()}
    hosts |= {name: replace(hosts[name], unread=1) for name in unread}
    mine = tuple(one for found in by_host.values() for one in found)
    return Status(
        day=day,
        updates=mine,
        total=_sum("all", hosts.values()),
        hosts=tuple(hosts.values()),
        groups=_sums(covered.groups, hosts),
        services=_sums(covered.services, hosts),
        severities=_severities(mine, parts),
        unread=tuple(sorted(unread)),
    )


def met(one: Status) -> bool:
    """Whether nothing is breached, nothing unknown, and every host was read."""
    return one.total.breaches == 0


def rows(one: Status) -> Iterator[Row]:
    """A row for each vulnerability; one for an update that has none. An exempt one is excepted, and there."""
    for update in one.updates:
        exposures = update.decision.exposures
        yield from (_row(update, exposure, one.day) for exposure in exposures or (None,))


def values(row: Row) -> JsonObject:
    """A row as JSON: the names are ``COLUMNS``."""
    return {
        **{name: getattr(row, name) for name in COLUMNS},
        "severity": str(row.severity or ""),
        "state": str(row.state),
        "due": row.due.isoformat() if row.due else None,
        "exemptions": list(row.exemptions),
    }


def cells(row: Row) -> tuple[str, ...]:
    """A row as texts, in the order of ``COLUMNS``; empty where there is nothing."""
    return tuple(_cell(value) for value in values(row).values())


def tally_values(one: Tally) -> JsonObject:
    """A tally as JSON."""
    return {
        "name": one.name,
        "states": {str(state): one.counts[state] for state in State},
        "oldest_due": one.oldest_due.isoformat() if one.oldest_due else None,
        "updates": one.updates,
        "unread": one.unread,
        "breaches": one.breaches,
    }


def _row(update: Update, exposure: Exposure | None, day: date) -> Row:
    decision = update.decision
    waived = exposure.waived if exposure else decision.waived
    without = State.EXCEPTED if waived.hold else State.OK
    due = exposure.due if exposure else None
    return Row(
        host=update.host,
        package=decision.package,
        architecture=decision.architecture,
        installed=decision.installed,
        target=decision.target,
        newest=decision.newest,
        cve=exposure.cve if exposure else "",
        severity=exposure.severity if exposure else None,
        state=exposure.state if exposure else without,
        due=due,
        days_left=(due - day).days if due else None,
        fixed=exposure.fixed if exposure else "",
        exploited=exposure.exploited if exposure else False,
        epss=exposure.epss if exposure else 0.0,
        standing=str(decision.ruling.standing),
        rule=decision.ruling.rule,
        why=decision.ruling.why,
        exemptions=waived.hold,
    )


def _parts(updates: Iterable[Update]) -> Mapping[int, Mapping[Severity | None, Tally]]:
    """What each distinct decision adds, by its identity: in all (None), and to each severity. Hosts share decisions."""
    decisions = {id(one.decision): one.decision for one in updates}
    return {key: _part(decision) for key, decision in decisions.items()}


def _part(decision: Decision) -> Mapping[Severity | None, Tally]:
    found: dict[Severity | None, Tally] = {}
    for severity in (None, *Severity):
        mine = [one for one in decision.exposures if severity in {None, one.severity}]
        ready = bool(decision.target) and severity in {None, decision.severity}
        if mine or ready:
            counts = {state: sum(one.state is state for one in mine) for state in State}
            dues = [one.due for one in mine if one.due and one.state is not State.EXCEPTED]
            found[severity] = Tally(
                name=str(severity or ""), counts=counts, oldest_due=min(dues, default=None), updates=int(ready)
            )
    return found


def _host(name: str, parts: Iterable[Mapping[Severity | None, Tally]]) -> Tally:
    return _sum(name, [part[None] for part in parts if None in part])


def _severities(updates: Iterable[Update], parts: Mapping[int, Mapping[Severity | None, Tally]]) -> tuple[Tally, ...]:
    times = Counter(id(one.decision) for one in updates)
    found: list[Tally] = []
    for severity in Severity:
        mine = [(count, parts[key][severity]) for key, count in times.items() if severity in parts[key]]
        found.append(
            Tally(
                name=str(severity),
                counts={state: sum(count * one.counts[state] for count, one in mine) for state in State},
                oldest_due=min((one.oldest_due for _, one in mine if one.oldest_due), default=None),
                updates=sum(count * one.updates for count, one in mine),
            )
        )
    return tuple(found)


def _sums(named: Mapping[str, Collection[str]], hosts: Mapping[str, Tally]) -> tuple[Tally, ...]:
    return tuple(
        _sum(name, [hosts[one] for one in sorted(set(members)) if one in hosts])
        for name, members in sorted(named.items())
    )


def _sum(name: str, tallies: Collection[Tally]) -> Tally:
    return Tally(
        name=name,
        counts={state: sum(one.counts[state] for one in tallies) for state in State},
        oldest_due=min((one.oldest_due for one in tallies if one.oldest_due), default=None),
        updates=sum(one.updates for one in tallies),
        unread=sum(one.unread for one in tallies),
    )


def _cell(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else ""
    return "" if value is None else str(value)
