"""An estate of any size in a world where nothing is to be done, without engines: what planning itself costs. Run as a
child process, so that time and memory are its own: `python -m bench.still 10000`."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import yaml

from bench.estates import ROOT_DOCUMENT, TEAM
from ismgr_automation.approval.safeguards import Safeguards
from ismgr_automation.converge.contract import refuse_if_stale
from ismgr_automation.converge.plan import plan
from ismgr_automation.converge.scope import Engines, Recovery, Scope, Upkeep
from ismgr_automation.core.errors import StalePlan
from ismgr_automation.core.json import Json
from ismgr_automation.estate.load import load
from ismgr_automation.evidence.recorder import ChainRecorder
from ismgr_automation.planning.planfile import read
from ismgr_automation.planning.planfile import write as written
from ismgr_automation.planning.timing import Calendar
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import (
    Host,
    PlaybookRequest,
    PlaybookResult,
    Reach,
    Reachability,
    Ssh,
    Status,
)
from ismgr_automation.ports.memory import (
    InlineSequencer,
    MemoryAdvisories,
    MemoryApprovals,
    MemoryBackups,
    MemoryBackupWorld,
    MemoryBalancer,
    MemoryCluster,
    MemoryDrillJournal,
    MemoryDrillStore,
    MemoryEvidenceLog,
    MemoryFacts,
    MemoryFences,
    MemoryFileBackups,
    MemoryFirstSeen,
    MemoryFunctions,
    MemoryHistory,
    MemoryLeaseStore,
    MemoryLedger,
    MemoryMachineUpkeep,
    MemoryPackages,
    MemoryPackageWorld,
    MemoryPatchStore,
    MemoryPins,
    MemoryPlaybookEngine,
    MemoryProber,
    MemoryRecoveryWorld,
    MemoryRestarter,
    MemoryRunLedger,
    MemorySecretStore,
    MemorySignatures,
    MemorySnapshots,
    MemorySource,
    MemoryStackEngine,
    MemoryStandby,
    MemoryStepJournal,
    MemorySwitches,
    MemoryUpkeepWorld,
    MemoryVerifier,
    MemoryWorld,
    MemoryWorldProbe,
)
from ismgr_automation.ports.source import Tree
from ismgr_automation.ports.stacks import Output, StackPreview, StackRequest, StackState
from ismgr_automation.wiring import TreeContent

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
EACH = 99
"""Hosts of one stack: with the stack itself a hundred items."""


ROLES = ("cache", "database", "edge", "mail", "monitor", "name", "proxy", "queue", "search", "web", "worker")
UNTOUCHED = "sha256:" + "0" * 64


class StillStacks(MemoryStackEngine):
    """Stacks whose hosts are there, and whose programs ask for nothing else."""

    def state(self, request: StackRequest) -> StackState:
        """What was made long ago."""
        return StackState(outputs=_outputs(request.stack), resources=EACH, state_digest=UNTOUCHED)

    def preview(self, request: StackRequest, context: Context) -> StackPreview:  # noqa: ARG002  the port's
        """Nothing to do."""
        outputs = _outputs(request.stack)
        return StackPreview(
            steps=(), drift=(), outputs=outputs, state_digest=UNTOUCHED, unchanged=EACH, engine="still 1"
        )


class StillHosts(MemoryPlaybookEngine):
    """Hosts on which everything is as it should be."""

    def check(self, request: PlaybookRequest, context: Context) -> PlaybookResult:  # noqa: ARG002  the port's
        """Every task is OK."""
        counts = {name: {Status.OK: 1} for name in request.limit}
        return PlaybookResult(tasks=(), counts=counts, unreachable=(), failed=(), engine="still 1")


class StillProber(MemoryProber):
    """Hosts that all answer at once."""

    def probe(self, hosts: Sequence[Host], ssh: Ssh, become: bool, context: Context) -> tuple[Reachability, ...]:  # noqa: ARG002  the port's
        """They do."""
        return tuple(Reachability(host=one.name, reach=Reach.OK) for one in hosts)


def _outputs(name: str) -> dict[str, Output]:
    site = int(name.removeprefix("site"))
    hosts: list[Json] = [
        {
            "name": f"{ROLES[number % len(ROLES)]}{number}.{name}",
            "address": f"10.{site // 250}.{site % 250}.{number + 1}",
            "labels": {"role": ROLES[number % len(ROLES)], "site": name},
            "site": name,
            "host_keys": [f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{site:05d}{number:05d}"],
        }
        for number in range(EACH)
    ]
    return {"hosts": Output(value=hosts)}


def lay_out(folder: Path, items: int) -> Tree:
    """The files of an estate with so many stacks and hosts, a group for each role, all of them applied."""
    stacks = [
        {
            "kind": "Stack",
            "name": f"site{number}",
            "program": "stacks/servers",
            "hosts": "hosts",
            "outputs": {"hosts": {"type": "hosts"}},
        }
        for number in range(items // (EACH + 1))
    ]
    groups = [
        {
            "kind": "HostGroup",
            "name": role,
            "selector": f'host.labels.role == "{role}"',
            "playbook": f"playbooks/{role}.yml",
            "minimum_available": 1,
        }
        for role in ROLES
    ]
    files = {
        "estate.yaml": yaml.safe_dump(ROOT_DOCUMENT),
        "documents.yaml": yaml.safe_dump_all([TEAM, *stacks, *groups]),
        "stacks/servers/Pulumi.yaml": "name: servers\nruntime: python\n",
        "stacks/servers/__main__.py": "",
        **{f"playbooks/{role}.yml": "[]\n" for role in ROLES},
    }
    return MemorySource(files).checkout("HEAD", folder)


def still_upkeep() -> Upkeep:
    """Nothing is installed anywhere, and nothing is due."""
    packages, machines = MemoryPackageWorld(), MemoryUpkeepWorld()
    return Upkeep(
        facts=MemoryFacts(packages),
        packages=MemoryPackages(packages),
        restarter=MemoryRestarter(packages),
        balancer=MemoryBalancer(machines),
        cluster=MemoryCluster(machines),
        machines=MemoryMachineUpkeep(machines),
        snapshots=MemorySnapshots(world=packages),
        advisories=MemoryAdvisories(),
        first_seen=MemoryFirstSeen(),
        records=MemoryPatchStore(),
        timetable=lambda _now: Calendar(),
    )


def still_recovery(folder: Path) -> Recovery:
    """A pair that nobody touches."""
    world = MemoryRecoveryWorld.pair()
    return Recovery(
        fences=MemoryFences(world),
        standby=MemoryStandby(world),
        switches=MemorySwitches(world),
        functions=MemoryFunctions(),
        probe=MemoryWorldProbe(world=world),
        journal=lambda _run: MemoryDrillJournal(folder),
        results=MemoryDrillStore(),
        clock=lambda: world.tick,
        backups=MemoryBackups(MemoryBackupWorld()),
        file_backups=MemoryFileBackups(MemoryBackupWorld()),
    )


def scope_of(tree: Tree, ledger: MemoryLedger) -> Scope:
    """The estate as it is read now, with doubles behind every port."""
    documents, diagnostics = load(tree.root, tree.objects)
    if documents is None:
        raise AssertionError("\n".join(map(str, diagnostics)))
    world = MemoryWorld()
    runs = MemoryRunLedger()
    return Scope(
        estate=documents,
        tree=tree,
        environment_name="default",
        environment=documents.document.environments["default"],
        state="memory://",
        ssh=Ssh(),
        secret_backends={},
        engines=Engines(
            stacks=StillStacks(world),
            playbooks=StillHosts(world),
            prober=StillProber(world),
            verifier=MemoryVerifier(world),
            ledger=ledger,
            content=TreeContent(tree=tree),
            secrets=MemorySecretStore({"env:BENCH_PASSPHRASE": "bench"}),
            leases=MemoryLeaseStore(clock=lambda: NOON),
            runs=runs,
            journal=MemoryStepJournal(ledger=runs),
            executor="here",
            sequencing=lambda work: nullcontext(InlineSequencer(work)),
            evidence=lambda run: ChainRecorder(
                log=MemoryEvidenceLog(), environment="default", run=run, clock=lambda: NOON
            ),
            upkeep=still_upkeep(),
            recovery=still_recovery(tree.root),
        ),
        context=Context(work=tree.root),
        safeguards=Safeguards(
            history=MemoryHistory(),
            pins=MemoryPins(),
            verifier=lambda _revoked: MemorySignatures(),
            stores=(MemoryApprovals(),),
            documents=lambda _commit: documents,
        ),
    )


def measure(folder: Path, items: int) -> dict[str, float]:
    """Seconds of each thing: reading the documents, a plan in which nothing is to be done, writing its file,
    and reading and refusing it after a document has changed."""
    tree, ledger = lay_out(folder, items), MemoryLedger(MemoryWorld())
    began = time.perf_counter()
    scope = scope_of(tree, ledger)
    told = {"load": time.perf_counter() - began}
    began = time.perf_counter()
    planned = plan(scope, NOON)
    told["plan"] = time.perf_counter() - began
    if planned.changes or planned.deferred or planned.errored:
        raise AssertionError(f"something is to be done: {planned.changes[:1]} {planned.findings[:1]}")
    began = time.perf_counter()
    text = written(planned)
    told["write"] = time.perf_counter() - began
    told["refuse"] = _refusal(text, replace(scope, tree=_edited(tree)))
    return told


def _edited(tree: Tree) -> Tree:
    return replace(tree, objects={**tree.objects, "documents.yaml": "0" * 40})


def _refusal(text: str, scope: Scope) -> float:
    began = time.perf_counter()
    planned = read(text, "plan.json")
    try:
        refuse_if_stale(planned, plan(scope, NOON))
    except StalePlan:
        return time.perf_counter() - began
    raise AssertionError("a stale plan was not refused")


def main() -> None:
    """Print the seconds as one JSON object."""
    with tempfile.TemporaryDirectory(prefix="ismgr-bench-") as folder:
        print(json.dumps(measure(Path(folder), int(sys.argv[1]))))  # noqa: T201


if __name__ == "__main__":
    main()
