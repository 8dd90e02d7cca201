"""Checks of windows, freezes, baselines and exemptions: times and names that exist, expressions that compile. Pure,
besides the zone database."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from ismgr_automation.core.diagnostic import Diagnostic, Severity, did_you_mean
from ismgr_automation.core.errors import InputError
from ismgr_automation.core.windows import LONGEST, YEARS, Recurrence, rule_flaws
from ismgr_automation.estate.checks.groups import Path, inside, selector, wave_sizes
from ismgr_automation.estate.checks.sites import time_zone
from ismgr_automation.estate.documents import HostGroup, Role, Site, Team
from ismgr_automation.estate.draft import Draft, Entry, unknown, wrong
from ismgr_automation.estate.maintenance import (
    Exemption,
    Freeze,
    MaintenanceWindow,
    PatchBaseline,
    RollbackPolicy,
    Through,
)
from ismgr_automation.estate.order import each_step
from ismgr_automation.estate.recovery import RecoveryPlan
from ismgr_automation.estate.resolve import duration
from ismgr_automation.estate.schedule import DrillSchedule
from ismgr_automation.estate.selector import Flaw

MOST_EXEMPT_DAYS = 365
"""The longest that any exemption may last; what its severity allows is known when advisories are."""

_SCHEMES = ("https", "http", "file")
_DENIED = re.compile(r"[^=\s]+=[^=\s]+")


def windows(draft: Draft) -> Iterator[Diagnostic]:
    """A window has a zone that exists, and either a start, perhaps with a rule, or a calendar."""
    for entry, window in draft.each(MaintenanceWindow):
        yield from time_zone(entry, window.time_zone)
        at = entry.marked.at
        if window.calendar is not None:
            for key, given in (("start", window.start is not None), ("rule", bool(window.rule))):
                if given:
                    yield wrong(at(key), f"{entry.label} has both a calendar and a {key}", "one of them")
            continue
        if window.start is None:
            place = at("rule") if window.rule else at("name")
            what = "has a rule and no start" if window.rule else "never opens"
            yield wrong(place, f"{entry.label} {what}", "a start such as 2026-01-04T01:00:00, or a calendar")
        elif window.start.year not in YEARS:
            summary = f"{entry.label} begins in the year {window.start.year}"
            yield wrong(at("start"), summary, f"a year from {YEARS.start} to {YEARS.stop - 1}")
        if window.rule:
            yield from rule_of(entry, window)


def window_lengths(draft: Draft) -> Iterator[Diagnostic]:
    """A window is open for some time, and its cutoff leaves some of it."""
    for entry, window in draft.each(MaintenanceWindow):
        length, cutoff = span_of(window.duration), span_of(window.cutoff)
        if length is None or length > LONGEST:
            yield wrong(entry.marked.at("duration"), f"{entry.label} is open for {window.duration}", "at most 366d")
        elif not length:
            yield wrong(entry.marked.at("duration"), f"{entry.label} is open for no time", "more than 0s")
        elif window.calendar is None and cutoff is not None and cutoff >= length:
            summary = f"the cutoff of {entry.label} leaves nothing of its {window.duration}"
            yield wrong(entry.marked.at("cutoff"), summary, f"less than {window.duration}")


def freezes(draft: Draft) -> Iterator[Diagnostic]:
    """A freeze begins before it ends, holds something up, is for somebody, and a team asked for it."""
    for entry, freeze in draft.each(Freeze):
        outside = [key for key in ("begins", "ends") if getattr(freeze, key).year not in YEARS]
        for key in outside:
            summary = f"{key!r} of {entry.label} is in the year {getattr(freeze, key).year}"
            yield wrong(entry.marked.at(key), summary, f"a year from {YEARS.start} to {YEARS.stop - 1}")
        if not outside and freeze.ends <= freeze.begins:
            yield wrong(entry.marked.at("ends"), f"{entry.label} ends before it begins", "a later time")
        if not freeze.work:
            yield wrong(entry.marked.at("work"), f"{entry.label} holds nothing up", "patch, apply or drill")
        yield from _team(draft, entry, freeze.owner)
        yield from selector(entry, ("selector",), freeze.selector, entry.label)


def exemptions(draft: Draft) -> Iterator[Diagnostic]:
    """An exemption ends, and within a year."""
    for entry, exemption in draft.each(Exemption):
        lasts = (exemption.expires - exemption.issued).days
        if lasts <= 0:
            yield wrong(entry.marked.at("expires"), f"{entry.label} expires before it holds", "a day after 'issued'")
        elif lasts > MOST_EXEMPT_DAYS:
            summary = f"{entry.label} lasts {lasts} days"
            yield wrong(entry.marked.at("expires"), summary, f"at most {MOST_EXEMPT_DAYS} days after 'issued'")


def exemption_people(draft: Draft) -> Iterator[Diagnostic]:
    """A team answers for an exemption, and somebody who may approve agreed to it."""
    everybody = {word for _, team in draft.each(Team) for one in team.members for word in (one.name, one.email) if word}
    able = {
        word
        for _, team in draft.each(Team)
        for one in team.members
        if Role.APPROVER in one.roles
        for word in (one.name, one.email)
        if word
    }
    for entry, exemption in draft.each(Exemption):
        yield from _team(draft, entry, exemption.owner)
        who = exemption.approver
        if who in able:
            continue
        lacks = f"does not have role {Role.APPROVER}" if who in everybody else "is a member of no team"
        near = did_you_mean(who, sorted(able)) if who not in everybody else ""
        expected = "" if near else f"the name or e-mail address of a member with role {Role.APPROVER}"
        yield wrong(entry.marked.at("approver"), f"{who!r}, the approver of {entry.label}, {lacks}", expected, near)


def baselines(draft: Draft) -> Iterator[Diagnostic]:
    """Windows that exist, rules and rings with names of their own, and versions to deny that can be told."""
    for entry, baseline in draft.each(PatchBaseline):
        known = draft.names("MaintenanceWindow")
        for index, name in enumerate(baseline.windows):
            if name not in known:
                yield unknown("window", name, known, entry.marked.at("windows", index), entry.label)
        yield from _twice(entry, "rules", (one.name for one in baseline.rules))
        yield from _twice(entry, "rings", (one.name for one in baseline.rings))
        for index, text in enumerate(baseline.deny):
            if not _DENIED.fullmatch(text):
                place = entry.marked.at("deny", index)
                yield wrong(place, f"{text!r} denies no version", "PACKAGE=VERSION, such as openssl=3.0.11-*")
        for index, source in enumerate(baseline.advisories):
            scheme, separator, _ = source.source.partition("://")
            if separator and scheme not in _SCHEMES:
                place = entry.marked.at("advisories", index, "source")
                yield wrong(place, f"{source.source!r} cannot be read from", "a path, or an https:// or file:// URL")


def baseline_selectors(draft: Draft) -> Iterator[Diagnostic]:
    """Selectors of baselines that compile."""
    for entry, baseline in draft.each(PatchBaseline):
        yield from selector(entry, ("selector",), baseline.selector, entry.label)


def firmware_and_rings(draft: Draft) -> Iterator[Diagnostic]:
    """Selectors of rings and firmware that compile, and wave sizes as those of groups."""
    for entry, baseline in draft.each(PatchBaseline):
        for index, ring in enumerate(baseline.rings):
            whose = f"ring {ring.name!r} of {entry.label}"
            yield from selector(entry, ("rings", index, "selector"), ring.selector, whose)
            yield from wave_sizes(entry, ("rings", index, "waves"), ring.waves, whose)
        for index, firmware in enumerate(baseline.firmware):
            whose = f"firmware {firmware.component!r} of {entry.label}"
            yield from selector(entry, ("firmware", index, "selector"), firmware.selector, whose)


def restarts(draft: Draft) -> Iterator[Diagnostic]:
    """Hosts can be restarted through Redfish only where there are machines. Which host runs on which of them is known
    when hosts are: plans look at each."""
    sites = [site for _, site in draft.each(Site)]
    if len(sites) < len(draft.names("Site")) or any(one.machines for one in sites):
        return
    for entry, baseline in draft.each(PatchBaseline):
        if baseline.reboot.through is Through.REDFISH:
            summary = f"{entry.label} restarts hosts through their BMCs, and no Site has a machine"
            yield wrong(entry.marked.at("reboot", "through"), summary, "machines of a Site, or systemd")


def snapshots(draft: Draft) -> Iterator[Diagnostic]:
    """Snapshots of hosts that can be selected, for a way back that is asked for; databases by the name of their group,
    with what that costs."""
    for entry, baseline in draft.each(PatchBaseline):
        if baseline.snapshots is None:
            continue
        yield from selector(
            entry, ("snapshots", "selector"), baseline.snapshots.selector, f"snapshots of {entry.label}"
        )
        if baseline.rollback is RollbackPolicy.NEVER:
            yield Diagnostic(
                summary=f"{entry.label} never rolls back, so that no snapshot is made",
                position=entry.marked.key("snapshots"),
                expected="rollback: on-failure or required",
                severity=Severity.WARNING,
            )
        for index, name in enumerate(baseline.snapshots.databases):
            yield from _database(draft, entry, name, index)


def _database(draft: Draft, entry: Entry, name: str, index: int) -> Iterator[Diagnostic]:
    place, known = entry.marked.at("snapshots", "databases", index), draft.names("HostGroup")
    group = draft.sound(HostGroup, name)
    if name not in known:
        yield unknown("group", name, known, place, entry.label)
    elif group is not None and group.switchover is None:
        summary = f"HostGroup {name!r} has no switchover: its hosts have snapshots without being named"
        yield wrong(place, summary, "a group with a switchover")
    elif group is not None:
        yield Diagnostic(
            summary=f"a host of HostGroup {name!r} that is put back to its snapshot loses what was written on it since",
            position=place,
            expected="only members that can be rebuilt from the others",
            severity=Severity.WARNING,
        )


def drains(draft: Draft) -> Iterator[Diagnostic]:
    """Balancers are a group that exists, and another one; each host is a server of its own."""
    for entry, group in draft.each(HostGroup):
        if group.drain is None:
            continue
        place = entry.marked.at("drain", "group")
        known = draft.names("HostGroup") - {group.name}
        if group.drain.group == group.name:
            yield wrong(place, f"{entry.label} is drained at itself", "the group of the balancers")
        elif group.drain.group not in known:
            yield unknown("group", group.drain.group, known, place, entry.label)
        if "{host}" not in group.drain.server and group.at_most != 1:
            yield Diagnostic(
                summary=f"every host of {entry.label} is drained as the same server {group.drain.server!r}",
                position=entry.marked.at("drain", "server"),
                expected="{host} in it, or at_most: 1",
                severity=Severity.WARNING,
            )


def durations(draft: Draft) -> Iterator[Diagnostic]:
    """Times to wait that are some time, and not longer than time itself."""
    for entry, path, text, some in _durations(draft):
        span = span_of(text)
        if span is None:
            yield wrong(entry.marked.at(*path), f"{path[-1]!r} of {entry.label} is {text}", "a time that ends")
        elif some and not span:
            yield wrong(entry.marked.at(*path), f"{path[-1]!r} of {entry.label} is no time", "more than 0s")


def _durations(draft: Draft) -> Iterator[tuple[Entry, Path, str, bool]]:
    """Where durations stand, and whether they must be more than nothing."""
    for entry, baseline in draft.each(PatchBaseline):
        yield entry, ("deadline",), baseline.deadline, True
        yield entry, ("offline_for",), baseline.offline_for, False
        yield entry, ("reboot", "back_within"), baseline.reboot.back_within, True
        yield entry, ("sla", "due_soon"), baseline.sla.due_soon, False
        if baseline.snapshots is not None:
            yield entry, ("snapshots", "deadline"), baseline.snapshots.deadline, True
        yield from ((entry, ("rules", i, "after"), one.after, False) for i, one in enumerate(baseline.rules))
        yield from ((entry, ("rings", i, "soak"), one.soak, False) for i, one in enumerate(baseline.rings))
        yield from (
            (entry, ("advisories", i, "max_age"), one.max_age, True) for i, one in enumerate(baseline.advisories)
        )
    for entry, window in draft.each(MaintenanceWindow):
        yield entry, ("cutoff",), window.cutoff, False
    for entry, group in draft.each(HostGroup):
        if group.drain is not None:
            yield entry, ("drain", "deadline"), group.drain.deadline, True
        if group.switchover is not None:
            yield entry, ("switchover", "deadline"), group.switchover.deadline, True
    for entry, plan in draft.each(RecoveryPlan):
        yield from ((entry, (path, index, "deadline"), step.deadline, True) for path, index, step in each_step(plan))
        yield from ((entry, ("probe", key), getattr(plan.probe, key), True) for key in ("every", "steady", "patience"))


def rule_of(entry: Entry, window: MaintenanceWindow | DrillSchedule) -> Iterator[Diagnostic]:
    """What is wrong with the recurrence of a window or schedule that has a start."""
    flaws = rule_flaws(window.rule)
    for one in flaws:
        place = inside(entry, Flaw(line=1, column=one.offset + 1, summary=one.summary), ("rule",))
        yield wrong(place, f"rule of {entry.label}: {one.summary}", one.expected, one.suggestion)
    if flaws or window.start is None:
        return
    try:
        recurrence = Recurrence(start=window.start, zone="UTC", duration=timedelta(seconds=1), rule=window.rule)
    except InputError:
        return  # out of bounds, and said
    first = next(recurrence.occurrences(datetime(YEARS.start, 1, 1, tzinfo=UTC)), None)
    if first is None:
        yield wrong(entry.marked.at("rule"), f"rule of {entry.label}: it never holds")
    elif first.begins.replace(tzinfo=None) != window.start.replace(microsecond=0):
        yield Diagnostic(
            summary=f"rule of {entry.label}: it does not hold at the start, and first at {first.begins:%Y-%m-%dT%X}",
            position=entry.marked.at("start"),
            expected="the first time that the rule means",
            severity=Severity.WARNING,
        )


def _twice(entry: Entry, key: str, names: Iterable[str]) -> Iterator[Diagnostic]:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            summary = f"{entry.label} has two {key} named {name!r}"
            yield wrong(entry.marked.at(key, index, "name"), summary, "each name once")
        seen.add(name)


def _team(draft: Draft, entry: Entry, owner: str) -> Iterator[Diagnostic]:
    if owner not in draft.names("Team"):
        yield unknown("team", owner, draft.names("Team"), entry.marked.at("owner"), entry.label)


def span_of(text: str) -> timedelta | None:
    """A duration, None for one that is longer than anything can be."""
    try:
        return duration(text)
    except OverflowError:
        return None
