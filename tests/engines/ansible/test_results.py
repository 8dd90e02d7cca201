"""From events to a result: the rules, without a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ismgr_automation.engines.ansible.results import Collector, TaskEvent, bounded
from ismgr_automation.ports.hosts import Reach, Status

EVENT = TaskEvent(
    host="web1",
    task="Do it",
    status=Status.OK,
    action="command",
    role="",
    path="/estate/play.yml:3",
    ignored=False,
    changed=False,
    hidden=False,
    message="",
    left_out=(),
    before="",
    after="",
    looks=True,
    uses=frozenset(),
    sets=frozenset(),
    conditional=False,
    fatal=False,
)


def collector(*, looking: bool = True) -> Collector:
    return Collector(looking=looking, shown_from=((Path("/estate"), ""), (Path("/far/roles"), "roles")))


def test_ok_and_skipped_tasks_are_counted_and_not_kept():
    here = collector()
    here.task_ended(EVENT)
    here.task_ended(replace(EVENT, status=Status.SKIPPED))
    assert here.tasks == []
    assert here.stories["web1"].counts == {Status.OK: 1, Status.SKIPPED: 1}


def test_a_doubtful_variable_is_known_again_once_a_known_task_sets_it():
    here = collector()
    here.task_ended(replace(EVENT, status=Status.SKIPPED, left_out=("",), sets=frozenset({"x"})))
    assert here.task_ended(replace(EVENT, uses=frozenset({"x"}))).unpredictable
    here.task_ended(replace(EVENT, sets=frozenset({"x"}), looks=False))
    assert not here.task_ended(replace(EVENT, uses=frozenset({"x"}))).unpredictable


def test_doubt_stays_on_its_host():
    here = collector()
    here.task_ended(replace(EVENT, status=Status.SKIPPED, left_out=("",), sets=frozenset({"x"})))
    assert not here.task_ended(replace(EVENT, host="web2", uses=frozenset({"x"}))).unpredictable


def test_nothing_is_in_doubt_outside_check_mode():
    here = collector(looking=False)
    result = here.task_ended(replace(EVENT, status=Status.SKIPPED, left_out=("",), looks=False))
    assert result.unpredictable == ""


def test_a_hidden_skip_is_in_doubt_only_for_what_check_mode_never_runs():
    here = collector()
    hidden = replace(EVENT, status=Status.SKIPPED, left_out=("",), hidden=True, conditional=True)
    assert here.task_ended(hidden).unpredictable
    assert not here.task_ended(replace(hidden, action="copy")).unpredictable


def test_a_failure_that_a_whole_play_depends_on_cuts_its_other_hosts_short():
    here = collector(looking=False)
    here.play_started()
    here.task_started("web1", "Do it")
    here.task_started("web2", "Do it")
    here.task_ended(replace(EVENT, status=Status.FAILED, fatal=True))
    here.ended({"web1": 1, "web2": 0})
    assert (here.stopped, here.cut_short) == (True, {"web1", "web2"})


def test_a_rescued_failure_cuts_nobody_short():
    here = collector(looking=False)
    here.play_started()
    here.task_ended(replace(EVENT, status=Status.FAILED, fatal=True))
    here.ended({"web1": 0})
    assert not here.stopped


def test_a_play_that_ansible_gave_up_cuts_the_hosts_of_this_play_short_and_not_those_of_an_earlier_one():
    here = collector(looking=False)
    here.play_started()
    here.task_ended(EVENT)
    here.play_started()
    here.task_ended(replace(EVENT, host="web2"))
    here.play_stopped()
    assert here.cut_short == {"web2"}


def test_an_unreachable_host_without_known_words_is_a_timeout():
    here = collector()
    here.task_ended(replace(EVENT, status=Status.UNREACHABLE, message="Failed to connect to the host via ssh: "))
    assert here.unreachable["web1"].reach is Reach.TIMEOUT


def test_the_running_task_is_forgotten_when_it_ends():
    here = collector()
    here.task_started("web1", "Long")
    assert here.running() == {"web1": "Long"}
    here.task_ended(EVENT)
    assert here.running() == {}


def test_paths_are_those_of_the_estate_or_of_the_roles():
    here = collector(looking=False)
    changed = replace(EVENT, status=Status.CHANGED)
    assert here.task_ended(changed).path == "play.yml:3"
    assert here.task_ended(replace(changed, path="/far/roles/db/tasks/main.yml:7")).path == "roles/db/tasks/main.yml:7"
    assert here.task_ended(replace(changed, path="")).path == "Do it"


def test_a_long_diff_is_cut_and_says_so():
    assert bounded("x" * 10, 10) == "x" * 10
    assert bounded("x" * 11, 10) == "x" * 10 + "\n[1 more characters]"
