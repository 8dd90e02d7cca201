"""How far a log was replayed, which writes are missing, and what follows for the verdict."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.ports.recovery import Attempt, Outcome
from ismgr_automation.recovery.restore_told import RestoreTold
from ismgr_automation.recovery.restoring import (
    RestoreRecord,
    RestoreSeen,
    counted,
    judge_restore,
    segment_start,
    short_of,
    tell_restore,
)
from ismgr_automation.recovery.result import Goals, Verdict

MEBI = 1 << 20
BLANK = RestoreTold(host="db2", repository="db2", stanza="records")


def attempts(count: int) -> tuple[Attempt, ...]:
    return tuple(
        Attempt(number=number, sent_ns=number * 100, ended_ns=number * 100 + 50, outcome=Outcome.ACKED, endpoint="x")
        for number in range(1, count + 1)
    )


@pytest.mark.parametrize(
    ("name", "segment", "start"),
    [
        ("000000010000000000000006", 16 * MEBI, 6 * 16 * MEBI),
        ("0000000A00000001000000FF", 16 * MEBI, (1 << 32) + 255 * 16 * MEBI),
        ("000000010000000200000003", 64 * MEBI, 2 * (1 << 32) + 3 * 64 * MEBI),
    ],
)
def test_a_segments_name_tells_where_it_begins(name: str, segment: int, start: int) -> None:
    assert segment_start(name, segment) == start


def test_a_log_that_ends_before_the_archive_does_is_told() -> None:
    size = 16 * MEBI
    assert short_of("000000010000000000000008", 8 * size + 1, size) == ""
    assert "its segment 8," in short_of("000000010000000000000008", 8 * size, size)
    assert "its segment 6," in short_of("000000010000000000000008", 6 * size + 5, size)
    assert short_of("", 8 * size, size) == "there is no log in the archive"


@given(st.sets(st.integers(1, 30)), st.integers(1, 30))
def test_every_acknowledged_write_is_either_held_or_lost_and_holes_are_lost_ones(held: set[int], count: int) -> None:
    writes, holes = counted(RestoreRecord(entries=(), attempts=attempts(count), held=frozenset(held)))
    assert writes is not None
    there = {number for number in held if number <= count}
    assert writes.lost == count - len(there)
    assert holes == (max(there) - len(there) if there else 0)
    assert writes.contradictions == 0


def test_writes_that_nobody_could_ask_for_are_not_counted() -> None:
    assert counted(RestoreRecord(entries=(), attempts=attempts(3), held=None)) == (None, 0)


def entries(**recovered: object) -> list[dict[str, object]]:
    readings = {"position": 9, "segment_bytes": 16 * MEBI, "timeline": 2, "newest": "2026-11-27T08:00:00+00:00"}
    step = {"what": "step", "words": "", "readings": {}, "ok": True}
    return [
        {"what": "began"},
        {"what": "declared", "declared_ns": 1000, "at": "2026-11-27T08:00:30+00:00"},
        {**step, "step": "restore", "began_ns": 1000, "ended_ns": 5000},
        {**step, "step": "recover", "began_ns": 5000, "ended_ns": 2_001_000, "readings": readings, **recovered},
    ]


def test_the_rto_counts_from_the_declared_loss_and_the_rpo_from_the_newest_own_write() -> None:
    record = RestoreRecord(entries=entries(), attempts=attempts(5), held=frozenset({1, 2, 3}))  # type: ignore[arg-type]
    told = tell_restore(record, BLANK)
    assert told.rto_ms == 2.0
    assert told.newest_number == 3
    assert told.age_s == pytest.approx(650e-9)


def test_without_own_writes_the_databases_clock_tells() -> None:
    record = RestoreRecord(entries=entries(), attempts=(), held=frozenset())  # type: ignore[arg-type]
    told = tell_restore(record, BLANK)
    assert (told.newest_number, told.age_s) == (None, 30.0)


def test_a_recovery_that_failed_has_no_rto_and_no_age() -> None:
    record = RestoreRecord(entries=entries(ok=False, words="PANIC"), attempts=attempts(2), held=None)  # type: ignore[arg-type]
    told = tell_restore(record, BLANK)
    assert (told.rto_ms, told.age_s) == (None, None)
    judged = judge_restore(RestoreSeen(goals=Goals(rto=None, rpo=60.0), told=told, writes=None))
    assert judged.reasons == ("recovery: step recover did not end well: PANIC",)


def test_who_resumed_is_judged_by_what_was_done_since() -> None:
    again = [*entries(ok=False, words="killed"), {"what": "resumed"}, *entries()[2:]]
    record = RestoreRecord(entries=again, attempts=attempts(2), held=frozenset({1, 2}))  # type: ignore[arg-type]
    told = tell_restore(record, BLANK)
    assert [one.ok for one in told.steps] == [True, True]
    assert judge_restore(RestoreSeen(goals=Goals(rto=1, rpo=1), told=told, writes=None)).verdict is Verdict.PASSED


def test_what_is_left_behind_fails_the_cleanup_alone() -> None:
    record = RestoreRecord(entries=entries(), attempts=attempts(2), held=frozenset({1, 2}))  # type: ignore[arg-type]
    seen = RestoreSeen(goals=Goals(rto=1, rpo=1), told=tell_restore(record, BLANK), writes=None, left=("x",))
    assert judge_restore(seen).verdicts == {
        "fault": Verdict.PASSED,
        "recovery": Verdict.PASSED,
        "cleanup": Verdict.FAILED,
    }


def test_nothing_restored_never_passes() -> None:
    seen = RestoreSeen(goals=Goals(rto=None, rpo=None), told=BLANK, writes=None)
    assert judge_restore(seen).verdict is Verdict.FAILED
