"""New packages that updates need: which of them a baseline lets in, and which updates wait where it does not. A new
package is judged as a part of what needs it, so nothing comes in that the update itself would not be let for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

from ismgr_automation.core.json import Json
from ismgr_automation.estate.maintenance import PatchBaseline
from ismgr_automation.patching.knowledge import Hole
from ismgr_automation.patching.rules import Candidate, Rules, Ruling, Standing
from ismgr_automation.patching.seen import Seen
from ismgr_automation.patching.steps import ring_name
from ismgr_automation.patching.updates import Decision, Update, is_security
from ismgr_automation.planning.change import Action, Step
from ismgr_automation.ports.hosts import Host
from ismgr_automation.ports.packages import Brought, Installed, Offered
from ismgr_automation.ports.patching import VersionKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a host was asked for, and the new packages that its package manager named."""

    host: Host
    steps: tuple[Step, ...]
    updates: tuple[Update, ...]
    """The decisions that the steps were made of."""
    brings: tuple[Brought, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What may be asked of the host instead: the updates that go, with the new packages that they need."""

    steps: tuple[Step, ...]
    waits: tuple[str, ...]
    """A sentence for each update that does not go any more."""


class Gate:
    """One baseline on one day, before new packages. Raises ``InputError`` for a rule that does not compile."""

    def __init__(self, baseline: PatchBaseline, first_seen: Mapping[VersionKey, datetime], day: date) -> None:
        self._baseline = baseline
        self._seen = Seen(first_seen)
        self._day = day
        self._rules = Rules(baseline, day)

    def admit(self, asked: Asked) -> Admission:
        """Let in what the baseline approves for an update that needs it. An update goes only when all that it needs is
        let in; what nobody can tell the need of counts as needed by every one."""
        decisions = {f"{one.decision.package}:{one.decision.architecture}": one.decision for one in asked.updates}
        needs = _needs(asked)
        waits: dict[str, str] = {}
        rules: dict[str, str] = {}
        for update in sorted({what for needers in needs.values() for what in needers}):
            decision = decisions[update]
            for new in (one for one in asked.brings if update in needs[_what(one)]):
                ruling = self._ruling(asked.host, new, decision)
                if not ruling.goes:
                    waits.setdefault(update, _waits(decision, new, ruling))
                rules.setdefault(_what(new), ruling.rule)
        going = [one for one in asked.steps if one.action is not Action.UPDATE or one.what not in waits]
        ring = ring_name(asked.steps)
        for new in asked.brings:
            needers = [what for what in needs[_what(new)] if what not in waits]
            if needers:
                going.append(_step(asked.host, new, needers, {"ring": ring, "rule": rules[_what(new)]}))
        kept = [left for one in going if (left := _left(one, waits)) is not None]
        return Admission(
            steps=tuple(sorted(kept, key=lambda one: (one.target, one.what))),
            waits=tuple(waits[what] for what in sorted(waits)),
        )

    def _ruling(self, host: Host, new: Brought, decision: Decision) -> Ruling:
        offered = best(new.offers)
        nothing = Installed(
            name=new.name,
            architecture=new.architecture,
            version="",
            source=offered.source,
            source_version="",
            section=offered.section,
            status="un",
        )
        held = self._rules.held(nothing)
        if held is not None:
            return held
        pin = self._rules.pin(new.name)
        if not pin:
            return self._rules.judge(host, self._rules.standpoint(host), nothing, self._candidate(offered, decision))
        why = f"baseline {self._baseline.name} pins {pin}"
        standing = Standing.APPROVE if pin == new.version else Standing.PINNED
        return self._rules.denied(new.name, new.version) or Ruling(standing=standing, rule=f"{new.name}={pin}", why=why)

    def _candidate(self, offered: Offered, decision: Decision) -> Candidate:
        """The new package as a part of the update: as urgent as that one, and as old as its own file."""
        seen = self._seen.day(offered)
        mends = tuple(
            Hole(cve=one.cve, fixed=one.fixed, severity=one.severity, epss=one.epss)
            for one in decision.exposures
            if one.mended
        )
        return Candidate(
            offered=offered,
            mends=mends,
            severity=decision.severity,
            security=decision.security or is_security(offered),
            exploited=decision.exploited,
            epss=decision.epss,
            seen=seen,
            age_days=max((self._day - seen).days, 0) if seen else 0,
        )


def best(offers: Sequence[Offered]) -> Offered:
    """Of one version in several repositories the one that is said and asked for: from a security suite, where there is
    one, as for updates."""
    return min(offers, key=lambda one: (not is_security(one), not one.candidate, one.origin, one.suite, one.digest))


def _needs(asked: Asked) -> Mapping[str, tuple[str, ...]]:
    """The updates that need each new package, through other new ones as well."""
    updates = [one.what for one in asked.steps if one.action is Action.UPDATE]
    named: dict[str, set[str]] = {}
    for what in updates:
        named.setdefault(what.rpartition(":")[0], set()).add(what)
    for one in asked.steps:
        if one.action is Action.CREATE:
            named.setdefault(one.what.rpartition(":")[0], set()).update(_for(one))
    through = {one.name: one.needed_by for one in asked.brings}
    found: dict[str, tuple[str, ...]] = {}
    for new in asked.brings:
        needers = {what for name in _reached(new.name, through) for what in named.get(name, ())}
        found[_what(new)] = tuple(sorted(needers & set(updates) or updates))
    return found


def _reached(name: str, through: Mapping[str, Iterable[str]]) -> Collection[str]:
    """Whatever needs a package, directly or not."""
    found: set[str] = set()
    todo = [name]
    while todo:
        for one in through.get(todo.pop(), ()):
            if one not in found:
                found.add(one)
                todo.append(one)
    return found


def _what(new: Brought) -> str:
    return f"{new.name}:{new.architecture}"


def _waits(decision: Decision, new: Brought, ruling: Ruling) -> str:
    return (
        f"{decision.package} stays at {decision.installed}: {decision.target} needs {new.name} {new.version}, "
        f"which is not installed there, and {ruling.why}"
    )


def _step(host: Host, new: Brought, needers: Sequence[str], more: Mapping[str, Json]) -> Step:
    """The step of a new package: nothing was there before."""
    return Step(
        target=host.name,
        what=_what(new),
        action=Action.CREATE,
        why=_why(needers),
        before={"version": ""},
        after={
            "version": new.version,
            "digest": best(new.offers).digest,
            "cves": [],
            "severity": "",
            "due": "",
            "for": list(needers),
            **more,
        },
    )


def _for(one: Step) -> tuple[str, ...]:
    listed = one.after.get("for") if isinstance(one.after, Mapping) else None
    return tuple(map(str, listed)) if isinstance(listed, Sequence) and not isinstance(listed, str) else ()


def _why(needers: Iterable[str]) -> str:
    return f"needed by {', '.join(sorted({what.rpartition(':')[0] for what in needers}))}"


def _left(one: Step, waits: Collection[str]) -> Step | None:
    """A step without what waits by now among those that need it; None: nothing needs it any more."""
    if one.action is not Action.CREATE or not isinstance(one.after, Mapping):
        return one
    needers = [what for what in _for(one) if what not in waits]
    return replace(one, why=_why(needers), after={**one.after, "for": needers}) if needers else None
