"""From observations to plans: waves, deferral, drift, and a digest that depends on nothing else. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.core.address import Address, Kind, group, host, stack
from ismgr_automation.core.json import canonical
from ismgr_automation.planning.change import Action, Certainty, Deferred, Envelope, Finding, Level, Reason
from ismgr_automation.planning.compose import ACTIONS, compose
from ismgr_automation.planning.defer import stack_behind
from ismgr_automation.planning.envelope import breach
from ismgr_automation.planning.graph import Graph, ancestors
from ismgr_automation.planning.observation import GroupSight, Observation, StackSight
from ismgr_automation.planning.plan import Beside, Inputs, Plan
from ismgr_automation.planning.waves import Guard, Sick
from ismgr_automation.ports.hosts import PlaybookResult, Reach, Reachability, Status, TaskResult
from ismgr_automation.ports.stacks import Operation, Output, ResourceStep, StackPreview, StackState, UpdatePlan
from tests.planning.test_graph import dags

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BESIDE = Beside(commit="a" * 40, ref="main", worktree=False, created_at=NOON)
INPUTS = Inputs(documents={"a.yaml": "1"}, content={}, inventory="i", states={}, engines={}, selection=())
ENVELOPE = Envelope(content="c", at_most=2, unknown=(), actions=(Action.CONFIGURE,))


def step(name: str, operation: Operation = Operation.CREATE) -> ResourceStep:
    return ResourceStep(name=name, type="t", operation=operation, changed=("a",), before={"a": 1}, after={"a": 2})


def stack_sight(
    address: Address, *steps: ResourceStep, resources: int = 1, drift: tuple[ResourceStep, ...] = ()
) -> StackSight:
    return StackSight(
        address=address,
        inputs="in",
        content="c",
        state=StackState(outputs={"x": Output(value=1)} if resources else {}, resources=resources, state_digest="s"),
        preview=StackPreview(
            steps=steps, drift=drift, outputs={"x": Output(value=1)}, state_digest="s", unchanged=0, engine="e 1"
        ),
    )


def task(name: str, what: str = "install", status: Status = Status.CHANGED, why: str = "") -> TaskResult:
    return TaskResult(host=name, task=what, role="r", status=status, unpredictable=why, before="0", after="1")


def group_sight(
    address: Address,
    *tasks: TaskResult,
    members: tuple[str, ...] = ("h1", "h2", "h3"),
    applied: str | None = "in",
    **more: object,
) -> GroupSight:
    checked = PlaybookResult(tasks=tasks, counts={}, unreachable=(), failed=(), engine="e 1")
    return replace(
        GroupSight(
            address=address,
            inputs="in",
            content="c",
            members=members,
            sizes=(1, "100%"),
            applied=applied,
            checked=checked,
        ),
        **more,  # type: ignore[arg-type]
    )


def deferred(address: Address, *waits: Address) -> Deferred:
    return Deferred(address=address, waits_for=waits, why="later", expected=(), envelope=ENVELOPE)


def seen(*sights: StackSight | GroupSight, graph: Graph | None = None) -> Observation:
    return Observation(
        graph=graph if graph is not None else {one.address: frozenset() for one in sights},
        stacks={one.address: one for one in sights if isinstance(one, StackSight)},
        groups={one.address: one for one in sights if isinstance(one, GroupSight)},
        hosts=(),
        reachability={},
        inputs=INPUTS,
    )


def composed(observation: Observation, beside: Beside = BESIDE) -> Plan:
    return compose(observation, estate="e", environment="lab", beside=beside)


def sight_of(address: Address, mood: str) -> StackSight | GroupSight:
    """A stack or group that changes, rests, or waits."""
    if address.kind is Kind.STACK:
        sight = stack_sight(address, *([step("a")] if mood == "changes" else []))
        return replace(sight, preview=None, deferred=deferred(address)) if mood == "waits" else sight
    found = group_sight(address, *([task("h1"), task("h3")] if mood == "changes" else []))
    return replace(found, checked=None, deferred=deferred(address)) if mood == "waits" else found


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    graph = draw(dags())
    moods = st.sampled_from(["changes", "rests", "waits"])
    return seen(*(sight_of(address, draw(moods)) for address in graph), graph=graph)


@given(observations())
def test_no_wave_runs_a_change_before_what_it_needs(observation: Observation) -> None:
    plan = composed(observation)
    at = {key: number for number, wave in enumerate(plan.waves) for key in wave}
    assert sorted(at) == sorted(one.key for one in plan.changes)
    for one in plan.changes:
        for other in plan.changes:
            if other.address in ancestors(observation.graph, [one.address]):
                assert at[other.key] < at[one.key]
            if other.address == one.address and other.batch < one.batch:
                assert at[other.key] < at[one.key]


@given(observations())
def test_what_needs_something_deferred_is_deferred_or_has_nothing_to_do(observation: Observation) -> None:
    plan = composed(observation)
    late = {one.address for one in plan.deferred}
    assert not [one for one in plan.changes if ancestors(observation.graph, [one.address]) & late]
    busy = {
        address
        for address, sight in {**observation.stacks, **observation.groups}.items()
        if sight == sight_of(address, "changes")
    }
    assert {one.address for one in plan.changes} | late >= busy
    assert not {one.address for one in plan.changes} & late


@given(observations(), st.randoms(use_true_random=False))
def test_the_digest_depends_on_nothing_but_what_was_seen(observation: Observation, random: object) -> None:
    def shuffled(mapping: Mapping[Address, object]) -> dict[Address, object]:
        items = list(mapping.items())
        random.shuffle(items)  # type: ignore[attr-defined]
        return dict(items)

    again = replace(
        observation,
        graph=shuffled(observation.graph),
        stacks=shuffled(observation.stacks),
        groups=shuffled(observation.groups),
        inputs=replace(INPUTS, documents=dict(reversed(INPUTS.documents.items()))),
    )
    later = Beside(commit="b" * 40, ref="other", worktree=True, created_at=NOON + timedelta(days=9))
    first, second = composed(observation), composed(again, later)
    assert canonical(first.intent) == canonical(second.intent)
    assert first.digest == second.digest


def test_the_order_in_which_parallel_engines_speak_is_not_in_the_digest() -> None:
    tasks = [task("h1", "a"), task("h1", "b"), task("h2", "a"), task("h3", "a")]
    mixed = [tasks[3], tasks[0], tasks[2], tasks[1]]
    steps = [step("a"), step("b"), step("c", Operation.DELETE)]
    one = composed(seen(group_sight(group("g"), *tasks), stack_sight(stack("s"), *steps)))
    other = composed(seen(group_sight(group("g"), *mixed), stack_sight(stack("s"), *reversed(steps))))
    assert one.digest == other.digest


@pytest.mark.parametrize(
    "other",
    [
        seen(stack_sight(stack("s"), step("b"))),
        seen(stack_sight(stack("s"), step("a", Operation.UPDATE))),
        seen(stack_sight(stack("t"), step("a"))),
        seen(replace(stack_sight(stack("s"), step("a")), inputs="other")),
        replace(seen(stack_sight(stack("s"), step("a"))), inputs=replace(INPUTS, inventory="j")),
        replace(seen(stack_sight(stack("s"), step("a"))), inputs=replace(INPUTS, documents={"a.yaml": "2"})),
    ],
)
def test_the_digest_depends_on_everything_that_was_seen(other: Observation) -> None:
    assert composed(other).digest != composed(seen(stack_sight(stack("s"), step("a")))).digest


def test_every_operation_but_rest_and_drift_has_an_action() -> None:
    assert ACTIONS.keys() == set(Operation) - {Operation.SAME, Operation.DRIFT}


@pytest.mark.parametrize(
    ("sight", "action", "reason"),
    [
        (stack_sight(stack("s"), step("a"), resources=0), Action.CREATE, Reason.NEW),
        (stack_sight(stack("s"), step("a"), step("b")), Action.CREATE, Reason.INPUTS),
        (stack_sight(stack("s"), step("a"), step("b", Operation.DELETE)), Action.UPDATE, Reason.INPUTS),
        (stack_sight(stack("s"), step("a", Operation.DELETE)), Action.DELETE, Reason.INPUTS),
        (stack_sight(stack("s"), step("a"), drift=(step("a", Operation.DRIFT),)), Action.CREATE, Reason.DRIFT),
        (
            stack_sight(stack("s"), step("a"), step("b"), drift=(step("a", Operation.DRIFT),)),
            Action.CREATE,
            Reason.INPUTS,
        ),
    ],
)
def test_a_stack_says_what_will_happen_to_it_and_why(sight: StackSight, action: Action, reason: Reason) -> None:
    (change,) = composed(seen(sight)).changes
    assert (change.action, change.reason, change.precondition) == (action, reason, "s")


@pytest.mark.parametrize(
    ("applied", "tasks", "keys", "reason"),
    [
        ("in", [task("h1")], ["group/g#1"], Reason.DRIFT),
        ("old", [task("h1"), task("h3")], ["group/g#1", "group/g#2"], Reason.INPUTS),
        (None, [task("h2")], ["group/g#1"], Reason.NEW),
        ("in", [], [], None),
        ("in", [task("h1", status=Status.SKIPPED, why="command")], [], None),
        ("in", [task("h1", status=Status.CHANGED, why="command")], [], None),
        ("old", [task("h1", status=Status.SKIPPED, why="command")], ["group/g#1"], Reason.INPUTS),
        (None, [task("h1", status=Status.OK, why="no check mode")], ["group/g#1"], Reason.NEW),
        ("in", [task("h1", status=Status.FAILED)], [], None),
        ("in", [task("h1"), task("h1", "x", Status.SKIPPED, "command")], ["group/g#1"], Reason.DRIFT),
    ],
)
def test_a_shard_is_a_change_when_a_task_changes_or_nobody_can_tell_with_new_inputs(
    applied: str | None, tasks: list[TaskResult], keys: list[str], reason: Reason | None
) -> None:
    plan = composed(seen(group_sight(group("g"), *tasks, applied=applied)))
    assert [one.key for one in plan.changes] == keys
    assert {one.reason for one in plan.changes} == ({reason} if reason else set())


def test_the_canary_is_a_host_that_is_worked_on() -> None:
    plan = composed(seen(group_sight(group("g"), task("h2"), task("h3"))))
    assert [(one.key, one.batch, one.targets) for one in plan.changes] == [
        ("group/g#1", 1, (host("h2"),)),
        ("group/g#2", 2, (host("h3"),)),
    ]


def guarded(floor: int, *sights: GroupSight, sick: tuple[str, ...] = ()) -> Observation:
    promise = Guard(group=group("g"), members=frozenset({"h1", "h2", "h3"}), floor=floor)
    return replace(seen(*sights), guards=(promise,), sick=dict.fromkeys(sick, Sick.UNREACHABLE))


def test_waves_keep_what_groups_promise_whoever_works_on_their_members() -> None:
    other = group_sight(group("other"), task("h1"), task("h2"), sizes=("100%",), members=("h1", "h2"))
    assert composed(guarded(1, other)).waves == (("group/other#1",),)
    assert composed(guarded(2, other)).waves == (("group/other#1",), ("group/other#2",))
    own = group_sight(group("g"), task("h3"))
    assert composed(guarded(1, other, own)).waves == (("group/g#1",), ("group/other#1",))
    assert composed(guarded(0, other, own)).waves == (("group/g#1", "group/other#1"),)


def test_a_promise_that_cannot_be_kept_denies_the_plan() -> None:
    plan = composed(guarded(2, group_sight(group("g"), task("h1"), task("h2")), sick=("h3",)))
    assert [(one.level, one.subject, one.summary) for one in plan.findings] == [
        (
            Level.DENY,
            group("g"),
            "h1 cannot be worked on: 2 of the 3 members of group/g must always be up and h3 (unreachable) is down",
        )
    ]
    assert plan.errored
    resting = group_sight(group("g"), task("h1", "hook", Status.SKIPPED, "command"))
    assert composed(guarded(2, resting, sick=("h3",))).findings == ()


def test_the_engines_own_plan_is_bound_by_the_digest_and_travels_beside_it() -> None:
    sight = stack_sight(stack("s"), step("a"))
    assert sight.preview is not None
    bound = [
        replace(sight, preview=replace(sight.preview, update_plan=UpdatePlan(digest=digest, sealed=sealed)))
        for digest, sealed in (("sha256:1", "one"), ("sha256:1", "two"), ("sha256:2", "one"))
    ]
    one, again, other = (composed(seen(each)) for each in bound)
    assert (one.changes[0].constraint, one.beside.sidecars) == ("sha256:1", {"stack/s": "one"})
    assert one.digest == again.digest != other.digest
    resting = replace(bound[0], preview=replace(bound[0].preview, steps=()))  # type: ignore[type-var]
    assert composed(seen(resting)).beside.sidecars == {}


def test_steps_say_how_sure_they_are() -> None:
    tasks = [task("h1"), task("h1", "hook", Status.SKIPPED, "command"), task("h2", "gone", Status.SKIPPED)]
    (change,) = composed(seen(group_sight(group("g"), *tasks, applied=None))).changes
    assert [(one.target, one.what, one.certainty, one.why) for one in change.steps] == [
        ("h1", "r : install", Certainty.CHANGES, ""),
        ("h1", "r : hook", Certainty.UNPREDICTABLE, "command"),
    ]
    assert change.targets == (host("h1"),)


def test_a_stack_whose_outputs_alone_differ_has_something_to_do() -> None:
    sight = stack_sight(stack("s"))
    plan = composed(seen(replace(sight, state=replace(sight.state, outputs={"x": Output(value=0)}))))
    (change,) = plan.changes
    (only,) = change.steps
    assert (only.target, only.what, only.before, only.after) == ("x", "output", 0, 1)


class Counted(tuple[TaskResult, ...]):  # noqa: SLOT001  a tuple has no slots to count in
    """Tasks that count how often all of them are gone through."""

    looks = 0

    def __iter__(self) -> Iterator[TaskResult]:
        self.looks += 1
        return tuple.__iter__(self)


@pytest.mark.parametrize("hosts", [3, 60])
def test_tasks_are_gone_through_as_often_for_many_shards_as_for_few(hosts: int) -> None:
    names = tuple(f"h{number:02}" for number in range(hosts))
    sight = group_sight(group("g"), members=names, sizes=(1,) * hosts)
    told = Counted(task(name) for name in names)
    assert sight.checked is not None
    plan = composed(seen(replace(sight, checked=replace(sight.checked, tasks=told))))
    assert [[one.target for one in change.steps] for change in plan.changes] == [[name] for name in names]
    assert told.looks <= 5


def test_drift_is_kept_apart_and_not_in_the_digest() -> None:
    calm = stack_sight(stack("s"))
    moved = stack_sight(stack("s"), drift=(step("a", Operation.DRIFT),))
    plan = composed(seen(moved))
    assert plan.empty
    assert [(one.address, one.target) for one in plan.drift] == [(stack("s"), "a")]
    assert plan.digest == composed(seen(calm)).digest


def test_a_value_on_a_host_has_drifted_only_if_git_still_asks_what_was_applied() -> None:
    for applied, count in (("in", 1), ("old", 0), (None, 0)):
        plan = composed(seen(group_sight(group("g"), task("h1"), applied=applied)))
        assert len(plan.drift) == count


def test_a_pushed_group_may_touch_any_of_its_hosts_and_a_pushed_stack_what_was_shown() -> None:
    graph = {
        stack("late"): frozenset[Address](),
        group("g"): frozenset([stack("late")]),
        stack("s"): frozenset([group("g")]),
    }
    late = replace(stack_sight(stack("late")), preview=None, deferred=deferred(stack("late")))
    plan = composed(
        seen(
            late,
            group_sight(group("g"), task("h1")),
            stack_sight(stack("s"), step("a"), step("b", Operation.DELETE)),
            graph=graph,
        )
    )
    assert plan.changes == ()
    by_address = {one.address: one for one in plan.deferred}
    assert by_address[group("g")].envelope.at_most == 3
    assert by_address[group("g")].expected == (host("h1"), host("h2"), host("h3"))
    assert by_address[stack("s")].envelope.actions == (Action.CREATE, Action.UPDATE, Action.DELETE)
    assert by_address[stack("s")].envelope.at_most == 2
    assert by_address[stack("s")].waits_for == (stack("late"),)


def test_findings_that_deny_make_a_plan_errored_and_others_do_not() -> None:
    for level, errored in ((Level.DENY, True), (Level.WARN, False), (Level.ADVISE, False)):
        wrong = Finding(level=level, subject=stack("s"), summary="hm")
        plan = composed(seen(replace(stack_sight(stack("s")), preview=None, problem=wrong)))
        assert (plan.errored, plan.complete, plan.applicable) == (errored, not errored, False)


def test_a_host_that_failed_its_check_is_named_with_the_task() -> None:
    sight = group_sight(group("g"), replace(task("h1", status=Status.FAILED), message="no such package"))
    failed = replace(sight, checked=replace(sight.checked, failed=("h1", "h2")))  # type: ignore[type-var]
    words = [one.summary for one in composed(seen(failed)).findings]
    assert words == [
        "check mode failed on h1: install: no such package",
        "check mode failed on h2: no task was reached",
    ]


def test_a_host_that_does_not_answer_is_a_finding_unless_its_group_waits() -> None:
    lost = (Reachability(host="h1", reach=Reach.SUDO, detail="asks for a password"),)
    plan = composed(seen(group_sight(group("g"), unreachable=lost)))
    assert [one.summary for one in plan.findings] == ["h1 cannot be worked on (sudo): asks for a password"]
    waiting = group_sight(group("g"), unreachable=lost, deferred=deferred(group("g")), checked=None)
    assert composed(seen(waiting)).findings == ()


CHANGE = composed(seen(group_sight(group("g"), task("h1"), task("h2"), task("h3"), sizes=("100%",)))).changes[0]
STACK = composed(seen(stack_sight(stack("s"), step("a"), step("b", Operation.UPDATE)))).changes[0]

NAMESAKES = replace(STACK, steps=tuple(replace(STACK.steps[0], what=one) for one in ("Server", "Disk", "Record")))
OUTPUTS = replace(STACK, steps=tuple(replace(STACK.steps[0], target=one, what="output") for one in "xyz"))


def test_what_a_pushed_stack_may_touch_is_counted_in_resources_and_always_bounded() -> None:
    bounds = {len(one.steps): stack_behind(one, [stack("late")], "c").envelope.at_most for one in (STACK, NAMESAKES)}
    assert bounds == {2: 2, 3: 3}
    assert stack_behind(OUTPUTS, [stack("late")], "c").envelope.at_most == 1


@pytest.mark.parametrize(
    ("change", "envelope", "content", "words"),
    [
        (CHANGE, replace(ENVELOPE, at_most=3), "c", None),
        (CHANGE, replace(ENVELOPE, at_most=2), "c", "group/g has 3 targets; planned were 2 at most"),
        (CHANGE, replace(ENVELOPE, at_most=3), "d", "the content of group/g is not what was planned"),
        (STACK, replace(ENVELOPE, at_most=0), "c", "stack/s wants to create and update; planned was configure only"),
        (STACK, replace(ENVELOPE, actions=(Action.CREATE,)), "c", "stack/s wants to update; planned was create only"),
        (STACK, replace(ENVELOPE, actions=tuple(Action)), "c", None),
        (
            STACK,
            replace(ENVELOPE, actions=tuple(Action), at_most=1),
            "c",
            "stack/s has 2 targets; planned were 1 at most",
        ),
        (STACK, replace(ENVELOPE, actions=tuple(Action), at_most=0), "c", None),
        (
            NAMESAKES,
            replace(ENVELOPE, actions=tuple(Action)),
            "c",
            "stack/s has 3 targets; planned were 2 at most",
        ),
        (OUTPUTS, replace(ENVELOPE, actions=tuple(Action)), "c", None),
    ],
)
def test_an_envelope_is_breached_by_content_action_or_number(
    change: object, envelope: Envelope, content: str, words: str | None
) -> None:
    waiting = replace(deferred(change.address), envelope=envelope)  # type: ignore[attr-defined]
    assert breach(waiting, (change,), content) == words  # type: ignore[arg-type]


def test_nothing_to_do_is_inside_every_envelope() -> None:
    assert breach(deferred(group("g")), (), "c") is None
