"""What people complain about in the tools of the field, each with the tests that show that it cannot happen here. A
complaint without a test says why it does not apply."""

from __future__ import annotations

import ast
from functools import cache

import pytest

from tests.house.sources import ROOT

COMPLAINTS: dict[str, tuple[str, ...]] = {
    "terraform#25776: a killed run holds its lock for ever": (
        "runs/test_keeper.py::test_after_a_holder_was_killed_the_next_one_is_there_when_its_time_is_over",
        "engines/pulumi/test_recovery.py::test_the_lock_of_a_dead_process_of_this_machine_is_removed_and_named",
    ),
    "pulumi#9253, hawk#888: no lease, and whoever breaks a lock breaks it blindly": (
        "runs/test_no_double_holder.py::test_at_no_moment_do_two_believe_that_they_hold_and_tokens_only_grow",
        "cli/test_lease.py::test_a_lease_is_broken_only_for_the_holder_that_was_seen",
        "engines/pulumi/test_recovery.py::test_the_lock_of_somebody_who_may_live_is_never_touched",
    ),
    "pulumi-kubernetes-operator#1293: a restart strands updates, locks and workers": (
        "runs/test_killed_for_real.py::test_an_apply_that_is_killed_at_any_boundary_is_resumed_to_the_same_end",
        "runs/test_worker_processes.py::test_a_worker_takes_over_the_run_of_a_killed_coordinator",
        "engines/steps/test_processes.py::test_the_unit_of_a_killed_worker_is_done_as_a_new_attempt",
    ),
    "atlantis#5708, #1202: a plan that nobody needs any more keeps a folder locked": (
        "converge/test_complaints.py::test_planning_takes_no_lease_and_waits_for_nobody",
    ),
    "atlantis#1575, #6806, #1571: an approved plan vanishes with a process, or is on another one": (
        "engines/git/test_approvals.py::test_approvals_travel_by_push_and_fetch",
        "converge/test_staleness.py::test_a_plan_is_applied_when_nothing_moved_whoever_opens_it_and_when",
        "cli/test_lease.py::test_the_plan_of_a_run_can_be_written_to_be_approved_anew",
    ),
    "atlantis#1508, #6280: an approval covers plans that nobody looked at": (
        "approval/test_judge.py::test_a_signature_that_does_not_count_is_told_why",
        "converge/test_gate.py::test_nobody_gets_past_the_gate",
    ),
    "terrapod#1524: a plan is applied to a state that has moved since": (
        "converge/test_staleness.py::test_a_plan_is_refused_when_anything_moved_and_nothing_is_touched",
        "converge/test_mutations.py::test_a_world_that_moves_during_the_run_stops_it_before_the_next_change",
        "engines/pulumi/test_update_plan.py::test_a_world_or_a_state_that_moved_after_the_plan_is_refused",
    ),
    "pulumi#21047: approve now, apply exactly that later": (
        "cli/test_approve.py::test_a_plan_is_approved_by_one_who_may",
        "engines/pulumi/test_update_plan.py::test_an_apply_does_what_its_plan_holds_and_says_what_it_refused",
    ),
    "pulumi#9103: an interrupt aborts the engine in the middle": (
        "engines/pulumi/test_faults.py::test_cancelling_an_apply_stops_it_keeps_what_landed_and_leaves_no_lock",
        "cli/test_exit_codes.py::test_being_asked_to_stop_is_130_at_every_stage",
    ),
    "pulumi#11594, #7036, #16095: Python hangs when a provider fails, and threads stay behind": (
        "engines/pulumi/test_faults.py::test_a_killed_worker_is_an_error_and_takes_everything_with_it",
        "engines/pulumi/test_faults.py::test_a_program_that_hangs_is_stopped_at_the_deadline",
        "converge/test_parallel.py::test_no_thread_is_left_behind",
    ),
    "pulumi#8186, datadog-agent#20630: stacks that are used at once spoil each other": (
        "engines/pulumi/test_faults.py::test_two_stacks_at_once_do_not_disturb_each_other",
    ),
    "pulumi#5462, #9257: many stacks up and down in order": (
        "converge/test_fresh_site.py::test_rounds_and_waves_run_in_the_order_of_needs",
        "converge/test_selection.py::test_destroying_goes_from_the_last_to_the_first",
    ),
    "pulumi#2247: a preview believes an old state, and an apply overwrites what somebody did by hand": (
        "engines/pulumi/test_engine.py::test_what_was_changed_by_hand_is_drift_and_the_way_back_is_a_step",
        "converge/test_mutations.py::test_what_moved_after_the_plan_is_named_and_nothing_is_touched",
    ),
    "terraform#28803, pulumi#18957: drift that is none, secrets that did not change": (
        "engines/pulumi/test_values.py::test_drift_is_what_the_provider_calls_a_difference",
        "engines/pulumi/test_engine.py::test_the_life_of_a_stack",
    ),
    "pulumi-github#255: a token that lost its rights makes a refresh forget everything": (
        (
            "converge/test_complaints.py::"
            "test_credentials_that_see_nothing_take_nothing_out_of_the_state_and_are_suspected"
        ),
        "engines/pulumi/test_engine.py::test_what_was_changed_by_hand_is_drift_and_the_way_back_is_a_step",
    ),
    "pulumi#22185, #18267, #22868: targeted runs and refreshes leave states that cannot be read": (
        "engines/pulumi/test_engine.py::test_what_was_changed_by_hand_is_drift_and_the_way_back_is_a_step",
        "engines/pulumi/test_faults.py::test_a_damaged_state_file_is_named_and_left_alone",
    ),
    "pulumi#4265, docs#17007: pending creates need a person who knows their ids": (
        "engines/pulumi/test_recovery.py::test_a_server_whose_create_was_interrupted_is_adopted",
        "engines/pulumi/test_recovery.py::test_what_nobody_can_know_is_left_as_it_is_and_told",
    ),
    "terraform#516: secrets in clear text in state and plan": (
        "test_every_secret.py::test_a_plan_and_an_apply_use_them_all_and_keep_none",
        "planning/test_planfile.py::test_no_secret_gets_into_a_plan_file",
    ),
    "argo-cd#17254, #6055, #12904, #18442: a sync that hangs for ever, and goes on with an old commit": (
        (
            "engines/pulumi/test_faults.py::test_an_apply_that_hangs_is_killed_with_its_provider_and_says_what_had_landed"
            "_and_what_nobody_knows"
        ),
        "converge/test_fresh_site.py::test_hosts_that_never_come_up_stop_the_run_before_they_are_touched",
        "converge/test_resume.py::test_another_apply_does_not_pick_up_what_somebody_left",
    ),
    "argo-cd#5585: applications in order": (
        "converge/test_fresh_site.py::test_each_part_is_verified_before_the_next_one_begins",
    ),
    "crossplane#1805, kustomize-controller#213: no plan before an apply": (
        "converge/test_fresh_site.py::test_planning_touches_nothing",
    ),
    "atlantis#3245: drift without an apply": (
        "converge/test_staleness.py::test_drift_is_found_without_touching_anything",
    ),
    "argo-cd#8733, source-controller#1996: only OpenPGP signs commits": (
        "engines/git/test_commits.py::test_each_commit_since_the_base_says_who_signed_it",
        "engines/git/test_commits.py::test_openpgp_commits_are_checked_against_the_pinned_keys",
    ),
}

DO_NOT_APPLY: dict[str, str] = {
    "pulumi#7682, terraform#18981: minutes for a plan of many resources": "a measure, not a rule: bench/ has it",
    "argo-cd#9570, #18072: a rollback fights the automatic sync": "nothing here applies by itself",
}


@cache
def _tests(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / "tests" / path).read_text())
    return frozenset(one.name for one in tree.body if isinstance(one, ast.FunctionDef))


@pytest.mark.parametrize("complaint", COMPLAINTS)
def test_a_complaint_has_the_tests_that_answer_it(complaint: str) -> None:
    assert COMPLAINTS[complaint]
    for one in COMPLAINTS[complaint]:
        path, _, name = one.partition("::")
        assert name in _tests(path), f"{one} is not there"


def test_a_complaint_that_is_not_answered_says_why() -> None:
    assert all(DO_NOT_APPLY.values())
    assert not DO_NOT_APPLY.keys() & COMPLAINTS.keys()
