"""From what was written down while a backup was restored to what that proves, and how it ended. Whoever has the journal
and the probe's log can do it again, and gets the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ismgr_automation.core.json import Json, JsonObject
from ismgr_automation.ports.backups import FilesCatalogue, Snapshot
from ismgr_automation.ports.recovery import Attempt, Outcome
from ismgr_automation.recovery.measure import losses
from ismgr_automation.recovery.restore_told import FilesTold, Invariant, RestoreStep, RestoreTold
from ismgr_automation.recovery.result import Goals, Verdict, Writes
from ismgr_automation.recovery.verdict import CLEANUP, FAULT, RECOVERY, Judgement, worst

LOOK, PREPARE, RESTORE, RECOVER = "look", "prepare", "restore", "recover"
"""The steps of every restore, in order."""
ARCHIVE, ISOLATED, SOUND, VERIFY, PAGES = "archive", "isolated", "sound", "repository", "pages"
"""The names of invariants that are no document's."""
_WAL_NAME = 24
_LOG_BYTES = 1 << 32


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreRecord:
    """What is left of a restore: entries of the journal, the probe's log up to the declared loss, and the numbers of
    its writes that the restored database holds (None: it could not be asked)."""

    entries: Sequence[JsonObject]
    attempts: Sequence[Attempt]
    held: frozenset[int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreSeen:
    """What a restore is judged by. ``limits`` has how old each kind of files may be, and how many there must be, by
    name; the rest is as in ``verdict.Measured``."""

    goals: Goals
    told: RestoreTold
    writes: Writes | None
    limits: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    holes: int = 0
    """Acknowledged writes that are not in it although later ones are."""
    unsteady: str = ""
    uncounted: str = ""
    stopped: str = ""
    aborted: str = ""
    left: Sequence[str] = ()


def segment_start(name: str, segment_bytes: int) -> int:
    """Where a segment of the log begins, in bytes since the log's beginning. Raises ``ValueError`` for no such name.

    >>> segment_start("000000010000000000000006", 1 << 24) == 6 << 24
    True
    """
    if len(name) != _WAL_NAME:
        raise ValueError(f"{name!r} is no segment of the log")
    return int(name[8:16], 16) * _LOG_BYTES + int(name[16:24], 16) * segment_bytes


def short_of(wal_last: str, position: int, segment_bytes: int) -> str:
    """Why a recovery did not get to the end of the archive; empty where it did. PostgreSQL takes a segment that it
    cannot get for the end of the log, and says nothing."""
    if not wal_last:
        return "there is no log in the archive"
    if position > segment_start(wal_last, segment_bytes):
        return ""
    missing = f"{position // segment_bytes:X}"
    return (
        f"the log ends at its segment {missing}, which is missing or cannot be read; the archive goes up to {wal_last}"
    )


def kept_at_loss(found: FilesCatalogue, since: timedelta) -> tuple[Snapshot, timedelta] | None:
    """The newest snapshot from before the loss, which was declared ``since`` before the catalogue was read, and how old
    it was then. None where there is none: what was made later would not be there, were the loss a real one. Both times
    are by the clock of the host that keeps the files, whatever other clocks say."""
    lost_at = found.read_at - since
    newest = next((one for one in reversed(found.snapshots) if one.at <= lost_at), None)
    return (newest, lost_at - newest.at) if newest is not None else None


def tell_restore(record: RestoreRecord, told: RestoreTold) -> RestoreTold:
    """Fill in what the journal says; ``told`` has who and where."""
    entries = _last_try(record.entries)
    declared = next((one for one in record.entries if one["what"] == "declared"), None)
    if declared is None:
        return told
    start = _number(declared["declared_ns"])
    body: dict[str, Json] = dict(next((one for one in entries if one["what"] == "catalogue"), {}))
    # the archive as it was when the loss was declared, also where another process looked at it again
    at_first: dict[str, Json] = dict(next((one for one in record.entries if one["what"] == "catalogue"), {}))
    steps = tuple(_steps(entries, start))
    recovered = next((one for one in entries if one["what"] == "step" and one["step"] == RECOVER), None)
    readings = recovered["readings"] if recovered is not None and recovered["ok"] else {}
    readings = readings if isinstance(readings, Mapping) else {}
    found = _newest(record, declared, readings, {**body, "newest_at": at_first.get("newest_at")})
    return RestoreTold(
        host=told.host,
        repository=told.repository,
        stanza=told.stanza,
        label=str(body.get("label", "")),
        kind=str(body.get("kind", "")),
        taken_at=_moment(body.get("taken_at")),
        cipher=str(body.get("cipher", "")),
        size_bytes=_number(body.get("size_bytes", 0)),
        wal_first=str(body.get("wal_first", "")),
        wal_last=str(body.get("wal_last", "")),
        position=_number(readings["position"]) if readings else None,
        timeline=_number(readings["timeline"]) if readings else None,
        rto_ms=next((one.ended_ms for one in steps if one.name == RECOVER and one.ok), None),
        newest_number=found[0],
        newest_at=found[1],
        age_s=found[2],
        steps=steps,
        invariants=tuple(
            Invariant(name=str(one["check"]), ok=bool(one["ok"]), words=str(one["words"]))
            for one in entries
            if one["what"] == "check"
        ),
        files=tuple(_files(entries)),
    )


def counted(record: RestoreRecord) -> tuple[Writes | None, int]:
    """What became of the drill's writes in the restored database, and how many are missing although later ones are
    there: a backup may end early, and may not have holes."""
    if record.held is None or not record.attempts:
        return None, 0
    last = max(one.number for one in record.attempts)
    found = losses(record.attempts, frozenset(number for number in record.held if number <= last))
    newest = max((number for number in record.held if number <= last), default=0)
    return (
        Writes(
            written=len(record.attempts),
            acked=found.acknowledged,
            lost=len(found.lost),
            lost_span_ms=found.lost_span.total_seconds() * 1000,
            failed=found.failed,
            unknown_held=len(found.unknown_held),
            unknown_gone=len(found.unknown_gone),
            contradictions=len(found.contradictions),
        ),
        sum(number < newest for number in found.lost),
    )


def judge_restore(seen: RestoreSeen) -> Judgement:
    """The verdicts of a restore."""
    reasons: dict[str, list[tuple[Verdict, str]]] = {FAULT: [], RECOVERY: [], CLEANUP: []}
    if seen.aborted:
        reasons[RECOVERY].append((Verdict.ABORTED, seen.aborted))
    if seen.unsteady:
        reasons[FAULT].append((Verdict.INVALID, seen.unsteady))
        reasons[RECOVERY].append((Verdict.SKIPPED, "nothing was begun"))
    else:
        if seen.uncounted:
            reasons[RECOVERY].append((Verdict.INVALID, seen.uncounted))
        reasons[RECOVERY] += [(Verdict.FAILED, why) for why in _failures(seen)]
    reasons[CLEANUP] += [(Verdict.FAILED, one) for one in seen.left]
    return Judgement(
        verdicts={part: worst([verdict for verdict, _ in found]) for part, found in reasons.items()},
        reasons=tuple(f"{part}: {why}" for part, found in reasons.items() for _, why in found),
    )


def _failures(seen: RestoreSeen) -> Iterator[str]:
    told = seen.told
    broken = [one for one in told.steps if not one.ok]
    yield from (f"step {one.name} did not end well: {one.words}" for one in broken)
    if seen.stopped and not broken:
        yield seen.stopped
    yield from (f"{one.name} does not hold: {one.words}" for one in told.invariants if not one.ok)
    if told.rto_ms is not None:
        yield from _missed(seen, told.rto_ms)
    elif not (broken or seen.stopped):
        yield "nothing was restored"
    for one in told.files:
        if not one.ok:
            yield f"files {one.name} of {one.host} cannot be restored: {one.words}"
            continue
        oldest, fewest = seen.limits.get(one.name, (None, 0))
        if one.files < fewest:
            yield f"files {one.name}: {one.files} files were restored, and there must be {fewest}"
        if oldest is not None and (one.age_s is None or one.age_s > oldest):
            age = "of unknown age" if one.age_s is None else f"{one.age_s:.0f} s old"
            yield f"files {one.name}: the newest snapshot is {age}, and {oldest:g} s are allowed"


def _missed(seen: RestoreSeen, rto_ms: float) -> Iterator[str]:
    goals, age = seen.goals, seen.told.age_s
    for name, goal in (("RTO", goals.rto), ("MTD", goals.mtd)):
        if goal is not None and rto_ms > goal * 1000:
            yield f"it took {rto_ms / 1000:.1f} s until what was restored answered, and {goal:g} s is the {name}"
    if age is None:
        yield "nobody can tell how old the newest write is that was restored"
    elif goals.rpo is not None and age > goals.rpo:
        yield f"the newest write that was restored is {age:.1f} s old, and {goals.rpo:g} s is the RPO"
    if seen.holes:
        yield f"{seen.holes} acknowledged writes are missing although later ones are there"
    if seen.writes is not None and seen.writes.contradictions:
        yield f"{seen.writes.contradictions} writes that were refused are there all the same"


def _last_try(entries: Sequence[JsonObject]) -> Sequence[JsonObject]:
    """Who resumes begins the restore anew: what was done before does not count."""
    begins = [index for index, one in enumerate(entries) if one["what"] in {"began", "resumed"}]
    return entries[begins[-1] :] if begins else entries


def _steps(entries: Sequence[JsonObject], start: int) -> Iterator[RestoreStep]:
    for one in entries:
        if one["what"] == "step":
            yield RestoreStep(
                name=str(one["step"]),
                ok=bool(one["ok"]),
                began_ms=(_number(one["began_ns"]) - start) / 1e6,
                ended_ms=(_number(one["ended_ns"]) - start) / 1e6,
                words=str(one["words"]),
            )


def _newest(
    record: RestoreRecord, declared: JsonObject, readings: Mapping[str, Json], body: Mapping[str, Json]
) -> tuple[int | None, datetime | None, float | None]:
    """The newest write in what was restored: its number where it is one of the drill's own, when it was, and how old it
    was when the loss was declared. The drill's own tell by its own clock, all others by that of the database."""
    held = record.held or frozenset()
    own = [one for one in record.attempts if one.outcome is Outcome.ACKED and one.number in held]
    at = datetime.fromisoformat(str(declared["at"]))
    commit, claimed = _moment(readings.get("newest")), _moment(body.get("newest_at"))
    # what came into the archive while it was restored would not be there, were the loss a real one
    least = max(0.0, (at - claimed).total_seconds()) if claimed is not None else 0.0
    if own:
        age = (_number(declared["declared_ns"]) - own[-1].ended_ns) / 1e9
        return own[-1].number, commit, max(least, age)
    if not readings:
        return None, None, None
    # what a backup holds was written before it ended, whether or not anything was replayed on top
    moments = [one for one in (commit, _moment(body.get("ended_at"))) if one is not None]
    if not moments:
        return None, None, None
    return None, max(moments), max(least if commit is not None else 0.0, (at - max(moments)).total_seconds())


def _files(entries: Sequence[JsonObject]) -> Iterator[FilesTold]:
    for one in entries:
        if one["what"] == "files":
            age = one["age_s"]
            yield FilesTold(
                name=str(one["name"]),
                host=str(one["host"]),
                ok=bool(one["ok"]),
                snapshot=str(one["snapshot"]),
                taken_at=_moment(one["taken_at"]),
                age_s=float(age) if isinstance(age, int | float) else None,
                files=_number(one["files"]),
                size_bytes=_number(one["size_bytes"]),
                same=_number(one["same"]),
                words=str(one["words"]),
            )


def _moment(value: Json) -> datetime | None:
    return datetime.fromisoformat(str(value)).astimezone(UTC) if value else None


def _number(value: Json) -> int:
    return int(value) if isinstance(value, int | float | str) else 0
