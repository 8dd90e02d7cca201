"""What every store of leases, runs, steps and executors promises, whatever it is made of."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ismgr_automation.core.errors import InputError, InternalError, LeaseHeld, LeaseLost, NotApproved
from ismgr_automation.ports.runs import Round, RunState, Sought, Unit
from tests.engines.database.conftest import ALICE, BOB, LONG, SHORT, Stores, a_run, until

NAME = "e/lab"
RUN = "20261122T081500-3f9a"
UNIT = Unit(run=RUN, round=1, key="stack/a#update")


def test_a_lease_that_nobody_ever_held_is_free(stores: Stores) -> None:
    assert stores.leases.look(NAME) is None
    lease = stores.leases.acquire(NAME, ALICE, LONG)
    assert (lease.name, lease.token, lease.holder, lease.ttl, lease.expired) == (NAME, 1, ALICE, LONG, False)
    assert abs(lease.expires_at - lease.acquired_at - LONG) < timedelta(seconds=1)
    assert stores.leases.look(NAME) == lease


def test_a_held_lease_names_its_holder_and_since_when(stores: Stores) -> None:
    lease = stores.leases.acquire(NAME, ALICE, LONG)
    with pytest.raises(LeaseHeld) as caught:
        stores.leases.acquire(NAME, BOB, LONG)
    assert (caught.value.name, caught.value.holder, caught.value.since) == (NAME, str(ALICE), lease.acquired_at)
    assert abs(caught.value.until - lease.expires_at) < timedelta(seconds=1)
    assert stores.leases.acquire("e/other", BOB, LONG).token == 1


def test_tokens_only_grow_after_release_break_and_expiry(stores: Stores) -> None:
    leases = stores.leases
    first = leases.acquire(NAME, ALICE, LONG)
    leases.release(first)
    assert leases.look(NAME) is None
    second = leases.acquire(NAME, BOB, LONG)
    leases.break_(NAME, second.token)
    assert leases.look(NAME) is None
    third = leases.acquire(NAME, ALICE, SHORT)
    until(lambda: (leases.look(NAME) or third).expired)
    fourth = leases.acquire(NAME, BOB, LONG)
    assert [one.token for one in (first, second, third, fourth)] == [1, 2, 3, 4]
    assert leases.look(NAME) == fourth


def test_a_renewal_begins_the_time_anew(stores: Stores) -> None:
    lease = stores.leases.acquire(NAME, ALICE, LONG)
    again = stores.leases.renew(lease)
    assert again.expires_at >= lease.expires_at
    assert replace(again, expires_at=lease.expires_at) == lease


def test_a_lease_that_is_over_cannot_be_renewed_even_when_nobody_took_it(stores: Stores) -> None:
    lease = stores.leases.acquire(NAME, ALICE, SHORT)
    until(lambda: (stores.leases.look(NAME) or lease).expired)
    with pytest.raises(LeaseLost, match="its time was over") as caught:
        stores.leases.renew(lease)
    assert "Nothing was touched" not in str(caught.value)


@pytest.mark.parametrize("how", ["release", "break"])
def test_a_lease_that_was_ended_cannot_be_renewed(stores: Stores, how: str) -> None:
    lease = stores.leases.acquire(NAME, ALICE, LONG)
    stores.leases.release(lease) if how == "release" else stores.leases.break_(NAME, 1)
    with pytest.raises(LeaseLost, match="broken or given back"):
        stores.leases.renew(lease)
    stores.leases.acquire(NAME, BOB, LONG)
    with pytest.raises(LeaseLost, match=r"bob@ci.*token 2"):
        stores.leases.renew(lease)


def test_giving_back_what_is_not_ours_any_more_does_nothing(stores: Stores) -> None:
    old = stores.leases.acquire(NAME, ALICE, LONG)
    stores.leases.break_(NAME, 1)
    new = stores.leases.acquire(NAME, BOB, LONG)
    stores.leases.release(old)
    assert stores.leases.look(NAME) == new


def test_breaking_hits_only_the_holder_that_was_seen(stores: Stores) -> None:
    stores.leases.release(stores.leases.acquire(NAME, ALICE, LONG))
    with pytest.raises(LeaseLost, match="nobody holds it"):
        stores.leases.break_(NAME, 1)
    new = stores.leases.acquire(NAME, BOB, LONG)
    with pytest.raises(LeaseLost, match="token 2"):
        stores.leases.break_(NAME, 1)
    assert stores.leases.look(NAME) == new


def test_after_a_lost_database_tokens_go_on_above_those_that_were_used(stores: Stores) -> None:
    assert stores.leases.advance(NAME, 41) == 41
    lease = stores.leases.acquire(NAME, ALICE, LONG)
    assert lease.token == 42
    with pytest.raises(LeaseHeld):
        stores.leases.advance(NAME, 100)
    assert stores.leases.look(NAME) == lease
    stores.leases.release(lease)
    assert stores.leases.advance(NAME, 7) == 42
    assert stores.leases.acquire(NAME, BOB, LONG).token == 43


def test_a_run_is_written_whole_and_read_back(stores: Stores) -> None:
    stores.runs.begin(a_run(), ["n2", "n1"])
    assert stores.runs.run(RUN) == a_run()
    assert stores.runs.nonces(RUN) == ("n1", "n2")
    ended = replace(
        a_run(),
        state=RunState.STOPPED,
        finished_at=a_run().started_at + LONG,
        report={"outcomes": [{"key": "a", "fate": "landed"}], "seconds": 1.5},
        rest="what is left",
    )
    stores.runs.close(ended)
    assert stores.runs.run(RUN) == ended


def test_the_newest_runs_come_first_and_by_environment(stores: Stores) -> None:
    names = [f"20261122T0815{second:02}-aaaa" for second in range(5)]
    for name in names:
        stores.runs.begin(a_run(name, environment="lab" if name != names[2] else "other"), [])
    assert [one.id for one in stores.runs.runs()] == names[::-1]
    assert [one.id for one in stores.runs.runs("lab", limit=3)] == [names[4], names[3], names[1]]


def test_runs_are_found_by_what_they_are_like_however_many_are_newer(stores: Stores) -> None:
    first = replace(a_run("20261122T081400-aaaa"), whole=True, digest="sha256:2")
    other = replace(a_run("20261122T081401-aaaa"), estate="other")
    later = [a_run(f"20261122T0815{second:02}-aaaa") for second in range(60)]
    for one in (first, other, *later):
        stores.runs.begin(one, [])
    for one in (first, *later[:2]):
        stores.runs.close(replace(one, state=RunState.DONE))

    def found(limit: int | None = None, **sought: object) -> list[str]:
        runs = stores.runs.runs("lab", limit, Sought(**sought))  # type: ignore[arg-type]
        return [one.id for one in runs]

    assert found(whole=True) == found(1, digest="sha256:2") == [first.id]
    assert found(estate="other") == [other.id]
    assert found(state=RunState.DONE) == [later[1].id, later[0].id, first.id]
    assert found(1, state=RunState.DONE, whole=False) == [later[1].id]
    assert len(found(state=RunState.RUNNING)) == 59
    assert len(found()) == 62
    assert stores.runs.runs("nowhere", None, Sought(whole=True)) == ()


def test_an_approval_is_used_once_and_a_refused_run_leaves_nothing(stores: Stores) -> None:
    stores.runs.begin(a_run(), ["n1", "n2"])
    other = a_run("20261122T081501-0000")
    with pytest.raises(NotApproved, match=rf"n2 \(used by run {RUN}\)") as caught:
        stores.runs.begin(other, ["n3", "n2"])
    assert len(caught.value.missing) == 1
    with pytest.raises(InputError):
        stores.runs.run(other.id)
    stores.runs.begin(other, ["n3"])


def test_a_run_is_begun_once(stores: Stores) -> None:
    stores.runs.begin(a_run(), [])
    with pytest.raises(InternalError, match=RUN):
        stores.runs.begin(a_run(), ["n1"])
    assert stores.runs.nonces(RUN) == ()


def test_a_run_that_is_not_there_names_the_nearest(stores: Stores) -> None:
    stores.runs.begin(a_run(), [])
    with pytest.raises(InputError, match=f"did you mean '{RUN}'"):
        stores.runs.run(RUN[:-1])


def test_a_run_goes_on_under_a_larger_token_and_never_back(stores: Stores) -> None:
    stores.runs.begin(a_run(token=4), [])
    stores.runs.take_over(RUN, 6, BOB)
    assert (stores.runs.run(RUN).token, stores.runs.run(RUN).holder) == (6, BOB)
    with pytest.raises(LeaseLost, match="token 6; ours is 5"):
        stores.runs.take_over(RUN, 5, ALICE)
    with pytest.raises(LeaseLost):
        stores.runs.close(replace(a_run(token=4), state=RunState.DONE))
    assert stores.runs.run(RUN).state is RunState.RUNNING


def test_a_run_that_has_ended_is_not_taken_over(stores: Stores) -> None:
    stores.runs.begin(a_run(), [])
    stores.runs.close(replace(a_run(), state=RunState.DONE))
    with pytest.raises(InputError, match="has ended: done"):
        stores.runs.take_over(RUN, 2, BOB)


def test_rounds_are_kept_in_order_and_may_be_opened_again(stores: Stores) -> None:
    stores.runs.begin(a_run(), [])
    rounds = [Round(number=n, changes=({"key": f"k{n}", "n": n},), waves=((f"k{n}",), ())) for n in (1, 2)]
    for one in (*rounds, rounds[0]):
        stores.journal.open_round(RUN, one)
    assert stores.journal.rounds(RUN) == tuple(rounds)
    with pytest.raises(InternalError, match="other changes"):
        stores.journal.open_round(RUN, replace(rounds[0], changes=()))


def test_a_step_is_there_before_its_end_and_its_outcome_stays(stores: Stores) -> None:
    stores.runs.begin(a_run(), [])
    stores.journal.started(UNIT, "worker-1", 1)
    (step,) = stores.journal.steps(RUN)
    assert (step.unit, step.executor, step.token) == (UNIT, "worker-1", 1)
    assert (step.finished_at, step.outcome, step.post_state) == (None, None, "")
    stores.journal.finished(UNIT, 1, {"fate": "landed"}, "sha256:2")
    stores.journal.finished(UNIT, 1, {"fate": "failed"}, "sha256:3")
    (step,) = stores.journal.steps(RUN)
    assert (step.outcome, step.post_state) == ({"fate": "landed"}, "sha256:2")
    assert step.finished_at is not None
    assert step.finished_at >= step.started_at
    with pytest.raises(InternalError, match="ended already"):
        stores.journal.started(UNIT, "worker-2", 1)


def test_steps_come_in_the_order_in_which_they_began(stores: Stores) -> None:
    stores.runs.begin(a_run(), [])
    units = [replace(UNIT, key=key, attempt=attempt) for key, attempt in (("z", 1), ("a", 1), ("z", 2))]
    for unit in (*units, units[0]):
        stores.journal.started(unit, "w", 1)
    assert [one.unit for one in stores.journal.steps(RUN)] == units


def test_a_step_that_was_interrupted_may_begin_again_under_a_larger_token(stores: Stores) -> None:
    stores.runs.begin(a_run(), [])
    stores.journal.started(UNIT, "worker-1", 1)
    stores.runs.take_over(RUN, 2, BOB)
    with pytest.raises(LeaseLost):
        stores.journal.finished(UNIT, 1, {"fate": "landed"})
    with pytest.raises(LeaseLost):
        stores.journal.started(replace(UNIT, key="b"), "worker-1", 1)
    stores.journal.started(UNIT, "worker-2", 2)
    (step,) = stores.journal.steps(RUN)
    assert (step.executor, step.token, step.outcome) == ("worker-2", 2, None)


def test_a_step_that_never_began_cannot_end(stores: Stores) -> None:
    stores.runs.begin(a_run(), [])
    with pytest.raises(InternalError, match="never begun"):
        stores.journal.finished(UNIT, 1, {})


def test_a_step_of_no_run_is_refused(stores: Stores) -> None:
    with pytest.raises(InputError, match="There is no run"):
        stores.journal.started(UNIT, "w", 1)


def test_an_executor_lives_until_its_time_is_over_or_it_goes(stores: Stores) -> None:
    stores.executors.beat("b", BOB, LONG)
    stores.executors.beat("a", ALICE, LONG)
    assert stores.executors.living() == ("a", "b")
    stores.executors.gone("a")
    assert stores.executors.living() == ("b",)
    stores.executors.beat("b", BOB, SHORT)
    until(lambda: stores.executors.living() == ())
    stores.executors.beat("b", BOB, LONG)
    assert stores.executors.living() == ("b",)
