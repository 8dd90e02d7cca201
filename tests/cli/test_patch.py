"""`ismgr patch` over a rehearsal: hosts with packages, a repository, advisories, and what a person types."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.errors import Unreachable
from ismgr_automation.patching.seen import version_key
from ismgr_automation.patching.status import COLUMNS
from ismgr_automation.ports.advisories import Advisories, Basis, Fix, SourceRead, Vulnerability
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.memory import Boundary, Death, Killed, MemoryAdvisories, MemoryPackageWorld
from ismgr_automation.ports.packages import Installed, Move, Offered
from ismgr_automation.ports.patching import Patched, Waiting
from tests.cli.conftest import Say
from tests.rehearsal import Rehearsal
from tests.rehearsal import site as two_sites

PAGE = Path(__file__).parents[2] / "docs/how-to/patching.md"
BASELINE = """\
kind: PatchBaseline
name: servers
selector: host.labels.role in ["db", "web"]
rules:
  - {name: young, when: 'package.name == "curl"', then: defer, reason: too young}
  - {name: all, when: "true"}
sla: {profile: custom, days: {critical: 14, high: 3650}}
advisories:
  - {format: debian, source: "https://advisories.example.org/tracker.json", max_age: 3650d}
rings:
  - {name: canary, selector: host.name == "web1.dc1"}
reboot: {policy: never}
---
kind: Exemption
name: appliance
scope: package.name == "curl" && host.name == "db1.dc1"
owner: platform
approver: Ada
reason: the vendor patches it
issued: ISSUED
expires: EXPIRES
---
kind: Team
name: people
members:
  - name: Ada
    email: ada@example.org
    roles: [approver]
    ssh_keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILJx7cq0d5VNOKEgtBiQRGm4tWgnLkJMVLvEUdLUsnYS ada]
"""
HOSTS = ("db1.dc1", "db1.dc2", "web1.dc1", "web1.dc2")
SOURCE = "https://advisories.example.org/tracker.json"
WINDOW = """\
kind: MaintenanceWindow
name: nightly
time_zone: UTC
start: 2026-01-01T00:00:00
rule: FREQ=DAILY
duration: 24h
"""
FREEZE = """\
---
kind: Freeze
name: audit
reason: auditors are here
owner: platform
begins: 2000-01-01T00:00:00+00:00
ends: 2100-01-01T00:00:00+00:00
work: [patch]
"""


def package(name: str, version: str, status: str = "ii") -> Installed:
    return Installed(
        name=name, architecture="amd64", version=version, source=name, source_version=version, status=status
    )


def offer(name: str, version: str) -> Offered:
    return Offered(
        name=name,
        architecture="amd64",
        version=version,
        source=name,
        source_version=version,
        digest=f"sha256:{name}-{version}",
        origin="Debian",
        suite="stable-security",
    )


def advisories() -> Advisories:
    def fix(cve: str, source: str, fixed: str) -> Fix:
        return Fix(cve=cve, source=source, release="bookworm", fixed=fixed)

    known = [
        Vulnerability(cve="CVE-2026-1", severity="critical", published=date(2026, 1, 1)),
        Vulnerability(cve="CVE-2026-2", severity="high", published=date(2026, 1, 1)),
    ]
    read = SourceRead(
        source=SOURCE,
        format="debian",
        digest="sha256:0",
        dated=datetime.now(UTC) - timedelta(hours=5),
        fetched_at=datetime.now(UTC),
        entries=2,
    )
    return Advisories(
        fixes={
            "openssl": (fix("CVE-2026-1", "openssl", "3.0.15-1"),),
            "curl": (fix("CVE-2026-2", "curl", "8.1-1"),),
        },
        vulnerabilities={one.cve: one for one in known},
        sources=(read,),
    )


@pytest.fixture
def site(tmp_path: Path) -> Rehearsal:
    """Two sites that are up, with packages that are not; who is in ``site.world.reach`` answers otherwise."""
    world = two_sites()
    site = Rehearsal(
        folder=tmp_path,
        world=world,
        packages=MemoryPackageWorld(clock=lambda: datetime.now(UTC), answers=world.answer),
        advisories=MemoryAdvisories(known=advisories()),
    )
    site.settle()
    today = datetime.now(UTC).date()
    issued, expires = today - timedelta(days=10), today + timedelta(days=20)
    site.files["patching.yaml"] = BASELINE.replace("ISSUED", str(issued)).replace("EXPIRES", str(expires))
    versions = [("curl", "8.0-1"), ("curl", "8.1-1"), ("openssl", "3.0.11-1"), ("openssl", "3.0.15-1")]
    site.packages.repository.extend(offer(*one) for one in versions)
    for name in HOSTS:
        site.packages.add(name, package("curl", "8.0-1"), package("openssl", "3.0.11-1"))
    return site


def version(site: Rehearsal, host: str, name: str = "openssl") -> str:
    """What is installed there."""
    return site.packages.machines[host].installed[name].version


def test_a_plan_has_a_line_for_each_package_of_each_host_and_touches_nothing(site: Rehearsal, say: Say) -> None:
    shown = say("patch", "plan")
    assert shown.code == 2
    first, second = shown.out.split("wave 2")
    assert "web1.dc1\n      openssl 3.0.11-1 -> 3.0.15-1  critical, due 2026-01-15, CVE-2026-1\n" in first
    assert "web1.dc1" not in second
    assert "db1.dc1, db1.dc2, web1.dc2 (3 hosts)\n      openssl 3.0.11-1 -> 3.0.15-1  critical" in second
    assert "curl" not in shown.out
    assert "4 packages on 4 hosts." in shown.out
    assert "    takes 30m (no history: the deadline, restarts left out)\n    no reboot expected on web1.dc1\n" in first
    assert "no reboot expected on db1.dc1, db1.dc2, web1.dc2" in second
    assert "expected to take 1h in 2 waves" in shown.out
    assert not [one for one in site.packages.calls if one.startswith("apply")]
    assert version(site, "web1.dc1") == "3.0.11-1"
    found = say("--json", "patch", "plan").result["plan"]
    assert found["intent"]["purpose"] == "patch"
    told = found["beside"]["forecasts"]["baseline/servers#1"]
    assert (told["takes_seconds"], told["source"]) == (1800, "no history: the deadline, restarts left out")
    assert [(one["host"], one["reboot"]) for one in told["hosts"]] == [("web1.dc1", "no")]


def test_targets_and_exclusions_choose_hosts(site: Rehearsal, say: Say) -> None:
    assert "1 package on 1 host." in say("patch", "plan", "-t", "host/db1.dc1").out
    assert "2 packages on 2 hosts." in say("patch", "plan", "-t", "group/webs").out
    assert "3 packages on 3 hosts." in say("patch", "plan", "-t", "baseline/servers", "-x", "host/db1.dc1").out
    unknown = say("patch", "plan", "-t", "baseline/server")
    assert unknown.code == 1
    assert "baseline/servers" in unknown.err


def test_a_plan_file_is_applied_as_it_stands(site: Rehearsal, say: Say, tmp_path: Path) -> None:
    file = tmp_path / "patches.json"
    assert say("patch", "plan", "-t", "host/web1.dc1", "--out", file).code == 2
    applied = say("apply", file, "--yes")
    assert applied.code == 0
    assert "openssl 3.0.11-1 -> 3.0.15-1" in applied.out
    assert version(site, "web1.dc1") == "3.0.15-1"
    assert version(site, "web1.dc2") == "3.0.11-1"


def test_a_repository_that_moved_since_makes_a_plan_file_stale(site: Rehearsal, say: Say, tmp_path: Path) -> None:
    file = tmp_path / "patches.json"
    assert say("patch", "plan", "--out", file).code == 2
    site.packages.machines["web1.dc1"].lists.append(offer("openssl", "3.0.16-1"))
    refused = say("apply", file, "--yes")
    assert refused.code == 3
    assert "The plan is stale: baseline/servers#1 would do something else now" in refused.err
    assert version(site, "web1.dc1") == "3.0.11-1"


def test_apply_shows_asks_and_patches_in_the_order_of_rings(site: Rehearsal, say: Say) -> None:
    assert say("patch", "apply").code == 1
    assert version(site, "web1.dc1") == "3.0.11-1"
    done = say("patch", "apply", "--yes")
    assert done.code == 0
    assert "4 packages on 4 hosts." in done.out
    assert "2 of 2 changes landed" in done.out
    assert next(one for one in site.packages.calls if one.startswith("apply")) == "apply web1.dc1"
    assert {version(site, name) for name in HOSTS} == {"3.0.15-1"}
    again = say("patch", "apply", "--yes")
    assert (again.code, "Nothing to do." in again.out) == (0, True)


def test_a_run_that_stopped_says_which_command_tells_what_is_left(site: Rehearsal, say: Say) -> None:
    site.packages.full.add("db1.dc1")
    stopped = say("patch", "apply", "--yes")
    assert stopped.code == 5
    assert "db1.dc1 refused (no-room)" in stopped.out
    (rest,) = site.folder.glob("plan.rest-*.json")
    assert f"What is left to do is planned in {rest}" in stopped.out
    site.packages.full.clear()
    assert say("apply", rest, "--yes").code == 0
    assert {version(site, name) for name in HOSTS} == {"3.0.15-1"}


def test_nothing_landed_and_the_next_step_is_a_plan_of_patches(site: Rehearsal, say: Say) -> None:
    site.packages.full.update(HOSTS)
    stopped = say("patch", "apply", "--yes")
    assert stopped.code == 4
    assert "refused (no-room)" in stopped.out
    assert "`ismgr patch plan` shows what is left to do." in stopped.out
    assert version(site, "db1.dc1") == "3.0.11-1"


def test_a_host_that_broke_and_was_healed_was_touched_all_the_same(site: Rehearsal, say: Say) -> None:
    site.packages.broken.add(("openssl", "3.0.15-1"))
    stopped = say("patch", "apply", "--yes")
    assert stopped.code == 5
    assert "web1.dc1 failed (broken)" in stopped.out
    assert "is back at the former versions" in stopped.out
    assert version(site, "db1.dc1") == "3.0.11-1"


def test_a_run_whose_process_died_goes_on(site: Rehearsal, say: Say) -> None:
    site.death = Death(nth=1, only=Boundary.AFTER_UNIT)
    with pytest.raises(Killed):
        say("patch", "apply", "--yes")
    run = site.let_go()
    assert (run.purpose, version(site, "db1.dc1")) == ("patch", "3.0.11-1")
    assert say("resume", run.id).code == 0
    assert {version(site, name) for name in HOSTS} == {"3.0.15-1"}
    assert len(lines_with(say("patch", "history").out, run.id)) == 4


def test_a_freeze_refuses_and_an_urgent_run_wants_its_own_approval(site: Rehearsal, say: Say) -> None:
    site.files["freeze.yaml"] = FREEZE
    planned = say("patch", "plan")
    assert planned.code == 2
    assert "auditors are here" in planned.out
    refused = say("patch", "apply", "--yes", "--json")
    assert (refused.code, refused.result["reason"]) == (3, "outside-window")
    urgent = say("patch", "apply", "--yes", "--urgent", "it is being exploited")
    assert urgent.code == 3
    assert "urgent it is being exploited" in urgent.out
    assert "no approval rule with `urgent: true`" in urgent.err
    assert version(site, "web1.dc1") == "3.0.11-1"


def test_plans_of_playbooks_can_be_urgent_as_well(site: Rehearsal, say: Say, tmp_path: Path) -> None:
    site.files["freeze.yaml"] = FREEZE.replace("[patch]", "[apply]")
    site.edit("groups.yaml", "playbook: playbooks/web.yml", "playbook: playbooks/database.yml")
    assert "auditors are here" in say("apply", "--yes").err
    planned = say("plan", "--urgent", "it is being exploited", "--out", tmp_path / "plan.json")
    assert planned.code == 2
    assert "urgent it is being exploited" in planned.out
    for words in (["apply", "--urgent", "it is being exploited"], ["apply", tmp_path / "plan.json"]):
        refused = say(*words, "--yes")
        assert refused.code == 3
        assert "no approval rule with `urgent: true`" in refused.err
    assert say("apply", tmp_path / "plan.json", "--urgent", "now").code == 1


def test_status_counts_by_host_group_and_severity(site: Rehearsal, say: Say) -> None:
    shown = say("patch", "status")
    assert shown.code == 0
    assert lines_with(shown.out, "db1.dc1") == ["db1.dc1 1 1 2026-01-15 1"]
    assert lines_with(shown.out, "db1.dc2") == ["db1.dc2 1 1 2026-01-15 1"]
    assert f"{SOURCE} (debian), 5h" in shown.out
    assert "4 breached, 1 excepted, 3 ok on 4 hosts; the oldest is due 2026-01-15; 4 updates may go now." in shown.out
    assert lines_with(say("patch", "status", "--by", "severity").out, "critical") == ["critical 4 2026-01-15 4"]
    assert lines_with(say("patch", "status", "--by", "group").out, "webs") == ["webs 2 2 2026-01-15 2"]
    assert say("patch", "status", "--by", "colour").code == 1


def lines_with(text: str, word: str) -> list[str]:
    """The lines that begin with a word, blanks squeezed."""
    return [" ".join(line.split()) for line in text.splitlines() if line.split()[:1] == [word]]


def test_nobody_to_look_at_is_said(site: Rehearsal, say: Say) -> None:
    site.edit("patching.yaml", 'selector: host.labels.role in ["db", "web"]', 'selector: host.name == "nobody"')
    assert "There is no host yet that a PatchBaseline selects." in say("patch", "status").out
    assert "No host was read" in say("patch", "facts").out
    assert "Nothing to do." in say("patch", "plan").out


def test_each_vulnerability_has_one_line_however_narrow_the_terminal(site: Rehearsal, say: Say) -> None:
    shown = say("patch", "status", "--rows")
    assert lines_with(shown.out, "db1.dc1")[0].startswith(
        "db1.dc1 curl 8.0-1 - CVE-2026-2 high excepted 2035-12-30 (in"
    )
    assert "exempted by appliance (approved by Ada)" in shown.out
    assert "rule young defers it: too young" in shown.out
    assert len([line for line in shown.out.splitlines() if "CVE-" in line]) == 8


def test_status_is_checked_for_pipelines(site: Rehearsal, say: Say) -> None:
    assert say("patch", "status", "--check").code == 6
    assert say("patch", "apply", "--yes").code == 0
    assert say("patch", "status", "--check").code == 0
    site.world.reach["db1.dc1"] = Reach.TIMEOUT
    assert say("patch", "status", "--check").code == 0, "the reading of a moment ago counts"
    site.patches.readings.clear()
    unread = say("patch", "status", "--check")
    assert unread.code == 6
    assert "1 not read" in unread.out


def test_without_advisories_nothing_is_well_and_nothing_is_applied(site: Rehearsal, say: Say) -> None:
    assert say("patch", "apply", "--yes").code == 0
    site.advisories.failing[SOURCE] = Unreachable("No answer.", engine="advisories", subject=SOURCE, cause="timeout")
    shown = say("patch", "status", "--check")
    assert shown.code == 6
    assert "deny baseline/servers advisories of baseline/servers cannot be read" in shown.out
    assert say("patch", "status", "--json").result["met"] is False
    assert say("patch", "plan").code == 4
    assert say("patch", "apply", "--yes").code == 4
    site.patches.enqueue([waiting("db1.dc1", days=1)])
    assert say("patch", "catch-up", "--yes").code == 4
    assert [one["host"] for one in say("patch", "queue", "--json").result["waiting"]] == ["db1.dc1"]


def test_where_no_advisories_speak_of_a_release_nobody_knows_and_nothing_is_well(site: Rehearsal, say: Say) -> None:
    assert say("patch", "apply", "--yes").code == 0
    assert say("patch", "status", "--check").code == 0
    fixes = dict(site.advisories.known.fixes)
    site.advisories.known.fixes.clear()  # type: ignore[attr-defined]
    later = {source: tuple(replace(one, release="trixie") for one in found) for source, found in fixes.items()}
    site.advisories.known.fixes.update(later)  # type: ignore[attr-defined]
    shown = say("patch", "status", "--check")
    assert shown.code == 6
    assert "no advisories of baseline/servers speak of release bookworm" in shown.out
    assert say("patch", "status", "--json").result["met"] is False


def test_the_last_readings_are_enough_and_no_host_is_asked(site: Rehearsal, say: Say) -> None:
    never = say("patch", "status", "--last", "--json").result
    assert (never["met"], never["total"]["unread"], never["oldest_reading"]) == (False, 4, None)
    say("patch", "facts")
    site.packages.calls.clear()
    body = say("patch", "status", "--last", "--rows", "--json").result
    assert site.packages.calls == []
    assert body["total"]["states"] == {"ok": 3, "due-soon": 0, "breached": 4, "excepted": 1, "unknown": 0}
    assert [one["name"] for one in body["hosts"]] == list(HOSTS)
    assert {one["name"] for one in body["groups"]} == {"databases", "edges", "webs"}
    assert [one["source"] for one in body["sources"]] == [SOURCE]
    assert set(body["rows"][0]) == set(COLUMNS)


def test_rows_are_written_as_csv(site: Rehearsal, say: Say, tmp_path: Path) -> None:
    printed = say("patch", "status", "--csv", "-")
    file = tmp_path / "status.csv"
    assert say("patch", "status", "--csv", file).code == 0
    assert file.read_text() == printed.out
    header, *rows = csv.reader(io.StringIO(printed.out))
    assert tuple(header) == COLUMNS
    assert [dict(zip(header, row, strict=True))["state"] for row in rows[:2]] == ["excepted", "breached"]
    assert say("--json", "patch", "status", "--csv", "-").result["reason"] == "settings-error"
    assert say("patch", "status", "--csv", tmp_path / "nosuch" / "status.csv").code == 1


def test_facts_tell_holds_damage_restarts_and_what_nobody_knows(site: Rehearsal, say: Say) -> None:
    machine = site.packages.machines["db1.dc1"]
    machine.installed["curl"] = package("curl", "8.0-1", status="hi")
    machine.services.add("ssh.service")
    machine.reboot_why.append("another kernel is installed")
    site.packages.machines["web1.dc1"].installed["curl"] = package("curl", "8.0-1", status="iF")
    site.packages.unknown_reboot.add("web1.dc2")
    shown = say("patch", "facts")
    assert shown.code == 0
    for line in (
        "db1.dc1  held: curl",
        "db1.dc1  restart: ssh.service",
        "db1.dc1  reboot yes: another kernel is installed",
        "web1.dc1  broken: curl: half configured",
        "web1.dc2  reboot unknown: nobody can tell",
    ):
        assert line in shown.out.splitlines()
    first = next(one for one in say("patch", "facts", "--json").result["hosts"] if one["host"] == "db1.dc1")
    assert (first["held"], first["reboot"], first["boot"]) == (["curl:amd64"], "yes", ["boot-1", 1])
    assert first["upgradable"] == ["curl:amd64", "openssl:amd64"]


def test_a_host_that_does_not_answer_is_named_and_the_others_are_read(site: Rehearsal, say: Say) -> None:
    site.world.reach["db1.dc1"] = Reach.TIMEOUT
    shown = say("patch", "facts", "--refresh")
    assert shown.code == 4
    assert "not refreshed db1.dc1 unreachable" in shown.out
    assert "not read db1.dc1 timeout" in shown.out
    assert "refresh web1.dc1" in site.packages.calls
    site.packages.calls.clear()
    assert say("patch", "facts", "--last", "--json").result["lost"] == []
    assert site.packages.calls == []
    assert say("patch", "facts", "--last", "--refresh").code == 1


def test_what_a_run_installed_is_listed_and_goes_back(site: Rehearsal, say: Say, tmp_path: Path) -> None:
    assert "Nothing was patched yet." in say("patch", "history").out
    run = say("patch", "apply", "--yes", "--json").result["run"]
    assert len(lines_with(say("patch", "history").out, run)) == 4
    (one,) = say("patch", "history", "--host", "host/db1.dc1", "--json").result["patched"]
    assert one["moves"][0] == {
        "package": "openssl",
        "architecture": "amd64",
        "before": "3.0.11-1",
        "after": "3.0.15-1",
        "digest": "sha256:openssl-3.0.15-1",
    }
    planned = say("patch", "rollback", run, "-t", "host/db1.dc1", "--out", tmp_path / "back.json")
    assert planned.code == 2
    assert f"back to what was there before run {run}" in planned.out
    assert "openssl 3.0.15-1 -> 3.0.11-1" in planned.out
    assert say("apply", tmp_path / "back.json", "--yes").code == 0
    assert [version(site, name) for name in HOSTS] == ["3.0.11-1", *["3.0.15-1"] * 3]
    assert say("patch", "rollback", run, "--yes", "-x", "host/db1.dc1").code == 0
    assert {version(site, name) for name in HOSTS} == {"3.0.11-1"}


def test_a_run_that_patched_nothing_cannot_be_rolled_back(say: Say) -> None:
    refused = say("patch", "rollback", "20260101T000000-0000", "--yes")
    assert refused.code == 1
    assert "ismgr patch history" in refused.err


def test_a_host_that_was_away_waits_and_is_caught_up(site: Rehearsal, say: Say) -> None:
    site.world.reach["db1.dc1"] = Reach.TIMEOUT
    applied = say("patch", "apply", "--yes")
    assert applied.code == 0
    assert "not in it db1.dc1: could not be reached" in applied.out
    (waits,) = say("patch", "queue", "--json").result["waiting"]
    assert (waits["host"], waits["baseline"], waits["expired"]) == ("db1.dc1", "servers", False)
    away = say("patch", "catch-up", "--yes")
    assert (away.code, "db1.dc1 must wait: db1.dc1 could not be read (timeout)" in away.out) == (0, True)
    del site.world.reach["db1.dc1"]
    site.files["freeze.yaml"] = FREEZE
    closed = say("patch", "catch-up", "--yes")
    assert (closed.code, "auditors are here" in closed.out) == (0, True)
    assert version(site, "db1.dc1") == "3.0.11-1"
    del site.files["freeze.yaml"]
    site.packages.calls.clear()
    assert say("patch", "catch-up", "--yes").code == 0
    assert version(site, "db1.dc1") == "3.0.15-1"
    assert {one.split()[1] for one in site.packages.calls} == {"db1.dc1"}
    assert "Nobody waits" in say("patch", "queue").out
    assert "Nobody waits" in say("patch", "catch-up", "--yes").out


def test_a_host_that_is_away_waits_also_when_nobody_else_has_anything_to_do(site: Rehearsal, say: Say) -> None:
    assert say("patch", "apply", "--yes", "-x", "host/db1.dc1").code == 0
    site.world.reach["db1.dc1"] = Reach.TIMEOUT
    applied = say("patch", "apply", "--yes")
    assert (applied.code, "Nothing to do on the hosts that could be reached." in applied.out) == (0, True)
    assert (
        "\nNothing was to be done on hosts that answer.\n1 host was away and waits in the queue until " in applied.out
    )
    assert "0 of 0" not in applied.out
    assert lines_with(say("patch", "queue").out, "db1.dc1")


def test_who_has_nothing_left_to_do_leaves_the_queue(site: Rehearsal, say: Say) -> None:
    site.patches.enqueue([waiting("db1.dc1", days=1)])
    site.packages.machines["db1.dc1"].installed["openssl"] = package("openssl", "3.0.15-1")
    done = say("patch", "catch-up", "--yes")
    assert (done.code, "Nothing is left to do" in done.out) == (0, True)
    assert say("patch", "queue", "--json").result["waiting"] == []


def test_who_is_left_out_stays_in_the_queue_and_hears_why(site: Rehearsal, say: Say) -> None:
    site.patches.enqueue([waiting("db1.dc1", days=1)])
    site.packages.wider["openssl"] = "libssl3"
    left = say("patch", "catch-up", "--yes")
    assert left.code == 0
    assert "db1.dc1 must wait: db1.dc1 would not be patched as its baseline asks (wider): libssl3." in left.out
    assert [one["host"] for one in say("patch", "queue", "--json").result["waiting"]] == ["db1.dc1"]


def test_a_promise_that_cannot_be_kept_is_refused_and_keeps_the_queue(site: Rehearsal, say: Say) -> None:
    site.patches.enqueue([waiting("db1.dc1", days=1), waiting("web1.dc1", days=1)])
    site.edit("groups.yaml", 'waves: [1, "100%"]\n', 'waves: [1, "100%"]\nminimum_available: 2\n')
    assert say("patch", "plan").code == 3
    assert say("patch", "catch-up", "--yes").code == 3
    assert len(say("patch", "queue", "--json").result["waiting"]) == 2


def test_a_host_whose_time_is_over_is_marked_and_not_caught_up(site: Rehearsal, say: Say) -> None:
    site.patches.enqueue([waiting("db1.dc1", days=-1), waiting("gone.dc9", days=1)])
    shown = say("patch", "queue")
    assert "expired" in lines_with(shown.out, "db1.dc1")[0]
    assert "expired" not in lines_with(shown.out, "gone.dc9")[0]
    site.packages.calls.clear()
    assert say("patch", "catch-up", "--yes").code == 0
    assert site.packages.calls == []
    assert version(site, "db1.dc1") == "3.0.11-1"


def waiting(host: str, *, days: int) -> Waiting:
    now = datetime.now(UTC)
    return Waiting(
        host=host, baseline="servers", since=now - timedelta(days=7), expires_at=now + timedelta(days=days), run="r"
    )


def test_where_approvals_are_asked_catching_up_leaves_a_plan_to_sign(site: Rehearsal, say: Say, tmp_path: Path) -> None:
    site.patches.enqueue([waiting("db1.dc1", days=1)])
    site.edit("estate.yaml", "  lab: {", "  lab: {approvals: [{count: 1}], ")
    refused = say("patch", "catch-up", "--yes", "--out", tmp_path / "missed.json")
    assert refused.code == 3
    assert version(site, "db1.dc1") == "3.0.11-1"
    intent = json.loads((tmp_path / "missed.json").read_text())["intent"]
    assert intent["inputs"]["selection"] == ["host/db1.dc1"]
    assert [one["host"] for one in say("patch", "queue", "--json").result["waiting"]] == ["db1.dc1"]


def test_history_tells_who_was_put_back_by_snapshot(site: Rehearsal, say: Say) -> None:
    row = Patched(
        run="r1",
        host="web1.dc1",
        at=datetime.now(UTC),
        moves=(Move(name="openssl", architecture="amd64", before="3.0.11-1", after="3.0.15-1"),),
        took=timedelta(minutes=1),
        rolled_back="r1",
    )
    site.patches.keep_patched([row, replace(row, host="web1.dc2", snapshot="ismgr-r1")])
    lines = {host: line for line in say("patch", "history").out.splitlines() for host in HOSTS if host in line}
    assert "at once" in lines["web1.dc1"]
    assert "at once, by snapshot" not in lines["web1.dc1"]
    assert "at once, by snapshot" in lines["web1.dc2"]
    told = {one["host"]: one["snapshot"] for one in say("patch", "history", "--json").result["patched"]}
    assert told == {"web1.dc1": "", "web1.dc2": "ismgr-r1"}


def test_exemptions_are_written_as_openvex(site: Rehearsal, say: Say, tmp_path: Path) -> None:
    say("patch", "facts")
    document = json.loads(say("patch", "vex", "--author", "Security").out)
    assert document["author"] == "Security"
    assert [one["vulnerability"]["name"] for one in document["statements"]] == ["CVE-2026-2"]
    written = say("patch", "vex", "--out", tmp_path / "openvex.json")
    assert (written.code, "1 statements in" in written.out) == (0, True)
    assert json.loads((tmp_path / "openvex.json").read_text())["author"] == "platform of two-sites"
    assert say("--json", "patch", "vex").result["document"]["statements"] == document["statements"]


def test_the_page_about_patching_works_as_it_stands(
    site: Rehearsal, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    documents = {text.split()[1]: text for language, text in blocks if language == "yaml"}
    assert list(documents) == ["baseline.yaml", "exemption.yaml", "gateways.yaml", "metal.yaml"]
    site.files["hypervisor/snapshot"] = "#!/bin/sh\n"
    site.files["patching.yaml"] = WINDOW + BASELINE[BASELINE.rindex("---") :]
    site.files |= documents
    site.packages.add("edge1.dc1", package("openssl", "3.0.15-1"))
    # old enough for its rules
    month_ago = datetime.now(UTC) - timedelta(days=30)
    site.first_seen.see([version_key(one) for one in site.packages.repository], month_ago)
    monkeypatch.chdir(tmp_path)
    (commands,) = [text for language, text in blocks if language == "sh"]
    for line in commands.splitlines():
        said = say(*shlex.split(line)[1:])
        assert said.code == (2 if line.startswith("ismgr patch plan") else 0), (line, said.err)
    for file in ("patches.json", "status.csv", "openvex.json"):
        assert (tmp_path / file).exists()


@pytest.mark.parametrize(
    ("basis", "said"),
    [
        (Basis.DATA, "5h( [0-9]+s)? old"),
        (Basis.ANSWER, "5h( [0-9]+s)? old"),
        (Basis.COMMIT, "in Git since 5h( [0-9]+s)?"),
        (Basis.NONE, "undated"),
    ],
)
def test_the_age_of_advisories_is_what_somebody_knows_of_it(site: Rehearsal, say: Say, basis: Basis, said: str) -> None:
    known = advisories()
    site.advisories = MemoryAdvisories(
        known=replace(known, sources=tuple(replace(one, basis=basis) for one in known.sources))
    )
    shown = say("patch", "status").out
    assert re.search(rf"advisories {re.escape(SOURCE)} \(debian\), {said}, 2 entries\n", shown), shown
    (source,) = say("--json", "patch", "status").result["sources"]
    assert source["basis"] == str(basis)
