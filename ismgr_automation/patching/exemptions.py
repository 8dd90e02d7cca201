"""Which exemptions hold for a vulnerability on a host, and what is wrong with exemptions. When in doubt none holds: the
vulnerability is reported."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta

from ismgr_automation.core.address import Address, Kind
from ismgr_automation.core.errors import InputError
from ismgr_automation.estate.documents import Role, Team
from ismgr_automation.estate.expressions import SCOPE, Expression, Given
from ismgr_automation.estate.maintenance import MOST_DAYS, Exemption, Severity
from ismgr_automation.planning.change import Finding, Level
from ismgr_automation.ports.hosts import Host
from ismgr_automation.ports.packages import Installed


@dataclass(frozen=True, slots=True, kw_only=True)
class Waived:
    """What exemptions say of one vulnerability: names of those that hold, and of those whose scope it is in and that do
    not hold (over, not begun, longer than its severity allows, without an approver)."""

    hold: tuple[str, ...] = ()
    proposed: tuple[str, ...] = ()
    """Those that would hold, and that only the proposed revision brings: nothing is excepted by them."""
    lapsed: tuple[str, ...] = ()
    faults: tuple[tuple[str, str], ...] = ()
    """Names of exemptions that could not be judged, with why."""

    @property
    def covering(self) -> tuple[str, ...]:
        """Those by which it is left alone: nobody patches what somebody is about to waive."""
        return self.hold or self.proposed


NOTHING = Waived()


class Waivers:
    """The exemptions of an estate, compiled, as they are on one day. Each distinct question is answered once.

    ``before`` are those of the revision that counts, where that is another one: what holds must hold by both.
    """

    def __init__(
        self,
        exemptions: Mapping[str, Exemption],
        teams: Mapping[str, Team],
        day: date,
        before: Waivers | None = None,
    ) -> None:
        """Raises ``InputError`` for a scope that does not compile."""
        self.documents: Mapping[str, Exemption] = dict(sorted(exemptions.items()))
        self.approvers = approvers(teams)
        self.day = day
        self._before = before
        scopes = [(name, Expression.compile(one.scope, SCOPE)) for name, one in self.documents.items()]
        self._by_host = tuple(one for one in scopes if one[1].asks_for_host)
        self._everywhere = tuple(one for one in scopes if not one[1].asks_for_host)
        self._answers: dict[Hashable, _Answer] = {}
        self._covered: dict[_Question, tuple[tuple[str, _Answer], ...]] = {}
        self._givens: dict[_Question, Given] = {}

    def seat(self, host: Host) -> Seat:
        """A host as exemptions see it: only those that can hold for it at all are looked at again."""
        given = Given.of(f"host {host.name}", host=host)
        points = [(name, scope, scope.standpoint(host, given)) for name, scope in self._by_host]
        before = self._before.seat(host) if self._before is not None else None
        return Seat(host, tuple(one for one in points if not one[1].never(one[2])), before)

    def of(self, seat: Seat, package: Installed, cve: str, severity: Severity) -> Waived:
        """What they say of one CVE (empty: of an update that mends none) of an installed package."""
        found = self._said(seat, package, cve, severity)
        if found.hold and self._before is not None and seat.before is not None:
            agreed = self._before.of(seat.before, package, cve, severity)
            return found if agreed.hold else replace(found, hold=(), proposed=found.hold)
        return found

    def _said(self, seat: Seat, package: Installed, cve: str, severity: Severity) -> Waived:
        covering = self._covering(seat, (package.name, package.source, package.version, cve))
        if not covering:
            return NOTHING
        covers = [name for name, answer in covering if answer is True]
        hold = tuple(name for name in covers if self._holds(self.documents[name], severity))
        return Waived(
            hold=hold,
            lapsed=tuple(name for name in covers if name not in hold),
            faults=tuple((name, answer) for name, answer in covering if isinstance(answer, str)),
        )

    def until(self, name: str, severity: Severity) -> date:
        """The last day on which an exemption holds for a severity."""
        return until(self.documents[name], severity)

    def _covering(self, seat: Seat, question: _Question) -> list[tuple[str, _Answer]]:
        """Each exemption whose scope it is in, or of which nobody can tell, by name."""
        if question not in self._covered:
            said = [(name, self._answer(scope, (), seat.host, question)) for name, scope in self._everywhere]
            self._covered[question] = tuple(one for one in said if one[1] is not False)
        found = list(self._covered[question])
        for name, scope, point in seat.scopes:
            answer = self._answers.get((name, point, question))
            if answer is None:
                answer = self._answers[name, point, question] = self._answer(scope, point, seat.host, question)
            if answer is not False:
                found.append((name, answer))
        found.sort()
        return found

    def _answer(self, scope: Expression, point: Hashable, host: Host, question: _Question) -> _Answer:
        if question not in self._givens:
            self._givens[question] = _given(question)
        try:
            return scope.holds_for(point, self._givens[question], lambda: _given(question, host))
        except InputError as problem:
            return problem.summary

    def _holds(self, one: Exemption, severity: Severity) -> bool:
        return one.approver in self.approvers and one.issued <= self.day <= until(one, severity)


@dataclass(frozen=True, slots=True)
class Seat:
    """A host, and the exemptions that can hold for it, each with what of the host the answer depends on."""

    host: Host
    scopes: tuple[tuple[str, Expression, Hashable], ...]
    before: Seat | None = None
    """As the exemptions of the revision that counts see it."""

    @property
    def view(self) -> Hashable:
        """For hosts with the same, exemptions say the same."""
        mine = tuple((name, point) for name, _, point in self.scopes)
        return mine, self.before.view if self.before is not None else ()


_Question = tuple[str, str, str, str]
"""Name, source and version of a package, and a CVE."""
_Answer = bool | str
"""Whether a scope holds, or why nobody can tell."""


def _given(question: _Question, host: Host | None = None) -> Given:
    name, source, version, cve = question
    about = f"{name} on {host.name}" if host else name
    return Given.of(about, host=host, package={"name": name, "source": source, "version": version}, cve=cve)


def until(exemption: Exemption, severity: Severity) -> date:
    """The last day on which an exemption holds for a vulnerability of that severity: its expiry, or earlier where the
    severity allows less."""
    return min(exemption.expires, exemption.issued + timedelta(days=MOST_DAYS[severity]))


def approvers(teams: Mapping[str, Team]) -> frozenset[str]:
    """Names and addresses of everybody with role approver."""
    people = [one for team in teams.values() for one in team.members if Role.APPROVER in one.roles]
    return frozenset(word for one in people for word in (one.name, one.email) if word)


@dataclass(frozen=True, slots=True, kw_only=True)
class Met:
    """One vulnerability that a scope covers: what it is called, how bad, and what exemptions said of it."""

    severity: Severity
    waived: Waived


def findings(waivers: Waivers, met: Collection[Met], *, whole: bool = True) -> tuple[Finding, ...]:
    """What is wrong with exemptions: over, covering nothing, too long, approved by nobody, only proposed, impossible to
    judge.

    ``met`` is everything that was judged by them; the same one may be there many times. Without ``whole`` that is not
    all there is (hosts were left out, or could not be read), and nobody can tell what covers nothing.
    """
    covered: dict[str, set[Severity]] = {}
    for one in met:
        for name in (*one.waived.covering, *one.waived.lapsed):
            covered.setdefault(name, set()).add(one.severity)
    proposed = {name for one in met for name in one.waived.proposed}
    faults = {fault for one in met for fault in one.waived.faults}
    found = [
        one
        for name, document in sorted(waivers.documents.items())
        for one in _about(document, covered.get(name, set()), waivers, whole=whole)
    ]
    return (*found, *(_proposed(waivers.documents[name]) for name in sorted(proposed)), *_unjudged(faults))


def _about(one: Exemption, covered: Collection[Severity], waivers: Waivers, *, whole: bool) -> Iterator[Finding]:
    day = waivers.day
    if day > one.expires:
        nothing = "it covers nothing any more" if whole else "whether it still covers anything was not seen"
        covers = "it still covers something, which counts again" if covered else nothing
        summary = f"exemption {one.name} of {one.owner} is over since {one.expires}: {covers}"
        yield _finding(one.name, summary, "Patch what it covered, or have it approved anew; else remove it.")
        return
    if one.approver not in waivers.approvers:
        summary = f"exemption {one.name} does not hold: {one.approver}, who approved it, is no approver (any more)"
        yield _finding(one.name, summary, "Have somebody with role approver agree to it.")
    if not covered and whole:
        summary = f"exemption {one.name} of {one.owner} covers nothing (any more)"
        yield _finding(one.name, summary, "Remove it, or mend its scope.")
    short = [severity for severity in Severity if severity in covered and until(one, severity) < one.expires]
    if short:
        severity = min(short, key=lambda word: MOST_DAYS[word])
        summary = (
            f"exemption {one.name} lasts {(one.expires - one.issued).days} days, and for {severity} vulnerabilities "
            f"{MOST_DAYS[severity]} are allowed: for these it holds until {until(one, severity)}"
        )
        yield _finding(one.name, summary, "Shorten it, or have it approved anew before that day.")


def _proposed(one: Exemption) -> Finding:
    summary = (
        f"proposed exemption {one.name} of {one.owner}: what it covers is left alone, and counts until the exemption "
        "stands in the revision that was applied last"
    )
    return _finding(one.name, summary, "Have a plan of this revision approved and applied, or `ismgr trust pin` it.")


def _unjudged(faults: Collection[tuple[str, str]]) -> Iterator[Finding]:
    """One finding for each exemption that could not be judged, however many hosts it failed on."""
    for name in sorted({name for name, _ in faults}):
        first = min(why for one, why in faults if one == name)
        yield _finding(name, f"exemption {name} cannot be judged, and does not hold: {first}", "Mend its scope.")


def _finding(name: str, summary: str, next_step: str) -> Finding:
    return Finding(level=Level.WARN, subject=Address(Kind.EXEMPTION, name), summary=summary, next_step=next_step)
