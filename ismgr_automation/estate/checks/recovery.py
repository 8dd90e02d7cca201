"""Checks of recovery plans: names that exist, paths that are safe by their shape, times that can be kept. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from ismgr_automation.core.diagnostic import Diagnostic, Severity
from ismgr_automation.estate.documents import HostGroup, Service
from ismgr_automation.estate.draft import Draft, Entry, unknown, wrong
from ismgr_automation.estate.order import PATHS, Step, always_before, each_step
from ismgr_automation.estate.recovery import (
    BackupDocument,
    Bubble,
    DemoteStep,
    DnsStep,
    FenceStep,
    FunctionStep,
    HaproxyStep,
    PlayStep,
    PromoteStep,
    RecoveryPlan,
    RejoinStep,
    StackStep,
    UnfenceStep,
    VerifyStep,
)
from ismgr_automation.estate.resolve import duration

HOT = ("failover", "switchover")


def recovery_names(draft: Draft) -> Iterator[Diagnostic]:
    """The service, the cluster, both sites, windows, groups and stacks of a recovery plan exist."""
    for entry, plan in draft.each(RecoveryPlan):
        yield from _known(draft, entry, "Service", plan.service, "service")
        yield from _known(draft, entry, "HostGroup", plan.cluster, "cluster")
        for key, name in (("home", plan.sites.home), ("away", plan.sites.away)):
            yield from _known(draft, entry, "Site", name, "sites", key)
        if plan.sites.home == plan.sites.away:
            yield wrong(entry.marked.at("sites", "away"), f"{entry.label} leads from a site to itself", "another site")
        for index, name in enumerate(plan.windows):
            yield from _known(draft, entry, "MaintenanceWindow", name, "windows", index)
        for index, name in enumerate(plan.ready.verify):
            yield from _known(draft, entry, "HostGroup", name, "ready", "verify", index)
        for path, index, step in each_step(plan):
            yield from _step_names(draft, entry, (path, index), step)
        if plan.bubble is not None:
            yield from _bubble_names(draft, entry, plan.bubble)


def recovery_clusters(draft: Draft) -> Iterator[Diagnostic]:
    """The cluster's group says where the database lies on its hosts."""
    for entry, plan in draft.each(RecoveryPlan):
        group = draft.sound(HostGroup, plan.cluster)
        if group is not None and group.switchover is None:
            summary = f"group {plan.cluster!r}, the cluster of {entry.label}, has no 'switchover'"
            yield wrong(entry.marked.at("cluster"), summary, "a group with switchover: {cluster: postgresql}")


def recovery_order(draft: Draft) -> Iterator[Diagnostic]:
    """Steps have names of their own, and wait for others of their path, however long the way round, never for
    themselves."""
    for entry, plan in draft.each(RecoveryPlan):
        for path in PATHS:
            steps: Sequence[Step] = getattr(plan, path)
            names = [one.name for one in steps]
            for index, step in enumerate(steps):
                if step.name in names[:index]:
                    summary = f"{path} of {entry.label} has two steps named {step.name!r}"
                    yield wrong(entry.marked.at(path, index, "name"), summary, "each name once")
                for number, need in enumerate(step.needs):
                    if need not in names:
                        place = entry.marked.at(path, index, "needs", number)
                        yield unknown("step", need, frozenset(names), place, f"step {step.name!r}")
            yield from _circle(entry, path, steps)


def recovery_paths(draft: Draft) -> Iterator[Diagnostic]:
    """A failover fences before it promotes, a switchover demotes before it promotes, clients are sent to the new side
    after that; and what was fenced is let out again before it joins."""
    for entry, plan in draft.each(RecoveryPlan):
        for path, first, never in (("failover", FenceStep, DemoteStep), ("switchover", DemoteStep, FenceStep)):
            steps: Sequence[Step] = getattr(plan, path)
            yield from _one_promotion(entry, path, steps, first)
            for index, step in enumerate(steps):
                if isinstance(step, never):
                    summary = f"{path} of {entry.label} has the step {step.name!r}, which is for the other path"
                    yield wrong(entry.marked.at(path, index, "do"), summary)
        joins = [one for one in plan.reprotect if isinstance(one, RejoinStep)]
        lifts = [one for one in plan.reprotect if isinstance(one, UnfenceStep)]
        for what, found in (("rejoin", joins), ("unfence", lifts)):
            if len(found) != 1:
                summary = f"reprotect of {entry.label} has {len(found) or 'no'} steps that {what} the old primary"
                yield wrong(entry.marked.at("reprotect"), summary, f"one step with do: {what}")
        if len(joins) == len(lifts) == 1 and lifts[0].name not in always_before(plan.reprotect, joins[0].name):
            place = entry.marked.at("reprotect", plan.reprotect.index(joins[0]))
            yield wrong(place, f"{joins[0].name!r} of {entry.label} does not wait until the fence is lifted")


def recovery_heat(draft: Draft) -> Iterator[Diagnostic]:
    """What takes seconds to start does so while clients wait only where the document says it by name."""
    for entry, plan in draft.each(RecoveryPlan):
        for path in HOT:
            for index, step in enumerate(getattr(plan, path)):
                if isinstance(step, PlayStep | StackStep | FunctionStep) and not step.hot:
                    summary = f"clients would wait for {step.do} {step.name!r} in the {path} of {entry.label}"
                    yield wrong(
                        entry.marked.at(path, index, "do"),
                        summary,
                        "the step in 'after' or 'reprotect', or hot: true where that is meant",
                    )


def recovery_objectives(draft: Draft) -> Iterator[Diagnostic]:
    """There is something to reach, and the deadlines of a failover leave room for it."""
    for entry, plan in draft.each(RecoveryPlan):
        service = draft.sound(Service, plan.service)
        rto = plan.objectives.rto or (service.objectives.rto if service is not None else None)
        rpo = plan.objectives.rpo or (service.objectives.rpo if service is not None else None)
        for name, value in (("rto", rto), ("rpo", rpo)):
            if value is None and service is not None:
                summary = f"neither {entry.label} nor service {plan.service!r} has an objective {name}"
                yield wrong(entry.marked.at("service"), summary, f"objectives: {{{name}: 15m}}, as it was promised")
        mtd = plan.objectives.mtd
        if rto is not None and mtd is not None and duration(mtd) < duration(rto):
            yield wrong(entry.marked.at("objectives", "mtd"), f"mtd {mtd} of {entry.label} is less than its rto {rto}")
        if duration(plan.probe.every).total_seconds() < 0.001:  # noqa: PLR2004  a millisecond
            yield wrong(
                entry.marked.at("probe", "every"), f"the probe of {entry.label} writes too often", "1ms or more"
            )


def recovery_backups(draft: Draft) -> Iterator[Diagnostic]:
    """Groups and sites of backups exist; names are used once, and a check says what it expects."""
    for entry, plan in draft.each(RecoveryPlan):
        if plan.backup is not None:
            yield from _backup_names(draft, entry, plan.backup)
            yield from _backup_checks(entry, plan.backup)


def _backup_names(draft: Draft, entry: Entry, backup: BackupDocument) -> Iterator[Diagnostic]:
    places: list[tuple[str, str | None, tuple[str | int, ...]]] = [
        ("HostGroup", backup.group, ("group",)),
        ("HostGroup", backup.restore_on, ("restore_on",)),
        ("Site", backup.site, ("site",)),
    ]
    for index, one in enumerate(backup.files):
        places += [("HostGroup", one.group, ("files", index, "group")), ("Site", one.site, ("files", index, "site"))]
    for kind, name, path in places:
        if name is not None:
            yield from _known(draft, entry, kind, name, "backup", *path)


def _backup_checks(entry: Entry, backup: BackupDocument) -> Iterator[Diagnostic]:
    listed = {"checks": [one.name for one in backup.checks], "files": [one.name for one in backup.files]}
    for key, names in listed.items():
        for index, name in enumerate(names):
            if name in names[:index]:
                summary = f"{key} of the backup of {entry.label} has two named {name!r}"
                yield wrong(entry.marked.at("backup", key, index, "name"), summary, "each name once")
    for index, check in enumerate(backup.checks):
        if (check.expect is None) == (check.at_least is None):
            summary = f"check {check.name!r} of {entry.label} does not say what its query should give"
            yield wrong(entry.marked.at("backup", "checks", index), summary, "either expect or at_least")


def _known(draft: Draft, entry: Entry, kind: str, name: str, *path: str | int) -> Iterator[Diagnostic]:
    words = {"HostGroup": "group", "MaintenanceWindow": "window"}
    known = draft.names(kind)
    if name not in known:
        yield unknown(words.get(kind, kind.lower()), name, known, entry.marked.at(*path), entry.label)


def _bubble_names(draft: Draft, entry: Entry, bubble: Bubble) -> Iterator[Diagnostic]:
    """The groups of a bubble exist, its checks have names of their own, and its timer leaves time for the copy."""
    yield from _known(draft, entry, "HostGroup", bubble.group, "bubble", "group")
    yield from _known(draft, entry, "HostGroup", bubble.gateways, "bubble", "gateways")
    for index, name in enumerate(bubble.verify):
        yield from _known(draft, entry, "HostGroup", name, "bubble", "verify", index)
    names = [one.name for one in bubble.checks]
    for index, name in enumerate(names):
        if name in names[:index]:
            summary = f"the bubble of {entry.label} has two checks named {name!r}"
            yield wrong(entry.marked.at("bubble", "checks", index, "name"), summary, "each name once")
    if duration(bubble.lasts) <= duration(bubble.deadline):
        summary = f"the clone of {entry.label} would be removed ({bubble.lasts}) before its copy must be there"
        yield wrong(entry.marked.at("bubble", "lasts"), summary, f"more than the deadline, {bubble.deadline}")


def _step_names(draft: Draft, entry: Entry, place: tuple[str, int], step: Step) -> Iterator[Diagnostic]:
    match step:
        case HaproxyStep() | VerifyStep() | PlayStep():
            yield from _known(draft, entry, "HostGroup", step.group, *place, "group")
        case StackStep():
            yield from _known(draft, entry, "Stack", step.stack, *place, "stack")
        case FenceStep():
            for index, name in enumerate(step.witnesses):
                yield from _known(draft, entry, "HostGroup", name, *place, "witnesses", index)
        case FunctionStep():
            if step.file not in draft.files and not step.file.startswith("ismgr:"):
                summary = f"the file {step.file!r} of step {step.name!r} does not exist"
                yield wrong(entry.marked.at(*place, "file"), summary, "a path inside the estate")
        case DnsStep():
            plan = draft.sound(RecoveryPlan, entry.name)
            sites = {plan.sites.home, plan.sites.away} if plan is not None else set()
            for site in sorted(sites - set(step.values)):
                summary = f"step {step.name!r} does not say what {step.record!r} points to at {site}"
                yield wrong(entry.marked.at(*place, "values"), summary, f"values: {{{site}: [...]}}")
        case _:
            pass


def _circle(entry: Entry, path: str, steps: Sequence[Step]) -> Iterator[Diagnostic]:
    names = [one.name for one in steps]
    edges: Mapping[str, set[str]] = {one.name: {need for need in one.needs if need in names} for one in steps}
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as problem:
        way = list(reversed(problem.args[1]))
        place = entry.marked.at(path, names.index(way[0]))
        yield wrong(place, f"a cycle in {path} of {entry.label}: {' -> '.join(way)}")


def _one_promotion(entry: Entry, path: str, steps: Sequence[Step], first: type[Step]) -> Iterator[Diagnostic]:
    """Exactly one promotion, and before it what makes it safe; every switch comes after it."""
    promotions = [one for one in steps if isinstance(one, PromoteStep)]
    word = first.model_fields["do"].annotation.__args__[0]  # type: ignore[union-attr]
    if len(promotions) != 1:
        summary = f"{path} of {entry.label} has {len(promotions) or 'no'} steps that promote"
        yield wrong(entry.marked.at(path), summary, "one step with do: promote")
        return
    earlier = always_before(steps, promotions[0].name)
    index = steps.index(promotions[0])
    if not any(isinstance(one, first) and one.name in earlier for one in steps):
        summary = f"nothing keeps the old side down before {promotions[0].name!r} in the {path} of {entry.label}"
        yield wrong(entry.marked.at(path, index), summary, f"a step with do: {word} before it")
    for number, step in enumerate(steps):
        if isinstance(step, HaproxyStep | DnsStep) and promotions[0].name not in always_before(steps, step.name):
            yield Diagnostic(
                summary=f"{step.name!r} in the {path} of {entry.label} may send clients where nobody takes writes yet",
                position=entry.marked.at(path, number),
                expected=f"needs: [{promotions[0].name}]",
                severity=Severity.WARNING,
            )
