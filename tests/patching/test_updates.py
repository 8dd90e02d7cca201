"""What is decided of packages: cases as data, and what must hold whatever is decided."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.patching.rules import Standing
from ismgr_automation.patching.seen import version_key
from ismgr_automation.patching.sla import State
from ismgr_automation.patching.updates import Decider, Question
from ismgr_automation.ports.advisories import Advisories
from tests.patching.cases import (
    DAY,
    HOST,
    advisories,
    baseline,
    decided,
    exemption,
    facts,
    installed,
    load,
    offered,
    waivers,
)

PLAIN = {
    "target",
    "newest",
    "digest",
    "downgrade",
    "age_days",
    "severity",
    "security",
    "exploited",
    "epss",
    "state",
    "due",
}


@pytest.mark.parametrize("case", load("updates.yaml"), ids=lambda one: one["case"])
def test_a_package_gets_the_decision_of_its_case(case):
    decision = decided(case)
    expect = case["expect"]
    if expect is None:
        assert decision is None
        return
    assert decision is not None
    told = {name: getattr(decision, name) for name in PLAIN}
    told |= {"standing": decision.ruling.standing, "rule": decision.ruling.rule}
    told |= {name: list(getattr(decision, name)) for name in ("cves", "left", "exemptions")}
    assert {key: told[key] for key in expect if key != "why"} == {k: v for k, v in expect.items() if k != "why"}
    assert expect.get("why", "") in decision.ruling.why


def _question(**fields):
    given_ = {"baseline": baseline(), "advisories": Advisories(), "waivers": waivers(), "first_seen": {}, "day": DAY}
    return Question(**{**given_, **fields})


def test_packages_come_by_name_and_those_that_cannot_move_are_left_out():
    packages = tuple(installed("1.0-1", name, source=name) for name in ("zlib", "bash", "apt"))
    offers = (offered("1.1-1", "zlib", source="zlib"), offered("1.1-1", "apt", source="apt"))
    found = Decider(_question()).decide(HOST, facts(packages, offers))
    assert [(one.host, one.decision.package) for one in found] == [("db1", "apt"), ("db1", "zlib")]


def test_architectures_are_packages_of_their_own():
    packages = (installed("1.0-1"), installed("1.0-1", architecture="i386"))
    found = Decider(_question()).decide(HOST, facts(packages, (offered("1.1-1", architecture="i386"),)))
    assert [one.decision.architecture for one in found] == ["i386"]


def test_another_digest_of_the_same_version_is_another_thing_and_begins_anew():
    rules = [{"name": "aged", "when": "true", "after": "3d"}]
    old, new = offered("1.1-1", digest="sha256:a"), offered("1.1-1", digest="sha256:b")
    question = _question(
        baseline=baseline(rules=rules), first_seen={version_key(old): datetime(2026, 1, 1, tzinfo=UTC)}
    )
    decider = Decider(question)
    (one,) = decider.decide(HOST, facts((installed("1.0-1"),), (old,)))
    (other,) = decider.decide(HOST, facts((installed("1.0-1"),), (new,)))
    assert (one.decision.target, other.decision.target) == ("1.1-1", "")


SEEN = datetime(2026, 10, 1, tzinfo=UTC)
ONCE_SEEN = [
    ("a version that mends it and was replaced", {"version": "1.1-1"}, {"version": "1.1-2"}, True),
    ("the same version, built anew", {"version": "1.1-1"}, {"version": "1.1-1+b1"}, True),
    ("the same version in another file", {"version": "1.1-2", "digest": "sha256:b"}, {"version": "1.1-2"}, True),
    ("a version that did not mend it", {"version": "1.0-9"}, {"version": "1.1-2"}, False),
    ("a newer one, of another release", {"version": "2.0-1"}, {"version": "1.1-2"}, False),
    ("a version from elsewhere", {"version": "1.1-1", "origin": "mirror"}, {"version": "1.1-2"}, False),
    ("a package with numbers of its own", {"version": "4:1.1-1"}, {"version": "4:1.1-2"}, False),
]


@pytest.mark.parametrize(("once", "now", "counts"), [one[1:] for one in ONCE_SEEN], ids=[one[0] for one in ONCE_SEEN])
def test_whoever_replaces_a_version_that_mended_does_not_begin_the_clock_anew(once, now, counts):
    source_version = now["version"].removesuffix("+b1").removeprefix("4:")
    given = offered(**now, source_version=source_version)
    seen = {version_key(offered(**once)): SEEN, version_key(given): SEEN + timedelta(days=13)}
    known = advisories({"CVE-2026-1": {"fixed": "1.1-1", "severity": "high"}})
    decider = Decider(_question(advisories=known, first_seen=seen))
    (one,) = decider.decide(HOST, facts((installed("1.0-1"),), (given,)))
    began = SEEN if counts else SEEN + timedelta(days=13)
    assert one.decision.exposures[0].due == (began + timedelta(days=30)).date()


def test_hosts_that_are_alike_share_a_decision_and_others_do_not():
    rules = [{"name": "dbs", "when": 'host.labels.role == "db"'}]
    decider = Decider(_question(baseline=baseline(rules=rules)))
    read = facts((installed("1.0-1"),), (offered("1.1-1"),))
    db1, db2, web = (
        decider.decide(replace(HOST, name=name, labels={"role": role}), read)[0].decision
        for name, role in (("db1", "db"), ("db2", "db"), ("web1", "web"))
    )
    assert db1 is db2
    assert (db1.target, web.target) == ("1.1-1", "")


def test_an_exemption_for_one_host_changes_nothing_for_the_others():
    document = exemption(scope='host.name == "db1" && cve == "CVE-2026-1"')
    known = advisories({"CVE-2026-1": {"fixed": "1.1-1", "severity": "high", "published": DAY}})
    decider = Decider(_question(advisories=known, waivers=waivers(document)))
    read = facts((installed("1.0-1"),), (offered("1.1-1"),))
    found = [decider.decide(replace(HOST, name=name), read)[0].decision for name in ("db1", "db2")]
    assert [one.ruling.standing for one in found] == [Standing.EXEMPT, Standing.APPROVE]


def test_an_exemption_that_weighs_hosts_against_packages_is_asked_for_each_of_them():
    document = exemption(scope='package.name == host.labels.role || cve == "CVE-2026-9"')
    known = advisories({"CVE-2026-1": {"fixed": "1.1-1", "severity": "high", "published": DAY}})
    decider = Decider(_question(advisories=known, waivers=waivers(document)))
    read = facts((installed("1.0-1"),), (offered("1.1-1"),))
    found = [decider.decide(replace(HOST, labels={"role": role}), read)[0].decision for role in ("demo", "db", "demo")]
    assert [one.ruling.standing for one in found] == [Standing.EXEMPT, Standing.APPROVE, Standing.EXEMPT]


VERSIONS = ["1.0-1", "1.0-1+b1", "1.0-1+deb12u1", "1.1-1~bpo12+1", "1.1-1", "1:0.1-1"]
SEVERITIES = ["critical", "high", "medium", "low", "negligible", "unknown", ""]
DAYS = st.dates(date(2026, 9, 1), date(2026, 12, 31))
HOLES = st.fixed_dictionaries(
    {"fixed": st.sampled_from(["", *VERSIONS]), "severity": st.sampled_from(SEVERITIES)},
    optional={"published": DAYS, "exploited": DAYS, "epss": st.floats(0, 1)},
)
WHENS = st.sampled_from(
    ["true", "package.security", 'package.severity == "high"', 'package.version == "1.1-1"', "package.age_days > 5"]
)
RULES = st.lists(
    st.tuples(WHENS, st.sampled_from(["approve", "defer", "deny"]), st.sampled_from(["0s", "3d"])),
    min_size=1,
    max_size=3,
)
BASELINES = st.builds(
    lambda rules, pin, holds, deny, down, profile: baseline(
        rules=[
            {"name": f"r{n}", "when": when, "then": then, "after": after} for n, (when, then, after) in enumerate(rules)
        ],
        pins={"demo": pin} if pin else {},
        holds=holds,
        deny=deny,
        allow_downgrades=down,
        sla={"profile": profile},
    ),
    RULES,
    st.sampled_from(["", "", *VERSIONS]),
    st.sampled_from([[], [], ["demo"], ["d*"]]),
    st.lists(st.sampled_from(["demo=1.1-1", "*=1.0-1+b1", "other=*", "demo=1:*"]), max_size=2),
    st.sampled_from([[], ["demo"]]),
    st.sampled_from(["cis", "hipaa-2025", "custom"]),
)
WAIVED = st.lists(
    st.sampled_from(["true", 'cve == "CVE-2026-0"', 'cve == ""', "int(host.labels.role) > 0"]), max_size=2, unique=True
)


@st.composite
def worlds(draw):
    offers = tuple(offered(one) for one in draw(st.lists(st.sampled_from(VERSIONS), unique=True)))
    holes = {f"CVE-2026-{n}": one for n, one in enumerate(draw(st.lists(HOLES, max_size=3)))}
    seen = {
        version_key(one): datetime(2026, 11, 20, tzinfo=UTC) - timedelta(days=draw(st.integers(0, 9))) for one in offers
    }
    question = _question(baseline=draw(BASELINES), advisories=advisories(holes), first_seen=seen)
    package = installed(draw(st.sampled_from(VERSIONS)), status=draw(st.sampled_from(["ii", "ii", "hi"])))
    documents = [exemption(name=f"e{n}", scope=scope) for n, scope in enumerate(draw(WAIVED))]
    return question, facts((package,), offers), documents


def _decision(question, read):
    found = Decider(question).decide(HOST, read)
    return found[0].decision if found else None


@given(worlds())
def test_a_target_is_offered_and_neither_denied_nor_held(world):
    question, read, documents = world
    decision = _decision(replace(question, waivers=waivers(*documents)), read)
    if decision is None or not decision.target:
        return
    package, document = read.installed[0], question.baseline
    assert decision.target in {one.version for one in read.offered} - {package.version}
    assert not package.held
    assert not document.holds
    assert f"demo={decision.target}" not in document.deny
    assert not (decision.target == "1.0-1+b1" and "*=1.0-1+b1" in document.deny)
    assert decision.ruling.standing in {Standing.APPROVE, Standing.PINNED}
    assert not decision.downgrade or (document.pins and document.allow_downgrades)
    assert decision.digest == f"sha256:{decision.target}"


@given(worlds())
def test_what_is_unknown_is_never_called_well(world):
    question, read, documents = world
    decision = _decision(replace(question, waivers=waivers(*documents)), read)
    for one in decision.exposures if decision else ():
        if one.severity == "unknown" and not one.waived.hold:
            assert one.state in {State.UNKNOWN, State.BREACHED}
            assert decision.state in {State.UNKNOWN, State.BREACHED}


@given(worlds())
def test_an_exemption_never_takes_a_vulnerability_away(world):
    question, read, documents = world
    without, with_ = _decision(question, read), _decision(replace(question, waivers=waivers(*documents)), read)
    assert (without is None) == (with_ is None)
    if without and with_:
        assert [one.cve for one in without.exposures] == [one.cve for one in with_.exposures]
        assert with_.target in {without.target, ""}
        for before, after in zip(without.exposures, with_.exposures, strict=True):
            assert after.state == (State.EXCEPTED if after.waived.hold else before.state)


@given(worlds())
def test_a_host_that_others_asked_before_gets_the_same_answer(world):
    question, read, documents = world
    question = replace(question, waivers=waivers(*documents))
    decider = Decider(question)
    decider.decide(replace(HOST, name="other", labels={}), read)
    decider.decide(replace(HOST, name="third"), facts(read.installed))
    assert decider.decide(HOST, read) == Decider(replace(question, waivers=waivers(*documents))).decide(HOST, read)
