"""YAML with places: values as YAML 1.2 has them, a place for each, and bounds on what a hostile file can cost."""

from __future__ import annotations

import tracemalloc

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.core.diagnostic import Position
from ismgr_automation.estate.marks import MOST_BYTES, claims, parse
from ismgr_automation.estate.scalars import plain

TEXT = """\
# a comment
name: x
list:
  - a
  - key: [1, 2.5, true, ~]
---
second: "quoted"
"""


def test_values_and_places_of_several_documents():
    (first, second), said = parse("f.yaml", TEXT.encode())
    assert said == ()
    assert first.value == {"name": "x", "list": ["a", {"key": [1, 2.5, True, None]}]}
    assert second.value == {"second": "quoted"}
    assert first.at("name") == Position("f.yaml", 2, 7)
    assert first.key("name") == Position("f.yaml", 2, 1)
    assert first.at("list", 1, "key", 1) == Position("f.yaml", 5, 14)
    assert first.key("list", 1, "key") == Position("f.yaml", 5, 5)
    assert second.find(("second",)).style == '"'


def test_a_path_that_does_not_exist_gives_the_deepest_place_that_does():
    (first, _), _said = parse("f.yaml", TEXT.encode())
    assert first.at("list", 1, "nothing", "below") == first.at("list", 1)


def test_aliases_and_merge_keys_are_written_out_and_own_keys_win():
    (one,), said = parse("f", b"a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: [{z: 1}, *a], x: 9}\n")
    assert said == ()
    assert one.value["b"] == {"y": 3, "x": 1}
    assert one.value["c"] == {"x": 9, "z": 1, "y": 2}
    assert one.at("b", "x") == Position("f", 1, 11)


def test_only_a_plain_merge_key_merges():
    (one,), said = parse("f", b'a: {"<<": {x: 1}}\nb: {"\\0merge": {x: 1}}\n')
    assert said == ()
    assert one.value == {"a": {"<<": {"x": 1}}, "b": {"\0merge": {"x": 1}}}


def test_an_anchor_may_be_used_again_and_ends_with_its_document():
    (one,), said = parse("f", b"a: &x 1\nb: *x\nc: &x 2\nd: *x\n---\ne: *x\n")
    assert one.value == {"a": 1, "b": 1, "c": 2, "d": 2}
    assert [str(two.position) for two in said] == ["f:6:4"]


@pytest.mark.parametrize(
    ("text", "value"),
    {
        "": None,
        "~": None,
        "null": None,
        "true": True,
        "False": False,
        "12": 12,
        "-7": -7,
        "+3": 3,
        "0": 0,
        "0o17": 15,
        "0x1F": 31,
        "1.5": 1.5,
        ".5": 0.5,
        "1e3": 1000.0,
        "12:30": "12:30",
        "2026-01-31": "2026-01-31",
        "1.2.3": "1.2.3",
        "10.0.0.1": "10.0.0.1",
        "0b1": "0b1",
        "1_000": "1_000",
        "y": "y",
        "-": "-",
        "yEs": "yEs",
    }.items(),
)
def test_plain_scalars_mean_what_yaml_1_2_says(text, value):
    assert plain(text) == (value, None)
    assert type(plain(text)[0]) is type(value)


@pytest.mark.parametrize(
    "text", ["yes", "No", "ON", "off", "007", "-010", ".nan", "-.inf", "9" * 5000, "0x" + "f" * 30, "1e999"]
)
def test_scalars_that_tools_read_differently_are_refused(text):
    assert plain(text)[1] is not None


def test_quoted_scalars_are_text_whatever_they_hold():
    (one,), said = parse("f", b"a: 'yes'\nb: \"007\"\nc: '12'\nd: ''\n")
    assert said == ()
    assert one.value == {"a": "yes", "b": "007", "c": "12", "d": ""}


HOSTILE = {
    "deep lists": b"[" * 1_000_000,
    "deep mappings": b"{a: " * 200_000,
    "deep blocks": b"".join(b" " * n + b"a:\n" for n in range(1200)),
    "deep through aliases": b"a0: &a0 [x]\n" + b"".join(b"a%d: &a%d [*a%d]\n" % (n, n, n - 1) for n in range(1, 2000)),
    "wide through aliases": b"a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    + b"".join(b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 30)),
    "wide through merges": b"m0: &m0 {k: 1}\n"
    + b"".join(b"m%d: &m%d {<<: [*m%d, *m%d], k%d: 1}\n" % (n, n, n - 1, n - 1, n) for n in range(1, 60)),
    "itself": b"a: &a [*a]\n",
    "itself through a merge": b"a: &a {<<: *a}\n",
    "too large": b"a: " + b"x" * MOST_BYTES,
    "code": b"!!python/object/apply:os.system ['exit 1']: 1\n",
    "control characters": b"a: \x00\x01\n",
    "half a surrogate": b'a: "\\ud800"\n',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_a_diagnostic_and_costs_little(name):
    tracemalloc.start()
    try:
        _, said = parse("f", HOSTILE[name])
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert said
    assert peak_bytes < 64 * 1024 * 1024


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(min_size=1), _json, max_size=4))
def test_what_a_strict_writer_writes_is_read_back(value):
    text = yaml.dump(value, Dumper=_Quoting, allow_unicode=False)
    documents, said = parse("f", text.encode())
    assert [str(one) for one in said] == []
    assert [one.value for one in documents] == [value]


class _Quoting(yaml.SafeDumper):
    """Every text in quotes: what remains plain are numbers, truth values and null."""


_Quoting.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))
_Quoting.ignore_aliases = lambda *_: True  # type: ignore[method-assign, assignment]


def test_an_unreadable_text_still_says_which_names_it_seems_to_hold():
    text = "kind: Team\nname: ops\n---\nname: 'dc1'\nkind: Site\nbroken: [\n---\nkind: Stack\n"
    assert claims(text) == (("Team", "ops"), ("Site", "dc1"))
