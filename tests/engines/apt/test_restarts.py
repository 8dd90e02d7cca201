"""Whether a host must be restarted: a reason for each yes, and unknown that never becomes no."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.engines.apt.restarts import Signs, newest_kernel, reboot_need, services_to_restart
from ismgr_automation.ports.packages import Installed, Need, Stale


def package(name: str, version: str = "6.1.76-1", status: str = "ii") -> Installed:
    return Installed(
        name=name, architecture="amd64", version=version, source="linux", source_version=version, status=status
    )


KERNEL = package("linux-image-6.1.0-18-amd64")
WELL = Signs(
    running="6.1.0-18-amd64",
    build="#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01)",
    container=False,
    installed=(KERNEL, package("linux-image-amd64")),
    stale=(),
    init_seen=True,
    needrestart={"KSTA": ("1",)},
)
LIBC = "/usr/lib/x86_64-linux-gnu/libc.so.6"
INIT = Stale(pid=1, command="systemd", files=(LIBC,))
BUS = Stale(pid=7, command="dbus-daemon", unit="dbus.service", files=(LIBC,))
SSH = Stale(pid=8, command="sshd", unit="ssh.service", files=(LIBC,))
NEWER = package("linux-image-6.1.0-100-amd64", "6.1.200-1")
CLOUD = package("linux-image-6.9.0-1-cloud-amd64", "6.9.1-1")

CASES = {
    "nothing": ({}, Need.NO, ""),
    "another kernel": ({"installed": (KERNEL, NEWER)}, Need.YES, "kernel 6.1.0-100-amd64 is installed"),
    "a kernel of another flavour": ({"installed": (KERNEL, CLOUD)}, Need.NO, ""),
    "a kernel that is not configured": ({"installed": (KERNEL, replace(NEWER, status="iU"))}, Need.NO, ""),
    "another build of the same kernel": (
        {"installed": (replace(KERNEL, version="6.1.85-1"),)},
        Need.YES,
        "installed as 6.1.85-1, 6.1.76-1 runs",
    ),
    "a build that nobody knows": ({"build": "#1 SMP"}, Need.UNKNOWN, "which build"),
    "a kernel that no package brought": ({"running": "6.9.0"}, Need.UNKNOWN, "no package brought"),
    "a kernel whose package is gone": ({"installed": (NEWER,)}, Need.UNKNOWN, "no package brought"),
    "a container": ({"container": True, "running": "6.9.0", "needrestart": {"KSTA": ("0",)}}, Need.NO, ""),
    "a container that may not be looked into": ({"container": True, "init_seen": False}, Need.UNKNOWN, "PID 1"),
    "PID 1 on old files": ({"stale": (INIT,)}, Need.YES, f"PID 1 has mapped what was replaced: {LIBC}"),
    "the bus on old files": ({"stale": (BUS,)}, Need.YES, "dbus-daemon cannot be restarted alone"),
    "a service on old files": ({"stale": (SSH,)}, Need.NO, ""),
    "PID 1 unseen": ({"init_seen": False}, Need.UNKNOWN, "could not be looked at"),
    "the host asks": ({"asked": ()}, Need.YES, "the host asks for it"),
    "the host asks for a package": ({"asked": ("libc6",)}, Need.YES, "the host asks for it: libc6"),
    "needrestart does not know": ({"needrestart": {"KSTA": ("0",)}}, Need.UNKNOWN, "cannot tell"),
    "needrestart: another build": ({"needrestart": {"KSTA": ("2",)}}, Need.YES, "compatible build"),
    "needrestart: another version": ({"needrestart": {"KSTA": ("3",)}}, Need.YES, "another version"),
    "needrestart: a new word": ({"needrestart": {"KSTA": ("9",)}}, Need.UNKNOWN, "something unknown"),
    "microcode": ({"needrestart": {"UCSTA": ("2",)}}, Need.YES, "microcode"),
    "a yes beats an unknown": ({"init_seen": False, "asked": ()}, Need.YES, "the host asks for it"),
}


@pytest.mark.parametrize(("changed", "need", "words"), CASES.values(), ids=CASES)
def test_a_restart_is_needed_for_a_reason(changed, need, words):
    found, why = reboot_need(replace(WELL, **changed))
    assert found is need
    assert (words in why[0]) if words else not why


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "installed": st.lists(st.sampled_from([KERNEL, NEWER, CLOUD])).map(tuple),
            "running": st.sampled_from(["6.1.0-18-amd64", "6.9.0", ""]),
            "build": st.sampled_from(["", WELL.build]),
            "stale": st.lists(st.sampled_from([INIT, BUS, SSH])).map(tuple),
            "needrestart": st.sampled_from([{}, {"KSTA": ("0",)}, {"KSTA": ("1",)}, {"KSTA": ("3",)}]),
            "asked": st.sampled_from([None, (), ("libc6",)]),
            "container": st.booleans(),
        },
    )
)
def test_what_could_not_be_seen_is_never_a_no(changed):
    assert reboot_need(replace(WELL, **changed, init_seen=False))[0] is not Need.NO


def test_kernels_are_ordered_as_versions_and_not_as_words():
    old = package("linux-image-6.1.0-9-amd64", "6.1.27-1")
    assert newest_kernel(replace(WELL, installed=(NEWER, KERNEL, old))) == "6.1.0-100-amd64"


def test_services_are_those_that_can_be_restarted_alone():
    signs = replace(
        WELL, stale=(INIT, BUS, SSH), needrestart={"SVC": ("cron.service", "dbus.service", "user@0.service")}
    )
    assert services_to_restart(signs) == ("cron.service", "ssh.service")
