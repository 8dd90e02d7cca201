"""Expressions over hosts, packages and CVEs: what they say, what is an error, for which hosts one answer is enough."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.core.errors import InputError
from ismgr_automation.estate.expressions import LONGEST, RULE, SCOPE, Expression, Flaw, Given, compiled
from ismgr_automation.ports.hosts import Host

PACKAGE = {
    "name": "openssl",
    "source": "openssl",
    "version": "3.0.15-1~deb12u1",
    "installed": "3.0.14-1~deb12u2",
    "section": "libs",
    "origin": "Debian",
    "suite": "stable-security",
    "severity": "high",
    "cves": ["CVE-2024-9143"],
    "security": True,
    "exploited": False,
    "epss": 0.04,
    "age_days": 4,
    "downgrade": False,
}
DB = Host(name="db1", address="192.0.2.1", origin="", labels={"role": "db"}, site="dc1", groups=("dbs",))
WEB = Host(name="web1", address="192.0.2.2", origin="", labels={"role": "web"}, site="dc1")
BARE = Host(name="bare", address="192.0.2.3", origin="")


@pytest.mark.parametrize(
    ("source", "holds"),
    [
        ('package.severity in ["critical", "high"]', True),
        ('package.name.matches("^(openssl|libssl3)$")', True),
        ('"CVE-2024-9143" in package.cves', True),
        ('package.cves.exists(one, one.startsWith("CVE-2023-"))', False),
        ("package.epss > 0 && package.epss < 0.05", True),
        ("package.age_days >= 4 && !package.downgrade && !package.exploited", True),
        ('package.origin == "Debian" && package.suite.endsWith("-security")', True),
        ('package.section != "libs" || host.labels.role == "db"', True),
        ('host.labels.rack == "7"', False),
        ('package["name"] == "openssl"', True),
    ],
)
def test_a_rule_holds_for_a_package_on_a_host(source, holds):
    assert Expression.compile(source, RULE).holds(Given.of("x", host=DB, package=PACKAGE)) is holds


def test_the_word_package_inside_a_text_stays_as_it_is():
    scope = Expression.compile('cve == "package" && package.name == "package.name"', SCOPE)
    assert scope.holds(Given.of("x", host=DB, package={"name": "package.name"}, cve="package"))


@pytest.mark.parametrize(
    ("source", "flaw"),
    [
        ("package.nam == 'x'", Flaw(line=1, column=9, summary="a package has no 'nam'", suggestion="name")),
        ("package['nam'] == 'x'", Flaw(line=1, column=10, summary="a package has no 'nam'", suggestion="name")),
        ("\n  pkg.name == 'x'", Flaw(line=2, column=3, summary="'pkg' is not defined", suggestion="package")),
        ("pkg____.name == 'x'", Flaw(line=1, column=1, summary="'pkg____' is not defined", expected="host or package")),
        (
            "package.name",
            Flaw(line=1, column=1, summary="the rule does not give true or false", expected=RULE.example),
        ),
        (
            "package.name == ",
            Flaw(line=1, column=17, summary="the rule ends too early", expected="a value or a bracket"),
        ),
    ],
)
def test_a_flaw_is_shown_at_its_place_in_the_rule(source, flaw):
    assert compiled(source, RULE) == (flaw,)


def test_compiling_a_bad_rule_raises_with_its_flaws():
    with pytest.raises(InputError, match=r"at 1:9 of the rule: a package has no 'sevrity'.*did you mean 'severity'"):
        Expression.compile('package.sevrity == "high"', RULE)


def test_a_scope_that_is_too_long_is_refused():
    flaws = compiled("package.name == 'x' || " * LONGEST + "true", SCOPE)
    assert isinstance(flaws, tuple)
    assert "the scope is too long" in flaws[0].summary


@pytest.mark.parametrize(
    "source",
    [
        "int(host.labels.role) > package.age_days",
        'package.cves[5] == "CVE-2024-9143"',
        "100 / (package.age_days - 4) > 1",
        "9223372036854775807 + package.age_days > 0",
    ],
)
def test_an_answer_that_cannot_be_computed_names_what_it_failed_on(source):
    rule = Expression.compile(source, RULE)
    with pytest.raises(InputError, match=r"The rule .* fails on openssl on db1"):
        rule.holds(Given.of("openssl on db1", host=DB, package=PACKAGE))


def test_an_answer_that_is_no_truth_value_is_an_error():
    rule = Expression.compile('has(host.labels.role) ? host.labels.role : "x" == "x"', RULE)
    with pytest.raises(InputError, match=r"gives str for openssl on db1, not true or false"):
        rule.holds(Given.of("openssl on db1", host=DB, package=PACKAGE))


@pytest.mark.parametrize(
    ("source", "alike"),
    [
        ("package.security", [(DB, WEB), (DB, BARE), (WEB, BARE)]),
        ('package.security && host.site == "dc1"', [(DB, WEB)]),
        ('host.name == "db1" && cve == "CVE-1"', [(WEB, BARE)]),
        ('cve == "CVE-1" && has(host.labels.role) && host.labels.role == "db"', [(WEB, BARE)]),
        ("host.labels.role == package.name", []),
        ('host.site == "dc1" || cve == "x"', [(DB, WEB)]),
        ("host.labels.exists(one, one == cve)", []),
        ('host["site"] == "dc1" || cve == "x"', []),
        ('cve == "a && host.name" && host.labels.role == "db"', []),
    ],
)
def test_hosts_that_an_expression_cannot_tell_apart_have_one_standpoint(source, alike):
    expression = Expression.compile(source, RULE if "cve" not in source else SCOPE)
    found = [
        (one, two)
        for one, two in ((DB, WEB), (DB, BARE), (WEB, BARE))
        if expression.standpoint(one) == expression.standpoint(two)
    ]
    assert found == alike


ATOMS = st.sampled_from(
    [
        'host.site == "dc1"',
        'host.labels.role == "db"',
        "has(host.labels.role)",
        '"dbs" in host.groups',
        'host["name"] == "bare"',
        'cve == "CVE-1"',
        'package.name == "&& host.name"',
        "host.labels.role == package.name",
        "host.name == 'web1' ? cve == 'CVE-1' : true",
        'int(host.labels.role) > 1 // && host.site == "x"\n',
        'host.labels.exists(l, l == "role")',
        "cve in [host.name, 'CVE-1']",
        "int(package.name) > 0",
    ]
)
SCOPES = st.recursive(
    ATOMS, lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from(["&&", "||"]), inner), max_leaves=4
)
JOINED = st.lists(SCOPES, min_size=1, max_size=3).map(" && ".join) | st.lists(SCOPES, min_size=1).map(" || ".join)


def _answer(expression, host, cve, name):
    try:
        return expression.holds(Given.of("x", host=host, package={"name": name}, cve=cve))
    except InputError:
        return "error"


@given(JOINED, st.sampled_from(["CVE-1", "", "web1"]), st.sampled_from(["db", "&& host.name"]))
def test_hosts_with_one_standpoint_get_one_answer(source, cve, name):
    expression = compiled(source, SCOPE)
    assert isinstance(expression, Expression)
    answers = {}
    for host in (DB, WEB, BARE):
        answers.setdefault(expression.standpoint(host), set()).add(_answer(expression, host, cve, name))
    assert all(len(found) == 1 for found in answers.values())


@given(JOINED, st.sampled_from(["CVE-1", "", "web1"]), st.sampled_from(["db", "&& host.name"]))
def test_asking_without_the_host_gives_the_answer_of_the_whole(source, cve, name):
    expression = compiled(source, SCOPE)
    assert isinstance(expression, Expression)
    hostless = Given.of("x", package={"name": name}, cve=cve)
    for host in (DB, WEB, BARE):
        whole = Given.of("x", host=host, package={"name": name}, cve=cve)
        apart = partial(expression.holds_for, expression.standpoint(host), hostless, lambda whole=whole: whole)
        assert _told(apart) == _told(partial(expression.holds, whole))


def _told(ask):
    try:
        return ask()
    except InputError as problem:
        return problem.summary


@given(st.text(max_size=60) | st.text(alphabet="package.host.labels[]()\"'=&|!? 1\n", max_size=60))
def test_no_text_makes_the_compiler_raise(source):
    assert compiled(source, RULE)
