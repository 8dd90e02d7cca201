"""Outages, lost writes and steadiness from a probe's log."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.ports.recovery import Outcome
from ismgr_automation.recovery.measure import (
    Outage,
    blind,
    downtime,
    longest_gap,
    losses,
    outages,
    resolution,
    steady,
)
from tests.recovery.logs import EVERY, MS, attempt, log, logs

SETTLED = timedelta(milliseconds=50)


def ms(number: float) -> timedelta:
    return timedelta(milliseconds=number)


def test_service_is_steady_when_every_write_was_acknowledged():
    assert steady(log("a" * 100), 0, 495 * MS, EVERY) is None


@pytest.mark.parametrize(
    ("attempts", "why"),
    [
        ([], "no write was tried"),
        (log("aaaafaaa"), "write 5 failed: for no reason that was told"),
        ([attempt(1, 0, 1, Outcome.FAILED, "connection refused")], "write 1 failed: connection refused"),
        (log("aaua"), "nobody knows what became of write 3: for no reason that was told"),
        (log("aaaaa" + "." * 30 + "aaaa"), "for 155 ms no write was acknowledged, more than 100 ms"),
        (log("aaaaa", start_ms=150), "for 151 ms no write was acknowledged, more than 100 ms"),
        (log("aaaaa"), "for 174 ms no write was acknowledged, more than 100 ms"),
    ],
)
def test_a_service_that_is_not_steady_is_told_why(attempts, why):
    assert steady(attempts, 0, 195 * MS, EVERY) == why


def test_what_failed_before_or_after_the_window_is_not_looked_at():
    assert steady(log("ffff" + "a" * 40 + "ffff"), 20 * MS, 219 * MS, EVERY) is None


def test_an_outage_reaches_from_the_last_acknowledgement_before_to_the_first_one_after():
    found = outages(log("aaaffuaaa"), EVERY)
    assert found == (Outage(began_ns=11 * MS, ended_ns=31 * MS, before=3, after=7, failed=2, unknown=1),)


def test_writes_that_waited_for_long_are_an_outage_without_a_failure():
    slow = [*log("aaa"), attempt(4, 15, 190, Outcome.ACKED), *log("aaa", start_ms=195)]
    assert [(one.began_ns, one.ended_ns, one.failed) for one in outages(slow, EVERY)] == [(11 * MS, 190 * MS, 0)]


def test_an_outage_that_is_not_over_has_no_end_and_one_that_was_there_from_the_start_no_write_before_it():
    assert [(one.began_ns, one.ended_ns) for one in outages(log("ffaaff"), EVERY)] == [(0, 11 * MS), (16 * MS, None)]


def test_the_outage_of_a_fault_is_the_one_that_it_falls_into_or_that_follows_it():
    attempts = log("aafaaaaaaaaaaaaaa" + "aaaafffaaa" + "a" * 20)
    found = downtime(attempts, 70 * MS, EVERY, settled=SETTLED)
    assert found is not None
    assert (found.rto, found.settled, len(found.outages)) == (ms(20), True, 1)
    assert (found.began_ns, found.ended_ns, str(found)) == (101 * MS, 121 * MS, "20 ms ± 5 ms")
    inside = downtime(attempts, 110 * MS, EVERY, settled=SETTLED)
    assert inside == found


def test_of_a_service_that_flaps_the_longest_the_total_and_all_of_it_are_told():
    attempts = log("aaa" + "fff" + "aa" + "ffffff" + "aaaa" + "u" + "a" * 30)
    found = downtime(attempts, 11 * MS, EVERY, settled=SETTLED)
    assert found is not None
    assert [one.lasted_ns(found.seen_ns) // MS for one in found.outages] == [20, 35, 10]
    assert (found.rto, found.longest, found.total) == (ms(85), ms(35), ms(65))


def test_an_outage_after_service_had_settled_is_another_one_and_so_is_one_after_the_end():
    attempts = log("aaa" + "fff" + "a" * 12 + "fff" + "a" * 12)
    found = downtime(attempts, 11 * MS, EVERY, settled=SETTLED)
    assert found is not None
    assert (found.rto, len(found.outages)) == (ms(20), 1)
    assert downtime(attempts, 40 * MS, EVERY, until_ns=80 * MS, settled=SETTLED) is None


def test_an_outage_that_is_not_over_has_no_figure():
    found = downtime(log("aaaaffff"), 16 * MS, EVERY)
    assert found is not None
    assert (found.rto, found.settled, str(found)) == (None, False, "more than 20 ms ± 5 ms")


def test_service_that_came_back_just_now_is_not_known_to_stay():
    found = downtime(log("aaaaffffaaa"), 16 * MS, EVERY, settled=SETTLED)
    assert found is not None
    assert (found.rto, found.settled) == (ms(25), False)


def test_a_fault_that_no_client_noticed_has_no_outage():
    assert downtime(log("a" * 50), 100 * MS, EVERY) is None


@pytest.mark.parametrize("attempts", [[], log("a" * 50)])
def test_a_log_that_ends_before_the_fault_measures_nothing(attempts):
    with pytest.raises(ValueError, match="ends before"):
        downtime(attempts, 1000 * MS, EVERY)


def test_a_probe_that_was_dead_in_the_middle_of_an_outage_was_blind():
    attempts = log("aaaffff" + "." * 40 + "ffaaaa" + "a" * 20)
    found = downtime(attempts, 11 * MS, EVERY, settled=SETTLED)
    assert found is not None
    assert (found.rto, found.blind_ns, found.resolution_ns) == (ms(235), 204 * MS, 205 * MS)
    assert blind(attempts, 0, 30 * MS) == 4 * MS
    assert blind([], 0, 30 * MS) == 30 * MS


def test_the_resolution_is_the_interval_that_was_kept_and_waiting_for_an_answer_is_looking():
    assert resolution(log("a" * 300), EVERY) == 5 * MS
    assert resolution(log("a" * 100 + "." + "a" * 300), EVERY) == 5 * MS
    assert resolution(log("a." * 50), EVERY) == 10 * MS
    waiting = [*log("aaa"), attempt(4, 15, 515, Outcome.UNKNOWN), *log("aaa", start_ms=520)]
    assert resolution(waiting, EVERY) == 5 * MS
    assert resolution([], EVERY) == 5 * MS


def test_the_longest_gap_is_the_longest_that_touches_the_window():
    attempts = log("aaaa.....aaaa..aa")
    assert longest_gap(attempts, 0, 81 * MS) == ms(30)
    assert longest_gap(attempts, 60 * MS, 81 * MS) == ms(15)
    assert longest_gap(attempts, 20 * MS, 30 * MS) == ms(30)
    assert longest_gap(attempts, 70 * MS, 381 * MS) == ms(300)
    assert longest_gap([], 0, 40 * MS) == ms(40)


def test_199_planted_losses_are_counted_as_199():
    attempts = log("a" * 400 + "ff" + "uu" + "a" * 100)
    planted = set(range(202, 401))
    found = losses(attempts, {one.number for one in attempts if one.number not in planted | {401, 402, 403}})
    assert (len(found.lost), set(found.lost), found.acknowledged, found.failed) == (199, planted, 500, 2)
    assert (found.unknown_held, found.unknown_gone, found.contradictions) == ((404,), (403,), ())
    assert found.lost_span == ms(198 * 5 + 1)


def test_what_is_held_and_was_refused_or_never_tried_is_a_contradiction_and_no_write_is_guessed():
    found = losses(log("aafua"), {1, 2, 3, 5, 9})
    assert (found.lost, found.contradictions, found.unknown_gone) == ((), (3, 9), (4,))
    assert found.lost_span == timedelta(0)


@given(attempts=logs(), data=st.data())
def test_every_planted_loss_is_found_and_no_other(attempts, data):
    acknowledged = [one.number for one in attempts if one.outcome is Outcome.ACKED]
    open_ones = [one.number for one in attempts if one.outcome is Outcome.UNKNOWN]
    lost = set(data.draw(st.lists(st.sampled_from(acknowledged)))) if acknowledged else set()
    arrived = set(data.draw(st.lists(st.sampled_from(open_ones)))) if open_ones else set()
    found = losses(attempts, (set(acknowledged) - lost) | arrived)
    assert set(found.lost) == lost
    assert (set(found.unknown_held), found.contradictions) == (arrived, ())
    assert found.acknowledged + len(found.unknown_held) + len(found.unknown_gone) + found.failed == len(attempts)


@given(attempts=logs())
def test_every_write_that_was_not_acknowledged_lies_in_exactly_one_outage(attempts):
    found = outages(attempts, EVERY)
    bad = [one for one in attempts if one.outcome is not Outcome.ACKED]
    assert sum(one.failed + one.unknown for one in found) == len(bad)
    end = attempts[-1].ended_ns if attempts else 0
    for one in bad:
        assert sum(gap.began_ns <= one.sent_ns and one.ended_ns <= (gap.ended_ns or end) for gap in found) == 1
    assert all(one.lasted_ns(end) > 0 for one in found)
    assert all(
        earlier.ended_ns is not None and earlier.ended_ns <= later.began_ns for earlier, later in pairwise(found)
    )


@given(attempts=logs(least=1), part=st.floats(0, 0.99))
def test_the_figures_of_a_downtime_hold_together(attempts, part):
    since = attempts[0].sent_ns + int(part * (attempts[-1].ended_ns - attempts[0].sent_ns))
    found = downtime(attempts, since, EVERY)
    if found is None:
        assert steady(attempts, since, attempts[-1].ended_ns, EVERY) in {None, "no write was tried"}
        return
    assert found.longest <= found.total
    assert found.rto is None or found.total <= found.rto + ms(0.001) * len(found.outages)
    assert found.rto is not None or not found.settled
    assert found.ended_ns is None or found.ended_ns > since
    whole = longest_gap(attempts, attempts[0].sent_ns, attempts[-1].ended_ns)
    assert found.outages[-1].ended_ns is None or found.longest <= whole
    assert found.blind_ns >= 0


@given(attempts=logs(least=1))
def test_a_service_is_steady_where_there_is_no_outage_and_only_there(attempts):
    first = next((one for one in attempts if one.outcome is Outcome.ACKED), None)
    last = next((one for one in reversed(attempts) if one.outcome is Outcome.ACKED), None)
    if first is None or last is None:
        assert outages(attempts, EVERY)
        return
    inside = [one for one in outages(attempts, EVERY) if one.began_ns >= first.ended_ns and one.ended_ns is not None]
    assert (steady(attempts, first.ended_ns, last.ended_ns, EVERY) is None) == (not inside)
