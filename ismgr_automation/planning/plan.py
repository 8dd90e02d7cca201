"""A Plan is a value: what would happen, in which waves, from which inputs, and how far it can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property

from ismgr_automation.core.json import Json, JsonObject, digest
from ismgr_automation.planning.change import Change, Deferred, Drift, Finding, Level, Step
from ismgr_automation.planning.forecast import Forecast

FIRST_FORMAT = "ismgr.plan/1"
"""Without batches, constraints, policies and versions of secrets. Plans of it can be read and shown for ever; applied
they are refused as stale, because nothing in them binds what was not yet bound then."""

FORMAT = "ismgr.plan/2"
"""What is composed now."""

FORMATS = (FIRST_FORMAT, FORMAT)
"""What can be read."""


URGENT, DAY, UNDOES, ABSENT, MODE, FAULT = "urgent", "day", "undoes", "absent", "mode", "fault"
"""Names among the policies of an input that are no files: why it is urgent, which day it counts from, which run it
undoes, which hosts could not be reached when it was made, what kind of drill it is, what is broken in it."""


class Purpose(StrEnum):
    """What a plan is for."""

    APPLY = "apply"
    DESTROY = "destroy"
    PATCH = "patch"
    ROLLBACK = "rollback"
    """Back to the versions that were installed before a run."""
    DRILL = "drill"
    """A service moves to another site and back, and is measured meanwhile."""


PATCHING = frozenset({Purpose.PATCH, Purpose.ROLLBACK})
"""What moves packages and firmware, and nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Everything that a plan was computed from, as digests by name. Equal inputs and equal observations give an equal
    plan, wherever and whenever it is composed."""

    documents: Mapping[str, str]
    """Git blob ids of the files that held documents, by path."""
    content: Mapping[str, str]
    """Digests of programs, playbooks and suites, by the name that documents use."""
    inventory: str
    """Digest of all hosts as they were known."""
    states: Mapping[str, str]
    """Digest of each stack's state, by address."""
    engines: Mapping[str, str]
    """Versions of engines and providers, by address of what they looked at."""
    selection: tuple[str, ...]
    """Targets and exclusions as they were given, sorted; empty for everything."""
    policies: Mapping[str, str] = field(default_factory=dict)
    """Digests of the policies that judged it, by name."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Versions of the secrets that it uses, by reference; never a secret itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """The time of a DrillSchedule that a drill is begun for."""

    schedule: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What stands beside the digest, not inside: where and when it was made. None of it changes what is done."""

    commit: str
    ref: str
    worktree: bool
    created_at: datetime
    expires_at: datetime | None = None
    """When it is too old to be applied; None when it never is."""
    sidecars: Mapping[str, str] = field(default_factory=dict)
    """The engines' own update plans by address, sealed (encrypted) text. Each is bound by the ``constraint`` of its
    change, which is inside the digest."""
    forecasts: Mapping[str, Forecast] = field(default_factory=dict)
    """What is expected of changes of packages and firmware, by their keys."""
    occasion: Occasion | None = None
    """Why a drill is begun now, where a calendar says so."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Ordered changes in waves, what is deferred, drift apart, and three separate answers.

    ``complete``: everything asked for was looked at; automation may rely on an empty complete plan meaning "nothing to
    do". ``applicable``: there is something to apply and nothing stands against it. ``errored``: an observation could
    not be made; the rest is still shown.
    """

    estate: str
    environment: str
    purpose: Purpose
    inputs: Inputs
    changes: tuple[Change, ...]
    waves: tuple[tuple[str, ...], ...]
    """Keys of the changes that may run together, in order."""
    deferred: tuple[Deferred, ...]
    drift: tuple[Drift, ...]
    findings: tuple[Finding, ...]
    complete: bool
    errored: bool
    beside: Beside
    format: str = FORMAT
    """The format that its digest is over: that of the file for a plan that was read."""

    @property
    def empty(self) -> bool:
        """Whether nothing would be done."""
        return not self.changes and not self.deferred

    @property
    def whole(self) -> bool:
        """Whether it applies all that a commit asks, and not a part, a working tree or something else. Only a run of
        such a plan moves the base revision that the next ones are judged by."""
        everything = not self.inputs.selection and not self.beside.worktree
        return self.purpose is Purpose.APPLY and everything and not self.empty

    @property
    def urgent(self) -> str:
        """Why windows and freezes do not hold it up; empty for a plan that waits for them."""
        return self.inputs.policies.get(URGENT, "")

    @property
    def day(self) -> str:
        """The day (UTC, ISO) by which ages and due dates were counted; empty where nothing depends on one."""
        return self.inputs.policies.get(DAY, "")

    @property
    def undoes(self) -> str:
        """The run that a rollback undoes."""
        return self.inputs.policies.get(UNDOES, "")

    @property
    def mode(self) -> str:
        """What kind of drill it is for; empty for other plans."""
        return self.inputs.policies.get(MODE, "")

    @property
    def absent(self) -> tuple[str, ...]:
        """Hosts that could not be reached when it was made: they are not in it, and wait for their turn."""
        return tuple(self.inputs.policies.get(ABSENT, "").split())

    @property
    def refused(self) -> bool:
        """Whether all was seen, and only rules of the estate stand against it."""
        denied = [one for one in self.findings if one.level is Level.DENY]
        return bool(denied) and all(one.refuses for one in denied)

    @property
    def applicable(self) -> bool:
        """Whether apply would do something and may."""
        return not self.empty and not self.errored

    @cached_property
    def intent(self) -> JsonObject:
        """The normalised intent: what the digest and a signature cover."""
        return {
            "format": self.format,
            "estate": self.estate,
            "environment": self.environment,
            "purpose": str(self.purpose),
            "inputs": inputs_json(self.inputs, self.format),
            "changes": [change_json(one, self.format) for one in self.changes],
            "waves": [list(wave) for wave in self.waves],
            "deferred": [deferred_json(one) for one in self.deferred],
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the canonical JSON of the intent."""
        return digest(self.intent)

    def change(self, key: str) -> Change:
        """The change with this key."""
        return next(one for one in self.changes if one.key == key)


def inputs_json(inputs: Inputs, format_: str = FORMAT) -> JsonObject:
    """The inputs as JSON of one format."""
    first: JsonObject = {
        "documents": dict(inputs.documents),
        "content": dict(inputs.content),
        "inventory": inputs.inventory,
        "states": dict(inputs.states),
        "engines": dict(inputs.engines),
        "selection": list(inputs.selection),
    }
    if format_ == FIRST_FORMAT:
        return first
    return {**first, "policies": dict(inputs.policies), "secrets": dict(inputs.secrets)}


def change_json(change: Change, format_: str = FORMAT) -> JsonObject:
    """A change as JSON of one format. Its reason is left out: it comes from what we remember, and equal intents must be
    equal."""
    first: JsonObject = {
        "address": str(change.address),
        "part": change.part,
        "action": str(change.action),
        "targets": [str(one) for one in change.targets],
        "inputs": change.inputs,
        "precondition": change.precondition,
        "steps": [step_json(one) for one in change.steps],
    }
    if format_ == FIRST_FORMAT:
        return first
    return {**first, "batch": change.batch, "constraint": change.constraint}


def step_json(step: Step) -> JsonObject:
    """A step as JSON; empty fields are left out."""
    optional: dict[str, Json] = {
        "why": step.why or None,
        "where": step.where or None,
        "before": step.before,
        "after": step.after,
    }
    return {
        "target": step.target,
        "what": step.what,
        "action": str(step.action),
        "certainty": str(step.certainty),
        **{name: value for name, value in optional.items() if value is not None},
    }


def deferred_json(deferred: Deferred) -> JsonObject:
    """A deferred change with its envelope as JSON; who was there already is left out where nobody was."""
    there = {"there": [str(one) for one in deferred.there]} if deferred.there else {}
    return {
        **there,
        "address": str(deferred.address),
        "waits_for": [str(one) for one in deferred.waits_for],
        "why": deferred.why,
        "expected": [str(one) for one in deferred.expected],
        "envelope": {
            "content": deferred.envelope.content,
            "at_most": deferred.envelope.at_most,
            "unknown": list(deferred.envelope.unknown),
            "actions": [str(one) for one in deferred.envelope.actions],
        },
    }


def drift_json(drift: Drift) -> JsonObject:
    """One drifted thing as JSON."""
    return {
        "address": str(drift.address),
        "target": drift.target,
        "what": drift.what,
        "before": drift.before,
        "after": drift.after,
    }


def finding_json(finding: Finding) -> JsonObject:
    """A finding as JSON."""
    return {
        "level": str(finding.level),
        "subject": str(finding.subject),
        "summary": finding.summary,
        "next_step": finding.next_step,
        **({"refuses": True} if finding.refuses else {}),
    }
