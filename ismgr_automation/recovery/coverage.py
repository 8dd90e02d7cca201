"""Whether the report of a drill has the fields that it must have. Each kind of drill holds them in a place of its own,
and what has no place in a kind is not asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from ismgr_automation.core.json import JsonObject
from ismgr_automation.estate.drill_mode import DrillMode, PaperMode
from ismgr_automation.ports.upkeep import Part
from ismgr_automation.recovery.clauses import CLAUSES, Case, Coverage, Field, Held, Standard
from ismgr_automation.recovery.isolated import CheckTold
from ismgr_automation.recovery.restore_told import Invariant
from ismgr_automation.recovery.restoring import VERIFY
from ismgr_automation.recovery.result import TaskResult, Verdict
from ismgr_automation.recovery.sign_offs import by_two
from ismgr_automation.recovery.topics import SignRole, Topic

NO_PLACE: Mapping[DrillMode | PaperMode, frozenset[Field]] = {
    DrillMode.FAILOVER: frozenset(),
    DrillMode.SWITCHOVER: frozenset({Field.FENCE}),
    DrillMode.RETURN: frozenset({Field.FENCE, Field.RTO}),
    DrillMode.ISOLATED: frozenset({Field.FENCE, Field.RTO}),
    DrillMode.RESTORE: frozenset({Field.FENCE, Field.EFFECTS}),
    PaperMode.TABLETOP: frozenset(
        {
            Field.PREFLIGHT,
            Field.RTO,
            Field.RPO,
            Field.INTEGRITY,
            Field.EFFECTS,
            Field.FENCE,
            Field.RETURN,
        }
    ),
}
"""What a kind of drill cannot have: a fence where the old side is not lost, the outage of a client where nobody moves,
effects on a service that is left alone, and on paper whatever machines would have to say."""


def held(case: Case) -> tuple[Held, ...]:
    """Every field, and what is missing of it."""
    return tuple(
        Held(field=field, missing=tuple(_PARTS[field](case)) if _asked(field, case) else (), asked=_asked(field, case))
        for field in Field
    )


def coverage(case: Case) -> tuple[Coverage, ...]:
    """For each standard, which of the fields that it asks for are there and which are not."""
    fields = held(case)
    found = []
    for standard in Standard:
        mine = [one for one in fields if one.asked and standard in CLAUSES[one.field]]
        found.append(
            Coverage(
                standard=standard,
                covered=tuple(one.field for one in mine if one.covered),
                missing=tuple(one for one in mine if not one.covered),
            )
        )
    return tuple(found)


def coverage_json(found: Collection[Coverage]) -> JsonObject:
    """Coverage for pipelines, by standard."""
    return {
        str(one.standard): {
            "complete": one.complete,
            "covered": [field.name.lower() for field in one.covered],
            "missing": {each.field.name.lower(): list(each.missing) for each in one.missing},
        }
        for one in found
    }


def _asked(field: Field, case: Case) -> bool:
    """What has no place in such a drill is asked for where it is there all the same."""
    one = case.result
    there = {Field.FENCE: bool(_done(case, "fence")), Field.RTO: bool(one.outages)}
    if there.get(field):
        return True
    survived = one.fault is not None and one.fault.gap_ms is not None
    return field not in NO_PLACE[one.mode] and not (survived and field is Field.FENCE)


def _absent(**parts: object) -> Iterator[str]:
    """The names of parts that are not there, in words."""
    return (name.replace("_", " ") for name, value in parts.items() if not value)


def _done(case: Case, action: str) -> tuple[TaskResult, ...]:
    return tuple(one for one in case.result.tasks if one.action == action and one.ok)


def _identity(case: Case) -> Iterator[str]:
    one = case.result
    return _absent(
        run=one.run, plan=one.plan, commit=one.commit, digest_of_the_plan=one.digest, tool_versions=one.tools
    )


def _scope(case: Case) -> Iterator[str]:
    extent, scenario = case.result.extent, case.result.scenario
    return _absent(
        systems=extent.hosts,
        data_classes=extent.data_classes,
        sites=extent.sites,
        criticality=extent.tier is not None,
        business_impact_analysis=scenario.bia,
        risk_assessment=case.states(Topic.RISK),
        what_was_left_out=scenario.left_out,
    )


def _objectives(case: Case) -> Iterator[str]:
    goals = case.result.goals
    return _absent(RTO=goals.rto is not None, RPO=goals.rpo is not None, MTD=goals.mtd is not None)


def _scenario(case: Case) -> Iterator[str]:
    one = case.result.scenario
    return _absent(
        threat=one.threat, severity=one.severity, assumptions=one.assumptions, third_parties=one.third_parties
    )


def _people(case: Case) -> Iterator[str]:
    people, table = case.result.people, case.result.table
    return _absent(
        who_planned_it=people.planned,
        who_approved_it=people.approved,
        who_ran_it=people.ran or (table is not None and table.people),
        separation_of_duties=people.apart,
        who_observed_it=case.states(Topic.OBSERVERS),
        times_of_call_and_notice=case.states(Topic.NOTICE),
    )


def _preflight(case: Case) -> Iterator[str]:
    told, age = case.result.restore, case.states(Topic.BACKUPS)
    if told is not None:
        ground, age = {"backup": bool(told.label)}, told.taken_at is not None or age
    else:
        ground = {"members_and_lag": any(one.standings for one in case.result.readings[:1])}
    return _absent(
        **ground,
        steady_client=case.result.steady is not None,
        capacity=case.states(Topic.CAPACITY),
        age_of_backups=age,
        configuration_drift=case.states(Topic.DRIFT),
    )


def _steps(case: Case) -> Iterator[str]:
    told = case.result.restore
    return _absent(steps=case.result.tasks or (told is not None and told.steps))


def _rto(case: Case) -> Iterator[str]:
    told, measured = case.result.restore, case.result.method is not None
    if told is not None:
        return _absent(time_until_it_answered=told.rto_ms is not None, time_of_each_step=told.steps, method=measured)
    outages = case.result.outages
    cut = all(one.waterfall or not one.interruptions for one in outages)
    return _absent(outage_of_a_client=outages, time_of_each_step=outages and cut, method=measured)


def _rpo(case: Case) -> Iterator[str]:
    told, apart = case.result.restore, case.result.isolation
    if told is not None:
        return _absent(
            count_of_lost_writes=case.result.writes is not None, age_of_the_newest_write=told.age_s is not None
        )
    if apart is not None:
        return _absent(
            count_of_rows_in_the_clone=apart.held_rows is not None, age_of_the_newest_one=apart.behind_ms is not None
        )
    lag = any(
        standing.streaming and standing.part is Part.STANDBY
        for one in case.result.readings
        for standing in one.standings
    )
    return _absent(count_of_lost_writes=case.result.writes is not None, lag_readings=lag)


def _integrity(case: Case) -> Iterator[str]:
    told, apart = case.result.restore, case.result.isolation
    timeline = any(standing.timeline for one in case.result.readings for standing in one.standings)
    rows, suites = case.result.writes is not None, bool(_done(case, "verify"))
    checksums = case.states(Topic.CHECKSUMS)
    if told is not None:
        timeline, suites = told.timeline is not None, _all_hold(told.invariants)
        checksums = checksums or any(one.name == VERIFY and one.ok for one in told.invariants)
    elif apart is not None:
        rows, suites = apart.held_rows is not None, _all_hold(apart.checks)
    return _absent(
        rows_compared=rows,
        checksums=checksums,
        suites_that_passed=suites,
        timelines=timeline,
    )


def _effects(case: Case) -> Iterator[str]:
    apart = case.result.isolation
    if apart is not None:
        return _absent(
            count_of_packets_that_got_out=apart.passed_out is not None,
            longest_gap_in_service=apart.longest_gap_ms is not None,
        )
    return _absent(
        count_of_refused_writes=case.result.writes is not None, longest_gap_in_service=bool(case.result.outages)
    )


def _fence(case: Case) -> Iterator[str]:
    return _absent(
        fence=_done(case, "fence"), independent_confirmation=any(one.ok for one in case.result.confirmations)
    )


def _all_hold(found: Sequence[Invariant | CheckTold]) -> bool:
    """Of what was asked; nothing proves nothing."""
    return bool(found) and all(one.ok for one in found)


def _return(case: Case) -> Iterator[str]:
    moved = case.result.restore is None and case.result.isolation is None
    return _absent(
        time_without_redundancy=not moved or case.result.without_redundancy_s is not None,
        verdict_of_the_cleanup="cleanup" in case.result.verdicts,
    )


def _emergency(case: Case) -> Iterator[str]:
    return _absent(functions_that_ran_degraded=case.states(Topic.DEGRADED), access_control=case.states(Topic.ACCESS))


def _findings(case: Case) -> Iterator[str]:
    failed = case.result.verdict is not Verdict.PASSED
    found = case.findings
    return _absent(
        findings=found or (case.states(Topic.REVIEW) and not failed), root_causes=all(one.cause for one in found)
    )


def _comparison(case: Case) -> Iterator[str]:
    # where no client waits there is no figure to compare: earlier verdicts stand beside this one
    moved = case.result.restore is None and _asked(Field.RTO, case)
    earlier = case.trend.compared if moved else case.trend.points[:-1]
    return _absent(earlier_drills=earlier, when_the_next_one_is_due=case.seal.next_due)


def _sign_off(case: Case) -> Iterator[str]:
    roles = {one.sign_off.role for one in case.sign_offs if one.counts}
    return _absent(
        signed_record=case.seal.recorded and bool(case.seal.signed_by),
        sign_off_by_the_owner=SignRole.OWNER in roles,
        sign_off_by_management=SignRole.MANAGEMENT in roles,
        sign_off_by_two_people=len(roles) < len(SignRole) or by_two(case.sign_offs),
        retention=case.states(Topic.RETENTION),
    )


_PARTS: Mapping[Field, Callable[[Case], Iterator[str]]] = {
    Field.IDENTITY: _identity,
    Field.SCOPE: _scope,
    Field.OBJECTIVES: _objectives,
    Field.SCENARIO: _scenario,
    Field.PEOPLE: _people,
    Field.PREFLIGHT: _preflight,
    Field.STEPS: _steps,
    Field.RTO: _rto,
    Field.RPO: _rpo,
    Field.INTEGRITY: _integrity,
    Field.EFFECTS: _effects,
    Field.FENCE: _fence,
    Field.RETURN: _return,
    Field.EMERGENCY: _emergency,
    Field.FINDINGS: _findings,
    Field.COMPARISON: _comparison,
    Field.SIGN_OFF: _sign_off,
}
