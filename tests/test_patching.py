"""Patching from end to end, on two sites with real packages, real restarts and people who use the service meanwhile.
The tests are one story and run in the order of the file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.api import Estate
from ismgr_automation.cli.demo import prepare
from ismgr_automation.converge.report import Fate, Report
from ismgr_automation.core.errors import StalePlan
from ismgr_automation.core.events import ChangeFinished, ChangeStarted, Event, StepReported
from ismgr_automation.lab import Lab, patches
from ismgr_automation.lab.topology import Segment
from ismgr_automation.patching.sla import State
from ismgr_automation.patching.status import Row, rows
from ismgr_automation.planning.change import Action
from ismgr_automation.planning.plan import Plan
from tests.fixtures_lab import answers_ssh, switch_off, switch_on, system, until
from tests.playbooks.world import moved
from tests.test_two_sites import PAGE, Site

pytestmark = [pytest.mark.lab, pytest.mark.engine]

FIRST = {one.name: one.version for one in patches.FIRST}
SECOND = {one.name: one.version for one in patches.SECOND}
PATCHED = frozenset({patches.AGENT, patches.AUDIT, patches.MOTD})
"""What every host gets, but for what is exempted on one."""
EXEMPTED, UNLUCKY = "db1.dc1", "edge1.dc2"
"""Where one package is exempted, and who alone gets the one that cannot be configured."""
RULE = f"""\
rules:
  - name: tried-on-one
    when: package.name == "{patches.BROKEN}" && host.name != "{UNLUCKY}"
    then: defer
"""
EDITS = (
    ("patching.yaml", "rules:\n", RULE),
    ("patching.yaml", 'holds: ["linux-image-*"]', f'holds: ["linux-image-*", "{patches.TOOLS}"]'),
    ("estate.yaml", "  demo:\n", "  demo:\n    failure_budget: 1\n    lease_ttl: 20s\n"),
)
CLIENT = Path(__file__).with_name("client_of_records.py")
WAIT = timedelta(minutes=1)


@dataclass(slots=True)
class Watched:
    """Everything that happened, with when."""

    events: list[tuple[float, Event]] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.events.append((time.time(), event))

    def spans(self, host: str) -> Iterator[tuple[float, float]]:
        """When changes of a host began and ended."""
        began = 0.0
        for at, event in self.events:
            if isinstance(event, ChangeStarted) and host in {one.name for one in event.targets}:
                began = at
            if isinstance(event, ChangeFinished) and began:
                yield began, at
                began = 0.0

    def steps(self, words: str) -> list[StepReported]:
        return [one for _, one in self.events if isinstance(one, StepReported) and one.step.startswith(words)]


@pytest.fixture(scope="module")
def site(fresh_lab: Lab, tmp_path_factory: pytest.TempPathFactory, pulumi_engine_path: Path) -> Iterator[Site]:
    def text_here(text: str) -> str:
        return moved(fresh_lab, text).replace("become: true", "become: true\n  boot_timeout: 1m")

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ISMGR_ENGINE", str(pulumi_engine_path))
        folder = tmp_path_factory.mktemp("estate") / "two-sites"
        prepare(fresh_lab, folder, text_here)
        one = Site(lab=fresh_lab, estate=folder, environment=dict(os.environ))
        for file, before, after in EDITS:
            one.commit(file, lambda text, before=before, after=after: text.replace(before, after, 1))
        with Estate.open(folder) as estate:
            report = estate.apply(estate.plan())
        assert report.ok, report.stopped
        fresh_lab.publish_patches()
        yield one


def plan(site: Site, *targets: str) -> Plan:
    with Estate.open(site.estate) as estate:
        return estate.plan_patch(targets)


def apply(site: Site, planned: Plan, watched: Watched | None = None) -> Report:
    with Estate.open(site.estate, emit=watched or Watched()) as estate:
        return estate.apply(planned, wait=WAIT)


def moves(planned: Plan) -> dict[str, dict[str, tuple[str, str]]]:
    """Versions before and after, by host and package."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for change in planned.changes:
        for step in change.steps:
            if step.action is Action.UPDATE and isinstance(step.before, Mapping) and isinstance(step.after, Mapping):
                name = step.what.partition(":")[0]
                found.setdefault(step.target, {})[name] = (str(step.before["version"]), str(step.after["version"]))
    return found


def installed(site: Site, host: str) -> dict[str, str]:
    said = site.on(host, f"dpkg-query --show --showformat '${{Package}} ${{Version}}\\n' {' '.join(FIRST)}")
    return dict(line.split() for line in said.splitlines())


def expected(host: str) -> dict[str, str]:
    """The versions that a host has once it was patched."""
    if host == UNLUCKY:
        return FIRST
    mine = PATCHED - {patches.AUDIT} if host == EXEMPTED else PATCHED
    return FIRST | {name: SECOND[name] for name in mine}


def servers(site: Site) -> list[str]:
    return sorted(one.name for one in site.lab.topology.servers)


def page(site: Site) -> bool:
    asked = site.lab.run("client", ["curl", "--silent", "--show-error", "--fail", "--max-time", "10", PAGE])
    return asked.code == 0 and asked.stdout.count("<html") == 1


def bios(site: Site, host: str) -> str:
    return str(system(site.lab, host).bios_version)


def balanced(site: Site, edge: str, server: str) -> bool:
    """Whether an edge sends a web host what it has, by HAProxy's own word (the administrative state is the sixth)."""
    ask = (
        "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/haproxy/admin.sock'); "
        "s.sendall(b'show servers state web\\n'); print(s.recv(65536).decode())"
    )
    rows = [line.split() for line in site.on(edge, f'python3 -c "{ask}"').splitlines()]
    (state,) = [row for row in rows if len(row) > 6 and row[3] == server]
    return state[6] == "0"


# who uses the service meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One request of a client, and what came of it."""

    kind: str
    edge: str
    at: float
    status: int
    ok: bool
    id: int


@dataclass(slots=True)
class Use:
    """What clients saw while something was done; complete when the ``with`` is over."""

    answers: Sequence[Answer] = ()
    primaries: int = 0
    """How often both databases took writes at the same time."""

    def failed(self, kind: str) -> list[Answer]:
        return [one for one in self.answers if one.kind == kind and not one.ok]


@contextmanager
def used(site: Site) -> Iterator[Use]:
    """Clients at both edges that read and write all the time, and somebody who asks both databases what they are."""
    lab = site.lab
    edges = [
        str(lab.machine("edge1.dc1").address(Segment.DC1)),
        str(lab.machine("edge1.dc2").address(Segment.DC2)),
    ]
    client = lab.topology.container(lab.machine("client"))
    seen, over = Use(), threading.Event()

    def look() -> None:
        while not over.wait(0.5):
            # asked in this order, one that has just handed over is not taken for a second one
            seen.primaries += all(writable(site, name) for name in ("db1.dc1", "db1.dc2", "db1.dc1"))

    watcher = threading.Thread(target=look)
    with tempfile.TemporaryFile("w+") as told:
        command = ["podman", "exec", "-i", client, "python3", "-c", CLIENT.read_text(), *edges]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=told) as running:
            watcher.start()
            try:
                yield seen
            finally:
                over.set()
                watcher.join()
                running.communicate(timeout=60)
        told.seek(0)
        seen.answers = [Answer(**json.loads(line)) for line in told]


def writable(site: Site, host: str) -> bool:
    ask = "cd / && runuser -u postgres -- psql -qXAtc 'SELECT pg_is_in_recovery()'"
    return site.lab.run(host, ["sh", "-c", ask]).stdout.strip() == "f"


def kept(site: Site) -> set[int]:
    """The numbers of all records on the primary."""
    said = site.on("db1.dc1", "cd / && runuser -u postgres -- psql -qXAt records -c 'SELECT id FROM records'")
    return set(map(int, said.split()))


# the story


def test_status_tells_what_is_overdue_too_young_exempted_and_held(site: Site) -> None:
    with Estate.open(site.estate) as estate:
        standing = estate.patch_status()
    found = [*rows(standing.status)]

    def of(package: str) -> list[Row]:
        return [one for one in found if one.package == package]

    agents = of(patches.AGENT)
    assert [one.host for one in agents] == servers(site)
    assert {(one.cve, str(one.severity), one.state) for one in agents} == {
        ("CVE-2026-90001", "critical", State.BREACHED)
    }
    assert all("too young" in one.why and one.target == "" for one in of(patches.YOUNG))
    assert {one.target for one in of(patches.TOOLS)} == {""}
    (waived,) = [one for one in of(patches.AUDIT) if one.state is State.EXCEPTED]
    assert (waived.host, waived.exemptions) == (EXEMPTED, ("audit-at-db1-dc1",))
    assert standing.status.unread == ()


def test_the_plan_names_exact_versions_ring_by_ring_and_the_standby_first(site: Site) -> None:
    planned = plan(site)
    wanted = {host: {name: (FIRST[name], SECOND[name]) for name in PATCHED} for host in servers(site)}
    del wanted[EXEMPTED][patches.AUDIT]
    wanted[UNLUCKY][patches.BROKEN] = (FIRST[patches.BROKEN], SECOND[patches.BROKEN])
    packages = {host: {k: v for k, v in found.items() if k in FIRST} for host, found in moves(planned).items()}
    assert packages == wanted
    order = [sorted(one.name for one in change.targets) for change in planned.changes]
    assert order == [
        ["web1.dc2"],
        ["db1.dc2"],
        ["edge1.dc2", "gw1.dc2"],
        ["db1.dc1"],
        ["gw1.dc1", "web1.dc1"],
        ["edge1.dc1"],
        ["web1.dc2"],
        ["web1.dc1"],
    ]
    assert [str(one.address) for one in planned.changes[-2:]] == ["machine/web1.dc2", "machine/web1.dc1"]


def test_a_plan_is_stale_once_a_version_was_withdrawn_and_nothing_is_touched(site: Site) -> None:
    planned = plan(site)
    site.lab.repository.withdraw(patches.MOTD, SECOND[patches.MOTD])
    try:
        with Estate.open(site.estate) as estate:
            estate.refresh()
        with pytest.raises(StalePlan) as refused:
            apply(site, planned)
    finally:
        site.lab.publish_patches()
    assert any(patches.MOTD in one for one in refused.value.moved), refused.value.moved
    assert all(installed(site, host) == FIRST for host in servers(site))


def test_all_machines_are_patched_while_people_use_the_service(site: Site) -> None:
    watched = Watched()
    with used(site) as use:
        report = apply(site, plan(site), watched)

    # one host had bad luck, was put back exactly and told; the run went on within its budget
    failed = {one.key: one for one in report.outcomes if one.fate is not Fate.LANDED}
    assert [one.troubled for one in failed.values()] == [(UNLUCKY,)], [one.summary for one in failed.values()]
    (unlucky,) = failed.values()
    assert unlucky.undone == (UNLUCKY,)
    assert "back at the former versions" in unlucky.summary
    assert not report.stopped
    assert {host: installed(site, host) for host in servers(site)} == {host: expected(host) for host in servers(site)}
    assert all(not site.on(host, "dpkg --audit") for host in servers(site))

    # what was replaced on the disk is what runs
    for host in servers(site):
        assert site.on(host, "cat /run/records-agent/version").strip() == expected(host)[patches.AGENT]
    assert {bios(site, name) for name in ("web1.dc1", "web1.dc2")} == {"2.18.1"}

    # readers and writers waited for nothing but the primary's way there and back
    hand_over = [*watched.spans("db1.dc1")]
    assert len(hand_over) == 1
    outside = [one for one in use.answers if not one.ok and not hand_over[0][0] <= one.at <= hand_over[0][1]]
    assert outside == []
    assert len([one for one in use.answers if one.ok and one.kind == "read"]) > 500
    acknowledged = {one.id for one in use.answers if one.ok and one.kind == "write"}
    assert len(acknowledged) > 500
    assert acknowledged <= kept(site)
    assert use.primaries == 0
    assert writable(site, "db1.dc1")
    assert len(watched.steps("switchover group/databases")) == 1
    assert page(site)


def test_the_record_of_it_is_whole(site: Site) -> None:
    checked = site.ismgr("audit", "verify")
    assert checked.code == 0, (checked.results, checked.errors)


def test_another_plan_has_only_what_was_rolled_back(site: Site) -> None:
    assert set(moves(plan(site))) == {UNLUCKY}
    ordinary = site.ismgr("plan", "-t", "group/databases")
    assert ordinary.code == 0, ordinary.result


def test_hosts_go_back_by_what_is_remembered_of_the_run(site: Site) -> None:
    with Estate.open(site.estate) as estate:
        run = estate.patched()[0].run
        planned = estate.plan_rollback(run, ["host/web1.dc1", "host/web1.dc2"])
    report = apply(site, planned)
    assert report.ok, report.stopped
    assert installed(site, "web1.dc1") == installed(site, "web1.dc2") == FIRST
    assert site.on("web1.dc1", "cat /run/records-agent/version").strip() == FIRST[patches.AGENT]
    with Estate.open(site.estate) as estate:
        undone = {one.host for one in estate.patched() if one.run == run and one.rolled_back}
    assert undone == {UNLUCKY, "web1.dc1", "web1.dc2"}


def test_a_host_that_is_off_waits_and_is_caught_up_when_it_is_there_again(site: Site) -> None:
    switch_off(site.lab, "web1.dc2")
    until("web1.dc2 is off", lambda: not answers_ssh(site.lab, "web1.dc2"))
    missed = plan(site, "host/web1.dc2")
    assert missed.absent == ("web1.dc2",)
    assert not moves(missed)
    apply(site, missed)
    with Estate.open(site.estate) as estate:
        assert [one.host for one in estate.waiting()] == ["web1.dc2"]
        (tally,) = [one for one in estate.patch_status(read=False).status.hosts if one.name == "web1.dc2"]
    assert tally.breaches >= 1, "who is away is not excused"
    switch_on(site.lab, "web1.dc2")
    report = apply(site, plan(site, "host/web1.dc2"))
    assert report.ok, report.stopped
    assert installed(site, "web1.dc2") == expected("web1.dc2")
    with Estate.open(site.estate) as estate:
        assert estate.waiting() == ()


CONTROLLER = """
import sys
from ismgr_automation.api import Estate
from ismgr_automation.core.events import StepReported


def say(event):
    if isinstance(event, StepReported):
        print(event.step, flush=True)


with Estate.open(sys.argv[1], emit=say) as estate, estate.hold() as held:
    held.apply(held.plan_patch(["host/web1.dc1"]))
"""


def test_a_controller_that_dies_with_a_host_out_of_service_leaves_no_outage_behind(site: Site) -> None:
    command = [sys.executable, "-c", CONTROLLER, str(site.estate)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as dying:
        assert dying.stdout is not None
        assert any(line.startswith("drain web1.dc1") for line in dying.stdout)
        dying.kill()
    edges = ("edge1.dc1", "edge1.dc2")
    assert [balanced(site, edge, "web1.dc1") for edge in edges] == [False, False]
    assert page(site), "the other web host serves"
    with Estate.open(site.estate) as estate:
        left = estate.runs(1)[0].id
        report = estate.resume(left, wait=WAIT)
    assert report.ok, report.stopped
    assert [balanced(site, edge, "web1.dc1") for edge in edges] == [True, True]
    assert installed(site, "web1.dc1") == expected("web1.dc1")
    assert page(site)
    checked = site.ismgr("audit", "verify")
    assert checked.code == 0, (checked.results, checked.errors)


KEEPER = """\
#!/bin/sh
exec {ismgr} lab snapshot "$1" "$2" "$3" --name {lab}
"""
DEAF = replace(
    next(one for one in patches.SECOND if one.name == patches.BROKEN),
    version="1.2",
    scripts={"postinst": '#!/bin/sh\nif [ "$1" = configure ]; then systemctl mask --now --quiet ssh.service; fi\n'},
)
"""It can be configured, and then nobody can log in any more."""


def keep_disks(site: Site) -> None:
    """From now on hosts are kept whole by the lab, but for databases."""
    folder = site.estate / "snapshots"
    folder.mkdir()
    (folder / "keep.sh").write_text(
        KEEPER.format(ismgr=Path(sys.executable).with_name("ismgr"), lab=site.lab.record.name)
    )
    subprocess.run(["git", "-C", str(site.estate), "add", "snapshots"], check=True)
    asked = "rollback: on-failure\nsnapshots: {command: [sh, snapshots/keep.sh], deadline: 2m}\n"
    site.commit("patching.yaml", lambda text: text.replace("rollback: on-failure\n", asked))


def test_a_host_that_nobody_can_log_in_to_any_more_is_put_back_to_its_snapshot(site: Site) -> None:
    keep_disks(site)
    site.lab.repository.publish([*patches.ALL, DEAF], patches.FIRMWARE)
    with Estate.open(site.estate) as estate:
        estate.refresh()
    site.on(UNLUCKY, "echo here before > /srv/kept")
    planned = plan(site, f"host/{UNLUCKY}")
    assert moves(planned)[UNLUCKY][patches.BROKEN] == (FIRST[patches.BROKEN], "1.2")
    assert "snapshot" in {step.what for change in planned.changes for step in change.steps}
    watched = Watched()
    report = apply(site, planned, watched)
    name = f"ismgr-{report.run}"

    (outcome,) = report.outcomes
    assert outcome.fate is Fate.FAILED
    assert outcome.troubled == outcome.undone == (UNLUCKY,), outcome.summary
    assert f"was put back to its snapshot {name} and has the former versions again" in outcome.summary
    assert installed(site, UNLUCKY) == FIRST
    assert answers_ssh(site.lab, UNLUCKY)
    assert site.on(UNLUCKY, "cat /srv/kept") == "here before\n"
    assert site.on(UNLUCKY, "cat /run/records-agent/version").strip() == FIRST[patches.AGENT]
    assert site.lab.snapshots.of(UNLUCKY) == ()
    told = [one.detail for one in watched.steps(f"snapshot {UNLUCKY}")]
    assert told[0] == f"{name} made"
    assert told[1].startswith(f"put back to {name}: ")
    with Estate.open(site.estate) as estate:
        (row,) = [one for one in estate.patched(UNLUCKY) if one.run == report.run]
        assert estate.waiting() == ()
    assert (row.rolled_back, row.snapshot) == (report.run, name)
    assert page(site)
    checked = site.ismgr("audit", "verify")
    assert checked.code == 0, (checked.results, checked.errors)


def test_the_snapshot_of_a_host_that_is_well_is_removed(site: Site) -> None:
    site.lab.repository.withdraw(patches.BROKEN, DEAF.version)
    site.lab.repository.withdraw(patches.BROKEN, SECOND[patches.BROKEN])
    with Estate.open(site.estate) as estate:
        estate.refresh()
    watched = Watched()
    report = apply(site, plan(site, f"host/{UNLUCKY}"), watched)
    assert report.ok, report.stopped
    assert installed(site, UNLUCKY) == FIRST | {name: SECOND[name] for name in PATCHED}
    assert [one.detail for one in watched.steps(f"snapshot {UNLUCKY}")] == [f"ismgr-{report.run} made"]
    assert site.lab.snapshots.of(UNLUCKY) == ()
