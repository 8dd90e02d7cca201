"""What every verb is given: the estate at one revision, the engines behind their ports, and what was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from ismgr_automation.approval.safeguards import Safeguards
from ismgr_automation.core.address import Address, Kind
from ismgr_automation.core.json import JsonObject
from ismgr_automation.estate.documents import Environment, PlanCredentials
from ismgr_automation.estate.model import Estate
from ismgr_automation.evidence.recorder import Recorder
from ismgr_automation.planning.timing import Calendar
from ismgr_automation.ports.advisories import AdvisoryReader
from ismgr_automation.ports.backups import Backups, FileBackups
from ismgr_automation.ports.content import Content
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.drills import DrillJournal, DrillStore
from ismgr_automation.ports.faults import Faults
from ismgr_automation.ports.hosts import PlaybookEngine, Prober, Ssh
from ismgr_automation.ports.isolation import Clones, Isolation
from ismgr_automation.ports.leases import LeaseStore
from ismgr_automation.ports.ledger import Ledger
from ismgr_automation.ports.packages import FactsReader, PackageManager, Restarter
from ismgr_automation.ports.paper import Paper
from ismgr_automation.ports.patching import FirstSeen, PatchStore
from ismgr_automation.ports.recovery import Attempt, Fences, Functions, ProbeClient, Standby, Switches
from ismgr_automation.ports.runs import RunLedger, StepJournal
from ismgr_automation.ports.secrets import SecretStore
from ismgr_automation.ports.sequencer import Sequencer, Work
from ismgr_automation.ports.source import Tree
from ismgr_automation.ports.stacks import StackEngine
from ismgr_automation.ports.upkeep import Balancer, ClusterManager, MachineUpkeep, Snapshotter
from ismgr_automation.ports.verification import Verifier


class Mode(StrEnum):
    """What a scope is wired for: it decides whose credentials are at hand."""

    PLAN = "plan"
    """Looking only, with the environment's plan credentials where it has some: planning runs proposed code."""
    APPLY = "apply"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upkeep:
    """What keeps hosts up to date, behind ports."""

    facts: FactsReader
    packages: PackageManager
    restarter: Restarter
    balancer: Balancer
    cluster: ClusterManager
    machines: MachineUpkeep
    snapshots: Snapshotter
    advisories: AdvisoryReader
    first_seen: FirstSeen
    records: PatchStore
    timetable: Callable[[datetime], Calendar]
    """Windows and freezes from a moment on. Raises ``InputError`` for a calendar file that cannot be read."""
    committed: Callable[[str], datetime | None] = lambda _path: None
    """When the last commit changed a file of the estate; None where no commit says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bubbles:
    """What a drill in isolation needs, behind ports."""

    isolation: Isolation
    clones: Clones


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What moves a service to another site and measures it, behind ports."""

    fences: Fences
    standby: Standby
    switches: Switches
    functions: Functions
    probe: ProbeClient
    journal: Callable[[str], DrillJournal]
    """The journal of one run."""
    results: DrillStore
    clock: Callable[[], int]
    """Nanoseconds of the one clock by which verbs, probe and journal tell times."""
    attempts: Callable[[str], Sequence[Attempt]] = lambda _run: ()
    """What is left of the log of one drill's client on this machine; nothing where it is not here any more."""
    author: Callable[[str], str] = lambda _commit: ""
    """Who made a commit, as the commit says: ``NAME <EMAIL>``; empty where it does not say. Raises ``EngineError``."""
    bubbles: Bubbles | None = None
    """None: no drill in isolation."""
    pause: timedelta = timedelta(seconds=1)
    """Between two tries to make a leg ready, or to have a suite pass after a move."""
    look: timedelta = timedelta(milliseconds=20)
    """Between two looks at what the client has written, while service is to become steady."""
    faults: Faults | None = None
    """None: nothing can be broken here."""
    paper: Paper | None = None
    """Who writes down how verbs are done by hand."""
    backups: Backups
    file_backups: FileBackups


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines:
    """Everything that touches the world, behind ports."""

    stacks: StackEngine
    playbooks: PlaybookEngine
    prober: Prober
    verifier: Verifier
    ledger: Ledger
    content: Content
    secrets: SecretStore
    leases: LeaseStore
    runs: RunLedger
    journal: StepJournal
    executor: str
    """The name under which this process executes units."""
    sequencing: Callable[[Work], AbstractContextManager[Sequencer]]
    """Opens what carries units out, on this process and on workers, and closes it."""
    evidence: Callable[[str], Recorder]
    """The recorder of one run."""
    upkeep: Upkeep
    recovery: Recovery


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a run is limited to; empty for everything."""

    targets: tuple[Address, ...] = ()
    excludes: tuple[Address, ...] = ()

    def takes_host(self, name: str) -> bool:
        """Whether a host is inside the selection (hosts among the targets limit, hosts excluded are left out)."""
        wanted = {one.name for one in self.targets if one.kind is Kind.HOST}
        unwanted = {one.name for one in self.excludes if one.kind is Kind.HOST}
        return name not in unwanted and (not wanted or name in wanted)

    @property
    def names_hosts(self) -> bool:
        """Whether a host is among the targets or exclusions."""
        return any(one.kind is Kind.HOST for one in (*self.targets, *self.excludes))

    def texts(self) -> tuple[str, ...]:
        """The selection as sorted texts, for the inputs of a plan."""
        return tuple(sorted([*map(str, self.targets), *(f"-{one}" for one in self.excludes)]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """One estate, one environment, one selection, and the engines to work with."""

    estate: Estate
    tree: Tree
    environment_name: str
    environment: Environment
    state: str
    """URL of the state backend, absolute."""
    ssh: Ssh
    secret_backends: JsonObject
    engines: Engines
    context: Context
    safeguards: Safeguards
    credentials: PlanCredentials | None = None
    """Those of planning, where the environment has some and this scope only looks."""
    selection: Selection = Selection()
    galaxy: Path | None = None
    """Where the locked Galaxy content of the estate is installed: ``ansible_collections`` and ``roles``."""
    workers: int = 2
    """How many engines may work at once; one for each processor is a good number."""

    @property
    def lease(self) -> str:
        """The name of the lease that an apply takes."""
        return f"{self.estate.document.name}/{self.environment_name}"

    @property
    def documents(self) -> Mapping[str, str]:
        """Blob ids of the files that held documents."""
        return {path: self.tree.objects.get(path, "") for path in self.estate.files}
