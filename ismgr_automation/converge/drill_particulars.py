"""What a drill's result says of its circumstances, as documents, Git and this machine know them; and who took part, as
its evidence knows it. Touches nothing."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from ismgr_automation.core.errors import IsmgrError
from ismgr_automation.core.json import JsonObject
from ismgr_automation.evidence.chain import Kind, Record
from ismgr_automation.evidence.telling import holder, parts, text
from ismgr_automation.ports.recovery import ProbeRequest
from ismgr_automation.recovery.particulars import Extent, Method, People, Scenario
from ismgr_automation.recovery.result import DrillResult, read_result, result_json

if TYPE_CHECKING:
    from ismgr_automation.converge.drill_unit import Drill

TOOLS = ("asyncssh", "psycopg", "ansible-core", "pulumi")
"""What may take part in a drill besides ourselves."""


def described(result: DrillResult, drill: Drill) -> DrillResult:
    """The result with what was drilled, what it stands for, how was measured and with what."""
    document = drill.field.document
    named = document.scenario
    return replace(
        result,
        extent=_extent(drill),
        scenario=Scenario(
            threat=named.threat,
            severity=named.severity,
            assumptions=named.assumptions,
            third_parties=named.third_parties,
            left_out=named.left_out,
            bia=named.bia,
        ),
        method=method_of(drill.request, document.probe.steady),
        tools=_tools(),
        people=replace(result.people, planned=_planned(drill)),
    )


def credited(kept: JsonObject, records: Iterable[Record]) -> JsonObject:
    """A kept result with who approved and ran it, as the evidence of its run has it."""
    found = read_result(kept)
    known = list(records)
    begun = [one for one in known if one.kind in {Kind.RUN_STARTED, Kind.RESUMED}]
    people = People(
        planned=found.people.planned,
        approved=_once(text(one, "principal") for record in begun for one in parts(record.body, "approvals")),
        ran=_once(holder(one.body) for one in begun),
    )
    return result_json(replace(found, people=people))


def method_of(request: ProbeRequest, steady: str) -> Method:
    """How a client measures that is asked for so."""
    from ismgr_automation.estate.resolve import duration

    return Method(
        client=f"numbered rows in {request.database}.{request.table}, through the service's endpoint",
        endpoints=request.endpoints,
        every_ms=request.every.total_seconds() * 1000,
        patience_ms=request.patience.total_seconds() * 1000,
        steady_ms=duration(steady).total_seconds() * 1000,
    )


def _extent(drill: Drill) -> Extent:
    estate, document = drill.scope.estate, drill.field.document
    service = estate.services[document.service]
    groups = _once([document.cluster, *service.groups, *_groups(drill)])
    membership = drill.work.ground.fleet.membership
    return Extent(
        hosts=_once(sorted(host for group in groups for host in membership.get(group, ()))),
        groups=groups,
        sites=(document.sites.home, document.sites.away),
        data_classes=service.data_classes,
        tier=service.tier,
    )


def _groups(drill: Drill) -> Iterator[str]:
    """The groups that steps act on."""
    for leg in drill.legs:
        for task in leg.tasks:
            name = getattr(task.step, "group", None)
            if isinstance(name, str):
                yield name


def _planned(drill: Drill) -> tuple[str, ...]:
    """Who made the commit, as Git has it."""
    revision = drill.scope.tree.revision
    if revision.worktree:
        return ()
    try:
        author = drill.scope.engines.recovery.author(revision.commit)
    except IsmgrError:
        return ()
    return (author,) if author else ()


@cache
def _tools() -> Mapping[str, str]:
    """The programs of this process, which stay the same while it runs."""
    from ismgr_automation import __version__

    found = {"ismgr": __version__, "python": platform.python_version(), "kernel": platform.release()}
    for name in TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _once(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once, in the order in which they come."""
    return tuple(dict.fromkeys(filter(None, names)))
