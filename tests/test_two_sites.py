"""The main job from end to end: the example estate, from a Git commit to two configured, verified sites, through the
command line and on machines of its own. The tests are one story and run in the order of the file."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from ismgr_automation.cli.demo import prepare
from ismgr_automation.lab import Fault, FaultKind, Lab
from ismgr_automation.lab.topology import Segment
from tests.fixtures_lab import switch_off, until
from tests.playbooks.world import moved

pytestmark = [pytest.mark.lab, pytest.mark.engine]

PAGE = "http://records.two-sites.test/"
LONG_SECONDS = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a command printed: its exit code, its events, and its last result."""

    code: int
    events: tuple[Mapping[str, Any], ...]
    results: tuple[Mapping[str, Any], ...]
    errors: str

    @property
    def result(self) -> Mapping[str, Any]:
        return self.results[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A lab of its own with the example estate beside it."""

    lab: Lab
    estate: Path
    environment: Mapping[str, str]

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "ismgr_automation.cli", "--json", "-C", str(self.estate), *words],
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ismgr(self, *words: str, **environment: str) -> Said:
        with self.start(*words, **environment) as running:
            out, errors = running.communicate(timeout=LONG_SECONDS)
        return said(running.returncode, out, errors)

    def commit(self, name: str, change: Callable[[str], str]) -> None:
        """Change a file of the estate, and commit it."""
        path = self.estate / name
        before = path.read_text()
        path.write_text(change(before))
        assert path.read_text() != before
        who = ["-c", "user.name=an author", "-c", "user.email=author@example.org"]
        subprocess.run(["git", "-C", str(self.estate), *who, "commit", "--quiet", "-am", "Change"], check=True)

    def on(self, machine: str, script: str) -> str:
        done = self.lab.run(machine, ["sh", "-c", script])
        assert done.code == 0, done.stderr
        return done.stdout


def said(code: int, out: str, errors: str) -> Said:
    lines = [json.loads(line) for line in out.splitlines()]
    return Said(
        code=code,
        events=tuple(one for one in lines if one["format"] == "ismgr.event/1"),
        results=tuple(one for one in lines if one["format"] == "ismgr.result/1"),
        errors=errors,
    )


@pytest.fixture(scope="module")
def site(fresh_lab: Lab, tmp_path_factory: pytest.TempPathFactory, pulumi_engine_path: Path) -> Site:
    def text_here(text: str) -> str:
        text = moved(fresh_lab, text).replace("become: true", "become: true\n  boot_timeout: 1m")
        return re.sub(r"^  site: \{site: \w+\}$", r"\g<0>\n  power_timeout: 30", text, flags=re.MULTILINE)

    estate = tmp_path_factory.mktemp("estate") / "two-sites"
    prepare(fresh_lab, estate, text_here)
    return Site(lab=fresh_lab, estate=estate, environment={**os.environ, "ISMGR_ENGINE": str(pulumi_engine_path)})


def changes(plan: Mapping[str, Any]) -> list[str]:
    return sorted({one["address"] for one in plan["plan"]["intent"]["changes"]})


def children() -> set[int]:
    return {one.pid for one in psutil.Process().children(recursive=True)}


def test_one_signature_worth_of_plan_brings_up_a_fresh_site(site: Site, tmp_path: Path) -> None:
    planned = site.ismgr("plan", "--out", str(tmp_path / "plan.json"))
    assert planned.code == 2, planned.errors
    assert changes(planned.result) == ["stack/dc1-servers", "stack/dc2-servers"]
    deferred = {one["address"]: one for one in planned.result["plan"]["intent"]["deferred"]}
    assert set(deferred) == {"group/nameservers", "group/databases", "group/webs", "group/edges", "stack/names"}
    assert deferred["group/databases"]["envelope"]["at_most"] == 2
    assert deferred["group/databases"]["expected"] == ["host/db1.dc1", "host/db1.dc2"]
    assert site.lab.status().machines, "the lab is there"

    applied = site.ismgr("apply", str(tmp_path / "plan.json"), "--yes")
    assert applied.code == 0, (applied.result, applied.errors)
    assert {one["fate"] for one in applied.result["outcomes"]} == {"landed"}
    assert {one["verdict"] for one in applied.result["checks"]} == {"passed"}
    assert site.on("client", f"curl --silent --show-error --fail --max-time 10 {PAGE}").count("<html") == 1


def test_the_same_commit_again_finds_nothing_to_do(site: Site) -> None:
    planned = site.ismgr("plan")
    assert planned.code == 0, (planned.result, planned.errors)
    assert planned.result["plan"]["beside"]["complete"]


def test_every_host_is_verified_on_request_and_junit_tells_it(site: Site, tmp_path: Path) -> None:
    verified = site.ismgr("verify", "--junit", str(tmp_path / "verify.xml"))
    assert verified.code == 0, verified.result
    assert {one["host"] for one in verified.result["checks"]} == {one.name for one in site.lab.topology.servers}
    assert f'tests="{len(verified.result["checks"])}"' in (tmp_path / "verify.xml").read_text()


def test_plain_ansible_works_with_the_printed_inventory(site: Site, tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.yaml"
    printed = site.ismgr("inventory")
    inventory.write_text(json.dumps(printed.result["inventory"]))
    key = site.estate / ".secrets" / "ssh" / "operator"
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible", "all", "-i", inventory, "--private-key", key, "-m", "ping", "-o"],
        env=site.environment | {"ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("SUCCESS") == len(site.lab.topology.servers)


def test_what_somebody_did_by_hand_is_drift_on_stacks_and_hosts_and_apply_puts_it_back(site: Site) -> None:
    switch_off(site.lab, "web1.dc2")
    site.on("web1.dc1", "echo '# by hand' >> /etc/ssh/sshd_config.d/10-base.conf")
    found = site.ismgr("drift", "-t", "stack/dc2-servers", "-t", "group/webs")
    assert found.code == 2, (found.result, found.errors)
    drifted = {(one["address"], one["target"]) for one in found.result["drift"]}
    assert ("stack/dc2-servers", "web1.dc2") in drifted
    assert ("host/web1.dc1", "web1.dc1") in drifted

    applied = site.ismgr("apply", "--yes", "-t", "stack/dc2-servers", "-t", "group/webs")
    assert applied.code == 0, (applied.result, applied.errors)
    assert "by hand" not in site.on("web1.dc1", "cat /etc/ssh/sshd_config.d/10-base.conf")
    assert site.on("client", f"curl --silent --fail --max-time 10 {PAGE}healthz")


def test_a_plan_is_refused_once_its_inputs_have_moved(site: Site, tmp_path: Path) -> None:
    site.commit("groups.yaml", lambda text: text.replace("haproxy_clients: [", "haproxy_clients: [192.0.2.0/24, "))
    planned = site.ismgr("plan", "--out", str(tmp_path / "plan.json"), "-t", "group/edges")
    assert planned.code == 2, planned.errors
    assert changes(planned.result) == ["group/edges"]
    site.on("edge1.dc1", "systemctl stop haproxy")
    refused = site.ismgr("apply", str(tmp_path / "plan.json"), "--yes")
    assert refused.code == 3, (refused.result, refused.errors)
    assert refused.result["reason"] == "stale-plan"
    assert "group/edges#1" in refused.result["summary"]


def test_a_host_that_dies_in_the_middle_of_a_play_stops_the_run_and_the_next_one_heals(site: Site) -> None:
    with site.start("apply", "--yes", "-t", "group/edges") as running:
        assert running.stdout is not None
        seen: list[str] = []
        for line in running.stdout:
            seen.append(line)
            event = json.loads(line)
            started = any(json.loads(one)["type"] == "change-started" for one in seen)
            if started and (event.get("host"), event.get("status")) == ("edge1.dc1", "changed"):
                switch_off(site.lab, "edge1.dc1")
                break
        rest, errors = running.communicate(timeout=LONG_SECONDS)
    stopped = said(running.returncode, "".join(seen) + rest, errors)
    assert stopped.code == 5, (stopped.result, errors)
    assert "edge1.dc1" in stopped.result["stopped"]
    assert "unreachable" in stopped.result["stopped"]
    # plain Ansible would have gone on: to it an unreachable host is no failure
    assert {one["key"]: one["fate"] for one in stopped.result["outcomes"]} == {
        "group/edges#1": "failed",
        "group/edges#2": "not-started",
    }

    healed = site.ismgr("apply", "--yes", "-t", "stack/dc1-servers", "-t", "group/edges")
    assert healed.code == 0, (healed.result, healed.errors)


STAGES = {
    "while it looks": ("plan", "observation-started"),
    "while a stack is applied": ("apply", "resource-stepped"),
    "while a playbook runs": ("apply", "change-started"),
}


@pytest.mark.parametrize("stage", STAGES)
def test_control_c_ends_everything_of_ours_and_loses_nothing(site: Site, stage: str) -> None:
    verb, cue = STAGES[stage]
    if stage == "while a stack is applied":
        switch_off(site.lab, "gw1.dc2")
    if stage == "while a playbook runs":
        site.on("edge1.dc1", "systemctl stop haproxy")
    before = children()
    words = [verb, "-t", "stack/dc2-servers" if "stack" in stage else "group/edges"]
    with site.start(*words, *(["--yes"] if verb == "apply" else [])) as running:
        assert running.stdout is not None
        for line in running.stdout:
            event = json.loads(line)
            late = event["type"] == cue and (verb == "plan" or event.get("operation") != "same")
            if late:
                running.send_signal(signal.SIGINT)
                break
        out, errors = running.communicate(timeout=120)
    assert running.returncode == 130, (out, errors)
    assert "Traceback" not in errors
    until("nothing of ours is left running", lambda: children() <= before)
    leftovers = [one for one in Path("/tmp").glob("ismgr-*") if one.is_dir() and one.stat().st_uid == os.getuid()]
    assert not [one for one in leftovers if (one / "tree" / "estate.yaml").exists() and _ours(one, site)]

    healed = site.ismgr("apply", "--yes", "-t", "stack/dc2-servers", "-t", "group/edges")
    assert healed.code == 0, (healed.result, healed.errors)


def _ours(folder: Path, site: Site) -> bool:
    """Whether a left folder holds this site's documents (other sessions of this host have folders of their own)."""
    groups = folder / "tree" / "groups.yaml"
    return groups.is_file() and groups.read_text() == (site.estate / "groups.yaml").read_text()


def test_a_bmc_that_says_yes_and_does_nothing_fails_its_stack_by_name(site: Site) -> None:
    switch_off(site.lab, "web1.dc1")
    site.lab.arrange("web1.dc1", *(Fault(kind=FaultKind.IGNORES) for _ in range(50)))
    failed = site.ismgr("apply", "--yes", "-t", "stack/dc1-servers", "-x", "group/nameservers")
    site.lab.arrange("web1.dc1")
    assert failed.code in (4, 5), (failed.result, failed.errors)
    assert "web1.dc1" in failed.result["stopped"]
    healed = site.ismgr("apply", "--yes", "-t", "stack/dc1-servers")
    assert healed.code == 0, (healed.result, healed.errors)


def test_a_full_disk_in_the_work_folder_is_one_clear_error(site: Site, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], check=True)
    try:
        full = site.ismgr("plan", TMPDIR=str(small))
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", small], check=True)
    assert full.code == 4, (full.result, full.errors)
    told = json.dumps(full.result)
    assert "disk is full" in told or "No space left" in told, told
    assert "Traceback" not in full.errors


def test_no_secret_of_the_estate_is_in_what_the_runs_left(site: Site) -> None:
    names = ("postgresql/app", "postgresql/replication", "dns/tsig", "bmc/db1.dc1", "pulumi/passphrase")
    secrets = {name: (site.estate / ".secrets" / name).read_text().strip().encode() for name in names}
    kept = [one for one in (site.estate / ".ismgr").rglob("*") if one.is_file()]
    assert kept
    for path in kept:
        held = [name for name, value in secrets.items() if value in path.read_bytes()]
        assert not held, (path, held)


def test_destroy_switches_off_what_apply_switched_on(site: Site) -> None:
    gone = site.ismgr("destroy", "--yes")
    assert gone.code == 0, (gone.result, gone.errors)
    assert {one.machine.name for one in site.lab.status().machines if one.on} == {"ns", "client"}
    address = str(site.lab.machine("ns").address(Segment.WAN))
    assert "records" not in site.on("client", f"getent hosts records.two-sites.test || true; echo {address}")
