"""When hosts are restarted, and how long they are waited for."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.estate.maintenance import RebootPolicy
from ismgr_automation.patching.reboots import SHORTEST, Due, due, expected, patience
from ismgr_automation.ports.packages import Mapped, Move, Need
from tests.patching.cases import facts

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("policy", "need", "reboot"),
    [
        (RebootPolicy.NEVER, Need.YES, False),
        (RebootPolicy.NEVER, Need.UNKNOWN, False),
        (RebootPolicy.NEVER, Need.NO, False),
        (RebootPolicy.IF_NEEDED, Need.YES, True),
        (RebootPolicy.IF_NEEDED, Need.UNKNOWN, True),
        (RebootPolicy.IF_NEEDED, Need.NO, False),
        (RebootPolicy.ALWAYS, Need.YES, True),
        (RebootPolicy.ALWAYS, Need.UNKNOWN, True),
        (RebootPolicy.ALWAYS, Need.NO, True),
    ],
)
def test_a_reboot_that_nobody_can_rule_out_is_one(policy: RebootPolicy, need: Need, reboot: bool) -> None:
    found = due(policy, replace(facts(()), reboot=need, services=("tool.service",)))
    assert found.reboot is reboot
    # whoever is restarted as a whole needs no service restarted besides
    assert found.services == (() if reboot else ("tool.service",))


def test_why_is_told_in_the_words_of_the_host_where_it_has_some() -> None:
    told = replace(facts(()), reboot=Need.YES, reboot_why=("a kernel", "PID 1"))
    assert due(RebootPolicy.IF_NEEDED, told) == Due(reboot=True, why="a kernel; PID 1")
    unknown = replace(facts(()), reboot=Need.UNKNOWN)
    assert due(RebootPolicy.IF_NEEDED, unknown).why == "nobody can tell whether it is needed"


@given(st.lists(st.timedeltas(timedelta(seconds=1), HOUR), max_size=60))
def test_a_host_is_never_given_up_before_what_it_usually_takes(history: list[timedelta]) -> None:
    found = patience(history, HOUR)
    if not history:
        assert found == HOUR
        return
    assert found >= SHORTEST
    slower = sum(one > found for one in history)
    assert slower * 20 <= len(history)


def moves(*names: str) -> tuple[Move, ...]:
    return tuple(Move(name=one, architecture="amd64", before="1", after="2") for one in names)


def mapped(**units: tuple[str, ...]) -> tuple[Mapped, ...]:
    return tuple(Mapped(unit=name.replace("_", "."), packages=packages) for name, packages in units.items())


TOLD = mapped(init=("systemd", "libc6"), dbus_service=("dbus-daemon", "libc6"), web_service=("web", "libweb", "libc6"))
KERNEL = {"kernel_installed": "6.1.0-18-amd64"}
MACHINE = {"reboot": Need.NO, "mapped": TOLD, **KERNEL}
FORESEEN = {
    "a kernel": (MACHINE, ["linux-image-amd64"], Need.YES, ["another kernel comes with linux-image-amd64"], ()),
    "a kernel of whom it may concern": (
        {**MACHINE, "kernel_installed": ""},
        ["linux-image-amd64"],
        Need.UNKNOWN,
        ["another kernel comes with linux-image-amd64"],
        (),
    ),
    "microcode": (
        MACHINE,
        ["intel-microcode"],
        Need.YES,
        ["intel-microcode: microcode is loaded when a host starts"],
        (),
    ),
    "what PID 1 runs from": (
        MACHINE,
        ["libc6"],
        Need.YES,
        ["PID 1 has libc6 mapped", "dbus.service has libc6 mapped, and cannot be restarted alone"],
        ("web.service",),
    ),
    "the bus": (
        MACHINE,
        ["dbus-daemon"],
        Need.YES,
        ["dbus.service has dbus-daemon mapped, and cannot be restarted alone"],
        (),
    ),
    "what a service runs from": (MACHINE, ["libweb"], Need.NO, [], ("web.service",)),
    "what nobody runs from": (MACHINE, ["tzdata"], Need.NO, [], ()),
    "needed before": (
        {**MACHINE, "reboot": Need.YES, "reboot_why": ("the host asks for it",)},
        ["tzdata"],
        Need.YES,
        ["needed already: the host asks for it"],
        (),
    ),
    "nobody can tell": (
        {**MACHINE, "reboot": Need.UNKNOWN, "reboot_why": ("no package brought the kernel",)},
        ["tzdata"],
        Need.UNKNOWN,
        ["no package brought the kernel"],
        (),
    ),
    "a reason weighs more than not knowing": (
        {**MACHINE, "reboot": Need.UNKNOWN},
        ["libc6"],
        Need.YES,
        ["PID 1 has libc6 mapped", "dbus.service has libc6 mapped, and cannot be restarted alone"],
        ("web.service",),
    ),
    "a service that is on old files": (
        {**MACHINE, "services": ("old.service",)},
        ["libweb"],
        Need.NO,
        [],
        ("old.service", "web.service"),
    ),
    "a host that does not tell": (
        {"reboot": Need.NO, **KERNEL},
        ["libc6", "tzdata"],
        Need.YES,
        ["libc6: PID 1 and nearly every service have it mapped (by a list: the host does not tell)"],
        None,
    ),
    "a host that does not tell, and nothing of the list": ({"reboot": Need.NO}, ["tzdata"], Need.NO, [], None),
}


@pytest.mark.parametrize(("read", "names", "need", "why", "services"), FORESEEN.values(), ids=FORESEEN)
def test_what_moves_will_ask_of_a_host_is_foreseen_from_what_it_runs(
    read: dict[str, Any], names: list[str], need: Need, why: list[str], services: tuple[str, ...] | None
) -> None:
    found = expected(RebootPolicy.IF_NEEDED, replace(facts(()), **read), moves(*names))
    assert (found.reboot, list(found.why), found.services) == (need, why, services)


@pytest.mark.parametrize("policy", [RebootPolicy.IF_NEEDED, RebootPolicy.NEVER])
def test_of_a_host_that_was_not_read_nothing_is_foreseen(policy: RebootPolicy) -> None:
    found = expected(policy, None, moves("tzdata"))
    assert (found.reboot, found.why, found.services) == (Need.UNKNOWN, ("it was not read",), None)


@pytest.mark.parametrize(
    ("policy", "need", "then"),
    [
        (RebootPolicy.NEVER, Need.YES, "told only, somebody else restarts it"),
        (RebootPolicy.NEVER, Need.UNKNOWN, "told only, somebody else restarts it"),
        (RebootPolicy.NEVER, Need.NO, ""),
        (RebootPolicy.IF_NEEDED, Need.YES, "restarted if that is found then"),
        (RebootPolicy.IF_NEEDED, Need.UNKNOWN, "restarted unless it is found then not to need it"),
        (RebootPolicy.IF_NEEDED, Need.NO, ""),
        (RebootPolicy.ALWAYS, Need.NO, "restarted"),
    ],
)
def test_what_a_policy_makes_of_it_is_said(policy: RebootPolicy, need: Need, then: str) -> None:
    read = replace(facts(()), reboot=need, mapped=TOLD)
    found = expected(policy, read, moves("tzdata"))
    assert found.then == then
    # what is said beforehand is what would be done if nothing else were found
    if policy is not RebootPolicy.NEVER:
        assert due(policy, read).reboot is bool(then)


def test_where_the_baseline_says_always_the_restart_is_certain_and_no_service_is_restarted_besides() -> None:
    read = replace(facts(()), reboot=Need.NO, mapped=TOLD)
    found = expected(RebootPolicy.ALWAYS, read, moves("libweb"))
    assert (found.reboot, found.why, found.services) == (Need.YES, ("the baseline says always",), ())
