"""Drills of mode ``restore``: the newest backup is restored beside the service, asked what it holds, and taken away
again, whatever is wrong with it and whoever dies on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ismgr_automation.converge.backups import backup_status, take_backup
from ismgr_automation.core.errors import EngineFailed, InputError, Unreachable
from ismgr_automation.core.json import JsonObject
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.planning.change import Level
from ismgr_automation.ports.backups import BackupKind, Compared, FilesCatalogue, Snapshot
from ismgr_automation.ports.memory import Killed, MemoryDrillJournal
from ismgr_automation.ports.memory.backups import SEGMENT_BYTES, SOME_TIME, MemoryBackupWorld
from ismgr_automation.ports.memory.recovery import TICK_NS
from ismgr_automation.ports.recovery import Attempt
from ismgr_automation.ports.runs import RunState
from ismgr_automation.recovery.result import DrillResult, Verdict
from tests.drills import AWAY, HOME, Drills, acts, arrive, drill, drills, entries, is_home, plan, result

RESTORE = DrillMode.RESTORE
BACKUP = """\
backup:
  stanza: records
  fresh: 100d
  checks:
  - {name: patients, query: SELECT count(*) FROM patient, at_least: 3}
  - {name: version, query: SELECT version FROM about, expect: "7"}
  files:
  - {name: documents, group: webs, site: dc1, at_least: 2}
failover:
"""


@pytest.fixture
def site(tmp_path: Path) -> Drills:
    made = drills(tmp_path)
    made.edit("recovery.yaml", "failover:\n", BACKUP)
    made.pair.each_tick.append(lambda: arrive(made.pair))
    vault = made.vault
    vault.answers = {"SELECT count(*) FROM patient": "3", "SELECT version FROM about": "7"}
    vault.held = lambda: frozenset(one.number for one in written(made)[:-2])
    vault.clock = lambda: made.pair.tick * TICK_NS
    vault.work = lambda: made.pair.advance(10)
    return made


def written(site: Drills) -> tuple[Attempt, ...]:
    """The writes of the last drill."""
    return site.probe.made(list(site.probe.numbers)[-1]) if site.probe.numbers else ()


def test_a_backup_that_can_be_restored_passes_and_nothing_is_left(site: Drills) -> None:
    report = drill(site, RESTORE)
    found = result(site)
    assert report.ok
    assert found.verdict is Verdict.PASSED, found.reasons
    assert found.steady is True
    assert found.restore is not None
    assert [one.name for one in found.restore.steps] == ["look", "prepare", "restore", "recover"]
    assert found.restore.rto_ms == found.restore.steps[-1].ended_ms > 0
    assert {one.name for one in found.restore.invariants} >= {"archive", "isolated", "patients", "version", "sound"}
    assert found.restore.files[0].ok
    assert site.vault.scratch == set()
    assert is_home(site)
    assert acts(site) == [], "the service stays where it is"


def test_what_was_restored_is_taken_away_whatever_is_raised(site: Drills) -> None:
    site.vault.held = lambda: frozenset({"NOTICE"})  # type: ignore[arg-type]  # no number
    report = drill(site, RESTORE)
    assert "a bug in ismgr, please report it: ValueError" in report.stopped
    assert result(site).verdict is not Verdict.PASSED
    assert site.vault.scratch == set()


def test_lost_writes_are_counted_and_the_newest_one_says_how_old_it_was(site: Drills) -> None:
    site.vault.catalogue = replace(site.vault.catalogue, newest_at=None)
    drill(site, RESTORE)
    found = result(site)
    assert found.writes is not None
    assert found.restore is not None
    assert found.writes.lost == 2
    assert found.restore.newest_number == written(site)[-3].number
    assert found.restore.age_s == pytest.approx(found.writes.lost * 0.005, abs=0.01)


Plant = Callable[[MemoryBackupWorld], None]


def fault(step: str, words: str) -> Plant:
    return lambda vault: vault.faults.update({step: words})


def no_backup(vault: MemoryBackupWorld) -> None:
    vault.catalogue = replace(vault.catalogue, backups=())


def missing_segment(vault: MemoryBackupWorld) -> None:
    vault.position = 7 * SEGMENT_BYTES


def nothing_archived(vault: MemoryBackupWorld) -> None:
    vault.catalogue = replace(vault.catalogue, wal_last="", wal_first="")


def empty_database(vault: MemoryBackupWorld) -> None:
    vault.answers["SELECT count(*) FROM patient"] = "0"


def lost_table(vault: MemoryBackupWorld) -> None:
    del vault.answers["SELECT version FROM about"]


def hole(vault: MemoryBackupWorld) -> None:
    whole = vault.held
    vault.held = lambda: whole() - {max(whole()) - 1}


def bad_pages(vault: MemoryBackupWorld) -> None:
    (one,) = vault.catalogue.backups
    vault.catalogue = replace(vault.catalogue, backups=(replace(one, broken=True),))


def no_snapshot(vault: MemoryBackupWorld) -> None:
    vault.files = FilesCatalogue(read_at=vault.files.read_at)


def old_snapshot(vault: MemoryBackupWorld) -> None:
    vault.files = replace(vault.files, read_at=vault.files.read_at + timedelta(days=3))


def few_files(vault: MemoryBackupWorld) -> None:
    vault.compared = Compared(ok=True, files=1)


def changed_file(vault: MemoryBackupWorld) -> None:
    vault.compared = Compared(ok=False, words="srv/a is not what is in use", files=4, differ=("srv/a",))


PLANTS: dict[str, tuple[Plant, str]] = {
    "no backup": (no_backup, "there is no backup of records on db2"),
    "a damaged repository": (fault("read", "other"), "step look did not end well: other"),
    "no room": (fault("prepare", "no room"), "step prepare did not end well: no room"),
    "a flipped byte in the backup": (fault("restore", "checksum"), "step restore did not end well: checksum"),
    "a log that ends too early": (fault("recover", "WAL ends"), "step recover did not end well: WAL ends"),
    "a missing segment": (missing_segment, "the archive goes up to 000000010000000000000008"),
    "an empty archive": (nothing_archived, "there is no log in the archive"),
    "an empty database": (empty_database, "patients does not hold: it gives '0'"),
    "a lost table": (lost_table, "version does not hold: there is no such table"),
    "a hole": (hole, "1 acknowledged writes are missing although later ones are there"),
    "bad pages": (bad_pages, "pages does not hold"),
    "a broken index": (fault("sound", "index x"), "sound does not hold: index x"),
    "a damaged older backup": (fault("verify", "invalid: 1"), "repository does not hold: invalid: 1"),
    "a way out": (fault("isolated", "0.0.0.0:5432"), "isolated does not hold: 0.0.0.0:5432"),
    "no snapshot": (no_snapshot, "there is no snapshot of web1"),
    "an old snapshot": (old_snapshot, "files documents: the newest snapshot is"),
    "too few files": (few_files, "1 files were restored, and there must be 2"),
    "a changed file": (changed_file, "srv/a is not what is in use"),
    "a flipped byte among files": (fault("files check", "pack x"), "the repository is damaged: pack x"),
}


@pytest.mark.parametrize("name", PLANTS)
def test_every_planted_defect_turns_it_red_and_is_named(site: Drills, name: str) -> None:
    plant, words = PLANTS[name]
    plant(site.vault)
    drill(site, RESTORE)
    found = result(site)
    assert found.verdict is Verdict.FAILED
    assert any(words in one for one in found.reasons), found.reasons
    assert site.vault.scratch == set()


def test_a_backup_that_is_too_old_misses_its_objective(site: Drills) -> None:
    site.edit("recovery.yaml", "fresh: 100d", "fresh: 5ms")
    drill(site, RESTORE)
    found = result(site)
    assert found.verdict is Verdict.FAILED
    assert found.goals.rpo == 0.005
    assert any("is the RPO" in one for one in found.reasons)


def test_what_takes_too_long_misses_its_objective(site: Drills) -> None:
    site.edit("recovery.yaml", "stanza: records\n", "stanza: records\n  rto: 10ms\n")
    drill(site, RESTORE)
    assert any("0.01 s is the RTO" in one for one in result(site).reasons)


def test_what_came_into_the_archive_after_the_loss_makes_nothing_younger(site: Drills) -> None:
    then = datetime.now(UTC) - timedelta(seconds=90)
    site.vault.catalogue = replace(site.vault.catalogue, newest_at=then)
    drill(site, RESTORE)
    told = result(site).restore
    assert told is not None
    assert told.newest_number is not None
    assert 90 <= told.age_s < 180


def test_without_own_writes_the_newest_commit_or_the_backup_itself_tells_the_age(site: Drills) -> None:
    site.vault.catalogue = replace(site.vault.catalogue, newest_at=None)
    site.vault.held = frozenset
    now = datetime.now(UTC)
    site.vault.newest = (now - timedelta(seconds=50)).isoformat()
    drill(site, RESTORE)
    told = result(site).restore
    assert told is not None
    assert told.newest_number is None
    assert told.age_s == pytest.approx(50, abs=30)


def host_time(site: Drills, ns: int) -> datetime:
    """A moment of the drill's clock on that of the host with the files, which is far from ours."""
    return SOME_TIME + timedelta(microseconds=ns / 1000)


def snapshots_go_on(site: Drills, *, every_step: bool) -> None:
    """Time passes on the host with the files, and its timer may make a snapshot after each step of the restore."""

    def work() -> None:
        site.pair.advance(1000)
        now = host_time(site, site.vault.clock())
        made = Snapshot(id=f"later{len(site.vault.calls)}", at=now, paths=())
        known = site.vault.files.snapshots
        site.vault.files = FilesCatalogue(read_at=now, snapshots=(*known, made) if every_step else known)

    site.vault.work = work


@pytest.mark.parametrize("every_step", [False, True])
def test_files_are_those_of_the_declared_loss_and_as_old_as_they_were_then(site: Drills, *, every_step: bool) -> None:
    then = SOME_TIME - timedelta(hours=1)
    site.vault.files = FilesCatalogue(read_at=then, snapshots=(Snapshot(id="hourly", at=then, paths=()),))
    planned = plan(site, RESTORE)
    snapshots_go_on(site, every_step=every_step)
    site.apply(planned)
    (declared,) = entries(site, "declared")
    lost_at = host_time(site, int(str(declared["declared_ns"])))
    told = result(site).restore
    assert told is not None
    assert told.rto_ms is not None
    assert told.rto_ms > 3000, "the restore took its time"
    (files,) = told.files
    assert (files.snapshot, files.taken_at) == ("hourly", then)
    assert files.age_s == pytest.approx((lost_at - then).total_seconds(), abs=0.001)


def test_a_snapshot_that_was_made_after_the_declared_loss_proves_nothing(site: Drills) -> None:
    planned = plan(site, RESTORE)
    site.vault.files = FilesCatalogue(read_at=SOME_TIME)
    snapshots_go_on(site, every_step=True)
    site.apply(planned)
    found = result(site)
    assert found.verdict is Verdict.FAILED
    words = "there is no snapshot of web1 from before the loss was declared"
    assert f"recovery: files documents of web1 cannot be restored: {words}" in found.reasons


def test_a_folder_that_cannot_be_removed_is_told_and_the_cleanup_fails(site: Drills) -> None:
    site.vault.faults["remove"] = "/var/lib/ismgr/restore/x"
    report = drill(site, RESTORE)
    found = result(site)
    assert found.verdicts["cleanup"] is Verdict.FAILED
    assert "/var/lib/ismgr/restore/x" in found.left[0]
    assert not report.ok


def test_a_service_that_is_not_steady_makes_it_invalid_and_nothing_is_restored(site: Drills) -> None:
    turn = iter(range(10**9))
    site.pair.each_tick.insert(0, lambda: setattr(site.pair.members[HOME], "readonly", next(turn) % 100 == 99))
    report = drill(site, RESTORE)
    assert not report.ok
    assert result(site).verdict is Verdict.INVALID
    assert "restore" not in site.vault.calls


def test_a_plan_says_what_would_be_restored_and_warns_of_what_is_not_there(site: Drills) -> None:
    planned = plan(site, RESTORE)
    assert [one.what for one in planned.changes[0].steps][:4] == [
        "restore: look",
        "restore: prepare",
        "restore: restore",
        "restore: recover",
    ]
    assert [one.level for one in planned.findings] == [Level.ADVISE]
    no_backup(site.vault)
    (warning,) = plan(site, RESTORE).findings
    assert (warning.level, warning.summary) == (Level.WARN, f"there is no backup of records on {AWAY}")
    assert plan(site, RESTORE).digest == planned.digest, "the age of a backup is no part of what is signed"


def test_a_plan_without_a_backup_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="says nothing about backups"):
        plan(drills(tmp_path), RESTORE)


@pytest.mark.parametrize("step", ["read", "prepare", "restore", "recover", "isolated", "ask", "sound", "verify"])
def test_who_dies_in_a_step_is_resumed_and_nothing_is_left(site: Drills, step: str) -> None:
    planned = plan(site, RESTORE)
    site.vault.deaths[step] = Killed(step)
    with pytest.raises(Killed):
        site.apply(planned)
    site.let_go()
    assert site.resume().ok
    found: DrillResult = result(site)
    assert (found.verdict, found.resumed) == (Verdict.PASSED, 1), found.reasons
    assert site.vault.scratch == set()
    assert site.runs.runs()[0].state is RunState.DONE


@dataclass(frozen=True, slots=True)
class MortalNotes(MemoryDrillJournal):
    """A journal after whose nth write the process dies."""

    def write(self, entry: JsonObject) -> None:
        """Keep it, and die."""
        self.lines.append(entry)
        if len(self.lines) == self.die_after:
            raise Killed(f"write {self.die_after}")


def test_every_write_of_the_journal_may_be_the_last_one(site: Drills) -> None:
    drill(site, RESTORE)
    (whole,) = site.journals.values()
    assert len(whole.lines) > 10
    for number in range(1, len(whole.lines)):
        planned = plan(site, RESTORE)
        scope = site.scope()

        def journal(run: str, number: int = number) -> MemoryDrillJournal:
            return site.journals.setdefault(run, MortalNotes(site.folder, die_after=number))

        engines = replace(scope.engines, recovery=replace(scope.engines.recovery, journal=journal))
        with pytest.raises(Killed):
            site.apply(planned, scope=replace(scope, engines=engines))
        site.let_go()
        assert site.resume().ok
        assert result(site).verdict is Verdict.PASSED, (number, result(site).reasons)
        assert site.vault.scratch == set()


def test_a_request_to_stop_takes_everything_away(site: Drills) -> None:
    scope = site.scope()
    site.vault.work = lambda: scope.context.cancelled.set() if site.vault.calls[-1] == "restore" else None
    planned = plan(site, RESTORE)
    site.apply(planned, scope=scope)
    found = result(site)
    assert found.verdict is Verdict.ABORTED
    assert site.vault.scratch == set()


def test_status_tells_the_age_and_what_is_wrong(site: Drills) -> None:
    database, files = backup_status(site.scope())
    assert (database.what, database.host, database.trouble) == ("database", AWAY, "")
    assert database.age == timedelta()
    assert (files.what, files.host, files.age) == ("documents", "web1", timedelta(hours=1))
    site.edit("recovery.yaml", "fresh: 100d", "fresh: 1m")
    site.vault.catalogue = replace(
        site.vault.catalogue, read_at=site.vault.catalogue.read_at + timedelta(minutes=2), trouble=""
    )
    assert backup_status(site.scope())[0].trouble == "the newest write is 120 s old"
    no_backup(site.vault)
    assert backup_status(site.scope())[0].trouble == "there is no backup"
    site.vault.deaths["read"] = Unreachable("No route.", engine="pgbackrest", subject=AWAY, cause="timeout")
    assert backup_status(site.scope())[0].trouble == "No route."


def test_a_backup_is_made_of_the_database_and_the_files(site: Drills) -> None:
    take_backup(site.scope(), "records", BackupKind.DIFF)
    assert [one for one in site.vault.calls if "take" in one] == ["take", "files take"]
    assert backup_status(site.scope())[0].label.endswith("D")
    site.vault.faults["files take"] = "no space left"
    with pytest.raises(EngineFailed, match="no space left"):
        take_backup(site.scope(), "records", BackupKind.DIFF)
