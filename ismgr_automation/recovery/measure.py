"""What a client saw of a recovery, from the probe's log: outages, and writes that were lost. Nothing is guessed: what
the log and the database do not say is unknown, and stands apart. All times are of one monotonic clock."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

from ismgr_automation.core.spans import from_nanoseconds, nanoseconds
from ismgr_automation.ports.recovery import Attempt, Outcome

SLACK = 20
"""By how many intervals two acknowledgements may lie apart without an outage: a busy machine is none."""
STALL = timedelta(milliseconds=50)
"""And at least by so much."""
SETTLED = timedelta(seconds=2)
"""How long service must stay after an outage for the outage to be over."""
_PERCENTILE = 99


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """A gap in acknowledged service: from the end of the last acknowledged write before it (its number is ``before``;
    0: the first write was no better, and the gap begins with it) to the end of the first one after it."""

    began_ns: int
    ended_ns: int | None
    """None: service had not come back when the log ended."""
    before: int
    after: int
    failed: int = 0
    unknown: int = 0

    def lasted_ns(self, until_ns: int) -> int:
        """Its length; of one that is not over, what there is of it by then."""
        return (until_ns if self.ended_ns is None else self.ended_ns) - self.began_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Downtime:
    """What one fault or move cost the client: from the last acknowledged write before it to the first one after which
    service stayed. Service may have flapped in between: ``outages`` has each time."""

    outages: tuple[Outage, ...]
    seen_ns: int
    """The end of the log."""
    settled: bool
    """Whether service was seen to stay afterwards."""
    resolution_ns: int
    """See ``resolution``."""
    blind_ns: int
    """The longest time within it when no write was under way: with no more than ``resolution_ns`` it was seen whole."""

    @property
    def began_ns(self) -> int:
        """When the last write before it was acknowledged."""
        return self.outages[0].began_ns

    @property
    def ended_ns(self) -> int | None:
        """When the first write was acknowledged after which service stayed; None when that was not seen."""
        return self.outages[-1].ended_ns

    @property
    def rto(self) -> timedelta | None:
        """All of it; None while it is not over."""
        return None if self.ended_ns is None else from_nanoseconds(self.ended_ns - self.began_ns)

    @property
    def longest(self) -> timedelta:
        """The longest single outage."""
        return from_nanoseconds(max(one.lasted_ns(self.seen_ns) for one in self.outages))

    @property
    def total(self) -> timedelta:
        """All outages together, without the times of service between them."""
        return from_nanoseconds(sum(one.lasted_ns(self.seen_ns) for one in self.outages))

    def __str__(self) -> str:
        so_far = (self.ended_ns or self.seen_ns) - self.began_ns
        figure = f"{so_far / 1e6:.0f} ms ± {max(1.0, self.resolution_ns / 1e6):.0f} ms"
        return figure if self.ended_ns is not None else f"more than {figure}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """What became of the writes, by their numbers, once the database had been asked what it holds."""

    acknowledged: int
    lost: tuple[int, ...]
    """Acknowledged, and not held: the recovery point was missed by these."""
    lost_span: timedelta
    """From the first lost write's sending to the last one's acknowledgement; zero when none is."""
    unknown_held: tuple[int, ...]
    unknown_gone: tuple[int, ...]
    """Nobody had told the client that they were done: no loss, but nothing that one may call refused either."""
    failed: int
    contradictions: tuple[int, ...]
    """Held, though they were refused or never sent, or never tried at all: somebody's word is not true."""


def steady(
    attempts: Sequence[Attempt], since_ns: int, until_ns: int, every: timedelta, slack: int = SLACK
) -> str | None:
    """Why service was not steady in that time, as the client saw it; None when every write was acknowledged and none
    was long in coming."""
    limit = _limit(every, slack)
    within = [one for one in attempts if one.ended_ns >= since_ns and one.sent_ns <= until_ns]
    for one in within:
        match one.outcome:
            case Outcome.FAILED:
                return f"write {one.number} failed: {one.cause or 'for no reason that was told'}"
            case Outcome.UNKNOWN:
                return f"nobody knows what became of write {one.number}: {one.cause or 'for no reason that was told'}"
            case Outcome.ACKED:
                pass
    if not within:
        return "no write was tried"
    ends = [since_ns, *(one.ended_ns for one in within), until_ns]
    worst = max(later - earlier for earlier, later in pairwise(ends))
    if worst > limit:
        return f"for {worst / 1e6:.0f} ms no write was acknowledged, more than {limit / 1e6:.0f} ms"
    return None


def outages(attempts: Sequence[Attempt], every: timedelta, slack: int = SLACK) -> tuple[Outage, ...]:
    """Every gap in acknowledged service, in order: where a write was not acknowledged, or acknowledgements lie more
    than ``slack`` intervals and ``STALL`` apart."""
    limit = _limit(every, slack)
    return tuple(one for one in _gaps(attempts) if _is_outage(one, limit, attempts[-1].ended_ns))


def downtime(
    attempts: Sequence[Attempt],
    since_ns: int,
    every: timedelta,
    *,
    settled: timedelta = SETTLED,
    until_ns: int | None = None,
    slack: int = SLACK,
) -> Downtime | None:
    """What the fault or the first hot step at ``since_ns`` cost: the first outage that it falls into or that follows
    it, and those that begin before service has stayed for ``settled``. What begins after ``until_ns`` is somebody
    else's. None: the client saw no outage; writes that merely waited for less than ``slack`` allows are in
    ``longest_gap``. Raises ``ValueError`` when the log ends before ``since_ns``: nobody looked."""
    end = attempts[-1].ended_ns if attempts else since_ns
    if end <= since_ns:
        raise ValueError("the probe's log ends before what it was to measure")
    after = [one for one in outages(attempts, every, slack) if one.ended_ns is None or one.ended_ns > since_ns]
    after = [one for one in after if until_ns is None or one.began_ns < until_ns]
    if not after:
        return None
    chain = [after[0]]
    for one in after[1:]:
        back = chain[-1].ended_ns
        if back is None or one.began_ns - back >= nanoseconds(settled):
            break
        chain.append(one)
    back = chain[-1].ended_ns
    return Downtime(
        outages=tuple(chain),
        seen_ns=end,
        settled=back is not None and end - back >= nanoseconds(settled),
        resolution_ns=resolution(attempts, every),
        blind_ns=blind(attempts, chain[0].began_ns, end if back is None else back),
    )


def longest_gap(attempts: Sequence[Attempt], since_ns: int, until_ns: int) -> timedelta:
    """The longest time without an acknowledgement that has a part between the two moments; at the end, and where none
    came at all, no longer than the window tells."""
    ends = [one.ended_ns for one in attempts if one.outcome is Outcome.ACKED]
    before = max((end for end in ends if end <= since_ns), default=since_ns)
    after = min((end for end in ends if end >= until_ns), default=until_ns)
    inside = [end for end in ends if since_ns < end < until_ns]
    return from_nanoseconds(max(later - earlier for earlier, later in pairwise([before, *inside, after])))


def blind(attempts: Sequence[Attempt], since_ns: int, until_ns: int) -> int:
    """The longest time between the two moments, in nanoseconds, when no write was under way: what happened then, no
    client saw. A probe that is at work is blind for ``every`` at most, unless the machine was busy."""
    under_way = [(one.sent_ns, one.ended_ns) for one in attempts if one.ended_ns > since_ns and one.sent_ns < until_ns]
    edges = [(since_ns, since_ns), *under_way, (until_ns, until_ns)]
    return max(0, *(later[0] - earlier[1] for earlier, later in pairwise(edges)))


def losses(attempts: Sequence[Attempt], held: Collection[int]) -> Losses:
    """Compare what the client was told with what the database holds."""
    there = frozenset(held)
    by = {outcome: [one for one in attempts if one.outcome is outcome] for outcome in Outcome}
    lost = [one for one in by[Outcome.ACKED] if one.number not in there]
    unknown = [one.number for one in by[Outcome.UNKNOWN]]
    explained = {one.number for one in attempts if one.outcome is not Outcome.FAILED}
    return Losses(
        acknowledged=len(by[Outcome.ACKED]),
        lost=tuple(one.number for one in lost),
        lost_span=from_nanoseconds(max(one.ended_ns for one in lost) - min(one.sent_ns for one in lost) if lost else 0),
        unknown_held=tuple(one for one in unknown if one in there),
        unknown_gone=tuple(one for one in unknown if one not in there),
        failed=len(by[Outcome.FAILED]),
        contradictions=tuple(sorted(there - explained)),
    )


def resolution(attempts: Sequence[Attempt], every: timedelta) -> int:
    """How fine the client looked, in nanoseconds: of the times between two sendings, the one that 99 of 100 do not
    exceed, and never less than ``every``. A client that waits for an answer is looking: where a write took longer than
    ``every``, the time counts from its end."""
    gaps = sorted(_turns(attempts, nanoseconds(every)))
    if not gaps:
        return nanoseconds(every)
    return max(nanoseconds(every), gaps[-(-len(gaps) * _PERCENTILE // 100) - 1])


def _turns(attempts: Sequence[Attempt], every_ns: int) -> Iterator[int]:
    for one, following in pairwise(attempts):
        took_long = one.ended_ns - one.sent_ns > every_ns
        yield following.sent_ns - (one.ended_ns if took_long else one.sent_ns)


def _gaps(attempts: Sequence[Attempt]) -> Iterator[Outage]:
    """Between each two acknowledged writes that follow each other, before the first and after the last one."""
    if not attempts:
        return
    began, before, failed, unknown = attempts[0].sent_ns, 0, 0, 0
    for one in attempts:
        match one.outcome:
            case Outcome.FAILED:
                failed += 1
            case Outcome.UNKNOWN:
                unknown += 1
            case Outcome.ACKED:
                yield Outage(
                    began_ns=began,
                    ended_ns=one.ended_ns,
                    before=before,
                    after=one.number,
                    failed=failed,
                    unknown=unknown,
                )
                began, before, failed, unknown = one.ended_ns, one.number, 0, 0
    if failed or unknown:
        yield Outage(began_ns=began, ended_ns=None, before=before, after=0, failed=failed, unknown=unknown)


def _is_outage(gap: Outage, limit_ns: int, end_ns: int) -> bool:
    return bool(gap.failed or gap.unknown) or gap.lasted_ns(end_ns) > limit_ns


def _limit(every: timedelta, slack: int) -> int:
    return nanoseconds(max(slack * every, STALL))
