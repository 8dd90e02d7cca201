"""Drills on real machines: a planned move and a declared loss, there and back, measured by a client at the edges; and a
controller that is killed in the middle. The tests are one story and run in the order of the file."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from ismgr_automation.cli.demo import commit, prepare
from ismgr_automation.engines.probe.log import NAME, LogReader
from ismgr_automation.lab import Lab
from ismgr_automation.ports.recovery import Outcome
from tests.drilling import (
    AWAY,
    HOME,
    Schedule,
    account,
    attacked,
    broken_things,
    carried_out,
    draw,
    entries,
    moves,
    of_the_probe,
)
from tests.fixtures_lab import until
from tests.playbooks.world import moved
from tests.test_two_sites import LONG_SECONDS, Said, Site

pytestmark = [pytest.mark.lab, pytest.mark.engine]

EDITS = (
    ("become: true", "become: true\n  boot_timeout: 3m"),
    ("rto: 2s, rpo: 0s", "rto: 60s, rpo: 60s"),
    ("do: promote, deadline: 10s", "do: promote, deadline: 60s"),
    ("do: demote, deadline: 30s", "do: demote, deadline: 60s"),
)
"""A busy machine makes no drill fail that did what it should: what was measured is looked at all the same."""
LEASE = ("  demo:\n", "  demo:\n    lease_ttl: 20s\n")
"""Who resumes waits for so long until a dead controller's lease is free."""
SEEDS = os.environ.get("ISMGR_DRILL_SEEDS", "5 13 19 20")
"""Which random schedules are carried out, separated by blanks."""
TRIES = 3


@pytest.fixture(scope="module")
def site(fresh_lab: Lab, tmp_path_factory: pytest.TempPathFactory, pulumi_engine_path: Path) -> Site:
    def text_here(text: str) -> str:
        text = moved(fresh_lab, text)
        for before, after in (*EDITS, LEASE):
            text = text.replace(before, after)
        return text

    estate = tmp_path_factory.mktemp("drill") / "two-sites"
    prepare(fresh_lab, estate, text_here)
    broken_things(estate)
    commit(estate, "Have more that can be broken")
    one = Site(lab=fresh_lab, estate=estate, environment={**os.environ, "ISMGR_ENGINE": str(pulumi_engine_path)})
    applied = one.ismgr("apply", "--yes")
    assert applied.code == 0, (applied.results, applied.errors)
    return one


def measured(done: Said) -> Mapping[str, Any]:
    """What a drill measured."""
    return next(one for one in reversed(done.results) if one["type"] == "drill")


def roles(site: Site) -> dict[str, str]:
    """What each database says of itself, asked on its own machine."""
    ask = "cd / && runuser -u postgres -- psql -qXAtc 'SELECT pg_is_in_recovery()'"
    words = {"f": "primary", "t": "standby"}
    return {name: words[site.on(name, ask).strip()] for name in (HOME, AWAY)}


def probes(site: Site) -> list[int]:
    """The clients that measure for this site's drills and are at work; those of other sessions on this host are not."""
    runs = {one.name for one in (site.estate / ".ismgr" / "drills").iterdir()}
    said = {one.pid: one.info["cmdline"] or () for one in psutil.process_iter(["cmdline"])}
    return [pid for pid, words in said.items() if runs & {*words} and any("engines.probe" in word for word in words)]


def test_a_planned_move_there_and_back_loses_nothing_and_is_home_again(site: Site) -> None:
    done = site.ismgr("drill", "run", "records", "--mode", "switchover", "--yes")
    assert done.code == 0, (done.results, done.errors)
    found = measured(done)
    assert (found["verdict"], found["writes"]["lost"], found["writes"]["contradictions"]) == ("passed", 0, 0)
    assert [one["leg"] for one in found["outages"]] == ["switchover", "failback"]
    assert found["writes"]["acked"] > 100
    assert roles(site) == {HOME: "primary", AWAY: "standby"}


def test_a_declared_loss_is_fenced_confirmed_measured_and_brought_home(site: Site) -> None:
    done = site.ismgr("drill", "run", "records", "--mode", "failover", "--yes")
    assert done.code == 0, (done.results, done.errors)
    found = measured(done)
    assert found["verdict"] == "passed", found["reasons"]
    first = found["outages"][0]
    names = [one["name"] for one in first["waterfall"]]
    assert [name for name in names if name in {"fence", "confirm", "promote", "clients"}] == [
        "fence",
        "confirm",
        "promote",
        "clients",
    ]
    pieces = sum(one["ended_ms"] - one["began_ms"] for one in first["waterfall"])
    assert pieces == pytest.approx(first["outage_ms"], rel=0.01)
    assert found["without_redundancy_s"] > 0
    assert roles(site) == {HOME: "primary", AWAY: "standby"}
    assert site.on(HOME, "nft list tables").find("ismgr_fence") < 0


@pytest.mark.parametrize("fault", ["cut", "frozen"])
def test_a_fault_is_noticed_by_its_detector_lifted_and_leaves_nothing(site: Site, fault: str) -> None:
    done = site.ismgr("drill", "run", "records", "--mode", "failover", "--fault", fault, "--yes")
    assert done.code == 0, (done.results, done.errors)
    found = measured(done)
    assert found["verdict"] == "passed", found["reasons"]
    assert found["fault"]["name"] == fault
    assert {"fault", "detect"} <= {one["name"] for one in found["outages"][0]["waterfall"]}
    assert roles(site) == {HOME: "primary", AWAY: "standby"}
    left = site.ismgr("drill", "faults", "records")
    assert left.code == 0, (left.results, left.errors)


def test_a_controller_killed_after_the_promotion_is_resumed_and_the_service_comes_home(site: Site) -> None:
    journals = site.estate / ".ismgr" / "drills"
    before = set(journals.iterdir())
    running = site.start("drill", "run", "records", "--mode", "failover", "--yes")

    def promoted() -> bool:
        (new, *_) = [*(set(journals.iterdir()) - before), None]
        whole = entries(new) if new else []
        return any(one["what"] == "task-ended" and one["task"] == "promote" for one in whole)

    until("the standby is promoted", promoted, LONG_SECONDS)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate(timeout=60)
    (folder,) = set(journals.iterdir()) - before
    assert len(probes(site)) == 1, "the client goes on without its controller"
    done = site.ismgr("resume", folder.name, "--wait", "2m")
    assert done.code == 0, (done.results, done.errors)
    report = site.ismgr("drill", "report", folder.name)
    found = measured(report)
    assert (found["resumed"], found["verdict"]) == (1, "passed"), found["reasons"]
    assert found["writes"]["contradictions"] == 0
    assert roles(site) == {HOME: "primary", AWAY: "standby"}


def test_history_and_evidence_have_every_drill(site: Site) -> None:
    history = site.ismgr("drill", "history", "records").result
    assert [one["mode"] for one in history["drills"]] == ["failover"] * 4 + ["switchover"]
    assert site.ismgr("audit", "verify").code == 0
    page, paper = site.estate / "drill.html", site.estate / "drill.pdf"
    told = site.ismgr("drill", "report", "--html", str(page), "--pdf", str(paper)).result
    assert (told["recorded"], told["confirmations"][0]["ok"], told["people"]["ran"] != []) == (True, True, True)
    assert "failover: what the client saw" in page.read_text()
    assert paper.read_bytes().startswith(b"%PDF-")
    page.unlink()
    paper.unlink()
    nothing = site.ismgr("drill", "return", "records", "--yes")
    assert nothing.code == 0, (nothing.results, nothing.errors)
    assert probes(site) == []


@pytest.mark.parametrize("seed", [int(one) for one in SEEDS.split()])
def test_the_old_side_accepts_no_write_after_a_promotion_whatever_is_broken_and_killed(
    site: Site, seed: int, tmp_path: Path
) -> None:
    schedule = draw(seed)
    print(f"ISMGR_DRILL_SEEDS={seed}: {schedule}")  # noqa: T201  shown where it fails
    with attacked(site, tmp_path, tmp_path.name) as attack:
        done, folder = begun(site, schedule)
        found = measured(site.ismgr("drill", "report", folder.name))
        journal = entries(folder)
        passed = found["verdict"] == "passed"
        # 6 with a drill that passed: slower than those before, as on a busy machine it may well be
        assert done.code in {0, 6} if passed else done.code and found["reasons"], (done.results, done.errors)
        if passed:
            assert roles(site) == {HOME: "primary", AWAY: "standby"}
            check_count(site, folder, found)
        else:
            journal += brought_home(site, schedule)
        attack.everybody_writes(since_ns=time.monotonic_ns())
        told = account(site, attack, tmp_path.name, journal)
    assert told.judged() == []
    check_quiet(site, schedule)


def begun(site: Site, schedule: Schedule) -> tuple[Said, Path]:
    """Carry it out; again where nothing was begun, because on a busy machine the service was not steady before."""
    for _ in range(TRIES):
        done, folder = carried_out(site, schedule)
        if any(one["what"] == "leg-began" for one in entries(folder)):
            break
    else:
        pytest.fail(f"nothing was begun in {TRIES} tries: {measured(done)['reasons']}")
    return done, folder


def brought_home(site: Site, schedule: Schedule) -> list[dict[str, Any]]:
    """What people do after a drill that says that it has failed; the journals of that."""
    drills = site.estate / ".ismgr" / "drills"
    before = set(drills.iterdir())
    site.ismgr("drill", "faults", schedule.plan, "--lift")
    for _ in range(TRIES):  # again where nothing was begun, as above
        earlier = set(drills.iterdir())
        home = site.ismgr("drill", "return", schedule.plan, "--yes")
        (folder,) = set(drills.iterdir()) - earlier
        if home.code == 0 or any(one["what"] == "leg-began" for one in entries(folder)):
            break
    assert home.code == 0, (measured(home)["reasons"], home.errors)
    # what was refused before, because a promotion might still have come
    site.ismgr("drill", "faults", schedule.plan, "--lift")
    return [entry for one in sorted(set(drills.iterdir()) - before) for entry in entries(one)]


def check_count(site: Site, folder: Path, found: Mapping[str, Any]) -> None:
    """The drill's own client has lost what the drill has counted, and nothing that it wrote after the promotion."""
    log = LogReader(folder / NAME)
    log.read()
    held = of_the_probe(site, folder.name)
    lost = [one for one in log.attempts if one.outcome is Outcome.ACKED and one.number not in held]
    assert (len(lost), found["writes"]["contradictions"]) == (found["writes"]["lost"], 0)
    promoted = min((one.asked_ns for one in moves(entries(folder))), default=0)
    assert [one for one in lost if one.sent_ns > promoted] == []


def check_quiet(site: Site, schedule: Schedule) -> None:
    """One primary, at home; and nothing is left of faults, fences and clients."""
    assert roles(site) == {HOME: "primary", AWAY: "standby"}
    left = site.ismgr("drill", "faults", schedule.plan)
    assert left.code == 0, (left.results, left.errors)
    assert "ismgr_fence" not in site.on(HOME, "nft list tables")
    assert probes(site) == []
