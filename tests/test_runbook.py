"""The printed runbook is the tested truth: its commands, taken from the paper and typed by a shell, move the service of
real machines to the other site, bring redundancy back, and bring it home. No controller takes part."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ismgr_automation.cli.demo import commit, prepare
from ismgr_automation.core.errors import ExitCode
from ismgr_automation.lab import Lab
from ismgr_automation.lab.topology import Segment
from tests.fixtures_lab import until
from tests.papers import Block, Person, blocks
from tests.playbooks.world import moved
from tests.test_two_sites import Site

pytestmark = [pytest.mark.lab, pytest.mark.engine]

HOME, AWAY = "db1.dc1", "db1.dc2"
ASK = "cd / && runuser -u postgres -- psql -qXAtc"
COUNT = f"{ASK} 'SELECT count(*) FROM runbook' records"  # noqa: S608  no value is in it
EDGES = 'endpoints: ["10.41.0.20:5432", "10.42.0.20:5432"]'
SERVERS = "resolvers: [10.43.0.11, 10.43.0.21]"
PUBLIC = "    - {name: records, type: A, ttl: 5, values: [10.41.0.20]}"
DATABASE = "    - {name: db, type: A, ttl: 2, values: [10.41.0.40]}"
OPENED = (
    ("to: [10.41.0.20, 10.42.0.20], ports", "to: [10.41.0.20, 10.42.0.20, 10.41.0.40, 10.42.0.40], ports"),
    ("10.41.0.20, 10.42.0.20]\n  postgresql_app", "10.41.0.20, 10.42.0.20, 10.43.0.0/24]\n  postgresql_app"),
)
BY_NAME = (
    ("name: records\n", "name: records-by-name\n"),
    ("rto: 2s, rpo: 0s", "rto: 60s, rpo: 60s"),
    (EDGES, f'endpoints: ["db.two-sites.test:5432"]\n  {SERVERS}'),
    ("record: records\n    ttl: 5 ", "record: db\n    ttl: 2 "),
    ("{dc1: [10.41.0.20], dc2: [10.42.0.20]}", "{dc1: [10.41.0.40], dc2: [10.42.0.40]}"),
    ("{name: frozen, do: freeze}", "{name: deaf, do: ignores-ttl}"),
)
NAME = "db.two-sites.test"
FOLLOWER = "SELECT application_name || ' ' || state FROM pg_stat_replication"


def find_by_name(lab: Lab, estate: Path) -> None:
    """A second plan, for clients that ask for a name and go to the database itself: nothing else leads them."""
    here = partial(moved, lab)

    def edit(name: str, *pairs: tuple[str, str], to: str = "") -> None:
        text = (estate / name).read_text()
        for before, after in pairs:
            assert here(before) in text
            text = text.replace(here(before), here(after))
        (estate / (to or name)).write_text(text)

    edit("groups.yaml", *OPENED)
    edit("stacks.yaml", (PUBLIC, f"{PUBLIC}\n{DATABASE}"))
    edit("recovery.yaml", *BY_NAME, to="names.yaml")
    commit(estate, "Find the database by its name")


@pytest.fixture(scope="module")
def site(fresh_lab: Lab, tmp_path_factory: pytest.TempPathFactory, pulumi_engine_path: Path) -> Site:
    def text_here(text: str) -> str:
        return moved(fresh_lab, text).replace("become: true", "become: true\n  boot_timeout: 3m")

    estate = tmp_path_factory.mktemp("runbook") / "two-sites"
    prepare(fresh_lab, estate, text_here)
    find_by_name(fresh_lab, estate)
    one = Site(lab=fresh_lab, estate=estate, environment={**os.environ, "ISMGR_ENGINE": str(pulumi_engine_path)})
    applied = one.ismgr("apply", "--yes")
    assert applied.code == 0, (applied.results, applied.errors)
    return one


@pytest.fixture
def person(site: Site, tmp_path: Path) -> Person:
    secrets = site.estate / ".secrets"
    known = {"Password": secrets / "bmc" / HOME, "Secret": secrets / "dns" / "tsig"}
    programs = tmp_path / "programs"
    programs.mkdir()
    client = site.lab.topology.container(site.lab.machine("client"))
    for name in ("knsupdate", "kdig"):  # a person has them; this machine need not, and borrows those of the lab
        path = programs / name
        path.write_text(f'#!/bin/sh\nexec podman exec -i {client} {name} "$@"\n')
        path.chmod(0o700)
    return Person(
        folder=tmp_path,
        key=secrets / "ssh" / "operator",
        estate=site.estate,
        secrets={word: path.read_text().strip() for word, path in known.items()},
        programs=programs,
    )


def printed(site: Site, path: Path) -> tuple[Block, ...]:
    """The blocks of the runbook as it is printed now; no secret is on it."""
    said = site.ismgr("drill", "runbook", "records", "--out", str(path))
    assert said.code == 0, said.errors
    text = path.read_text()
    kept = [one.read_text().strip() for one in (site.estate / ".secrets").rglob("*") if one.is_file()]
    assert kept
    assert not [one for one in kept if one in text]
    return blocks(text)


def always(found: tuple[Block, ...]) -> list[Block]:
    return [one for one in found if not one.otherwise]


def rows(site: Site, host: str) -> str:
    return site.on(host, COUNT).strip()


def assert_home(site: Site) -> None:
    """Exactly one primary, at home, with the standby streaming from it; both have all, and no fence is left."""
    recovering = {name: site.on(name, f"{ASK} 'SELECT pg_is_in_recovery()'").strip() for name in (HOME, AWAY)}
    assert recovering == {HOME: "f", AWAY: "t"}
    assert site.on(HOME, f'{ASK} "{FOLLOWER}"').strip() == f"{AWAY} streaming"
    assert rows(site, HOME) == rows(site, AWAY) == "100"
    assert site.on(HOME, "nft list tables").find("ismgr_fence") < 0
    assert site.ismgr("drill", "plan", "records", "--mode", "return").result["plan"]["intent"]["changes"] == []


def test_the_printed_commands_fence_promote_switch_and_come_home(site: Site, person: Person, tmp_path: Path) -> None:
    site.on(HOME, f"{ASK} 'CREATE TABLE runbook AS SELECT generate_series(1, 100)' records")
    person.does(always(printed(site, tmp_path / "runbook.md")))
    assert_home(site)
    checked = site.ismgr("drill", "runbook", "--check", str(tmp_path / "runbook.md"))
    assert (checked.code, checked.result["up_to_date"]) == (0, True)


def test_the_commands_for_when_it_did_not_work_make_a_standby_too(site: Site, person: Person, tmp_path: Path) -> None:
    found = printed(site, tmp_path / "runbook.md")
    rejoin = next(index for index, one in reversed(list(enumerate(found))) if one.sees == "WAY KNOWN")
    other = [one for one in found[rejoin:] if one.otherwise]
    assert ["pg_rewind" in one.script or "pg_basebackup" in one.script for one in other] == [True, True]
    person.does([found[0], *found[rejoin : rejoin + 2]])
    for one in other:
        person.does([one, found[-2]])
        assert_home(site)


def test_a_drill_that_runs_is_asked_to_stop_from_elsewhere_and_brought_home(site: Site) -> None:
    running = site.start("drill", "run", "records", "--mode", "failover", "--yes")
    journals = site.estate / ".ismgr" / "drills"

    def begun() -> bool:
        return any('"what":"leg-began","leg":"failover"' in one.read_text() for one in journals.glob("*/journal.jsonl"))

    until("clients begin to wait", begun, 300)
    asked = site.ismgr("drill", "abort", "--return", "--yes")
    out, errors = running.communicate(timeout=300)
    stopped = next(one for one in asked.results if one["type"] == "drill-abort")
    assert (stopped["stopped"], stopped["verdict"]) == (True, "aborted"), (out, errors)
    assert running.returncode == ExitCode.CANCELLED
    home = asked.result
    assert (home["type"], home["mode"], home["writes"]["lost"]) == ("drill", "return", 0), asked.errors
    assert_home(site)


def test_power_is_a_fence_on_paper_too_and_a_crashed_primary_is_rewound(
    site: Site, person: Person, tmp_path: Path
) -> None:
    old = tmp_path / "old.md"
    printed(site, old)
    site.commit("recovery.yaml", lambda text: text.replace("way: network", "way: power"))
    checked = site.ismgr("drill", "runbook", "--check", str(old))
    assert (checked.code, checked.result["up_to_date"]) == (2, False)
    found = always(printed(site, tmp_path / "runbook.md"))
    assert any(one.sees == "POWER Off" for one in found)
    assert not any("nft -f" in one.script for one in found)
    person.does(found)
    assert_home(site)


def shown(site: Site, name: str) -> set[str]:
    """What each name server of the zone answers to a client."""
    servers = [site.lab.machine(one).address(Segment.WAN) for one in ("ns", "gw1.dc1", "gw1.dc2")]
    return {site.on("client", f"kdig +short @{one} {name} A").strip() for one in servers}


def measured(site: Site, *words: str, code: int = 0) -> Mapping[str, Any]:
    """What a drill of the plan by name found."""
    done = site.ismgr("drill", "run", "records-by-name", "--mode", "failover", *words, "--yes")
    assert done.code == code, (done.results, done.errors)
    return next(one for one in reversed(done.results) if one["type"] == "drill")


def test_clients_that_ask_for_a_name_follow_it_to_the_other_site_and_home(site: Site) -> None:
    home = str(site.lab.machine(HOME).address(Segment.DC1))
    away = str(site.lab.machine(AWAY).address(Segment.DC2))
    planned = site.ismgr("drill", "plan", "records-by-name", "--mode", "failover").result["plan"]["beside"]
    assert "2 s of it while they keep the old address" in planned["findings"][0]["summary"]
    assert shown(site, NAME) == {home}
    found = measured(site)
    assert (found["verdict"], found["writes"]["lost"]) == ("passed", 0), found["reasons"]
    moves = {one["leg"]: one["words"] for one in found["tasks"] if one["name"] == "name"}
    assert moves == {
        "failover": f"{NAME}. A is {away} (ttl 2)",
        "failback": f"{NAME}. A is {home} (ttl 2)",
    }
    assert shown(site, NAME) == {home}
    assert_home(site)


def test_a_client_that_keeps_the_old_address_is_late_until_the_service_is_home(site: Site) -> None:
    found = measured(site, "--fault", "deaf", code=ExitCode.OBJECTIVE_MISSED)
    assert (found["fault"]["kind"], found["verdicts"]["fault"]) == ("ignores-ttl", "passed"), found["reasons"]
    (late,) = found["reasons"]
    assert late.startswith("recovery: after failover service did not come back by it: clients waited")
    (outage,) = found["outages"]
    moved = next(one for one in found["tasks"] if (one["leg"], one["name"]) == ("failover", "name"))
    back = next(one for one in found["tasks"] if (one["leg"], one["name"]) == ("failback", "promote"))
    assert outage["leg"] == "failback"
    assert outage["outage_ms"] > back["began_ms"] - moved["ended_ms"]
    assert found["verdicts"]["cleanup"] == "passed"
    assert_home(site)


def test_the_units_of_the_calendar_are_taken_by_systemd_and_start_what_they_name(site: Site, tmp_path: Path) -> None:
    said = site.ismgr("drill", "units", "--out", str(tmp_path / "units"), "--every", "1h")
    assert said.code == 0, (said.results, said.errors)
    for path in map(Path, said.result["files"]):
        site.on("client", f"cat > /etc/systemd/system/{path.name} <<'END'\n{path.read_text()}END")
    service = (tmp_path / "units" / "ismgr-drill.service").read_text()
    program = next(line for line in service.splitlines() if line.startswith("ExecStart=")).split("=")[1].split()[0]
    # the machine has no ismgr: what stands in its place says how it was called
    called = '#!/bin/sh\necho "$PWD $*" > called'
    site.on("client", f"mkdir -p {Path(program).parent} {site.estate}; cat > {program} <<'END'\n{called}\nEND")
    site.on("client", f"chmod 755 {program}; systemctl daemon-reload; systemctl start ismgr-drill.timer")
    ask = "systemctl show -P NextElapseUSecRealtime ismgr-drill.timer; date -d '+1 hour' '+%F %H:00:00'"
    told = site.on("client", ask)
    elapses, expected = told.splitlines()
    assert expected in elapses
    site.on("client", "systemctl start ismgr-drill.service")
    words = site.on("client", f"cat {site.estate}/called").split()
    assert words[0] == str(site.estate)
    assert words[-3:] == ["drill", "due", "--run"]
    site.on("client", "systemctl stop ismgr-drill.timer; rm /etc/systemd/system/ismgr-drill.*; systemctl daemon-reload")
