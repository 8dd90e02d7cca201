"""Secrets: an opaque box, references that travel, and taking secrets out of what engines print."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from dataclasses import asdict, dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.core.json import canonical
from ismgr_automation.core.secret import Redactor, Secret, SecretRef

VALUE = "hunter2-canary"
BOX = Secret(VALUE)


@pytest.mark.parametrize(
    "shown",
    [
        str(BOX),
        repr(BOX),
        f"{BOX}",
        f"{BOX!s:>40}",
        f"{BOX:>40}",
        "%s %r" % (BOX, BOX),  # noqa: UP031  whoever logs does it so
        "{0} {0!r}".format(BOX),  # noqa: UP032
        str([BOX]),
        str({"a": BOX}),
        logging.LogRecord("x", 20, "f", 1, "%s", (BOX,), None).getMessage(),
    ],
)
def test_no_way_of_printing_shows_a_secret(shown: str) -> None:
    assert VALUE not in shown
    assert "<secret>" in shown


@pytest.mark.parametrize(
    "leave",
    [
        pickle.dumps,
        copy.copy,
        copy.deepcopy,
        json.dumps,
        canonical,
        len,
        lambda box: box + "",
        "".join,
        lambda box: sorted([box, box]),
        vars,
    ],
)
def test_a_secret_cannot_leave_its_box_by_another_way(leave: object) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        leave([BOX] if leave == "".join else BOX)  # type: ignore[operator]
    assert VALUE not in "".join(traceback.format_exception(caught.value))


def test_a_secret_is_equal_to_nothing_but_itself() -> None:
    assert Secret(VALUE) != BOX
    assert BOX != VALUE
    assert BOX == BOX  # noqa: PLR0124  the point
    assert len({BOX, Secret(VALUE)}) == 2


def test_a_value_that_holds_a_secret_cannot_be_turned_into_plain_data() -> None:
    @dataclass(frozen=True, slots=True)
    class Holder:
        box: Secret

    assert VALUE not in repr(Holder(BOX))
    with pytest.raises(TypeError):
        asdict(Holder(BOX))


def test_revealing_is_the_one_way() -> None:
    assert BOX.reveal() == VALUE


@pytest.mark.parametrize("text", ["file:bmc/db1.dc1", "env:APP", "vault:a/b:c"])
def test_a_reference_reads_what_it_writes(text: str) -> None:
    assert str(SecretRef.parse(text)) == text


@pytest.mark.parametrize("text", ["", "app", ":app", "file:", "file:/etc/shadow", "file:../x", "file:a/../../x"])
def test_what_is_no_reference_or_climbs_out_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        SecretRef.parse(text)


LONG = st.text(st.characters(exclude_categories=["Cs", "Z", "C"]), min_size=4).filter(
    lambda text: not set(text) <= set("<secret>")
)


@given(st.lists(LONG, min_size=1, max_size=4), st.text())
def test_no_learnt_secret_is_left_in_a_text(values: list[str], around: str) -> None:
    redactor = Redactor()
    for value in values:
        assert redactor.learn(Secret(value)).reveal() == value
    cleaned = redactor.clean(around + " ".join(values) + around)
    assert not [value for value in values if value in cleaned.replace("<secret>", "")]


def test_each_line_of_a_key_is_taken_out() -> None:
    redactor = Redactor()
    redactor.learn(Secret("first line\nsecond line\n"))
    assert redactor.clean("x second line y first line") == "x <secret> y <secret>"


def test_a_secret_is_taken_out_of_json_as_well() -> None:
    redactor = Redactor()
    redactor.learn(Secret('pa"ss\\w\u00f6rd'))
    for text in (json.dumps({"p": 'pa"ss\\w\u00f6rd'}), json.dumps({"p": 'pa"ss\\w\u00f6rd'}, ensure_ascii=False)):
        assert redactor.clean(text) == '{"p": "<secret>"}'


def test_the_longest_secret_goes_first_and_short_ones_are_left() -> None:
    redactor = Redactor()
    for value in ("abcd", "abcdef", "ab"):
        redactor.learn(Secret(value))
    assert redactor.clean("abcdef abcd ab") == "<secret> <secret> ab"


def test_a_redactor_shows_how_many_and_not_which() -> None:
    redactor = Redactor()
    redactor.learn(BOX)
    assert VALUE not in repr(redactor)
    assert VALUE not in str(redactor)
