"""Drills in isolation on real machines: a clone of the standby on a spare machine behind the gateway of dc2, packets
that are counted there, and a controller that is killed in the middle. The tests are one story and run in the order of
the file."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ismgr_automation.cli.demo import commit, prepare
from ismgr_automation.lab import Lab
from ismgr_automation.lab.topology import Segment
from tests.fixtures_lab import own_lab, until
from tests.playbooks.world import moved
from tests.test_drill import EDITS, measured, roles
from tests.test_two_sites import LONG_SECONDS, Site

pytestmark = [pytest.mark.lab, pytest.mark.engine]

SPARE, GATEWAY = "spare1.dc2", "gw1.dc2"
CLONE = "/var/lib/postgresql/ismgr-clone"
SECRET = 'password: {secret: "file:postgresql/app"}\n'
PROBE = (SECRET, f"{SECRET}  every: 20ms\n  patience: 2s\n")
"""Nothing of the service is moved here: a machine with much else to do may keep a client waiting."""

GROUP = """\
kind: HostGroup
name: spares
selector: host.labels.role == "spare"
playbook: ismgr:playbooks/base.yml
needs: [group/nameservers]
variables:
  base_management: [{management}]
"""
GATEWAYS = "gateways: nameservers\n"
SLOW = """\
    - {name: slow, query: "SELECT 't' FROM pg_sleep(15)", expect: t}
"""
"""While this is asked there is a clone, for whoever looks for it."""
BUBBLE = """\
bubble:
  group: spares
  gateways: nameservers
  checks:
    - {name: tables, query: "SELECT count(*) > 0 FROM pg_tables WHERE schemaname = 'public'", expect: t}
    - {name: alone, query: "SELECT setting FROM pg_settings WHERE name = 'archive_mode'", expect: "off"}
"""


@pytest.fixture(scope="module")
def spare_lab() -> Iterator[Lab]:
    with own_lab(spare=True) as running:
        yield running


@pytest.fixture(scope="module")
def site(spare_lab: Lab, tmp_path_factory: pytest.TempPathFactory, pulumi_engine_path: Path) -> Site:
    def text_here(text: str) -> str:
        text = moved(spare_lab, text)
        for before, after in (*EDITS, PROBE):
            text = text.replace(before, after)
        return text

    estate = tmp_path_factory.mktemp("isolated") / "two-sites"
    prepare(spare_lab, estate, text_here)
    management = spare_lab.topology.network(Segment.MANAGEMENT)
    (estate / "bubble.yaml").write_text(GROUP.format(management=management))
    with (estate / "recovery.yaml").open("a") as file:
        file.write(BUBBLE)
    commit(estate, "Try clones on a spare machine")
    one = Site(lab=spare_lab, estate=estate, environment={**os.environ, "ISMGR_ENGINE": str(pulumi_engine_path)})
    applied = one.ismgr("apply", "--yes")
    assert applied.code == 0, (applied.results, applied.errors)
    return one


def left(site: Site) -> str:
    """What there is of a drill on the machines that it works on."""
    rules = site.on(GATEWAY, "nft list tables | grep ismgr_bubble || true")
    units = "systemctl list-units --all --plain --no-legend 'ismgr-clone*' || true"
    return rules + site.on(SPARE, f"ls -d {CLONE} 2>/dev/null || true; {units}; pgrep -a postgres || true")


def promoted_on(site: Site) -> str:
    """The system identifier of the clone, told by itself."""
    ask = "SELECT CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE 'promoted' END"
    return site.on(SPARE, f'cd / && runuser -u postgres -- psql -XAtq -h {CLONE} -d postgres -c "{ask}"').strip()


def inner(found: Mapping[str, Any]) -> Mapping[str, Any]:
    told: Mapping[str, Any] = found["isolation"]
    return told


def test_a_clone_is_promoted_and_checked_and_nothing_gets_out(site: Site) -> None:
    done = site.ismgr("drill", "run", "records", "--mode", "isolated", "--yes")
    assert done.code == 0, (done.results, done.errors)
    found = measured(done)
    assert (found["verdict"], found["left"]) == ("passed", []), found["reasons"]
    told = inner(found)
    assert (told["passed_out"], told["passed_in"], told["errors"]) == (0, 0, 0)
    # three tries at each place that is reached through the gateway, if it answers not at all
    assert told["dropped_out"] >= told["knocked"] >= 4
    assert set(told["tried"].values()) <= {"silent", "unreachable", "lost"}
    assert told["held_rows"] == told["expected_rows"] > 50
    assert [(one["name"], one["ok"]) for one in told["checks"]] == [("tables", True), ("alone", True)]
    assert told["database_bytes"] > 20_000_000
    assert told["longest_gap_ms"] > 0
    assert left(site) == ""
    assert roles(site) == {"db1.dc1": "primary", "db1.dc2": "standby"}


def test_a_controller_killed_after_the_clone_was_promoted_is_resumed_and_leaves_nothing(site: Site) -> None:
    journals = site.estate / ".ismgr" / "drills"
    before = set(journals.iterdir())
    running = site.start("drill", "run", "records", "--mode", "isolated", "--yes")

    def promoted() -> bool:
        (new, *_) = [*(set(journals.iterdir()) - before), None]
        text = (new / "journal.jsonl").read_text() if new and (new / "journal.jsonl").exists() else ""
        whole = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
        return any(one["what"] == "task-ended" and one["task"] == "promote" for one in whole)

    until("the clone is promoted", promoted, LONG_SECONDS)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate(timeout=60)
    # what a dead controller leaves: a clone, behind closed gateways, with a timer that will remove it
    assert promoted_on(site) == "promoted"
    assert "ismgr_bubble" in site.on(GATEWAY, "nft list tables")
    assert "ismgr-clone-end.timer" in site.on(SPARE, "systemctl list-timers --no-legend --all")
    (folder,) = set(journals.iterdir()) - before
    done = site.ismgr("resume", folder.name, "--wait", "2m")
    assert done.code == 0, (done.results, done.errors)
    found = measured(site.ismgr("drill", "report", folder.name))
    assert (found["resumed"], found["verdict"]) == (1, "passed"), found["reasons"]
    assert (inner(found)["passed_out"], inner(found)["passed_in"]) == (0, 0)
    again = [one for one in found["tasks"] if one["name"] in {"clone", "promote"} and one["found"]]
    assert [one["name"] for one in again] == ["clone", "promote"]
    assert left(site) == ""
    assert roles(site) == {"db1.dc1": "primary", "db1.dc2": "standby"}


def test_a_check_that_is_not_met_fails_the_drill_and_not_the_change(site: Site) -> None:
    site.commit("recovery.yaml", lambda text: text.replace("count(*) > 0", "count(*) > 1000"))
    done = site.ismgr("drill", "run", "records", "--mode", "isolated", "--yes")
    assert done.code == 6, (done.results, done.errors)
    found = measured(done)
    assert found["reasons"] == ["recovery: check tables of the clone: 'f', and 't' is expected"]
    assert left(site) == ""
    assert site.ismgr("audit", "verify").code == 0


def test_a_clone_that_nobody_comes_back_for_is_removed_by_its_own_host(site: Site) -> None:
    site.commit(
        "recovery.yaml",
        lambda text: text.replace(GATEWAYS, f"{GATEWAYS}  deadline: 25s\n  lasts: 30s\n") + SLOW,
    )
    journals = site.estate / ".ismgr" / "drills"
    before = set(journals.iterdir())
    running = site.start("drill", "run", "records", "--mode", "isolated", "--yes")

    def copied() -> bool:
        return site.on(SPARE, f"test -e {CLONE}/clone.conf && echo there || true").strip() == "there"

    until("there is a clone", copied, LONG_SECONDS)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate(timeout=60)
    until("the clone is gone", lambda: "ismgr-clone" not in site.on(SPARE, "ls /var/lib/postgresql"), 120)
    # the gateway stays closed: nobody opens what nobody looks after
    assert "ismgr_bubble" in site.on(GATEWAY, "nft list tables")
    (folder,) = set(journals.iterdir()) - before
    site.ismgr("resume", folder.name, "--wait", "2m")
    assert left(site) == ""
