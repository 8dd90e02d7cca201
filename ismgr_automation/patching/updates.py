"""What is to be done about every package of every host, and how each of its vulnerabilities stands. Each distinct
question is answered once, however many hosts ask it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import cmp_to_key
from operator import attrgetter

from ismgr_automation.estate.maintenance import PatchBaseline, Severity
from ismgr_automation.patching import sla
from ismgr_automation.patching.exemptions import NOTHING, Met, Seat, Waived, Waivers
from ismgr_automation.patching.knowledge import Hole, Knowledge, worst_of
from ismgr_automation.patching.rules import Candidate, Rules, Ruling, Standing
from ismgr_automation.patching.seen import Seen
from ismgr_automation.patching.sla import Known, State
from ismgr_automation.patching.versions import compare, newer
from ismgr_automation.ports.advisories import Advisories
from ismgr_automation.ports.hosts import Host
from ismgr_automation.ports.packages import HostFacts, Installed, Offered
from ismgr_automation.ports.patching import VersionKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """One CVE that an installed version has, and how it stands on the day."""

    cve: str
    severity: Severity
    fixed: str
    """The first source version without it; empty: there is none yet."""
    offered: bool
    """Whether a version without it is offered to the host."""
    mended: bool
    """Whether the target is without it."""
    exploited: bool
    epss: float
    due: date | None
    """The last day (UTC) on which it may be there."""
    state: State
    waived: Waived = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was decided of one package. Hosts that are alike in all that matters share one.

    What is said of a version (digest, origin, severity, age ...) is said of the target or, where there is none, of the
    newest version on offer.
    """

    package: str
    architecture: str
    source: str
    installed: str
    target: str = ""
    """The exact version to go to; empty: it stays as it is. It may be older than the newest on offer."""
    newest: str = ""
    """The newest version on offer; empty: none is newer than what is installed."""
    digest: str = ""
    origin: str = ""
    suite: str = ""
    section: str = ""
    security: bool = False
    downgrade: bool = False
    age_days: int = 0
    severity: Severity | None = None
    """The worst of what that version mends; of all that is open where nothing is on offer; None: there is nothing."""
    exploited: bool = False
    epss: float = 0.0
    ruling: Ruling
    exposures: tuple[Exposure, ...] = ()
    state: State = State.OK
    """The worst of the exposures."""
    due: date | None = None
    """The first day on which one of them is due, those that are excepted left out."""
    waived: Waived = NOTHING
    """What exemptions say of an update that mends nothing."""

    @property
    def cves(self) -> tuple[str, ...]:
        """What the move to the target mends."""
        return tuple(one.cve for one in self.exposures if one.mended)

    @property
    def left(self) -> tuple[str, ...]:
        """What stays open."""
        return tuple(one.cve for one in self.exposures if not one.mended)

    @property
    def exemptions(self) -> tuple[str, ...]:
        """Names of the exemptions that hold for something of it, sorted."""
        named = (*self.waived.hold, *(name for one in self.exposures for name in one.waived.hold))
        return tuple(sorted(set(named)))

    @property
    def met(self) -> tuple[Met, ...]:
        """What exemptions were asked about, for ``exemptions.findings``."""
        found = [Met(severity=one.severity, waived=one.waived) for one in self.exposures if one.waived != NOTHING]
        return (*found, *([Met(severity=Severity.NEGLIGIBLE, waived=self.waived)] if self.waived != NOTHING else []))


@dataclass(frozen=True, slots=True)
class Update:
    """One package of one host that could move, or has a vulnerability."""

    host: str
    decision: Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """All that decisions for the hosts of one baseline depend on besides the hosts."""

    baseline: PatchBaseline
    advisories: Advisories
    waivers: Waivers
    first_seen: Mapping[VersionKey, datetime]
    """All that was ever seen of the packages that are offered."""
    day: date
    """The day (UTC) that is signed with the plan."""


def is_security(offered: Offered) -> bool:
    """Whether a version comes from a security suite."""
    return "security" in offered.suite.lower().replace("/", "-").split("-")


class Decider:
    """Decides for all hosts of one baseline. Raises ``InputError`` for a rule that does not compile."""

    def __init__(self, question: Question) -> None:
        self._baseline = question.baseline
        self._day = question.day
        self._seen = Seen(question.first_seen)
        self._waivers = question.waivers
        self._rules = Rules(question.baseline, question.day)
        self._knowledge = Knowledge(question.advisories, question.baseline.severities)
        self._sources = question.advisories.fixes
        # what depends on rules is asked less often than what depends on exemptions as well
        self._choices: dict[Hashable, dict[_Package, _Choice | None]] = {}
        self._answers: dict[Hashable, dict[Installed, list[tuple[list[Offered], Decision | None]]]] = {}

    def decide(self, host: Host, facts: HostFacts, data_classes: Collection[str] = ()) -> tuple[Update, ...]:
        """Every package of a host that could move or has an open vulnerability, by name. ``data_classes`` are those
        of the services that run on the host."""
        asker = self._asker(host, facts.codename, data_classes)
        answers = self._answers.setdefault(asker.view, {})
        offers: defaultdict[tuple[str, str], list[Offered]] = defaultdict(list)
        for one in facts.offered:
            offers[one.name, one.architecture].append(one)
        pins, sources, name = self._baseline.pins, self._sources, host.name
        found: list[Update] = []
        for package in facts.installed:
            mine = offers.get((package.name, package.architecture), [])
            if mine or package.source in sources or package.name in pins:
                # to compare what is offered is cheaper than to make a key of it
                for known, said in answers.get(package, ()):
                    if known == mine:
                        decision = said
                        break
                else:
                    decision = self._decided(asker, (package, tuple(mine)))
                    answers.setdefault(package, []).append((mine, decision))
                if decision is not None:
                    found.append(Update(name, decision))
        found.sort(key=_BY_NAME)
        return tuple(found)

    def _asker(self, host: Host, release: str, data_classes: Collection[str]) -> _Asker:
        seat = self._waivers.seat(host)
        return _Asker(seat, release, frozenset(data_classes), self._rules.standpoint(host))

    def _decided(self, asker: _Asker, key: _Package) -> Decision | None:
        choices = self._choices.setdefault(asker.rules, {})
        if key not in choices:
            choices[key] = self._choice(asker, *key)
        choice = choices[key]
        if choice is None:
            return None
        package = key[0]
        waivers = self._waivers
        holes = tuple(waivers.of(asker.seat, package, one.cve, one.severity) for one in choice.holes)
        waived = NOTHING
        if choice.subject is not None and not choice.subject.mends:
            waived = waivers.of(asker.seat, package, "", Severity.NEGLIGIBLE)
        known = (asker.data_classes, holes, waived)
        if known not in choice.decisions:
            choice.decisions[known] = self._concluded(package, choice, *known)
        return choice.decisions[known]

    def _concluded(
        self,
        package: Installed,
        choice: _Choice,
        data_classes: frozenset[str],
        holes: Iterable[Waived],
        waived: Waived,
    ) -> Decision:
        """Who asks counts no more: this is what exemptions say to him, of each hole and of the package as a whole."""
        exposures = [
            self._exposure(data_classes, hole, said, choice) for hole, said in zip(choice.holes, holes, strict=True)
        ]
        exempted = self._exempted(choice, exposures, waived)
        if exempted is not None:
            choice = replace(choice, goes=False, ruling=exempted)
            exposures = [replace(one, mended=False) for one in exposures]
        return _put_together(package, choice, exposures, waived)

    def _choice(self, asker: _Asker, package: Installed, offers: tuple[Offered, ...]) -> _Choice | None:
        """What baseline and advisories say of a package, before anybody asks for exemptions."""
        holes = self._knowledge.open(package.source, package.source_version, asker.release)
        above = self._candidates(package, offers, holes)
        if not holes and not above and self._rules.pin(package.name) in {"", package.version}:
            return None
        pinned = self._pinned(package, offers, holes)
        target, ruling = self._chosen(asker, package, above, pinned)
        if target is not None and target.downgrade:
            ruling = replace(ruling, why=ruling.why + self._opened(asker.release, target.offered, holes))
        subject = target or (above[0] if above else None)
        return _Choice(subject=subject, goes=target is not None, ruling=ruling, holes=holes, above=above)

    def _candidates(
        self, package: Installed, offers: Iterable[Offered], holes: tuple[Hole, ...]
    ) -> tuple[Candidate, ...]:
        """What is newer than what is installed, the newest first; of one version what comes from a security suite."""
        above = [one for one in offers if newer(one.version, package.version)]
        above.sort(key=lambda one: (not is_security(one), not one.candidate, one.origin, one.suite, one.digest))
        above.sort(key=cmp_to_key(lambda one, other: compare(other.version, one.version)))
        return tuple(self._candidate(one, holes) for one in above)

    def _candidate(self, offered: Offered, holes: tuple[Hole, ...], *, downgrade: bool = False) -> Candidate:
        mends = tuple(one for one in holes if not downgrade and one.mended_by(offered.source_version))
        seen = self._seen.day(offered)
        return Candidate(
            offered=offered,
            mends=mends,
            severity=worst_of(one.severity for one in mends),
            security=bool(mends) or is_security(offered),
            exploited=any(one.exploited is not None for one in mends),
            epss=max((one.epss for one in mends), default=0.0),
            seen=seen,
            age_days=max((self._day - seen).days, 0) if seen else 0,
            downgrade=downgrade,
        )

    def _pinned(self, package: Installed, offers: Iterable[Offered], holes: tuple[Hole, ...]) -> Candidate | None:
        """The offered version that the baseline pins, if there is one."""
        pin = self._rules.pin(package.name)
        for one in sorted(offers, key=lambda one: (not is_security(one), not one.candidate)):
            if one.version == pin:
                return self._candidate(one, holes, downgrade=not newer(one.version, package.version))
        return None

    def _chosen(
        self, asker: _Asker, package: Installed, above: tuple[Candidate, ...], pinned: Candidate | None
    ) -> tuple[Candidate | None, Ruling]:
        """Where to go, if anywhere, and what decided it."""
        held = self._rules.held(package)
        if held is not None:
            return None, held
        if self._rules.pin(package.name):
            return self._to_the_pin(package, pinned)
        if not above:
            return None, Ruling(standing=Standing.UP_TO_DATE, why="nothing newer is offered")
        first: Ruling | None = None
        for candidate in above:
            ruling = self._rules.judge(asker.seat.host, asker.standpoint, package, candidate)
            if ruling.goes:
                passed = f"; {above[0].offered.version} is newer: {first.why}" if first is not None else ""
                return candidate, replace(ruling, why=ruling.why + passed)
            first = first or ruling
        return None, first or Ruling(standing=Standing.UP_TO_DATE, why="nothing newer is offered")

    def _to_the_pin(self, package: Installed, pinned: Candidate | None) -> tuple[Candidate | None, Ruling]:
        pin = self._rules.pin(package.name)
        why = f"baseline {self._baseline.name} pins {pin}"
        denied = self._rules.denied(package.name, pin)
        if package.version == pin:
            pinned = None
        elif denied is not None:
            return None, replace(denied, why=f"{denied.why}, and pinned all the same")
        elif pinned is None:
            why += ", which is not offered"
        elif pinned.downgrade and not self._rules.may_downgrade(package.name):
            why += ", which is older, and allow_downgrades does not name the package"
            pinned = None
        return pinned, Ruling(standing=Standing.PINNED, rule=f"{package.name}={pin}", why=why)

    def _opened(self, release: str, older: Offered, holes: tuple[Hole, ...]) -> str:
        """What going back to an older version opens again, in words."""
        known = {one.cve for one in holes}
        found = [one.cve for one in self._knowledge.open(older.source, older.source_version, release)]
        opened = [cve for cve in found if cve not in known]
        return f"; it opens {', '.join(opened)} again" if opened else ""

    def _exposure(self, data_classes: frozenset[str], hole: Hole, waived: Waived, choice: _Choice) -> Exposure:
        mending = [one for one in choice.above if hole in one.mends]
        known = Known(
            severity=hole.severity,
            published=hole.published,
            first_seen=self._seen.mended_since(hole, [one.offered for one in mending]),
            exploited=hole.exploited,
        )
        due = sla.due(self._baseline.sla, data_classes, known)
        return Exposure(
            cve=hole.cve,
            severity=hole.severity,
            fixed=hole.fixed,
            offered=bool(mending),
            mended=choice.goes and choice.subject is not None and hole in choice.subject.mends,
            exploited=hole.exploited is not None,
            epss=hole.epss,
            due=due,
            state=sla.state(self._baseline.sla, known, due, self._day, excepted=bool(waived.hold)),
            waived=waived,
        )

    def _exempted(self, choice: _Choice, exposures: Iterable[Exposure], waived: Waived) -> Ruling | None:
        """Why an update is left alone: all that it mends is waived, or it mends nothing and is waived as a whole. What
        would not be touched for another reason anyway is not called exempt."""
        if choice.subject is None or not (choice.goes or choice.ruling.standing is Standing.DEFER):
            return None
        mends = {one.cve for one in choice.subject.mends}
        waivers = [one.waived for one in exposures if one.cve in mends] or [waived]
        if not all(one.covering for one in waivers):
            return None
        names = sorted({one.covering[0] for one in waivers})
        told = [f"{name} (approved by {self._approver(name)}) until {self._until(name, exposures)}" for name in names]
        by = "exempted by" if all(one.hold for one in waivers) else "left alone for a proposed exemption,"
        return Ruling(standing=Standing.EXEMPT, rule=names[0], why=f"{by} {', '.join(told)}")

    def _approver(self, name: str) -> str:
        return self._waivers.documents[name].approver

    def _until(self, name: str, exposures: Iterable[Exposure]) -> date:
        """The first day on which it ends for something that it waives here."""
        covered = [one.severity for one in exposures if name in one.waived.covering]
        return min(self._waivers.until(name, one) for one in covered or [Severity.NEGLIGIBLE])


_Package = tuple[Installed, tuple[Offered, ...]]
"""All of a package on a host that decisions depend on."""

_BY_NAME = attrgetter("decision.package", "decision.architecture")


@dataclass(frozen=True, slots=True)
class _Asker:
    """For whom a question is answered: one host that stands for all that are like it."""

    seat: Seat
    release: str
    data_classes: frozenset[str]
    standpoint: tuple[Hashable, ...]
    """Where the host stands to the rules."""

    @property
    def rules(self) -> Hashable:
        """For hosts with the same, rules give the same answers."""
        return self.standpoint, self.release

    @property
    def view(self) -> Hashable:
        """For hosts with the same, everything is the same."""
        return self.rules, self.seat.view, self.data_classes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """The version that all is said of, whether it is the target, and why or why not."""

    subject: Candidate | None
    goes: bool
    ruling: Ruling
    holes: tuple[Hole, ...]
    above: tuple[Candidate, ...]
    decisions: dict[Hashable, Decision] = field(default_factory=dict, compare=False)
    """What it comes to, by all that else counts."""


def _put_together(package: Installed, choice: _Choice, exposures: list[Exposure], waived: Waived) -> Decision:
    subject = choice.subject
    offered = subject.offered if subject else None
    return Decision(
        package=package.name,
        architecture=package.architecture,
        source=package.source,
        installed=package.version,
        target=offered.version if offered and choice.goes else "",
        newest=choice.above[0].offered.version if choice.above else "",
        digest=offered.digest if offered else "",
        origin=offered.origin if offered else "",
        suite=offered.suite if offered else "",
        section=(offered.section if offered else "") or package.section,
        security=subject.security if subject else bool(exposures),
        downgrade=bool(subject and subject.downgrade),
        age_days=subject.age_days if subject else 0,
        severity=subject.severity if subject else worst_of(one.severity for one in exposures),
        exploited=subject.exploited if subject else any(one.exploited for one in exposures),
        epss=subject.epss if subject else max((one.epss for one in exposures), default=0.0),
        ruling=choice.ruling,
        exposures=tuple(exposures),
        state=sla.worst(one.state for one in exposures),
        due=min((one.due for one in exposures if one.due and one.state is not State.EXCEPTED), default=None),
        waived=waived,
    )
