"""What a host told, read: which fate, which moves really happened, and a whole answer for any text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.engines.apt.answers import SAID_LINES, Verb, result_of
from ismgr_automation.engines.ssh.remote import Answer
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.packages import Move, PackageFate, PackageResult, Trouble

WEB = Move(name="web", architecture="all", before="1", after="2")
LIB = Move(name="lib", architecture="amd64", before="1", after="2")
TODO = "todo web\tall\ntodo lib\tamd64\n"
WEB_DONE = "state web\tall\t1\t2\tii \t2\n"
LIB_DONE = "state lib\tamd64\t1\t2\tii \t2\n"
LIB_LEFT = "state lib\tamd64\t1\t2\tii \t1\n"
LIB_BROKEN = "state lib\tamd64\t1\t2\tiF \t2\n"
AUDIT = "audit The following packages are only half configured, probably due\naudit  lib    a library\n"
DPKG = "said E: Sub-process /usr/bin/dpkg returned an error code (1)\n"
END = "end\n"


def read(output: str, verb: Verb = Verb.APPLY, **more: object) -> PackageResult:
    answer = Answer(host="web1", reach=Reach.OK, output=output, begun=True, seconds=2.0)
    return result_of(Answer(**(vars_of(answer) | more)), verb, (WEB, LIB))  # type: ignore[arg-type]


def vars_of(answer: Answer) -> dict[str, object]:
    return {name: getattr(answer, name) for name in Answer.__slots__}


APPLIED = {
    "all made": (f"{TODO}begun\n{WEB_DONE}{LIB_DONE}{END}", PackageFate.DONE, Trouble.NONE, (WEB, LIB)),
    "one was there before": (
        f"todo web\tall\nbegun\n{WEB_DONE}{LIB_DONE}{END}",
        PackageFate.DONE,
        Trouble.NONE,
        (WEB,),
    ),
    "all were there": (f"{WEB_DONE}{LIB_DONE}{END}", PackageFate.NOTHING, Trouble.NONE, ()),
    "refused": (f"{TODO}trouble wider other=3\n{LIB_LEFT}{END}", PackageFate.REFUSED, Trouble.WIDER, ()),
    "broken": (
        f"{TODO}begun\ntrouble apt\n{DPKG}{WEB_DONE}{LIB_BROKEN}{AUDIT}{END}",
        PackageFate.FAILED,
        Trouble.BROKEN,
        (WEB,),
    ),
    "begun, and the lock was gone": (
        f"{TODO}begun\ntrouble apt\nsaid E: Could not get lock x\n{LIB_LEFT}{END}",
        PackageFate.REFUSED,
        Trouble.LOCKED,
        (),
    ),
    "begun, and full": (
        f"{TODO}begun\ntrouble apt\nsaid No space left on device\n{LIB_LEFT}{END}",
        PackageFate.FAILED,
        Trouble.NO_ROOM,
        (),
    ),
    "apt says well, and dpkg does not": (
        f"{TODO}begun\n{WEB_DONE}{LIB_LEFT}{END}",
        PackageFate.FAILED,
        Trouble.OTHER,
        (WEB,),
    ),
    "apt says well, and it is broken": (
        f"{TODO}begun\n{WEB_DONE}{LIB_BROKEN}{AUDIT}{END}",
        PackageFate.FAILED,
        Trouble.BROKEN,
        (WEB,),
    ),
    "a word that nobody knows": (f"{TODO}trouble strange words\n{END}", PackageFate.REFUSED, Trouble.OTHER, ()),
    "still running": ("running\n", PackageFate.UNKNOWN, Trouble.NONE, ()),
    "died": (f"{TODO}begun\ndied\n", PackageFate.UNKNOWN, Trouble.NONE, ()),
    "nothing said": ("", PackageFate.UNKNOWN, Trouble.NONE, ()),
}


@pytest.mark.parametrize(("output", "fate", "trouble", "made"), APPLIED.values(), ids=APPLIED)
def test_the_fate_of_a_host_is_read_back_from_dpkg(output, fate, trouble, made):
    result = read(output)
    assert (result.fate, result.trouble, result.made) == (fate, trouble, made)


def test_a_check_makes_nothing_and_tells_what_would_be():
    would = read(f"{TODO}{LIB_LEFT}{END}", Verb.CHECK)
    assert (would.fate, would.made, would.former) == (PackageFate.DONE, (), ())
    assert read(END, Verb.CHECK).fate is PackageFate.NOTHING
    assert read("trouble locked x\nend\n", Verb.CHECK).fate is PackageFate.REFUSED
    assert read("", Verb.CHECK).fate is PackageFate.FAILED


def test_a_refresh_is_done_or_failed():
    assert read(END, Verb.REFRESH).fate is PackageFate.DONE
    failed = read("trouble apt\nsaid E: The repository 'x' is not signed.\nend\n", Verb.REFRESH)
    assert (failed.fate, failed.detail) == (PackageFate.FAILED, "E: The repository 'x' is not signed.")


def test_a_full_run_folder_is_told_where_no_answer_could_be_written():
    result = read("", Verb.CHECK, detail="mktemp: failed to create directory: No space left on device", code=73)
    assert (result.fate, result.trouble) == (PackageFate.FAILED, Trouble.NO_ROOM)


REACHES = {
    "never connected": (False, Verb.APPLY, PackageFate.UNREACHABLE),
    "lost in the middle": (True, Verb.APPLY, PackageFate.UNKNOWN),
    "lost while looking": (True, Verb.CHECK, PackageFate.UNREACHABLE),
}


@pytest.mark.parametrize(("begun", "verb", "fate"), REACHES.values(), ids=REACHES)
def test_a_lost_host_is_unknown_only_where_it_may_have_begun(begun, verb, fate):
    result = read("", verb, reach=Reach.TIMEOUT, begun=begun, detail="no answer")
    assert (result.fate, result.detail) == (fate, "timeout: no answer")


def test_people_are_shown_the_last_words():
    said = "".join(f"said line {number}\n" for number in range(40))
    shown = read(f"trouble no-room 3 KiB are needed\n{said}{END}").detail.splitlines()
    assert shown == ["3 KiB are needed", *(f"line {number}" for number in range(40 - SAID_LINES, 40))]


@given(st.text(max_size=400), st.sampled_from(Verb))
def test_any_text_gives_one_result(text, verb):
    assert read(text + END, verb).host == "web1"


@pytest.mark.parametrize(
    ("output", "line"),
    [
        (APPLIED["broken"][0], "E: Sub-process /usr/bin/dpkg returned an error code (1)"),
        (APPLIED["refused"][0], "other=3"),
        (APPLIED["all made"][0], ""),
    ],
)
def test_what_went_wrong_has_one_line(output: str, line: str) -> None:
    assert read(output).headline == line
