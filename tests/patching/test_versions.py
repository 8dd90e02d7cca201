"""Which version is newer: Debian's own cases, a total order, and what dpkg says."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ismgr_automation.patching.versions import at_least, compare, newer, ordered

RISING = [
    ("1.0~rc1-1", "1.0-1"),
    ("1.0-1", "1.0-1+b1"),
    ("1.0-1+b1", "1.0-1.1"),
    ("1.0-1~bpo12+1", "1.0-1"),
    ("1.0-1", "1.0-1+deb12u1"),
    ("1.0-1+deb12u1", "1.0-1+deb12u2"),
    ("1.0-1+deb12u9", "1.0-1+deb12u10"),
    ("1.0-1+deb12u1", "1.0-2"),
    ("9.9-1", "1:0.1-1"),
    ("1.9-1", "1.10-1"),
    ("1.0-1~~", "1.0-1~"),
    ("3.0.14-1~deb12u2", "3.0.15-1~deb12u1"),
    ("1.0a", "1.0+"),
]


@pytest.mark.parametrize(("older", "later"), RISING)
def test_the_older_version_is_older(older, later):
    assert compare(older, later) < 0 < compare(later, older)
    assert newer(later, older)
    assert at_least(later, older)
    assert not at_least(older, later)


@pytest.mark.parametrize(("one", "other"), [("1.0", "1.00"), ("0:1.0-1", "1.0-1"), ("1.0", "1.0-0")])
def test_versions_that_are_written_differently_can_be_the_same(one, other):
    assert compare(one, other) == 0
    assert at_least(one, other)
    assert not newer(one, other)


def test_what_is_no_version_is_an_error_and_never_newer():
    with pytest.raises(ValueError, match="Invalid version"):
        compare("not a version", "1.0")
    assert not newer("not a version", "1.0")
    assert not at_least("1.0", "not a version")
    assert ordered(["2", "not a version", "1~"]) == ["1~", "2"]


PIECE = st.text("019ab+~.", min_size=1, max_size=5)
VERSIONS = st.builds(
    lambda epoch, upstream, revision: f"{epoch}{upstream}{revision}",
    st.sampled_from(["", "", "0:", "1:"]),
    PIECE.map("1{}".format),
    st.just("") | PIECE.map("-{}".format),
)


@given(VERSIONS, VERSIONS, VERSIONS)
def test_versions_are_in_a_total_order(one, two, three):
    assert compare(one, one) == 0
    assert compare(one, two) == -compare(two, one)
    if compare(one, two) <= 0 and compare(two, three) <= 0:
        assert compare(one, three) <= 0


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="there is no dpkg on this machine")
@settings(max_examples=300)
@given(VERSIONS, VERSIONS)
def test_dpkg_says_the_same(one, other):
    assert _dpkg(one, "lt", other) == (compare(one, other) < 0)
    assert _dpkg(one, "eq", other) == (compare(one, other) == 0)


def _dpkg(one, relation, other):
    said = subprocess.run(
        ["dpkg", "--compare-versions", one, relation, other], check=False, capture_output=True, timeout=30
    )
    assert said.returncode in {0, 1}
    return said.returncode == 0
