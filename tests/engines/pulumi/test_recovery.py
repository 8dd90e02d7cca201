"""What a dead run leaves behind: locks, pending operations, a fence; and that nothing of a living one is touched."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from ismgr_automation.core.errors import EngineFailed, LeaseLost
from ismgr_automation.engines.pulumi import fence, recovery
from ismgr_automation.engines.pulumi.backend import Files, StackId
from ismgr_automation.engines.pulumi.state import Checkpoint
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.stacks import Operation, Recovery

from .conftest import apply_elsewhere, left, wait_for
from .test_servers import bmc, request_for_site  # noqa: F401  fixtures

STACK = StackId(project="things", name="things")
HERE = socket.gethostname()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "state")


@pytest.fixture
def gone() -> int:
    """The id of a process that has ended."""
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    return ended.pid


def lock(files: Files, pid: int, host: str = HERE, since: str = "2020-01-02T03:04:05Z") -> Path:
    folder = files.root / ".pulumi" / "locks" / "organization" / STACK.project / STACK.name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{pid}-{host}.json"
    path.write_text(json.dumps({"pid": pid, "username": "alice", "hostname": host, "timestamp": since}))
    return path


def under(token: int, run: str = "run") -> Context:
    return Context(work=Path(), token=token, run=run)


def written(files: Files) -> dict[str, object]:
    return json.loads((files.root / ".ismgr/fence/things/things.json").read_text())


def test_a_later_lease_is_written_down_and_an_earlier_one_is_refused_from_then_on(files):
    fence.enter(files, STACK, under(7, "first"))
    fence.enter(files, STACK, under(7, "first"))
    fence.enter(files, STACK, under(9, "second"))
    assert (written(files)["token"], written(files)["run"]) == (9, "second")
    before = written(files)
    for act in (fence.enter, fence.check):
        with pytest.raises(LeaseLost, match=r"our lease has token 8, and second came here with token 9") as caught:
            act(files, STACK, under(8))
        assert caught.value.untouched == "Nothing was touched."
    assert written(files) == before
    assert not (files.root / ".pulumi").exists()


def test_work_without_a_lease_is_not_fenced_and_takes_nothing_back(files):
    fence.enter(files, STACK, under(9))
    fence.enter(files, STACK, under(0, ""))
    assert written(files)["token"] == 9


def test_each_stack_has_its_own_fence(files):
    fence.enter(files, STACK, under(9))
    fence.enter(files, replace(STACK, project="others"), under(1))
    fence.enter(files, replace(STACK, name="prod"), under(1))
    assert written(files)["token"] == 9


def test_of_many_at_once_the_largest_token_stays(files):
    def one(token: int) -> bool:
        try:
            fence.enter(files, STACK, under(token))
        except LeaseLost:
            return False
        return True

    tokens = random.Random(4).sample(range(1, 200), 60)  # noqa: S311  no secret
    with ThreadPoolExecutor(8) as pool:
        entered = dict(zip(tokens, pool.map(one, tokens), strict=True))
    assert written(files)["token"] == max(tokens)
    assert entered[max(tokens)]


def test_a_damaged_fence_lets_nobody_in(files):
    fence.enter(files, STACK, under(1))
    (files.root / ".ismgr/fence/things/things.json").write_text("{")
    with pytest.raises(EngineFailed, match="is damaged"):
        fence.enter(files, STACK, under(2))


def test_the_lock_of_a_dead_process_of_this_machine_is_removed_and_named(files, gone):
    path = lock(files, gone)
    (path.parent / f"{path.name}.attrs").write_text("{}")
    cleared, open_ends = recovery.locks(files, STACK)
    assert cleared == (f"the lock of alice@{HERE}, process {gone}, since 2020-01-02T03:04:05Z: the process is gone",)
    assert open_ends == ()
    assert list(path.parent.iterdir()) == []


def test_a_process_id_that_is_another_s_by_now_is_a_dead_owner(files):
    lock(files, os.getpid(), since="2020-01-02T03:04:05Z")
    assert len(recovery.locks(files, STACK)[0]) == 1


@pytest.mark.parametrize("text", ["", '{"md5": "ab', "[]"])
def test_a_note_that_was_cut_short_is_removed_and_named_and_a_whole_one_stays(files, text):
    state = files.file(STACK)
    state.parent.mkdir(parents=True, exist_ok=True)
    cut, whole = state.with_name(f"{state.name}.attrs"), files.root / ".pulumi" / "meta.yaml.attrs"
    cut.write_text(text)
    whole.write_text('{"md5":"3q2+7w=="}')
    assert recovery.notes(files, STACK) == (
        f"the note {cut.name}: it was cut short, and the engine could not read the state",
    )
    assert (cut.exists(), whole.exists()) == (False, True)
    assert recovery.notes(files, STACK) == ()


LIVING = {
    "a living process": ((os.getpid(), HERE, "2999-01-01T00:00:00Z"), "it still runs"),
    "another machine": ((1, "elsewhere", "2020-01-02T03:04:05Z"), "see there whether it runs"),
    "no time that can be read": ((os.getpid(), HERE, "yesterday"), "see there whether it runs"),
}


@pytest.mark.parametrize(("owner", "words"), LIVING.values(), ids=LIVING)
def test_the_lock_of_somebody_who_may_live_is_never_touched(files, gone, owner, words):
    path, dead = lock(files, *owner), lock(files, gone)
    cleared, (open_end,) = recovery.locks(files, STACK)
    assert words in open_end
    assert f"alice@{owner[1]}, process {owner[0]}, since {owner[2]}" in open_end
    assert len(cleared) == 1, "what is dead goes all the same"
    assert (path.exists(), dead.exists()) == (True, False)


def test_an_engine_of_that_id_is_never_taken_for_another_process_because_a_clock_was_set(files, tmp_path):
    name = tmp_path / "pulumi"
    name.symlink_to("/bin/sleep")
    with subprocess.Popen([name, "300"]) as engine:
        try:
            path = lock(files, engine.pid)
            wait_for(lambda: Path(f"/proc/{engine.pid}/comm").read_text() == "pulumi\n")
            assert recovery.locks(files, STACK)[0] == ()
            assert path.exists()
        finally:
            engine.kill()


def test_a_lock_from_another_container_is_not_judged_by_our_processes(files, gone):
    fence.enter(files, STACK, under(1))
    assert fence.knows_processes(files, STACK)
    file = files.root / ".ismgr/fence/things/things.json"
    file.write_text(json.dumps({**written(files), "pids": "pid:[1]"}))
    path = lock(files, gone)
    # coming here does not make the lock ours
    fence.enter(files, STACK, under(2))
    cleared, (open_end,) = recovery.locks(files, STACK)
    assert cleared == ()
    assert "another container" in open_end
    assert str(path) in open_end
    assert path.exists()


class NoRun:
    """Stands for a run whose engine must not be called."""


def checkpoint(*operations: tuple[str, str, str]) -> Checkpoint:
    found = [
        {"resource": {"urn": f"urn:pulumi:dev::p::{kind}::{name}"}, "type": word} for name, kind, word in operations
    ]
    return Checkpoint({"resources": [], "pending_operations": found})


def test_while_one_operation_is_unknown_none_is_forgotten():
    seen = checkpoint(("db1", "ismgr:redfish:Server", "creating"), ("vm", "cloud:index:Vm", "creating"))
    resolved, (advice,) = recovery.pending(NoRun(), seen)
    assert resolved == ()
    assert "vm: creating urn:pulumi:dev::p::cloud:index:Vm::vm was interrupted" in advice
    assert "pulumi import cloud:index:Vm vm ID" in advice


@pytest.mark.parametrize("word", ["creating", "updating", "deleting", "reading", "importing", "teleporting"])
def test_every_kind_of_operation_is_settled_or_told(word):
    known = {"updating", "deleting", "reading", "importing"}
    _, open_ends = recovery.pending(FakeRun(), checkpoint(("vm", "cloud:index:Vm", word)))
    assert (open_ends == ()) == (word in known)


class FakeRun(NoRun):
    """A run whose engine does what it is told."""

    stack = STACK

    def cli(self, *argv: str, stdin: str) -> None:
        assert argv[:2] == ("stack", "import")
        assert json.loads(stdin)["deployment"]["pending_operations"] == []


FOUR = "\n".join(f'Thing("t{number}", size={number}, seconds=2)' for number in range(4))

IN_A_CREATE, ANYWHERE = True, False
MOMENTS = ((0, ANYWHERE), (0, IN_A_CREATE), (1, ANYWHERE), (2, IN_A_CREATE), (3, ANYWHERE), (4, ANYWHERE))
"""How many things are there when the kill comes, and whether one must be in the making."""


@pytest.mark.engine
def test_killed_at_any_moment_recovered_and_applied_again_a_stack_ends_as_if_nothing_had_happened(
    bench, pulumi_engine_path, monkeypatch
):
    monkeypatch.setenv("PULUMI_PARALLEL", "2")
    monkeypatch.setattr(recovery, "ADOPTS", frozenset({"probe:index:Thing"}))
    asked, state = bench.program(FOUR), Files(bench.state_folder)
    chance = random.Random(20261122)  # noqa: S311  no secret
    found: list[Recovery] = []

    def has_come(things: int, in_a_create: bool) -> bool:
        if not left(bench) or len(bench.things()) < things:
            return False
        return not in_a_create or bool(state.read(STACK).pending)

    for moment in MOMENTS:
        with apply_elsewhere(bench, pulumi_engine_path) as ours:
            wait_for(lambda now=moment: has_come(*now))
            if moment[1] is ANYWHERE:
                threading.Event().wait(chance.random() * 2)
            ours.kill()
        found.append(bench.recover(asked, token=1, run="again"))
        assert found[-1].open == ()
        assert bench.locks() == []
        assert state.read(STACK).pending == ()
        done = bench.up(asked)
        assert (done.failed, done.unplanned) == ((), ())
        assert {name: one["size"] for name, one in bench.things().items()} == {f"t{n}": n for n in range(4)}
        assert bench.engine.state(asked).resources == 4
        idle = bench.preview(asked)
        assert (idle.steps, idle.drift) == ((), ())
        for folder in (bench.state_folder, bench.world):
            shutil.rmtree(folder)
            folder.mkdir()
    assert bench.recover(asked) == Recovery(), "nothing was left behind by anybody"
    assert any(one.cleared for one in found), "no kill came while a lock was held"
    assert any(one.resolved for one in found), "no kill came in the middle of a create"


@pytest.mark.engine
@pytest.mark.parametrize("name", ["stacks/things/things.json", "meta.yaml"])
def test_an_engine_that_was_killed_while_it_wrote_a_note_leaves_a_stack_that_can_be_applied(bench, name):
    bench.up(bench.program('Thing("a", size=1)'))
    asked = bench.program('Thing("a", size=2)')
    bench.up(asked)
    note = bench.state_folder / ".pulumi" / f"{name}.attrs"
    assert note.read_text()
    note.write_text("")
    with pytest.raises(EngineFailed, match="EOF"):
        bench.up(asked)
    assert bench.recover(asked).cleared == (
        f"the note {note.name}: it was cut short, and the engine could not read the state",
    )
    assert bench.up(asked).failed == ()
    assert bench.things()["a"]["size"] == 2


@pytest.mark.engine
def test_an_apply_whose_lease_is_over_is_killed_and_says_how_far_it_had_come(bench, tmp_path):
    leash = tmp_path / "leash"
    leash.write_text(str(time.clock_gettime_ns(time.CLOCK_BOOTTIME) + 600 * 10**9))
    asked = bench.program('a = Thing("a")\nThing("b", block="stubborn", opts=pulumi.ResourceOptions(depends_on=[a]))')
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(bench.up, asked, leash=leash)
        wait_for((bench.world / "blocked").exists)
        leash.write_text("0")
        problem = running.exception(timeout=60)
    assert isinstance(problem, LeaseLost), repr(problem)
    assert problem.untouched == "Landed before: a. Unknown: b."
    assert bench.locks() == []


@pytest.mark.engine
def test_what_nobody_can_know_is_left_as_it_is_and_told(bench, pulumi_engine_path):
    asked = bench.program('Thing("b", block="stubborn")')
    with apply_elsewhere(bench, pulumi_engine_path) as ours:
        wait_for((bench.world / "blocked").exists)
        ours.kill()
    found = bench.recover(asked)
    assert len(found.cleared) == 1
    (advice,) = found.open
    assert "b: creating urn:pulumi:things::things::probe:index:Thing::b was interrupted" in advice
    assert [one.changed for one in bench.preview(asked).drift] == [("<interrupted>",)]


@pytest.mark.engine
def test_a_larger_token_beside_the_state_stops_an_apply_a_destroy_and_a_recovery(bench):
    asked = bench.program('Thing("a")')
    bench.up(asked, token=3, run="ours")
    lock(Files(bench.state_folder), 1, "elsewhere")
    fence.enter(Files(bench.state_folder), STACK, under(4, "theirs"))
    before = bench.written()
    for act in (bench.up, bench.destroy, bench.recover):
        with pytest.raises(LeaseLost, match="theirs came here with token 4"):
            act(asked, token=3, run="ours")
    assert bench.written() == before
    assert set(bench.things()) == {"a"}


@pytest.mark.engine
def test_a_server_whose_create_was_interrupted_is_adopted(bench, bmc, request_for_site):  # noqa: F811
    """The engine is killed when the machine is on and before the engine has heard of it."""
    bench.up(request_for_site)
    asked, state = request_for_site, Files(bench.state_folder)
    (stack,) = state.named("dc1-servers")
    body = json.loads(state.file(stack).read_text())
    latest = body["checkpoint"]["latest"]
    (server,) = [one for one in latest["resources"] if one["type"] == "ismgr:redfish:Server"]
    latest["resources"].remove(server)
    begun = {key: server[key] for key in server if key not in {"id", "outputs"}}
    latest["pending_operations"] = [{"resource": begun, "type": "creating"}]
    state.file(stack).write_text(json.dumps(body))

    found = bench.recover(asked)
    assert found.open == ()
    assert found.resolved == ("db1.dc1: creating was interrupted; it is adopted or made by the next apply",)
    changes = len(bmc.changes)
    done = bench.up(asked)
    assert [(one.name, one.operation) for one in done.steps] == [("db1.dc1", Operation.CREATE)]
    assert len(bmc.changes) == changes, "it was as it should be"
    assert bench.preview(asked).steps == ()
    assert bench.engine.state(asked).resources == 1
