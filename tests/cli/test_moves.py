"""Moves of packages and firmware as lines: what is exact, how bad, by when, and what goes with it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.text import Text

from ismgr_automation.cli.moves import counted, move_lines, moves_packages
from ismgr_automation.core.address import Address, Kind, baseline, group, host
from ismgr_automation.core.json import Json
from ismgr_automation.planning.change import Action, Certainty, Change, Reason, Step

SERVERS = baseline("servers")
ODD = "[/red] [bold] :key: \\"


def move(what: str = "openssl:amd64", on: str = "web1", **after: Json) -> Step:
    told: dict[str, Json] = {
        "version": "3.0.15-1",
        "digest": "sha256:1",
        "cves": [],
        "severity": "",
        "due": "",
        **after,
    }
    return Step(
        target=on,
        what=what,
        action=Action.UPDATE,
        why="rule all approves it",
        before={"version": "3.0.11-1"},
        after=told,
    )


def beside(what: str, *, unsure: bool = False, where: str = "") -> Step:
    certainty = Certainty.UNPREDICTABLE if unsure else Certainty.CHANGES
    return Step(target="web1", what=what, action=Action.CONFIGURE, certainty=certainty, where=where, why="it depends")


def change(*steps: Step, address: Address = SERVERS) -> Change:
    return Change(
        address=address,
        part=1,
        action=Action.UPDATE,
        reason=Reason.DUE,
        steps=steps,
        targets=tuple(host(name) for name in dict.fromkeys(one.target for one in steps)),
        inputs="sha256:0",
    )


def lines(*steps: Step) -> list[str]:
    """Lines as a person reads them."""
    return [Text.from_markup(line, emoji=False).plain for line in move_lines(change(*steps))]


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (
            {"severity": "critical", "due": "2026-12-01", "cves": ["CVE-2026-1"]},
            "critical, due 2026-12-01, CVE-2026-1",
        ),
        ({"severity": "low", "cves": ["C1", "C2", "C3", "C4", "C5"]}, "low, C1, C2, C3, and 2 more"),
        ({}, "rule all approves it"),
        ({"severity": "unknown", "cves": ["C1"]}, "unknown, C1"),
    ],
    ids=["one", "many", "none", "unrated"],
)
def test_a_move_says_how_bad_by_when_and_what_it_mends(after: dict[str, Json], said: str) -> None:
    assert lines(move(**after)) == ["web1", f"  openssl 3.0.11-1 -> 3.0.15-1  {said}"]


def test_architectures_are_named_only_where_there_are_two() -> None:
    both = lines(move("libc6:amd64"), move("libc6:i386"), move("vim:amd64"))
    assert [one.split()[0] for one in both[1:]] == ["libc6:amd64", "libc6:i386", "vim"]


def test_a_move_back_says_why_and_knows_versions_only() -> None:
    back = replace(move(), after={"version": "3.0.11-1", "digest": ""}, before={"version": "3.0.15-1"}, why="back")
    assert lines(back)[1] == "  openssl 3.0.15-1 -> 3.0.11-1  back"


def test_what_was_not_there_before_is_called_new_and_counts_as_a_package() -> None:
    new = replace(
        move("linux-image-2:amd64"), action=Action.CREATE, before={"version": ""}, why="needed by linux-image"
    )
    shown = lines(move(severity="high"), new, beside("reboot"))
    assert shown[2:] == ["  linux-image-2 new -> 3.0.15-1  needed by linux-image", "  reboot"]
    assert counted([change(move(), new)]) == "2 packages on 1 host"


def test_what_goes_with_the_packages_stands_below_them() -> None:
    drain = beside("drain and restore", where="haproxy of group/edges, backend web")
    shown = lines(move(), drain, beside("reboot", unsure=True))
    assert shown[-1] == "  drain and restore (haproxy of group/edges, backend web), reboot if it is needed"
    assert lines(move(), beside("reboot"))[-1] == "  reboot"


def test_hosts_that_are_alike_share_their_lines() -> None:
    shown = lines(move(), beside("reboot"), move(on="web2"), move(what="vim:amd64", on="web3"), move(on="web4"))
    assert [one for one in shown if not one.startswith("  ")] == ["web1", "web2, web4 (2 hosts)", "web3"]
    assert len(shown) == 7


def test_hosts_that_differ_in_what_is_not_shown_are_told_apart() -> None:
    here, there = [[move(f"{name}:amd64", on=host) for name in ("a", last)] for host, last in (("x", "b"), ("y", "c"))]
    shown = [Text.from_markup(one).plain for one in move_lines(change(*here, *there), most=1)]
    assert [one for one in shown if not one.startswith("  ")] == ["x", "y"]


def test_the_worst_comes_first_and_every_host_keeps_its_lines_when_there_are_many() -> None:
    small = [move(f"lib{number}:amd64", severity="low", due="2026-12-01") for number in range(20)]
    bad = move("zlib1g:amd64", severity="critical", due="2026-12-20")
    shown = [Text.from_markup(one).plain for one in move_lines(change(*small, bad, beside("reboot")), most=2)]
    assert [one.split()[0] for one in shown] == ["web1", "zlib1g", "lib0", "and", "reboot"]
    assert shown[3] == "  and 19 more; --full shows all"


def test_firmware_names_its_image() -> None:
    step = move("firmware BIOS", image="https://mirror.example.org/bios.bin")
    assert lines(step)[1] == "  BIOS 3.0.11-1 -> 3.0.15-1  firmware from https://mirror.example.org/bios.bin"


def test_hosts_packages_and_firmware_are_counted() -> None:
    here, there = move(), move(on="web2")
    firmware = move("firmware BIOS", on="web2", image="https://mirror.example.org/bios.bin")
    assert counted([change(here, beside("reboot"))]) == "1 package on 1 host"
    assert counted([change(here), change(there, firmware)]) == "2 packages, 1 firmware on 2 hosts"
    assert counted([change(firmware)]) == "1 firmware on 1 host"


def test_odd_text_breaks_no_line() -> None:
    step = replace(move(ODD + ":amd64", on=ODD, cves=[ODD], due=ODD, severity=ODD), before={"version": ODD})
    assert len(lines(step)) == 2
    assert ODD in lines(step)[1]
    assert lines(replace(step, before=None, after=None))


def test_only_changes_of_baselines_and_machines_are_shown_so() -> None:
    assert moves_packages(change(move()))
    assert moves_packages(change(move(), address=Address(Kind.MACHINE, "web1")))
    assert not moves_packages(change(move(), address=group("webs")))
