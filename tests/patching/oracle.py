"""What is to be done about one package of one host, worked out plainly: nothing is shared, kept or put in order before.
For tests of ``Decider``, which does all of that."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, date, timedelta
from fnmatch import fnmatchcase

from debian.debian_support import NativeVersion

from ismgr_automation.core.errors import InputError
from ismgr_automation.estate.expressions import RULE, SCOPE, Expression, Given
from ismgr_automation.estate.maintenance import Severity, Verdict
from ismgr_automation.estate.resolve import duration
from ismgr_automation.patching import sla
from ismgr_automation.patching.exemptions import Waived
from ismgr_automation.patching.knowledge import WORST
from ismgr_automation.patching.rules import Ruling, Standing
from ismgr_automation.patching.seen import version_key
from ismgr_automation.patching.sla import Known, State
from ismgr_automation.patching.updates import Decision, Exposure, Question, Update
from ismgr_automation.ports.hosts import Host
from ismgr_automation.ports.packages import HostFacts, Installed, Offered


def decided(question: Question, host: Host, facts: HostFacts, data_classes: Collection[str]) -> tuple[Update, ...]:
    """As ``Decider.decide``."""
    found = [Case(question, host, facts, data_classes, one).decision() for one in facts.installed]
    mine = [Update(host.name, one) for one in found if one is not None]
    return tuple(sorted(mine, key=lambda one: (one.decision.package, one.decision.architecture)))


class Case:
    """One package of one host."""

    def __init__(
        self, question: Question, host: Host, facts: HostFacts, data_classes: Collection[str], package: Installed
    ) -> None:
        self.question, self.host, self.package, self.data_classes = question, host, package, data_classes
        self.release = facts.codename
        self.baseline = question.baseline
        self.pin = self.baseline.pins.get(package.name, "")
        same = (package.name, package.architecture)
        offers = [one for one in facts.offered if (one.name, one.architecture) == same]
        self.holes = self.open(package.source, package.source_version)
        above = [one for one in offers if NativeVersion(one.version) > NativeVersion(package.version)]
        above.sort(key=lambda one: (not secure(one), not one.candidate, one.origin, one.suite, one.digest))
        self.above = sorted(above, key=lambda one: NativeVersion(one.version), reverse=True)
        pinned = sorted(offers, key=lambda one: (not secure(one), not one.candidate))
        self.pinned = next((one for one in pinned if one.version == self.pin), None)

    def decision(self) -> Decision | None:
        """As ``Decision`` says."""
        package = self.package
        if not self.holes and not self.above and self.pin in {"", package.version}:
            return None
        target, ruling = self.chosen()
        subject = target or (self.above[0] if self.above else None)
        mends = self.mends(subject) if subject else []
        waived = self.waived("", Severity.NEGLIGIBLE) if subject and not mends else Waived()
        of_hole = {one: self.waived(one, self.severity(one)) for one in self.holes}
        exempted = self.exempted(target, ruling, [of_hole[one] for one in mends] or [waived], of_hole)
        if exempted is not None and subject is not None:
            target, ruling = None, exempted
        exposures = tuple(self.exposure(one, of_hole[one], target is not None and one in mends) for one in self.holes)
        said = mends if subject else self.holes
        return Decision(
            package=package.name,
            architecture=package.architecture,
            source=package.source,
            installed=package.version,
            target=target.version if target else "",
            newest=self.above[0].version if self.above else "",
            digest=subject.digest if subject else "",
            origin=subject.origin if subject else "",
            suite=subject.suite if subject else "",
            section=(subject.section if subject else "") or package.section,
            security=bool(mends) or secure(subject) if subject else bool(exposures),
            downgrade=bool(subject and self.is_downgrade(subject)),
            age_days=self.age(subject) if subject else 0,
            severity=worst(self.severity(one) for one in said),
            exploited=any(self.known(one).exploited for one in said),
            epss=max((self.known(one).epss or 0.0 for one in said), default=0.0),
            ruling=ruling,
            exposures=exposures,
            state=sla.worst(one.state for one in exposures),
            due=min((one.due for one in exposures if one.due and one.state is not State.EXCEPTED), default=None),
            waived=waived,
        )

    def chosen(self) -> tuple[Offered | None, Ruling]:
        """The target, if there is one, and why."""
        package, name = self.package, self.baseline.name
        if package.held:
            return None, Ruling(standing=Standing.HELD, why="the host itself holds it (apt-mark hold)")
        for pattern in self.baseline.holds:
            if fnmatchcase(package.name, pattern):
                return None, Ruling(standing=Standing.HELD, rule=pattern, why=f"baseline {name} holds {pattern}")
        if self.pin:
            return self.to_the_pin()
        rulings = []
        for one in self.above:
            rulings.append(self.judged(one))
            if rulings[-1].goes:
                passed = f"; {self.above[0].version} is newer: {rulings[0].why}" if len(rulings) > 1 else ""
                return one, Ruling(standing=Standing.APPROVE, rule=rulings[-1].rule, why=rulings[-1].why + passed)
        return None, rulings[0] if rulings else Ruling(standing=Standing.UP_TO_DATE, why="nothing newer is offered")

    def to_the_pin(self) -> tuple[Offered | None, Ruling]:
        """The target where a version is pinned."""
        package, pin = self.package, self.pin
        denied, target = self.denied(pin), self.pinned
        why, rule = f"baseline {self.baseline.name} pins {pin}", f"{package.name}={pin}"
        if package.version == pin:
            target = None
        elif denied is not None:
            why = f"{denied.why}, and pinned all the same"
            return None, Ruling(standing=Standing.DENY, rule=denied.rule, why=why)
        elif target is None:
            why += ", which is not offered"
        elif self.is_downgrade(target) and package.name not in self.baseline.allow_downgrades:
            why += ", which is older, and allow_downgrades does not name the package"
            target = None
        elif self.is_downgrade(target):
            back = [one for one in self.open(target.source, target.source_version) if one not in self.holes]
            why += f"; it opens {', '.join(back)} again" if back else ""
        return target, Ruling(standing=Standing.PINNED, rule=rule, why=why)

    def judged(self, one: Offered) -> Ruling:
        """What the rules say of a version."""
        denied = self.denied(one.version)
        if denied is not None:
            return denied
        given = Given.of(f"{self.package.name} on {self.host.name}", host=self.host, package=self.asked(one))
        for rule in self.baseline.rules:
            try:
                holds = Expression.compile(rule.when, RULE).holds(given)
            except InputError as problem:
                why = f"rule {rule.name} cannot be evaluated: {problem.summary}"
                return Ruling(standing=Standing.DEFER, rule=rule.name, why=why)
            if holds and rule.then is Verdict.APPROVE:
                seen = self.seen(one) or self.question.day
                ripe = seen + timedelta(days=-(-duration(rule.after) // timedelta(days=1)))
                if self.question.day >= ripe:
                    why = f"rule {rule.name} approves it"
                    return Ruling(standing=Standing.APPROVE, rule=rule.name, why=why)
                why = f"too young: first seen on {seen}, rule {rule.name} approves it on {ripe}"
                return Ruling(standing=Standing.DEFER, rule=rule.name, why=why)
            if holds:
                word = {Verdict.DEFER: "defers", Verdict.DENY: "denies"}[rule.then]
                why = f"rule {rule.name} {word} it"
                return Ruling(standing=Standing(str(rule.then)), rule=rule.name, why=why)
        why = f"no rule of baseline {self.baseline.name} holds for it"
        return Ruling(standing=Standing.DEFER, why=why)

    def asked(self, one: Offered) -> dict[str, object]:
        """A version as rules see it."""
        mends = self.mends(one)
        return {
            "name": self.package.name,
            "source": one.source,
            "version": one.version,
            "installed": self.package.version,
            "section": one.section or self.package.section,
            "origin": one.origin,
            "suite": one.suite,
            "severity": str(worst(self.severity(cve) for cve in mends) or ""),
            "cves": mends,
            "security": bool(mends) or secure(one),
            "exploited": any(self.known(cve).exploited for cve in mends),
            "epss": max((self.known(cve).epss or 0.0 for cve in mends), default=0.0),
            "age_days": self.age(one),
            "downgrade": self.is_downgrade(one),
        }

    def denied(self, version: str) -> Ruling | None:
        """Why a version is on the deny list."""
        for whole in self.baseline.deny:
            name, _, pattern = whole.partition("=")
            if fnmatchcase(self.package.name, name) and fnmatchcase(version, pattern or "*"):
                why = f"{version} is on the deny list of baseline {self.baseline.name} ({whole})"
                return Ruling(standing=Standing.DENY, rule=whole, why=why)
        return None

    def exempted(
        self, target: Offered | None, ruling: Ruling, waivers: list[Waived], of_hole: dict[str, Waived]
    ) -> Ruling | None:
        """Why an update is left alone."""
        if not (target or ruling.standing is Standing.DEFER) or not all(one.hold for one in waivers):
            return None
        told = []
        for name in sorted({one.hold[0] for one in waivers}):
            covered = [self.severity(cve) for cve, said in of_hole.items() if name in said.hold]
            until = min(self.question.waivers.until(name, one) for one in covered or [Severity.NEGLIGIBLE])
            told.append((name, f"{name} (approved by {self.question.waivers.documents[name].approver}) until {until}"))
        why = f"exempted by {', '.join(words for _, words in told)}"
        return Ruling(standing=Standing.EXEMPT, rule=told[0][0], why=why)

    def waived(self, cve: str, severity: Severity) -> Waived:
        """What exemptions say."""
        waivers = self.question.waivers
        named = {"name": self.package.name, "source": self.package.source, "version": self.package.version}
        given = Given.of(f"{self.package.name} on {self.host.name}", host=self.host, package=named, cve=cve)
        found: dict[str, list[str]] = {"hold": [], "lapsed": []}
        for name, one in waivers.documents.items():
            if Expression.compile(one.scope, SCOPE).holds(given):
                good = one.issued <= waivers.day <= waivers.until(name, severity) and one.approver in waivers.approvers
                found["hold" if good else "lapsed"].append(name)
        return Waived(hold=tuple(found["hold"]), lapsed=tuple(found["lapsed"]))

    def exposure(self, cve: str, waived: Waived, mended: bool) -> Exposure:
        """How one of its CVEs stands."""
        mending = [one for one in self.above if cve in self.mends(one)]
        known = Known(
            severity=self.severity(cve),
            published=self.known(cve).published,
            first_seen=self.mended_since(self.fixed(self.package.source, cve), mending),
            exploited=self.known(cve).exploited,
        )
        due = sla.due(self.baseline.sla, self.data_classes, known)
        return Exposure(
            cve=cve,
            severity=known.severity,
            fixed=self.fixed(self.package.source, cve),
            offered=bool(mending),
            mended=mended,
            exploited=known.exploited is not None,
            epss=self.known(cve).epss or 0.0,
            due=due,
            state=sla.state(self.baseline.sla, known, due, self.question.day, excepted=bool(waived.hold)),
            waived=waived,
        )

    def mended_since(self, fixed: str, mending: list[Offered]) -> date | None:
        """The first day on which anything was seen that is mended, and no newer than what is offered."""
        found = [seen for one in mending if (seen := self.seen(one))]
        for one in mending:
            if one.source_version not in {one.version, one.version.partition("+b")[0]}:
                continue
            same = f"{one.origin}/{one.name}"
            versions = {key: at for key, at in self.question.first_seen.items() if key.source == same}
            found += [
                at.astimezone(UTC).date()
                for key, at in versions.items()
                if at_least(key.version, fixed) and at_least(one.version, key.version)
            ]
        return min(found, default=None)

    def open(self, source: str, version: str) -> list[str]:
        """CVEs of a source version, sorted."""
        here = [one for one in self.question.advisories.fixes.get(source, ()) if one.release == self.release]
        return sorted(one.cve for one in here if one.affected and not at_least(version, one.fixed))

    def fixed(self, source: str, cve: str) -> str:
        """From which version on it is mended."""
        fixes = self.question.advisories.fixes[source]
        return next(one.fixed for one in fixes if (one.cve, one.release) == (cve, self.release))

    def mends(self, one: Offered) -> list[str]:
        """What a version is without."""
        if self.is_downgrade(one):
            return []
        return [cve for cve in self.holes if at_least(one.source_version, self.fixed(self.package.source, cve))]

    def known(self, cve):
        """What the world knows of a CVE."""
        return self.question.advisories.vulnerabilities[cve]

    def severity(self, cve: str) -> Severity:
        """How bad it is."""
        return self.baseline.severities.get(cve) or Severity(self.known(cve).severity or "unknown")

    def is_downgrade(self, one: Offered) -> bool:
        """Whether a version is not newer than what is installed."""
        return NativeVersion(one.version) <= NativeVersion(self.package.version)

    def seen(self, one: Offered):
        """The day on which a version was seen first."""
        at = self.question.first_seen.get(version_key(one))
        return at.astimezone(UTC).date() if at else None

    def age(self, one: Offered) -> int:
        """Days since then."""
        seen = self.seen(one)
        return max((self.question.day - seen).days, 0) if seen else 0


def secure(one: Offered) -> bool:
    """Whether a version comes from a security suite."""
    return "security" in one.suite


def at_least(version: str, fixed: str) -> bool:
    """Whether a version is as new as the one in which something is mended."""
    return bool(fixed) and NativeVersion(version) >= NativeVersion(fixed)


def worst(severities: Iterable[Severity]) -> Severity | None:
    """The worst, if there is any."""
    return min(severities, key=WORST.index, default=None)
