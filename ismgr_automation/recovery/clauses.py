"""Which fields the report of a drill must have, which clauses of which standards ask for each, and whether a drill has
them. A standard is complete when nothing that it asks for is missing. No clause is judged here: only whether the record
holds what it asks to be on record."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from ismgr_automation.core.json import JsonObject
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.ports.upkeep import Part
from ismgr_automation.recovery.particulars import Finding, Note, Statement
from ismgr_automation.recovery.result import DrillResult, TaskResult, Verdict
from ismgr_automation.recovery.sign_offs import Weighed, by_two
from ismgr_automation.recovery.topics import SignRole, Topic
from ismgr_automation.recovery.trend import Trend


class Standard(StrEnum):
    """Who asks."""

    HIPAA = "HIPAA"
    ISO_22301 = "ISO 22301"
    DORA = "DORA"
    NIST = "NIST"
    SOC_2 = "SOC 2"
    PCI_DSS = "PCI DSS"
    GDPR = "GDPR"


class Field(StrEnum):
    """What a report must hold, in words."""

    IDENTITY = "which drill, of which plan, with what, when, of which kind"
    SCOPE = "systems, data, sites, criticality, business impact, what was left out"
    OBJECTIVES = "objectives written before the run"
    SCENARIO = "scenario, severity, threat, assumptions, third parties"
    PEOPLE = "who planned, approved, ran and observed it, and who was called when"
    PREFLIGHT = "readings before anything was done"
    STEPS = "log of the steps"
    RTO = "measured recovery time"
    RPO = "measured recovery point"
    INTEGRITY = "proof that the data is whole"
    EFFECTS = "effects on production"
    FENCE = "proof of the fence"
    RETURN = "return to normal"
    EMERGENCY = "emergency-mode operation"
    FINDINGS = "findings with cause, owner and due date"
    COMPARISON = "comparison with earlier drills, and the next one"
    SIGN_OFF = "sign-off, signature and retention"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """What the evidence says of a result as it is kept. ``recorded``: the signed chain holds its digest and is whole;
    ``signed_by`` names the runner who signed the end of the run. ``next_due`` is when the plan's next drill must be,
    in words, where a schedule says so."""

    recorded: bool = False
    signed_by: str = ""
    next_due: str = ""
    trouble: str = ""
    """Why the evidence could not be asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """All that is known of one drill."""

    result: DrillResult
    trend: Trend
    notes: tuple[Note, ...] = ()
    seal: Seal = Seal()
    sign_offs: tuple[Weighed, ...] = ()
    """All that there are, also those that do not count."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is to be made better, the oldest first."""
        return tuple(one for one in self.notes if isinstance(one, Finding))

    @property
    def statements(self) -> tuple[Statement, ...]:
        """What people stated, the oldest first."""
        return tuple(one for one in self.notes if isinstance(one, Statement))

    def states(self, topic: Topic) -> bool:
        """Whether somebody stated something of a topic."""
        return any(one.topic is topic for one in self.statements)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A field of one report. ``missing`` are the parts that are not there; without any it is covered. A field that is
    not ``asked`` has no place in such a drill."""

    field: Field
    missing: tuple[str, ...]
    asked: bool = True

    @property
    def covered(self) -> bool:
        """Whether all of it is there."""
        return not self.missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What a report has of what one standard asks for."""

    standard: Standard
    covered: tuple[Field, ...]
    missing: tuple[Held, ...]

    @property
    def complete(self) -> bool:
        """Whether it has all of it: the mark is withheld when anything is missing."""
        return not self.missing


CLAUSES: Mapping[Field, Mapping[Standard, tuple[str, ...]]] = {
    Field.IDENTITY: {Standard.DORA: ("RTS 2024/1774 Art. 25",), Standard.NIST: ("SP 800-34 3.5", "SP 800-84")},
    Field.SCOPE: {
        Standard.ISO_22301: ("8.2", "8.5"),
        Standard.DORA: ("Art. 11(5)", "RTS 2024/1774 Art. 25(1)"),
        Standard.HIPAA: ("164.308(a)(7)(ii)(E)",),
    },
    Field.OBJECTIVES: {Standard.ISO_22301: ("8.5",), Standard.NIST: ("CP-2", "CP-10"), Standard.SOC_2: ("A1.3",)},
    Field.SCENARIO: {Standard.DORA: ("RTS 2024/1774 Art. 25(2)", "26(2)"), Standard.SOC_2: ("A1.3",)},
    Field.PEOPLE: {
        Standard.ISO_22301: ("8.4.2", "8.5"),
        Standard.NIST: ("SP 800-84",),
        Standard.PCI_DSS: ("12.10.1",),
    },
    Field.PREFLIGHT: {Standard.NIST: ("CP-7", "CP-9"), Standard.DORA: ("Art. 12",), Standard.SOC_2: ("A1.2",)},
    Field.STEPS: {Standard.NIST: ("CP-4(3)", "AU"), Standard.DORA: ("RTS 2024/1774 Art. 25",)},
    Field.RTO: {Standard.NIST: ("CP-10",), Standard.DORA: ("Art. 12(6)",), Standard.SOC_2: ("A1.3",)},
    Field.RPO: {Standard.DORA: ("Art. 12(6)",), Standard.GDPR: ("32(1)(c)",), Standard.NIST: ("CP-9",)},
    Field.INTEGRITY: {
        Standard.DORA: ("Art. 12(7)",),
        Standard.SOC_2: ("A1.3",),
        Standard.HIPAA: ("164.308(a)(7)(ii)(A)",),
    },
    Field.EFFECTS: {Standard.NIST: ("CP-4",), Standard.GDPR: ("32(1)(b)",)},
    Field.FENCE: {Standard.DORA: ("Art. 12",)},
    Field.RETURN: {Standard.NIST: ("CP-4(4)", "CP-10"), Standard.DORA: ("Art. 11(6)", "12")},
    Field.EMERGENCY: {Standard.HIPAA: ("164.308(a)(7)(ii)(C)",), Standard.NIST: ("CP-2", "CP-12")},
    Field.FINDINGS: {
        Standard.ISO_22301: ("8.5", "10.1"),
        Standard.NIST: ("CP-4 b", "CP-4 c"),
        Standard.HIPAA: ("164.308(a)(7)(ii)(D)",),
        Standard.PCI_DSS: ("12.10.6",),
        Standard.SOC_2: ("A1.3",),
    },
    Field.COMPARISON: {
        Standard.ISO_22301: ("9.1", "9.3"),
        Standard.DORA: ("Art. 11(6)",),
        Standard.PCI_DSS: ("12.10.2",),
        Standard.GDPR: ("32(1)(d)",),
    },
    Field.SIGN_OFF: {
        Standard.DORA: ("RTS 2024/1774 Art. 25(5)",),
        Standard.ISO_22301: ("9.3",),
        Standard.HIPAA: ("164.316(b)(2)",),
    },
}
"""Which clauses ask for a field, by standard."""


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
    """A fence is asked for where the old side is treated as lost."""
    return field is not Field.FENCE or case.result.mode is DrillMode.FAILOVER or bool(_done(case, "fence"))


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
    people = case.result.people
    return _absent(
        who_planned_it=people.planned,
        who_approved_it=people.approved,
        who_ran_it=people.ran,
        separation_of_duties=people.apart,
        who_observed_it=case.states(Topic.OBSERVERS),
        times_of_call_and_notice=case.states(Topic.NOTICE),
    )


def _preflight(case: Case) -> Iterator[str]:
    return _absent(
        members_and_lag=any(one.standings for one in case.result.readings[:1]),
        steady_client=case.result.steady is not None,
        capacity=case.states(Topic.CAPACITY),
        age_of_backups=case.states(Topic.BACKUPS),
        configuration_drift=case.states(Topic.DRIFT),
    )


def _steps(case: Case) -> Iterator[str]:
    return _absent(steps=case.result.tasks)


def _rto(case: Case) -> Iterator[str]:
    outages = case.result.outages
    cut = all(one.waterfall or not one.interruptions for one in outages)
    return _absent(outage_of_a_client=outages, time_of_each_step=outages and cut, method=case.result.method is not None)


def _rpo(case: Case) -> Iterator[str]:
    lag = any(
        standing.streaming and standing.part is Part.STANDBY
        for one in case.result.readings
        for standing in one.standings
    )
    return _absent(count_of_lost_writes=case.result.writes is not None, lag_readings=lag)


def _integrity(case: Case) -> Iterator[str]:
    timeline = any(standing.timeline for one in case.result.readings for standing in one.standings)
    return _absent(
        rows_compared=case.result.writes is not None,
        checksums=case.states(Topic.CHECKSUMS),
        suites_that_passed=_done(case, "verify"),
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


def _return(case: Case) -> Iterator[str]:
    return _absent(
        time_without_redundancy=case.result.without_redundancy_s is not None,
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
    return _absent(earlier_drills=case.trend.compared, when_the_next_one_is_due=case.seal.next_due)


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
