"""The contract on real machines: a fresh site under two signatures, whose controller is killed again and again, paused,
and raced. The tests are one story and run in the order of the file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from ismgr_automation.cli.demo import prepare
from ismgr_automation.lab import Lab
from tests.fixtures_lab import until
from tests.pausing import stop_between_transactions
from tests.playbooks.world import moved
from tests.test_two_sites import LONG_SECONDS, PAGE, Said, Site, said

pytestmark = [pytest.mark.lab, pytest.mark.engine]

RULES = """\
    approvals:
      - {count: 2}
    lease_ttl: 20s
"""


@pytest.fixture(scope="module")
def site(fresh_lab: Lab, tmp_path_factory: pytest.TempPathFactory, pulumi_engine_path: Path) -> Site:
    base = tmp_path_factory.mktemp("contract")
    keys = {name: _key(base, name) for name in ("ada", "ben", "mal")}

    def rules(text: str) -> str:
        text = text.replace("    passphrase:", f"{RULES}    passphrase:").replace(
            "become: true", "become: true\n  boot_timeout: 3m"
        )
        for name in ("ada", "ben"):
            line = f"    email: {name}@two-sites.test\n"
            text = text.replace(line, f'{line}    ssh_keys: ["{keys[name]}"]\n')
        return text

    estate = base / "two-sites"
    prepare(fresh_lab, estate, lambda text: rules(moved(fresh_lab, text)))
    environment = {**os.environ, "ISMGR_ENGINE": str(pulumi_engine_path), "ISMGR_TRUST": str(base / "trust")}
    found = Site(lab=fresh_lab, estate=estate, environment=environment)
    pinned = found.ismgr("trust", "pin", "--yes")
    assert pinned.code == 0, (pinned.results, pinned.errors)
    return found


def _key(folder: Path, name: str) -> str:
    path = folder / f"{name}.key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)], check=True)
    return path.with_suffix(".key.pub").read_text().strip()


def key_of(site: Site, name: str) -> str:
    return str(site.estate.parent / f"{name}.key")


def below(pid: int) -> dict[int, float]:
    """Every process that a controller has started, with its time of birth: a number alone is used again."""
    return _born(pid, besides=frozenset())


def engines_below(pid: int) -> dict[int, float]:
    """Those of them that work on something: all but the agent that holds the operator's key, and its keeper."""
    return _born(pid, besides=frozenset({"ssh-agent", "cat"}))


def _born(pid: int, besides: frozenset[str]) -> dict[int, float]:
    found = {}
    for one in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if one.name() not in besides:
                found[one.pid] = one.create_time()
    return found


def gone(processes: Mapping[int, float]) -> bool:
    def alive(pid: int, born: float) -> bool:
        try:
            process = psutil.Process(pid)
            return process.create_time() == born and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return not any(alive(pid, born) for pid, born in processes.items())


def until_seen(running: subprocess.Popen[str], holds: Callable[[Mapping[str, Any]], bool]) -> list[Mapping[str, Any]]:
    """Read the events of a command until one holds."""
    assert running.stdout is not None
    seen: list[Mapping[str, Any]] = []
    for line in running.stdout:
        seen.append(json.loads(line))
        if holds(seen[-1]):
            return seen
    raise AssertionError(f"it ended before: {seen[-3:]} {running.stderr.read() if running.stderr else ''}")


def is_event(kind: str, subject: str = "") -> Callable[[Mapping[str, Any]], bool]:
    return lambda one: one.get("type") == kind and one.get("subject", "").startswith(subject)


def kill(running: subprocess.Popen[str]) -> Mapping[int, float]:
    """What power does to a controller; returns what it had started."""
    started = below(running.pid)
    running.kill()
    running.communicate(timeout=30)
    return started


def pause(site: Site, running: subprocess.Popen[str]) -> None:
    stop_between_transactions(running.pid, [site.estate / ".ismgr" / name for name in ("ismgr.db", "ismgr-steps.db")])


def newest(site: Site) -> Mapping[str, Any]:
    return site.ismgr("runs").result["runs"][0]


def plan_file(site: Site) -> Path:
    return site.estate.parent / "plan.json"


def test_a_plan_that_nobody_signed_is_refused_and_says_what_is_missing(site: Site) -> None:
    planned = site.ismgr("plan", "--out", str(plan_file(site)))
    assert planned.code == 2, planned.errors
    refused = site.ismgr("apply", str(plan_file(site)), "--yes")
    assert (refused.code, refused.result["reason"]) == (3, "not-approved"), refused.results
    assert "2" in refused.result["summary"]


def test_a_stranger_and_one_of_two_are_not_enough(site: Site) -> None:
    stranger = site.ismgr("approve", str(plan_file(site)), "--key", key_of(site, "mal"), "--to", "file", "--yes")
    assert stranger.code in (0, 3), stranger.results
    one = site.ismgr("approve", str(plan_file(site)), "--key", key_of(site, "ada"), "--to", "file", "--yes")
    assert one.code == 0, (one.results, one.errors)
    refused = site.ismgr("apply", str(plan_file(site)), "--yes")
    assert (refused.code, refused.result["reason"]) == (3, "not-approved"), refused.results


def test_a_controller_that_is_killed_while_machines_power_on_leaves_no_engine_behind(site: Site) -> None:
    two = site.ismgr("approve", str(plan_file(site)), "--key", key_of(site, "ben"), "--to", "git", "--yes")
    assert two.code == 0, (two.results, two.errors)
    running = site.start("apply", str(plan_file(site)), "--yes")
    until_seen(running, is_event("resource-stepped", "stack/"))
    started = kill(running)
    assert started
    until("no engine is left", lambda: gone(started), 60.0)
    assert newest(site)["state"] == "running"


def test_nobody_else_applies_what_was_left_and_its_approvals_are_used_up(site: Site) -> None:
    again = site.ismgr("apply", str(plan_file(site)), "--yes", "--wait", "1m")
    assert again.code == 3, again.results
    assert again.result["reason"] in {"not-approved", "stale-plan"}
    assert newest(site)["state"] == "running"


def test_a_second_death_in_the_middle_of_a_playbook_changes_nothing_of_the_end(site: Site) -> None:
    run = newest(site)["run"]
    running = site.start("resume", run, "--wait", "1m")
    until_seen(running, is_event("change-started", "group/databases"))
    until_seen(running, is_event("task-finished", "group/databases"))
    started = kill(running)
    until("no engine is left", lambda: gone(started), 60.0)
    resumed = site.ismgr("resume", run, "--wait", "1m")
    assert resumed.code == 0, (resumed.result, resumed.errors)
    assert {one["fate"] for one in resumed.result["outcomes"]} == {"landed"}
    assert len(resumed.result["outcomes"]) == len({one["key"] for one in resumed.result["outcomes"]})
    assert {one["verdict"] for one in resumed.result["checks"]} == {"passed"}
    assert site.on("client", f"curl --silent --show-error --fail --max-time 10 {PAGE}").count("<html") == 1
    assert newest(site)["state"] == "done"


def test_the_record_of_it_is_whole_and_one_page_tells_it(site: Site) -> None:
    checked = site.ismgr("audit", "verify")
    assert checked.code == 0, (checked.results, checked.errors)
    page = site.estate.parent / "report.html"
    told = site.ismgr("report", newest(site)["run"], "--out", str(page))
    assert told.code == 0, (told.results, told.errors)
    assert "group/databases" in page.read_text()


def loosened(site: Site) -> None:
    """From here on nobody is asked: the story goes on with leases."""
    site.commit("estate.yaml", lambda text: text.replace("    approvals:\n      - {count: 2}\n", ""))
    pinned = site.ismgr("trust", "pin", "--yes")
    assert pinned.code == 0, (pinned.results, pinned.errors)


def test_of_two_controllers_one_applies_and_the_other_is_told_who(site: Site) -> None:
    loosened(site)
    site.on("edge1.dc1", "echo '# by hand' | sudo tee -a /etc/haproxy/haproxy.cfg")
    first = site.start("apply", "--yes", "-t", "group/edges")
    second = site.start("apply", "--yes", "-t", "group/edges")
    outcomes: list[Said] = []
    for one in (first, second):
        out, errors = one.communicate(timeout=LONG_SECONDS)
        outcomes.append(said(one.returncode, out, errors))
    winner, loser = sorted(outcomes, key=lambda one: one.code)
    assert winner.code == 0, (winner.results, winner.errors)
    assert (loser.code, loser.result["reason"]) == (3, "lease-held"), loser.results
    assert str(os.uname().nodename) in loser.result["summary"]


def test_a_controller_that_is_paused_kills_its_engines_before_its_lease_is_over(site: Site) -> None:
    site.on("edge1.dc2", "echo '# by hand' | sudo tee -a /etc/haproxy/haproxy.cfg")
    running = site.start("apply", "--yes", "-t", "group/edges")
    until_seen(running, is_event("change-started", "group/edges"))
    until_seen(running, is_event("task-finished", "group/edges"))
    started = engines_below(running.pid)
    assert started
    pause(site, running)
    try:
        lease = site.ismgr("lease").result
        assert lease["leases"][0]["holder"]["pid"] == running.pid
        until("its engines are gone while it still sleeps", lambda: gone(started), 60.0)
        resumed = site.ismgr("resume", newest(site)["run"], "--wait", "1m")
        assert resumed.code == 0, (resumed.result, resumed.errors)
    finally:
        os.kill(running.pid, signal.SIGCONT)
    out, errors = running.communicate(timeout=60)
    late = said(running.returncode, out, errors)
    assert late.code != 0, late.result
    assert newest(site)["state"] == "done"
    assert site.ismgr("plan").code == 0
