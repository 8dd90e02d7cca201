"""What hosts have, what is due on them, and since when: readings, first sightings and advisories put before the rules.
Looks only; what it keeps is our own record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from ismgr_automation.converge.promises import base_documents
from ismgr_automation.converge.requests import at_hand
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.address import Address, Kind, baseline
from ismgr_automation.core.diagnostic import Diagnostic
from ismgr_automation.core.errors import EstateError, IsmgrError
from ismgr_automation.estate.maintenance import AdvisorySource, PatchBaseline
from ismgr_automation.estate.resolve import duration
from ismgr_automation.estate.selector import Selector
from ismgr_automation.patching.exemptions import Waivers, findings
from ismgr_automation.patching.seen import version_key
from ismgr_automation.patching.updates import Decider, Question, Update
from ismgr_automation.planning.change import Finding, Level
from ismgr_automation.planning.fleet import Fleet
from ismgr_automation.planning.timing import spoken
from ismgr_automation.ports.advisories import Advisories, Basis, SourceRead, Wanted
from ismgr_automation.ports.hosts import Host, Reachability
from ismgr_automation.ports.packages import HostFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was read of hosts; those that could not be read are in ``lost``."""

    facts: Mapping[str, HostFacts] = field(default_factory=dict)
    lost: Mapping[str, Reachability] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One baseline before its hosts: what is due on each of those that were read."""

    document: PatchBaseline
    hosts: tuple[Host, ...]
    read: frozenset[str]
    """Those of them that were read."""
    updates: tuple[Update, ...]
    advisories: Advisories


def members(scope: Scope, fleet: Fleet) -> Mapping[str, tuple[Host, ...]]:
    """The hosts of each baseline that the selection takes. Raises ``EstateError`` for a host with two baselines: nobody
    could say which of them decides."""
    found: dict[str, tuple[Host, ...]] = {}
    owners: dict[str, str] = {}
    wrong: list[Diagnostic] = []
    chosen = scope.selection
    for name, document in sorted(scope.estate.baselines.items()):
        select = Selector.compile(document.selector)
        mine = [one for one in fleet.hosts if select.matches(one)]
        for one in mine:
            first = owners.setdefault(one.name, name)
            if first != name:
                place = scope.estate.fields.get((baseline(name), "selector"))
                summary = f"host {one.name} is selected by PatchBaseline {first!r} as well"
                wrong.append(Diagnostic(summary=summary, position=place, expected="selectors that share no host"))
        if _covers(scope, baseline(name)):
            found[name] = tuple(one for one in mine if _takes(scope, one.name, fleet) and chosen.takes_host(one.name))
    if wrong:
        raise EstateError("The baselines of this estate cannot be told apart.", diagnostics=wrong)
    return found


def _covers(scope: Scope, address: Address) -> bool:
    wanted = [one for one in scope.selection.targets if one.kind is Kind.BASELINE]
    return address not in scope.selection.excludes and (not wanted or address in wanted)


def _takes(scope: Scope, host: str, fleet: Fleet) -> bool:
    """Whether the groups among targets and exclusions take a host."""
    groups = {name for name, who in fleet.membership.items() if host in who}
    wanted = {one.name for one in scope.selection.targets if one.kind is Kind.GROUP}
    unwanted = {one.name for one in scope.selection.excludes if one.kind is Kind.GROUP}
    return not groups & unwanted and (not wanted or bool(groups & wanted))


def read_hosts(scope: Scope, fleet: Fleet, names: Iterable[str], now: datetime) -> Reading:
    """Read hosts now. What was read is kept, and versions that nobody had seen before have an age from now on."""
    wanted = sorted(set(names))
    if not wanted:
        return Reading()
    upkeep = scope.engines.upkeep
    found = upkeep.facts.read(at_hand(scope, fleet, wanted), scope.context)
    facts = {one.host: one for one in found if isinstance(one, HostFacts)}
    lost = {one.host: one for one in found if isinstance(one, Reachability)}
    upkeep.records.keep_facts(list(facts.values()))
    upkeep.first_seen.see(sorted({version_key(one) for fact in facts.values() for one in fact.offered}), now)
    return Reading(facts=facts, lost=lost)


def kept_readings(scope: Scope, names: Iterable[str]) -> Reading:
    """What was read of hosts last, however long ago; who was never read is in none of them."""
    return Reading(facts=scope.engines.upkeep.records.facts(sorted(set(names))))


def judge(
    scope: Scope, fleet: Fleet, mine: Mapping[str, tuple[Host, ...]], reading: Reading, day: date
) -> tuple[tuple[Judged, ...], tuple[Finding, ...]]:
    """What is due on the hosts that were read, by the baselines as they are on a day."""
    base = base_documents(scope)
    agreed = Waivers(base.exemptions, base.teams, day) if base is not None else None
    waivers = Waivers(scope.estate.exemptions, scope.estate.teams, day, agreed)
    first_seen = scope.engines.upkeep.first_seen.ever(
        sorted({version_key(one).source for fact in reading.facts.values() for one in fact.offered})
    )
    classes = data_classes(scope, fleet)
    found: list[Judged] = []
    said: list[Finding] = []
    for name, hosts in mine.items():
        document = scope.estate.baselines[name]
        advisories, wrong = _advisories(scope, document, reading)
        said += wrong
        question = Question(baseline=document, advisories=advisories, waivers=waivers, first_seen=first_seen, day=day)
        decider = Decider(question)
        updates = [
            one
            for host in hosts
            if host.name in reading.facts
            for one in decider.decide(host, reading.facts[host.name], classes.get(host.name, frozenset()))
        ]
        read = frozenset(one.name for one in hosts) & set(reading.facts)
        found.append(Judged(document=document, hosts=hosts, read=read, updates=tuple(updates), advisories=advisories))
    everything = {id(one.decision): one.decision for judged in found for one in judged.updates}
    narrow = bool(scope.selection.targets or scope.selection.excludes)
    met = [met for decision in everything.values() for met in decision.met]
    unread = any(host.name not in reading.facts for hosts in mine.values() for host in hosts)
    said += findings(waivers, met, whole=not narrow and not unread)
    return tuple(found), tuple(said)


def data_classes(scope: Scope, fleet: Fleet) -> Mapping[str, frozenset[str]]:
    """The data classes of the services that run on each host."""
    found: dict[str, set[str]] = {}
    for service in scope.estate.services.values():
        for group in service.groups:
            for host in fleet.membership.get(group, ()):
                found.setdefault(host, set()).update(service.data_classes)
    return {name: frozenset(words) for name, words in found.items()}


def services(scope: Scope, fleet: Fleet) -> Mapping[str, frozenset[str]]:
    """The hosts of each service."""
    return {
        name: frozenset(host for group in one.groups for host in fleet.membership.get(group, ()))
        for name, one in scope.estate.services.items()
    }


def _advisories(scope: Scope, document: PatchBaseline, reading: Reading) -> tuple[Advisories, list[Finding]]:
    wanted = {Wanted(format=str(one.format), source=_place(scope, one)): one for one in document.advisories}
    releases = sorted({one.codename for one in reading.facts.values()})
    if not wanted or not releases:
        return Advisories(), []
    address = baseline(document.name)
    try:
        found = scope.engines.upkeep.advisories.read(list(wanted), releases)
    except IsmgrError as problem:
        # without advisories nothing is known to be vulnerable: whoever took that for good news would be wrong
        why = f"advisories of {address} cannot be read: {problem.summary}"
        return Advisories(), [Finding(level=Level.DENY, subject=address, summary=why, next_step=problem.next_step)]
    now = datetime.now(UTC)
    sources: list[SourceRead] = []
    said: list[Finding] = []
    for read in found.sources:
        named = wanted[Wanted(format=read.format, source=read.source)]
        sources.append(_named(scope, named, read))
        said += _about(sources[-1], duration(named.max_age), address, now)
    return replace(found, sources=tuple(sources)), said


def _place(scope: Scope, one: AdvisorySource) -> str:
    return one.source if _elsewhere(one) else str(Path(scope.engines.content.path(one.source)))


def _elsewhere(one: AdvisorySource) -> bool:
    return "://" in one.source


def _named(scope: Scope, one: AdvisorySource, read: SourceRead) -> SourceRead:
    """A source by the name that its document gives it. A file of the estate that says no date itself is as old as the
    commit that brought it: the copy that was laid out just now has a time that means nothing."""
    if _elsewhere(one):
        return read
    if read.basis is Basis.DATA:
        return replace(read, source=one.source)
    at = scope.engines.upkeep.committed(one.source)
    return replace(read, source=one.source, dated=at, basis=Basis.NONE if at is None else Basis.COMMIT)


def _about(source: SourceRead, most: timedelta, address: Address, now: datetime) -> Iterable[Finding]:
    """How old a source is, when it is too old, when nobody knows, or when it could not be read anew."""
    if source.since is None:
        summary = f"{source.source} is undated: nobody can say whether it is older than the {spoken(most)} allowed"
        step = "Commit it, or fetch the whole history of a shallow clone: a file is as old as its last change in Git."
        yield Finding(level=Level.WARN, subject=address, summary=summary, next_step=step)
        return
    age = now - source.since
    if source.problem:
        summary = (
            f"{source.source} could not be read anew ({source.problem}); a copy that is {spoken(age)} old was taken"
        )
        yield Finding(level=Level.WARN, subject=address, summary=summary)
    elif age > most:
        old = f"in Git since {spoken(age)}" if source.basis is Basis.COMMIT else f"{spoken(age)} old"
        summary = f"{source.source} is {old}, and {spoken(most)} are allowed"
        step = "Fetch it anew, or raise max_age: vulnerabilities that came since are not known here."
        yield Finding(level=Level.WARN, subject=address, summary=summary, next_step=step)


def queue(scope: Scope, now: datetime) -> tuple[Sequence[str], Sequence[str]]:
    """Hosts that wait to be patched, and those whose time in the queue is over."""
    waiting = scope.engines.upkeep.records.waiting()
    return (
        [one.host for one in waiting if one.expires_at > now],
        [one.host for one in waiting if one.expires_at <= now],
    )
