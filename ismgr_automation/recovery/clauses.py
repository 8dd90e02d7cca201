"""Which fields the report of a drill must have, and which clauses of which standards ask for each. A standard is
complete when nothing that it asks for is missing. No clause is judged here: only whether the record holds what it asks
to be on record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from ismgr_automation.recovery.particulars import Finding, Note, Statement
from ismgr_automation.recovery.result import DrillResult
from ismgr_automation.recovery.sign_offs import Weighed
from ismgr_automation.recovery.topics import Topic
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
