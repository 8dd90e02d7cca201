"""The public doubles: they keep the promises of their ports, so that a rehearsal means something."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ismgr_automation.converge.requests import stack_request
from ismgr_automation.core.address import group
from ismgr_automation.core.errors import Cancelled, EngineFailed, InputError
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.ports.content import Content
from ismgr_automation.ports.hosts import PlaybookEngine, Prober, Reach, Ssh
from ismgr_automation.ports.ledger import Ledger
from ismgr_automation.ports.memory import (
    Desired,
    MemoryContent,
    MemoryLedger,
    MemoryPlaybookEngine,
    MemoryProber,
    MemorySecretStore,
    MemorySource,
    MemoryStackEngine,
    MemoryVerifier,
    MemoryWorld,
)
from ismgr_automation.ports.secrets import SecretStore
from ismgr_automation.ports.source import Source
from ismgr_automation.ports.stacks import Operation, StackEngine
from ismgr_automation.ports.verification import Verifier
from tests.rehearsal import Rehearsal, inventory_host


@pytest.fixture
def site(tmp_path: Path) -> Rehearsal:
    return Rehearsal(folder=tmp_path)


def test_each_double_stands_at_its_port(tmp_path: Path) -> None:
    world = MemoryWorld()
    stacks: StackEngine = MemoryStackEngine(world)
    playbooks: PlaybookEngine = MemoryPlaybookEngine(world)
    prober: Prober = MemoryProber(world)
    verifier: Verifier = MemoryVerifier(world)
    ledger: Ledger = MemoryLedger(world)
    content: Content = MemoryContent(tmp_path)
    store: SecretStore = MemorySecretStore({})
    source: Source = MemorySource({})
    assert all((stacks, playbooks, prober, verifier, ledger, content, store, source))


def test_a_preview_changes_nothing_and_an_up_does_what_it_said(site: Rehearsal) -> None:
    scope = site.scope()
    engine, request = scope.engines.stacks, stack_request(scope, "dc1-servers")
    first, again = (engine.preview(request, scope.context) for _ in range(2))
    assert first == again
    done = engine.up(request, scope.context)
    assert done.steps == first.steps
    after = engine.preview(request, scope.context)
    assert (after.steps, after.drift, after.state_digest) == ((), (), done.state_digest)
    assert engine.state(request).resources == 3


def test_replacing_is_told_from_updating_and_deleting(site: Rehearsal) -> None:
    site.settle()
    site.world.programs["dc2-servers"] = lambda _config, _made: Desired(
        resources={"db1.dc2": {"power": "on", "image": "new"}, "web2.dc2": {"power": "on"}},
    )
    plan = site.plan()
    steps = {one.target: one.action.value for one in plan.changes[0].steps}
    assert steps == {
        "db1.dc2": Operation.REPLACE.value,
        "web1.dc2": Operation.DELETE.value,
        "web2.dc2": Operation.CREATE.value,
    }


def test_a_fault_and_a_cancelled_context_are_raised_by_every_engine(site: Rehearsal) -> None:
    scope = site.scope()
    prober = scope.engines.prober
    hosts = [inventory_host("web9", "web")]
    site.world.faults["probe web9"] = EngineFailed("No.", engine="x", next_step="Look.")
    with pytest.raises(EngineFailed):
        prober.probe(hosts, Ssh(), False, scope.context)  # noqa: FBT003  the port's
    scope.context.cancelled.set()
    with pytest.raises(Cancelled):
        prober.probe(hosts, Ssh(), False, scope.context)  # noqa: FBT003  the port's


def test_a_host_is_where_its_resource_is(site: Rehearsal) -> None:
    assert site.world.answer("db1.dc1") is Reach.TIMEOUT
    site.settle()
    assert site.world.answer("db1.dc1") is Reach.OK
    site.world.actual["dc1-servers"]["db1.dc1"] = {"power": "off"}
    assert site.world.answer("db1.dc1") is Reach.TIMEOUT


def test_a_secret_that_is_not_there_is_named_and_openings_are_noted() -> None:
    store = MemorySecretStore({"env:APP": "hunter2"})
    assert store.open(SecretRef.parse("env:APP")).reveal() == "hunter2"
    with pytest.raises(InputError, match="env:OTHER"):
        store.open(SecretRef.parse("env:OTHER"))
    assert [str(one) for one in store.opened] == ["env:APP", "env:OTHER"]


def test_a_ledger_remembers_and_forgets() -> None:
    ledger = MemoryLedger(MemoryWorld())
    ledger.record(group("webs"), "sha256:1", "abc")
    assert ledger.applied(group("webs")) == "sha256:1"
    ledger.forget(group("webs"))
    assert ledger.applied(group("webs")) is None


def test_objects_have_the_ids_that_git_gives(tmp_path: Path) -> None:
    tree = MemorySource({"a/b.txt": "words \u00e9\n"}).checkout("main", tmp_path)
    told = subprocess.run(
        ["git", "hash-object", str(tree.root / "a/b.txt")], check=True, capture_output=True, text=True, timeout=30
    )
    assert tree.objects == {"a/b.txt": told.stdout.strip()}
    assert (tree.revision.ref, tree.revision.worktree) == ("main", False)


def test_content_moves_when_it_is_said_to(tmp_path: Path) -> None:
    content = MemoryContent(tmp_path)
    before = content.digest("playbooks/web.yml")
    content.versions["playbooks/web.yml"] = "2"
    assert content.digest("playbooks/web.yml") != before
    assert content.path("ismgr:playbooks/x.yml") == tmp_path / "shipped/playbooks/x.yml"
