"""A whole site in memory: documents of a small estate, the world that they describe, and verbs over both. No process is
started; only the estate's files are laid out, below the folder that a test gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ismgr_automation.api import Estate
from ismgr_automation.approval.safeguards import Safeguards
from ismgr_automation.converge.destroy import plan_destroy
from ismgr_automation.converge.plan import plan
from ismgr_automation.converge.report import Report
from ismgr_automation.converge.run import Granted, Tenure, perform, take_up
from ismgr_automation.converge.scope import Engines, Mode, Recovery, Scope, Selection, Upkeep
from ismgr_automation.core.address import Address
from ismgr_automation.core.errors import InputError, SettingsError
from ismgr_automation.core.events import Event
from ismgr_automation.core.json import Json
from ismgr_automation.engines.paper import ShellPaper
from ismgr_automation.estate.load import load
from ismgr_automation.estate.model import Estate as Documents
from ismgr_automation.evidence.recorder import ChainRecorder, Recorder
from ismgr_automation.planning.plan import Plan
from ismgr_automation.planning.planfile import read
from ismgr_automation.planning.timing import Calendar
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Host, Ssh
from ismgr_automation.ports.leases import Holder
from ismgr_automation.ports.memory import (
    UNKNOWN,
    Death,
    Desired,
    InlineSequencer,
    MemoryAdvisories,
    MemoryApprovals,
    MemoryBackups,
    MemoryBackupWorld,
    MemoryBalancer,
    MemoryCluster,
    MemoryContent,
    MemoryDrillJournal,
    MemoryDrillStore,
    MemoryEvidenceLog,
    MemoryFacts,
    MemoryFaults,
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
    MortalJournal,
    MortalLedger,
    Task,
)
from ismgr_automation.ports.memory.recovery import TICK_NS
from ismgr_automation.ports.patching import FirstSeen
from ismgr_automation.ports.runs import Run
from ismgr_automation.ports.sequencer import Sequencer, Work
from ismgr_automation.ports.source import Source, Tree

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOLDER = Holder(user="ada", host="ops1", pid=1, started=0.0, purpose="apply")

FILES: Mapping[str, str] = {
    "estate.yaml": """\
kind: Estate
name: two-sites
owner: platform
environments:
  lab: {passphrase: {secret: "env:PASSPHRASE"}, evidence: {runner_key: {secret: "env:RUNNER"}}}
  other: {passphrase: {secret: "env:PASSPHRASE"}, evidence: {runner_key: {secret: "env:RUNNER"}}}
default_environment: lab
ssh: {user: debian, become: true, boot_timeout: 2s}
""",
    "team.yaml": "kind: Team\nname: platform\n",
    "stacks.yaml": """\
kind: Stack
name: dc1-servers
program: stacks/servers
hosts: hosts
outputs: {hosts: {type: hosts}, edge: {type: string}}
---
kind: Stack
name: dc2-servers
program: stacks/servers
hosts: hosts
outputs: {hosts: {type: hosts}}
---
kind: Stack
name: names
program: stacks/names
config: {to: {output: dc1-servers.edge}}
needs: [group/edges]
at_most: 4
outputs: {url: {type: string}}
""",
    "groups.yaml": """\
kind: HostGroup
name: databases
selector: host.labels.role == "db"
playbook: playbooks/database.yml
waves: [1, "100%"]
verify: [verify/database]
---
kind: HostGroup
name: webs
selector: host.labels.role == "web"
playbook: playbooks/web.yml
needs: [group/databases]
waves: ["100%"]
variables: {password: {secret: "env:APP"}}
verify: [verify/web]
---
kind: HostGroup
name: edges
selector: host.labels.role == "edge"
playbook: playbooks/edge.yml
needs: [group/webs]
""",
    "stacks/servers/Pulumi.yaml": "name: servers\nruntime: python\n",
    "stacks/servers/__main__.py": "",
    "stacks/names/Pulumi.yaml": "name: names\nruntime: python\n",
    "stacks/names/__main__.py": "",
    "playbooks/database.yml": "[]\n",
    "playbooks/web.yml": "[]\n",
    "playbooks/edge.yml": "[]\n",
    "verify/database/test_database.py": "",
    "verify/web/test_web.py": "",
}

SERVERS: Mapping[str, tuple[str, ...]] = {
    "dc1-servers": ("db1.dc1", "edge1.dc1", "web1.dc1"),
    "dc2-servers": ("db1.dc2", "web1.dc2"),
}


def host_entry(machine: str, **more: Json) -> dict[str, Json]:
    """One entry of a ``hosts`` output."""
    role = machine.partition(".")[0].rstrip("0123456789")
    number = 10 + sum(map(ord, machine)) % 200
    return {
        "name": machine,
        "address": f"192.0.2.{number}",
        "labels": {"role": role, "site": machine.rpartition(".")[2]},
        "host_keys": ["ssh-ed25519 AAAA"],
        **more,
    }


def servers(*names: str, entries: int | None = None) -> Desired:
    """Machines that are on, and the hosts that they are; ``entries`` is how many the output names."""
    return Desired(
        resources={name: {"power": "on"} for name in names},
        outputs={"hosts": [host_entry(name) for name in names[:entries]], "edge": "192.0.2.20"},
    )


def names_program(config: Mapping[str, Json], made: bool) -> Desired:
    """A record of a name; its URL is known once it is made."""
    return Desired(
        resources={"www": {"to": config["to"]}}, outputs={"url": f"http://{config['to']}/" if made else UNKNOWN}
    )


def site() -> MemoryWorld:
    """The world of the estate above, all machines off and nothing made."""
    world = MemoryWorld()
    for stack, machines in SERVERS.items():
        world.programs[stack] = lambda _config, _made, machines=machines: servers(*machines)
    world.programs["names"] = names_program
    world.playbooks["database.yml"] = (Task(name="install", value="17"), Task(name="tune", value="fast"))
    world.playbooks["web.yml"] = (
        Task(name="install", value="1"),
        Task(name="hook", value="ran", unpredictable="command"),
    )
    world.playbooks["edge.yml"] = (Task(name="install", value="3"),)
    return world


def unguarded() -> Safeguards:
    """Nothing is pinned, and no commit is known."""
    return Safeguards(
        history=MemoryHistory(),
        pins=MemoryPins(),
        verifier=lambda _revoked: MemorySignatures(),
        stores=(MemoryApprovals(),),
        documents=_no_documents,
    )


def _no_documents(commit: str) -> Documents:
    raise InputError(f"There is no commit {commit}.", next_step="Give the rehearsal safeguards that know it.")


@dataclass(slots=True, kw_only=True)
class Rehearsal:
    """One estate, its world, and what is kept between runs. It is a ``Wiring`` of the front door as well."""

    folder: Path
    world: MemoryWorld = field(default_factory=site)
    files: dict[str, str] = field(default_factory=lambda: dict(FILES))
    events: list[Event] = field(default_factory=list)
    ledgers: dict[str, MemoryLedger] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    runs: MemoryRunLedger = field(default_factory=MemoryRunLedger)
    leases: MemoryLeaseStore = field(default_factory=lambda: MemoryLeaseStore(clock=lambda: datetime.now(UTC)))
    evidence: MemoryEvidenceLog = field(default_factory=MemoryEvidenceLog)
    secrets: MemorySecretStore = field(default_factory=lambda: MemorySecretStore({"env:APP": "app-password"}))
    death: Death = field(default_factory=Death)
    """When the process that works on the estate dies."""
    safeguards: Safeguards = field(default_factory=unguarded)
    count: int = 0
    packages: MemoryPackageWorld = field(default_factory=MemoryPackageWorld)
    """What is installed on hosts, and what is offered to them."""
    service: MemoryUpkeepWorld = field(default_factory=MemoryUpkeepWorld)
    """Load balancers, clusters and BMCs."""
    advisories: MemoryAdvisories = field(default_factory=MemoryAdvisories)
    first_seen: MemoryFirstSeen = field(default_factory=MemoryFirstSeen)
    ledger: FirstSeen | None = None
    """A real one, instead of ``first_seen``."""
    patches: MemoryPatchStore = field(default_factory=MemoryPatchStore)
    pair: MemoryRecoveryWorld = field(default_factory=MemoryRecoveryWorld.pair)
    """A replicated database, for recoveries."""
    journals: dict[str, MemoryDrillJournal] = field(default_factory=dict)
    """Of drills, by run."""
    results: MemoryDrillStore = field(default_factory=MemoryDrillStore)
    functions: MemoryFunctions = field(default_factory=MemoryFunctions)
    vault: MemoryBackupWorld = field(default_factory=MemoryBackupWorld)
    """Backups of databases and files."""
    client: MemoryWorldProbe | None = None
    """The client that measures drills; one like others where there is none."""
    calendar: Callable[[Calendar], Calendar] = lambda known: known
    """What has become of the windows and freezes of the documents, as if time had passed."""
    committed: dict[str, datetime] = field(default_factory=dict)
    """When a commit changed a file last, where one did."""
    _journal: MemoryStepJournal | None = None
    _snapshots: MemorySnapshots | None = None

    @property
    def snapshots(self) -> MemorySnapshots:
        """Copies of hosts."""
        if self._snapshots is None:
            self._snapshots = MemorySnapshots(world=self.packages)
        return self._snapshots

    @property
    def journal(self) -> MemoryStepJournal:
        """The journal of all runs."""
        if self._journal is None:
            self._journal = MemoryStepJournal(ledger=self.runs, clock=lambda: datetime.now(UTC))
        return self._journal

    def edit(self, path: str, old: str, new: str) -> None:
        """Change a document."""
        assert old in self.files[path]
        self.files[path] = self.files[path].replace(old, new)

    def scope(self, *, targets: tuple[str, ...] = (), excludes: tuple[str, ...] = ()) -> Scope:
        """A fresh reading of the documents, with engines over the same world."""
        self.count += 1
        tree = self.source(self.folder).checkout("HEAD", self.folder / f"tree-{self.count}")
        documents, diagnostics = load(tree.root, tree.objects)
        assert documents is not None, "\n".join(map(str, diagnostics))
        selection = Selection(targets=tuple(map(Address.parse, targets)), excludes=tuple(map(Address.parse, excludes)))
        context = Context(work=self.folder, emit=self.events.append)
        return self.wire(documents, tree, directory=self.folder, environment=None, context=context, selection=selection)

    def source(self, directory: Path) -> Source:  # noqa: ARG002  one estate, wherever
        """The documents as they stand now."""
        return MemorySource(self.files)

    def wire(
        self,
        estate: Documents,
        tree: Tree,
        *,
        directory: Path,  # noqa: ARG002  nothing is kept on disk
        environment: str | None,
        context: Context,
        selection: Selection,
        mode: Mode = Mode.PLAN,  # noqa: ARG002  one pair of eyes and hands
    ) -> Scope:
        """Doubles behind every port."""
        name = environment or "lab"
        if name not in estate.document.environments:
            raise SettingsError(f"There is no environment {name}.", next_step="Choose another.")
        return Scope(
            estate=estate,
            tree=tree,
            environment_name=name,
            environment=estate.document.environments[name],
            state="memory://",
            ssh=Ssh(),
            secret_backends={},
            engines=Engines(
                stacks=MemoryStackEngine(self.world),
                playbooks=MemoryPlaybookEngine(self.world),
                prober=MemoryProber(self.world),
                verifier=MemoryVerifier(self.world),
                ledger=self.ledgers.setdefault(name, MemoryLedger(self.world)),
                content=MemoryContent(tree.root, self.versions),
                secrets=self.secrets,
                leases=self.leases,
                runs=MortalLedger(self.runs, self.death),
                journal=MortalJournal(self.journal, self.death),
                executor="here",
                sequencing=self.sequencing,
                evidence=lambda run: self.recorder(name, run),
                upkeep=self.upkeep(documents=estate),
                recovery=self.recovery(),
            ),
            context=context,
            safeguards=self.safeguards,
            selection=selection,
            workers=2,
        )

    def upkeep(self, documents: Documents) -> Upkeep:
        """Doubles of what keeps hosts up to date."""
        return Upkeep(
            facts=MemoryFacts(self.packages),
            packages=MemoryPackages(self.packages),
            restarter=MemoryRestarter(self.packages),
            balancer=MemoryBalancer(self.service),
            cluster=MemoryCluster(self.service),
            machines=MemoryMachineUpkeep(self.service),
            snapshots=self.snapshots,
            advisories=self.advisories,
            first_seen=self.ledger or self.first_seen,
            records=self.patches,
            timetable=lambda _now: self.calendar(Calendar(windows=documents.windows, freezes=documents.freezes)),
            committed=self.committed.get,
        )

    @property
    def probe(self) -> MemoryWorldProbe:
        """The client of all drills."""
        if self.client is None:
            self.client = MemoryWorldProbe(world=self.pair)
        return self.client

    def recovery(self) -> Recovery:
        """Doubles of what moves a service to another site."""
        return Recovery(
            pause=timedelta(),
            look=timedelta(),
            fences=MemoryFences(self.pair),
            standby=MemoryStandby(self.pair),
            switches=MemorySwitches(self.pair),
            functions=self.functions,
            probe=self.probe,
            paper=ShellPaper(),
            journal=lambda run: self.journals.setdefault(run, MemoryDrillJournal(self.folder / "drills" / run)),
            results=self.results,
            clock=lambda: self.pair.tick * TICK_NS,
            faults=MemoryFaults(self.pair),
            backups=MemoryBackups(self.vault),
            file_backups=MemoryFileBackups(self.vault),
        )

    def plan(self, *, targets: tuple[str, ...] = (), excludes: tuple[str, ...] = ()) -> Plan:
        """Plan it."""
        return plan(self.scope(targets=targets, excludes=excludes), NOON)

    @contextmanager
    def sequencing(self, work: Work) -> Iterator[Sequencer]:
        """Units in threads of this process."""
        yield InlineSequencer(work, death=self.death)

    def recorder(self, environment: str, run: str) -> Recorder:
        """Evidence of one run."""
        return ChainRecorder(log=self.evidence, environment=environment, run=run, clock=lambda: datetime.now(UTC))

    @contextmanager
    def tenure(self, scope: Scope) -> Iterator[Tenure]:
        """The lease of one run; a rehearsed crash leaves it, and whoever comes next breaks it."""
        held = self.leases.look(scope.lease)
        if held is not None:
            self.leases.break_(scope.lease, held.token)
        lease = self.leases.acquire(scope.lease, HOLDER, timedelta(minutes=5))
        yield Tenure(lease=lease, lost=lambda: "")
        self.leases.release(lease)

    def apply(self, planned: Plan | None = None, *, scope: Scope | None = None) -> Report:
        """Apply a plan, or a new one of everything."""
        planned, scope = planned or self.plan(), scope or self.scope()
        with self.tenure(scope) as tenure:
            return perform(planned, scope, tenure, Granted())

    def resume(self, run: str | None = None, *, death: Death | None = None) -> Report:
        """Go on with the newest run, as another process would."""
        self.death = death or Death()
        scope = self.scope()
        known: Run = self.runs.run(run) if run else self.runs.runs()[0]
        with self.tenure(scope) as tenure:
            return take_up(read(known.plan, "run"), known, scope, tenure)

    def let_go(self) -> Run:
        """The time of a dead process's lease is over; what is left is the newest run."""
        held = self.leases.look(self.scope().lease)
        if held is not None:
            self.leases.break_(held.name, held.token)
        self.death = Death()
        return self.runs.runs()[0]

    def settle(self) -> None:
        """Bring everything up, and forget how."""
        report = self.apply()
        assert report.ok, report
        self.world.calls.clear()
        self.world.limits.clear()
        self.events.clear()

    def plan_destroy(self, *, targets: tuple[str, ...] = (), excludes: tuple[str, ...] = ()) -> Plan:
        """Plan to take it away."""
        return plan_destroy(self.scope(targets=targets, excludes=excludes), NOON)

    def destroy(self, planned: Plan | None = None) -> Report:
        """Take it away."""
        return self.apply(planned or self.plan_destroy())

    def open(self) -> Estate:
        """The same estate through the front door."""
        return Estate.open(self.folder, wiring=self, emit=self.events.append)

    def state_of(self, name: str) -> str:
        """Digest of a stack's state, as the engine tells it."""
        engine = MemoryStackEngine(self.world)
        scope = self.scope()
        from ismgr_automation.converge.requests import stack_request

        return engine.state(stack_request(scope, name)).state_digest


def inventory_host(name: str, role: str) -> Host:
    """A host that no stack made."""
    return Host(name=name, address="192.0.2.9", origin="", labels={"role": role})


def without(planned: Plan) -> Plan:
    """A plan without what stands beside its digest that changes with time."""
    return replace(planned, beside=replace(planned.beside, created_at=NOON))
