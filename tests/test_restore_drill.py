"""Restores on real machines: a database of one site kept at the other one by pgBackRest, and files by restic; each
restored in a drill, and everything that may be wrong with a repository found out by one. The tests are one story and
run in the order of the file."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from ismgr_automation.cli.demo import commit, prepare
from ismgr_automation.lab import Lab
from ismgr_automation.lab.topology import Segment
from tests import backups
from tests.fixtures_lab import until
from tests.playbooks.world import moved
from tests.test_two_sites import LONG_SECONDS, Said, Site

pytestmark = [pytest.mark.lab, pytest.mark.engine]

HOME, AWAY = "db1.dc1", "db1.dc2"
REPOSITORY, ARCHIVE = "/var/lib/pgbackrest", "/var/lib/pgbackrest/archive/records"
FILES = "/var/backups/restic"
TARGETS = ("stack/dc1-servers", "stack/dc2-servers", "group/nameservers", "group/databases")
BACKUP: Mapping[str, Any] = {
    "stanza": "records",
    "fresh": "1h",
    "checks": [{"name": "notes", "query": "SELECT count(*) FROM note", "at_least": 3}],
    "files": [{"name": "documents", "group": "databases", "at_least": 3}],
}


@pytest.fixture(scope="module")
def site(fresh_lab: Lab, tmp_path_factory: pytest.TempPathFactory, pulumi_engine_path: Path) -> Site:
    return kept_at(fresh_lab, tmp_path_factory.mktemp("restore") / "two-sites", pulumi_engine_path)


def kept_at(lab: Lab, estate: Path, engine: Path) -> Site:
    """Both databases; the second one has the repository. Nothing else of the example is configured."""

    def text_here(text: str) -> str:
        return moved(lab, text).replace("become: true", "become: true\n  boot_timeout: 3m")

    prepare(lab, estate, text_here)
    addresses = [str(lab.machine(name).address(Segment(name.split(".")[1]))) for name in (HOME, AWAY)]
    backups.write_secrets(estate / ".secrets" / "backup", addresses)
    wide = str(lab.topology.network(Segment.WAN))
    _edit(estate / "groups.yaml", "databases", lambda one: _kept(one, wide))
    _edit(estate / "groups.yaml", "nameservers", lambda one: _let_through(one, wide, addresses[0]))
    _edit(estate / "recovery.yaml", "records", lambda one: _proven(one, f"{addresses[0]}:5432"))
    commit(estate, "Keep backups")
    one = Site(lab=lab, estate=estate, environment={**os.environ, "ISMGR_ENGINE": str(engine)})
    applied = one.ismgr("apply", "--yes", *(word for name in TARGETS for word in ("--target", name)))
    assert applied.code == 0, (applied.results, applied.errors)
    sql(one, "CREATE TABLE note AS SELECT generate_series(1, 3) AS number")
    one.on(HOME, "mkdir -p /srv/documents && cd /srv/documents && for n in 1 2 3; do seq $n 9000 > $n; done")
    return one


def _edit(path: Path, name: str, change: Any) -> None:
    documents = list(yaml.safe_load_all(path.read_text()))
    change(next(one for one in documents if one["name"] == name))
    path.write_text(yaml.safe_dump_all(documents, sort_keys=False))


def _kept(group: dict[str, Any], clients: str) -> None:
    group["verify"].append("ismgr:playbooks/roles/backup/verify")
    given = group["variables"]
    given |= backups.variables("records", AWAY)
    # no edge is there: the client of a drill comes from the wide area network itself
    given["postgresql_clients"] = [*given["postgresql_clients"], clients]
    given["postgresql_archive_timeout"] = "1s"


def _let_through(group: dict[str, Any], clients: str, database: str) -> None:
    group["variables"]["base_forward"].append({"from": [clients], "to": [database], "ports": ["5432"]})


def _proven(plan: dict[str, Any], endpoint: str) -> None:
    plan["backup"] = dict(BACKUP)
    plan["probe"] |= {"endpoints": [endpoint], "steady": "1s", "every": "20ms", "patience": "2s"}
    plan["objectives"] = {"rto": "60s", "rpo": "60s"}


def sql(site: Site, text: str) -> str:
    """Asked of the primary, in the service's database."""
    return site.on(HOME, f'cd / && runuser -u postgres -- psql -qXAt -d records -c "{text}"').strip()


def restored(site: Site) -> tuple[int, Mapping[str, Any]]:
    """What a drill measured, and its exit code."""
    done = site.ismgr("drill", "run", "records", "--mode", "restore", "--yes")
    return done.code, measured(done)


def measured(done: Said) -> Mapping[str, Any]:
    found = next((one for one in reversed(done.results) if one["type"] == "drill"), None)
    assert found is not None, (done.results, done.errors)
    return found


def nothing_is_left(site: Site) -> None:
    for name in (HOME, AWAY):
        assert site.on(name, "ls -A /var/lib/ismgr/restore 2>/dev/null; true") == ""
        assert site.on(name, "systemctl list-units --all --plain --no-legend 'ismgr-restore-*'") == ""


def test_status_says_that_there_is_no_backup_and_one_is_made(site: Site) -> None:
    status = site.ismgr("backup", "status")
    assert status.code == 6, (status.results, status.errors)
    assert [one["trouble"] for one in status.result["backups"]] == ["there is no backup", "there is no snapshot"]
    code, found = restored(site)
    assert (code, found["verdict"]) == (6, "failed")
    assert "recovery: step look did not end well: there is no backup of records on db1.dc2" in found["reasons"]
    made = site.ismgr("backup", "run", "records", "--kind", "full")
    assert made.code == 0, (made.results, made.errors)
    database, files = made.result["backups"]
    assert (database["cipher"], database["trouble"], files["trouble"]) == ("aes-256-cbc", "", "")
    assert re.fullmatch(r"\d{8}-\d{6}F", database["label"])


def test_the_cluster_is_checked_by_pgbackrest_itself_and_a_plan_finds_nothing_to_do(site: Site) -> None:
    site.on(AWAY, "cd / && runuser -u postgres -- pgbackrest --stanza=records check")
    assert backups.CIPHER not in site.on(AWAY, f'grep -raF "pass" {REPOSITORY} /var/log/pgbackrest || true')
    planned = site.ismgr("plan", *(word for name in TARGETS for word in ("--target", name)))
    assert planned.code == 0, (planned.results, planned.errors)


def test_a_write_that_was_archived_is_restored_with_all_before_it(site: Site) -> None:
    sql(site, "INSERT INTO note VALUES (4)")
    archived(site)
    code, found = restored(site)
    assert (code, found["verdict"]) == (0, "passed"), found["reasons"]
    told = found["restore"]
    assert (told["host"], told["repository"], told["kind"]) == (AWAY, AWAY, "full")
    assert [one["name"] for one in told["steps"]] == ["look", "prepare", "restore", "recover"]
    assert told["rto_ms"] == told["steps"][-1]["ended_ms"] > 0
    held = {one["name"]: one for one in told["invariants"]}
    assert all(one["ok"] for one in held.values()), held
    assert held["notes"]["words"] == "4"
    assert set(held) == {"isolated", "archive", "pages", "notes", "sound", "repository"}
    assert told["age_s"] < 3600
    writes = found["writes"]
    assert writes["acked"] == writes["written"] > 20
    assert 0 <= writes["lost"] <= writes["acked"]
    (files,) = told["files"]
    assert (files["ok"], files["host"], files["files"], files["same"]) == (True, HOME, 3, 3)
    nothing_is_left(site)


def archived(site: Site) -> None:
    """Everything that was written is in the archive, in several segments."""
    for number in range(3):
        sql(site, f"CREATE TABLE filler{number}(n int); DROP TABLE filler{number}")
        segment = sql(site, "SELECT pg_walfile_name(pg_switch_wal())")
        until(
            f"{segment} is archived",
            lambda segment=segment: sql(site, "SELECT last_archived_wal FROM pg_stat_archiver") >= segment,
        )


@contextmanager
def spoiled(site: Site, machine: str, folder: str, script: str) -> Iterator[None]:
    """Something is done to a repository, and undone."""
    kept = f"{folder}.kept"
    site.on(machine, f"rm -rf {kept} && cp -a {folder} {kept} && {script}")
    try:
        yield
    finally:
        # what was archived meanwhile stays
        site.on(machine, f"cp -a {kept}/. {folder}/ && rm -rf {kept}")


FLIP = """python3 -c '
import sys
name = sys.argv[1]
data = bytearray(open(name, "rb").read())
data[len(data) // 2] ^= 1
open(name, "wb").write(data)
' "$file" """
BIGGEST = "file=$(find {folder} -type f -printf '%s %p\\n' | sort -n | tail -n 1 | cut -d ' ' -f 2-)"
SPOILED = {
    "a flipped byte in the backup": (
        AWAY,
        REPOSITORY,
        f"{BIGGEST.format(folder=f'{REPOSITORY}/backup/records/2*/pg_data')} && {FLIP}",
        r"step restore did not end well: .*(Format|checksum|cipher|decrypt|inflate|gz|compress|block|data|zlib|unable)",
    ),
    "a missing segment": (
        AWAY,
        REPOSITORY,
        f"rm $(ls {ARCHIVE}/15-1/0*/*.gz | tail -n 3 | head -n 1)",
        r"archive does not hold: the log ends at its segment [0-9A-F]+, which is missing or cannot be read",
    ),
    "a flipped byte in the log": (
        AWAY,
        REPOSITORY,
        f"file=$(ls {ARCHIVE}/15-1/0*/*.gz | tail -n 3 | head -n 1) && {FLIP}",
        r"archive does not hold: the log ends at its segment",
    ),
    "an empty backup": (
        AWAY,
        REPOSITORY,
        f"rm -rf {REPOSITORY}/backup/records/2*/pg_data/*",
        r"step restore did not end well: .*(missing|Missing|unable to open)",
    ),
    "a flipped byte among files": (
        HOME,
        FILES,
        f"{BIGGEST.format(folder=f'{FILES}/data')} && {FLIP}",
        r"files documents of db1.dc1 cannot be restored: the repository is damaged",
    ),
    "a file that rotted in use": (
        HOME,
        "/srv/documents",
        f"file=/srv/documents/2 && touch -r $file /tmp/then && {FLIP} && touch -r /tmp/then $file",
        r"srv/documents/2 is not what is in use",
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_what_is_wrong_with_a_repository_turns_the_drill_red_and_is_named(site: Site, name: str) -> None:
    machine, folder, script, words = SPOILED[name]
    archived(site)
    with spoiled(site, machine, folder, script):
        code, found = restored(site)
    assert (code, found["verdict"]) == (6, "failed"), (name, found)
    assert any(re.search(words, one) for one in found["reasons"]), found["reasons"]
    nothing_is_left(site)


def test_a_controller_killed_while_it_restores_is_resumed_and_leaves_nothing(site: Site) -> None:
    journals = site.estate / ".ismgr" / "drills"
    before = set(journals.iterdir())
    running = site.start("drill", "run", "records", "--mode", "restore", "--yes")

    def prepared() -> bool:
        (new, *_) = [*(set(journals.iterdir()) - before), None]
        text = (new / "journal.jsonl").read_text() if new and (new / "journal.jsonl").exists() else ""
        whole = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
        return any(one["what"] == "step" and one["step"] == "prepare" for one in whole)

    until("the scratch folder is there", prepared, LONG_SECONDS)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate(timeout=60)
    (folder,) = set(journals.iterdir()) - before
    assert site.on(AWAY, "ls /var/lib/ismgr/restore").strip() == folder.name
    assert "ismgr-restore-" in site.on(AWAY, "systemctl list-timers --all --no-legend"), (
        "the host would remove it itself"
    )
    done = site.ismgr("resume", folder.name, "--wait", "2m")
    assert done.code == 0, (done.results, done.errors)
    found = measured(site.ismgr("drill", "report", folder.name))
    assert (found["resumed"], found["verdict"]) == (1, "passed"), found["reasons"]
    nothing_is_left(site)


def test_history_and_evidence_have_every_restore(site: Site) -> None:
    history = site.ismgr("drill", "history", "records").result
    assert [one["mode"] for one in history["drills"]] == ["restore"] * (3 + len(SPOILED))
    assert site.ismgr("audit", "verify").code == 0
    status = site.ismgr("backup", "status")
    assert status.code == 0, status.results
