"""Selectors: which hosts they take, and what is an error rather than a silent no."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.core.errors import InputError
from ismgr_automation.estate.selector import LONGEST, Flaw, Selector, compiled
from ismgr_automation.ports.hosts import Host

DB1 = Host(
    name="db1.dc1",
    address="192.0.2.10",
    origin="stack/dc1",
    user="debian",
    labels={"role": "db", "rack": "7"},
    groups=("postgres",),
    site="dc1",
    machine="db1",
)
BARE = Host(name="bare", address="192.0.2.11", origin="inventory")


@pytest.mark.parametrize(
    ("source", "takes"),
    [
        ('host.labels.role == "db"', [DB1]),
        ('host.labels.role != "web"', [DB1]),
        ('has(host.labels.role) && host.labels.role == "db"', [DB1]),
        ("!has(host.labels.role)", [BARE]),
        ('"postgres" in host.groups', [DB1]),
        ('host.site == "dc1" && host.machine == "db1" && host.user == "debian"', [DB1]),
        ("host.port == 22", [DB1, BARE]),
        ("int(host.labels.rack) > 5", [DB1]),
        ('host.name.startsWith("b") || host.address.endsWith(".10")', [DB1, BARE]),
        ('host["name"] == "bare"', [BARE]),
        ("type(host.port) == int", [DB1, BARE]),
        ("true", [DB1, BARE]),
    ],
)
def test_a_selector_takes_its_hosts(source, takes):
    selector = Selector.compile(source)
    assert [host for host in (DB1, BARE) if selector.matches(host)] == takes


@pytest.mark.parametrize(
    ("source", "flaw"),
    [
        ("", Flaw(line=1, column=1, summary="the selector ends too early", expected="a value or a bracket")),
        ("host.name ===", Flaw(line=1, column=13, summary="a single '=' compares nothing", expected="'=='")),
        ("name == 'x'", Flaw(line=1, column=1, summary="'name' is not defined", expected="host")),
        (
            "host.name == 'x' &&\n host.prot == 22",
            Flaw(line=2, column=7, summary="a host has no 'prot'", suggestion="port"),
        ),
        (
            "host.labels.?role == 'x'",
            Flaw(line=1, column=12, summary="optional fields ('.?') are not supported", expected="has(...)"),
        ),
        ("len(host.groups) > 1", Flaw(line=1, column=1, summary="there is no function 'len'")),
    ],
)
def test_a_flaw_is_shown_at_its_place_in_the_expression(source, flaw):
    assert compiled(source) == (flaw,)


def test_all_flaws_are_told_at_once():
    flaws = compiled('host.nmae == "a" && hots.name == "b"')
    assert isinstance(flaws, tuple)
    assert len(flaws) == 2


def test_words_inside_texts_are_not_names():
    assert isinstance(compiled('host.name == "host.nonsense (foo(bar))"'), Selector)


def test_a_selector_that_is_too_long_is_refused():
    flaws = compiled("host.port == 22 || " * LONGEST + "true")
    assert isinstance(flaws, tuple)
    assert "too long" in flaws[0].summary


def test_compiling_a_bad_selector_raises_with_its_flaws():
    with pytest.raises(InputError, match=r"at 1:6 of the selector: a host has no 'nam'.*did you mean 'name'"):
        Selector.compile('host.nam == "x"')


def test_an_answer_that_is_no_truth_value_is_an_error():
    selector = Selector.compile('has(host.labels.role) ? host.labels.role : "x" == "x"')
    with pytest.raises(InputError, match=r"gives str for host db1\.dc1, not true or false"):
        selector.matches(DB1)


def test_an_answer_that_cannot_be_computed_names_the_host():
    selector = Selector.compile("int(host.labels.role) > 1")
    with pytest.raises(InputError, match=r"fails on host db1\.dc1"):
        selector.matches(DB1)


def test_the_evaluator_is_shared_with_whoever_imports_the_whole_package():
    code = (
        "from ismgr_automation.estate.selector import Selector\n"
        "Selector.compile('true')\n"
        "import sys; assert 'prompt_toolkit' not in sys.modules\n"
        "import cel; assert cel.evaluate('1 + 1') == 2\n"
        "assert isinstance(Selector.compile('true').program, cel.Program)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


COMPARED = st.sampled_from(["name", "site", "address", "machine", "user", "labels.role", "labels.rack", "labels.none"])
TEXTS = st.sampled_from(
    ["db1.dc1", "bare", "dc1", "db", "7", "192.0.2.10", "debian", "root", "", "&& x", "a'b", "\u00e9"]
)


@given(st.lists(st.tuples(COMPARED, TEXTS), min_size=1, max_size=3), st.sampled_from(["&&", " && ", "\n&&\t"]))
def test_texts_that_are_compared_give_the_evaluators_answer(pairs, joined):
    source = joined.join(f'host.{field} == "{text}"' for field, text in pairs)
    selector = Selector.compile(source)
    assert selector.equals
    slow = replace(selector, equals=())
    assert [selector.matches(host) for host in (DB1, BARE)] == [slow.matches(host) for host in (DB1, BARE)]


@pytest.mark.parametrize(
    "source",
    [
        'host.labels.role == "db" || host.site == "dc1"',
        'host.labels.role == "d\\x62"',
        'host.labels["role"] == "db"',
        'host.labels.role == "db" && true',
        'host.labels.role == "db" // && host.site == "x"',
        '(host.labels.role == "db")',
        '"db" == host.labels.role',
        'host.labels.role == """db"""',
        'host.labels.role == r"db"',
        "host.port == 22",
        "host.labels.role != 'web'",
    ],
)
def test_whatever_else_an_expression_says_is_left_to_the_evaluator(source):
    selector = Selector.compile(source)
    assert not selector.equals
    assert selector.matches(DB1)


@given(st.text(max_size=60) | st.text(alphabet="host.labels[]()\"'=&|!? 1\n", max_size=60))
def test_no_text_makes_the_compiler_raise(source):
    assert compiled(source)
