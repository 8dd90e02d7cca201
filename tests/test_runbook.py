"""The printed runbook is the tested truth: its commands, taken from the paper and typed by a shell, move the service of
real machines to the other site, bring redundancy back, and bring it home. No controller takes part."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ismgr_automation.cli.demo import prepare
from ismgr_automation.core.errors import ExitCode
from ismgr_automation.lab import Lab
from tests.fixtures_lab import until
from tests.papers import Block, Person, blocks
from tests.playbooks.world import moved
from tests.test_two_sites import Site

pytestmark = [pytest.mark.lab, pytest.mark.engine]

HOME, AWAY = "db1.dc1", "db1.dc2"
ASK = "cd / && runuser -u postgres -- psql -qXAtc"
COUNT = f"{ASK} 'SELECT count(*) FROM runbook' records"  # noqa: S608  no value is in it
FOLLOWER = "SELECT application_name || ' ' || state FROM pg_stat_replication"


@pytest.fixture(scope="module")
def site(fresh_lab: Lab, tmp_path_factory: pytest.TempPathFactory, pulumi_engine_path: Path) -> Site:
    def text_here(text: str) -> str:
        return moved(fresh_lab, text).replace("become: true", "become: true\n  boot_timeout: 30s")

    estate = tmp_path_factory.mktemp("runbook") / "two-sites"
    prepare(fresh_lab, estate, text_here)
    one = Site(lab=fresh_lab, estate=estate, environment={**os.environ, "ISMGR_ENGINE": str(pulumi_engine_path)})
    applied = one.ismgr("apply", "--yes")
    assert applied.code == 0, (applied.results, applied.errors)
    return one


@pytest.fixture
def person(site: Site, tmp_path: Path) -> Person:
    secrets = site.estate / ".secrets"
    password = (secrets / "bmc" / HOME).read_text().strip()
    return Person(folder=tmp_path, key=secrets / "ssh" / "operator", estate=site.estate, password=password)


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
