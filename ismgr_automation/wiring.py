"""The only place that names engines: from an estate and its settings to everything that stands behind a port."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, cached_property, partial
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ismgr_automation import shipped
from ismgr_automation.approval.safeguards import Safeguards
from ismgr_automation.converge.requests import group_variables, roles_path
from ismgr_automation.converge.scope import Bubbles, Engines, Mode, Recovery, Scope, Selection, Upkeep
from ismgr_automation.core.address import Address
from ismgr_automation.core.errors import EstateError, InputError
from ismgr_automation.core.json import Json, JsonObject, digest
from ismgr_automation.core.windows import Occurrence
from ismgr_automation.estate.load import load
from ismgr_automation.estate.model import Estate
from ismgr_automation.estate.resolve import become_password, reference, secret_backends, ssh, state_url
from ismgr_automation.estate.resolve import environment as choose
from ismgr_automation.planning.fleet import Fleet, ansible_groups
from ismgr_automation.planning.timing import AHEAD, Calendar
from ismgr_automation.ports.approvals import ApprovalStore
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.source import Source, Tree
from ismgr_automation.ports.stacks import StackState
from ismgr_automation.wiring_records import Records

if TYPE_CHECKING:
    from ismgr_automation.engines.secrets import Backends


def source(directory: Path) -> Source:
    """Where the estate in this folder comes from: the Git repository around it."""
    from ismgr_automation.engines.git import GitSource

    return GitSource(directory)


def safeguards(directory: Path) -> Safeguards:
    """What signatures and approvals of the estate in this folder are checked with."""
    from ismgr_automation.engines.git.approvals import GitApprovals
    from ismgr_automation.engines.git.commits import GitHistory
    from ismgr_automation.engines.signing import SshVerifier
    from ismgr_automation.engines.signing.pins import FilePins

    history = GitHistory(directory)
    return Safeguards(
        history=history,
        pins=FilePins(),
        verifier=SshVerifier,
        stores=(GitApprovals(directory),),
        # a commit says the same each time, and is asked for in every wave
        documents=cache(partial(_documents, directory)),
        folder=history.folder(),
    )


def _documents(directory: Path, commit: str) -> Estate:
    with tempfile.TemporaryDirectory(prefix="ismgr-base-") as folder:
        tree = source(directory).checkout(commit, Path(folder))
        found, diagnostics = load(tree.root, tree.objects)
    if found is None:
        raise EstateError(f"The estate has mistakes at commit {commit[:12]}.", diagnostics=diagnostics)
    return found


def timetable(estate: Estate, root: Path, now: datetime) -> Calendar:
    """The windows and freezes of an estate that is laid out at ``root``, with what the calendars of windows hold from
    ``now`` on. Raises ``InputError`` for a calendar that cannot be read."""
    from ismgr_automation.engines.calendars import read

    events: dict[str, tuple[Occurrence, ...]] = {}
    for name, window in estate.windows.items():
        if window.calendar is not None:
            place = shipped.resolve(window.calendar, root)
            try:
                text = place.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as problem:
                raise InputError(f"The calendar {window.calendar} cannot be read: {problem}.") from None
            events[name] = read(text, path=window.calendar, zone=window.time_zone, begin=now, end=now + AHEAD)
    return Calendar(windows=estate.windows, freezes=estate.freezes, events=events)


@dataclass(frozen=True, kw_only=True)
class TreeContent:
    """``ports.content.Content`` over a laid-out tree and what ships with ismgr."""

    tree: Tree
    _shipped: dict[Path, str] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        """Where the file or folder lies; raises ``InputError`` for a name that leaves its folder."""
        try:
            return shipped.resolve(name, self.tree.root)
        except ValueError as error:
            raise InputError(f"{error}") from None

    def digest(self, name: str) -> str:
        """Digest of the folder (for a playbook: of the folder around it, where its roles and templates are)."""
        path = self.path(name)
        if shipped.is_shipped(name):
            return self._digest(path if path.is_dir() else path.parent)
        folder = PurePosixPath(name) if path.is_dir() else PurePosixPath(name).parent
        inside = "" if str(folder) == "." else f"{folder}/"
        below = {key: blob for key, blob in self._objects.items() if key.startswith(inside)}
        return digest(dict(below))

    @cached_property
    def _objects(self) -> Mapping[str, Json]:
        return dict(self.tree.objects)

    def _digest(self, folder: Path) -> str:
        if folder not in self._shipped:
            files = {one.as_posix(): sha256((folder / one).read_bytes()).hexdigest() for one in shipped.files(folder)}
            self._shipped[folder] = digest(files)
        return self._shipped[folder]


def wire(
    estate: Estate,
    tree: Tree,
    *,
    directory: Path,
    environment: str | None,
    context: Context,
    selection: Selection,
    mode: Mode = Mode.PLAN,
) -> Scope:
    """Everything that a verb needs. ``directory`` is the estate's own folder: what is kept between runs (state,
    secrets, database) is relative to it, never to the laid-out tree."""
    from ismgr_automation.engines.ansible.engine import AnsibleEngine
    from ismgr_automation.engines.pulumi.engine import PulumiEngine
    from ismgr_automation.engines.pulumi.locate import find
    from ismgr_automation.engines.secrets import Backends
    from ismgr_automation.engines.ssh import SshProber
    from ismgr_automation.engines.testinfra.verifier import TestinfraVerifier

    chosen = choose(estate.document, environment)
    credentials = chosen.environment.plan_credentials if mode is Mode.PLAN else None
    backends = secret_backends(estate.document, directory, credentials, tree=tree.root)
    content = TreeContent(tree=tree)
    store = Backends.from_json(backends, key=reference(chosen.environment.passphrase))
    kept = Records(
        estate=estate,
        chosen=chosen,
        directory=directory,
        tree=tree.root,
        emit=context.emit,
        credentials=credentials,
    )
    if mode is Mode.APPLY and not tree.revision.worktree:
        kept.check_steps()
    engines = Engines(
        stacks=PulumiEngine(find, store, tree.root),
        playbooks=AnsibleEngine(store),
        prober=SshProber(store, become_password(estate.document.ssh, credentials)),
        verifier=TestinfraVerifier(store),
        ledger=kept.ledger,
        content=content,
        secrets=store,
        leases=kept.leases,
        runs=kept.runs,
        journal=kept.journal,
        executor=kept.executor,
        sequencing=kept.inline if tree.revision.worktree else kept.sequencing,
        evidence=kept.evidence,
        upkeep=_upkeep(estate, tree, store, kept, directory),
        recovery=_recovery(store, kept),
    )
    return Scope(
        estate=estate,
        tree=tree,
        environment_name=chosen.name,
        environment=chosen.environment,
        state=_ready(state_url(chosen.environment, directory)),
        ssh=ssh(estate.document.ssh, _known_hosts(estate, content), credentials),
        secret_backends=backends,
        engines=engines,
        context=context,
        safeguards=safeguards(directory),
        credentials=credentials,
        selection=selection,
        galaxy=_galaxy(estate, content),
        workers=max(2, os.cpu_count() or 2),
    )


def _upkeep(estate: Estate, tree: Tree, store: Backends, kept: Records, directory: Path) -> Upkeep:
    """What keeps hosts up to date."""
    import platformdirs

    from ismgr_automation.engines.advisories import FileAdvisories
    from ismgr_automation.engines.apt import AptFacts, AptManager
    from ismgr_automation.engines.git import GitSource
    from ismgr_automation.engines.haproxy import HaproxyBalancer
    from ismgr_automation.engines.postgresql import PostgresqlManager
    from ismgr_automation.engines.redfish_firmware import RedfishUpkeep
    from ismgr_automation.engines.restart import SystemdRestarter
    from ismgr_automation.engines.snapshots import CommandSnapshotter

    return Upkeep(
        facts=AptFacts(store),
        packages=AptManager(store),
        restarter=SystemdRestarter(store),
        balancer=HaproxyBalancer(store),
        cluster=PostgresqlManager(store),
        machines=RedfishUpkeep(store),
        snapshots=CommandSnapshotter(store),
        advisories=FileAdvisories(platformdirs.user_cache_path("ismgr") / "advisories"),
        first_seen=kept.first_seen,
        records=kept.patches,
        timetable=partial(timetable, estate, tree.root),
        committed=partial(GitSource(directory).committed, tree),
    )


def _recovery(store: Backends, kept: Records) -> Recovery:
    """What moves a service to another site and measures it."""
    from ismgr_automation.engines.faults import MachineFaults
    from ismgr_automation.engines.fences import HostFences, HostIsolation
    from ismgr_automation.engines.functions import ProcessFunctions
    from ismgr_automation.engines.git import GitSource
    from ismgr_automation.engines.paper import ShellPaper
    from ismgr_automation.engines.pgbackrest import PgbackrestBackups
    from ismgr_automation.engines.postgresql import PostgresqlClones, PostgresqlStandby
    from ismgr_automation.engines.probe import PostgresqlProbe
    from ismgr_automation.engines.restic import ResticBackups
    from ismgr_automation.engines.switches import ClientSwitches

    return Recovery(
        fences=HostFences(store),
        standby=PostgresqlStandby(store),
        switches=ClientSwitches(store),
        functions=ProcessFunctions(),
        probe=PostgresqlProbe(store),
        journal=kept.drill_journal,
        results=kept.drills,
        clock=time.monotonic_ns,
        faults=MachineFaults(store),
        paper=ShellPaper(),
        attempts=kept.drill_attempts,
        author=GitSource(kept.directory).author,
        bubbles=Bubbles(isolation=HostIsolation(store), clones=PostgresqlClones(store)),
        backups=PgbackrestBackups(store),
        file_backups=ResticBackups(store),
    )


def approvals_beside(plan: Path) -> ApprovalStore:
    """The approvals in the folder beside a plan file."""
    from ismgr_automation.engines.signing.files import FileApprovals

    return FileApprovals(plan)


def inventory(scope: Scope, fleet: Fleet, states: Mapping[Address, StackState]) -> JsonObject:
    """The inventory that plain ``ansible-playbook`` reads; it holds references instead of secrets."""
    from ismgr_automation.engines.ansible.inventory import render

    settings = scope.estate.document.ssh
    return render(
        fleet.hosts,
        ansible_groups(fleet.hosts, fleet.membership),
        group_variables={name: group_variables(scope, name, states) for name in sorted(scope.estate.groups)},
        become_password=reference(settings.become_password),
    )


def write_inventory(scope: Scope, fleet: Fleet, states: Mapping[Address, StackState], folder: Path) -> tuple[Path, ...]:
    """Write inventory, SSH configuration, known hosts and ``ansible.cfg`` for plain Ansible; returns the files."""
    from ismgr_automation.engines.ansible.handover import write_folder

    settings = scope.estate.document.ssh
    return write_folder(
        folder,
        fleet.hosts,
        scope.ssh,
        ansible_groups(fleet.hosts, fleet.membership),
        group_variables={name: group_variables(scope, name, states) for name in sorted(scope.estate.groups)},
        become=settings.become,
        become_password=reference(settings.become_password),
        roles_path=roles_path(scope),
    )


def lock_galaxy(requirements: Path) -> Path:
    """Get every artifact of a requirements file once, and write the lock beside it; returns the lock's path."""
    from ismgr_automation.engines.ansible.galaxy import lock, lock_path

    path = lock_path(requirements)
    path.write_text(lock(requirements), encoding="utf-8")
    return path


def _galaxy(estate: Estate, content: TreeContent) -> Path | None:
    """The locked Galaxy content, installed into this user's cache when it is not there yet."""
    named = estate.document.ansible.requirements
    if named is None:
        return None
    import platformdirs

    from ismgr_automation.engines.ansible.galaxy import install

    return install(content.path(named), platformdirs.user_cache_path("ismgr") / "galaxy")


def _ready(url: str) -> str:
    """The URL of the state; a folder of ours is made, so that the first run finds it."""
    if url.startswith("file:///"):
        Path(url.removeprefix("file://")).mkdir(parents=True, exist_ok=True)
    return url


def _known_hosts(estate: Estate, content: TreeContent) -> str:
    named = estate.document.ssh.known_hosts
    return content.path(named).read_text(encoding="utf-8", errors="replace") if named else ""
