"""Asking hosts what they would do with the moves of a plan, before anybody signs it: what they would do besides is let
in where a baseline lets it, or leaves them out. Nothing is changed there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime

from ismgr_automation.converge.package_unit import MOVED
from ismgr_automation.converge.requests import at_hand
from ismgr_automation.converge.scope import Scope
from ismgr_automation.converge.upkeep import Judged
from ismgr_automation.core.address import host
from ismgr_automation.estate.resolve import duration
from ismgr_automation.patching.additions import Admission, Asked, Gate
from ismgr_automation.patching.seen import version_key
from ismgr_automation.patching.steps import moves
from ismgr_automation.patching.updates import Update
from ismgr_automation.planning.change import Finding, Level, Step
from ismgr_automation.planning.fleet import Fleet
from ismgr_automation.ports.packages import PackageFate, PackageRequest, PackageResult, Trouble

TRIAL = "plan"
"""What a look is called where a run has its id; nothing is kept under it."""

ROUNDS = 5
"""How often a host is asked: what a new package needs is mostly told at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The hosts of one baseline, as they were judged for a day."""

    scope: Scope
    fleet: Fleet
    judged: Judged
    day: date
    now: datetime


def tried(
    trial: Trial, wanted: Mapping[str, tuple[Step, ...]]
) -> tuple[dict[str, tuple[Step, ...]], tuple[Finding, ...]]:
    """Ask each host's package manager whether these moves are all that it would do. New packages that they need become
    moves as well, or what needs them waits. Hosts where something else would be done are left out, and said: what
    nobody saw is not signed."""
    kept = dict(wanted)
    said: list[Finding] = []
    asked = sorted(wanted)
    for left in reversed(range(ROUNDS)):
        if not asked:
            break
        answers = _answers(trial, {name: kept[name] for name in asked})
        admitted = _admitted(trial, answers, kept) if left else {}
        for one in answers:
            if one.host in admitted:
                said += _waiting(one.host, admitted[one.host])
                kept[one.host] = admitted[one.host].steps
            elif one.fate is PackageFate.REFUSED and one.trouble in MOVED:
                kept[one.host] = ()
            if one.host not in admitted and one.fate in {PackageFate.REFUSED, PackageFate.FAILED}:
                said.append(_refusal(one))
        asked = sorted(name for name in admitted if kept[name])
    return {name: steps for name, steps in kept.items() if steps}, tuple(said)


def _answers(trial: Trial, wanted: Mapping[str, tuple[Step, ...]]) -> tuple[PackageResult, ...]:
    scope = trial.scope
    request = PackageRequest(
        fleet=at_hand(scope, trial.fleet, sorted(wanted)),
        moves={name: moves(listed).get(name, ()) for name, listed in wanted.items()},
        run=TRIAL,
        deadline=duration(trial.judged.document.deadline),
    )
    return scope.engines.upkeep.packages.check(request, scope.context)


def _admitted(
    trial: Trial, answers: Iterable[PackageResult], kept: Mapping[str, tuple[Step, ...]]
) -> dict[str, Admission]:
    """What hosts that named new packages may be asked for instead. Of hosts that were not read nothing is known that a
    new package could be judged by."""
    bringing = [one for one in answers if one.trouble is Trouble.WIDER and one.brings and one.host in trial.judged.read]
    if not bringing:
        return {}
    ledger = trial.scope.engines.upkeep.first_seen
    keys = sorted({version_key(offer) for one in bringing for new in one.brings for offer in new.offers})
    ledger.see(keys, trial.now)
    gate = Gate(trial.judged.document, ledger.known(keys), trial.day)
    hosts = {one.name: one for one in trial.judged.hosts}
    updates: defaultdict[str, list[Update]] = defaultdict(list)
    for update in trial.judged.updates:
        updates[update.host].append(update)
    return {
        one.host: gate.admit(
            Asked(
                host=hosts[one.host],
                steps=kept[one.host],
                updates=tuple(updates[one.host]),
                brings=one.brings,
            )
        )
        for one in bringing
    }


def _waiting(name: str, admission: Admission) -> Iterator[Finding]:
    for words in admission.waits:
        yield Finding(
            level=Level.WARN,
            subject=host(name),
            summary=f"{name}: {words}",
            next_step="Let its time come, or approve it in the baseline.",
        )


def _refusal(one: PackageResult) -> Finding:
    return Finding(
        level=Level.WARN,
        subject=host(one.host),
        summary=f"{one.host} would not be patched as its baseline asks ({one.trouble}): {one.detail}",
        next_step="Look with `apt-get --simulate` there; pin, hold or approve what it names.",
    )
