"""Runs playbooks and reads inventories with Ansible. Decides nothing; secrets are taken out of all that it gives."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from ismgr_automation.core.address import Kind
from ismgr_automation.core.errors import EngineFailed, EngineMissing, InputError, IsmgrError
from ismgr_automation.core.events import OutputSeen, TaskFinished
from ismgr_automation.core.json import Json
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines import process
from ismgr_automation.engines.ansible import inventory as rendering
from ismgr_automation.engines.ansible import settings
from ismgr_automation.engines.ansible.desk import Desk, Message
from ismgr_automation.engines.ansible.failures import ENGINE, failure
from ismgr_automation.engines.ansible.leftovers import end_marked
from ismgr_automation.engines.ansible.reading import read_inventory
from ismgr_automation.engines.ansible.redaction import Cleaner
from ismgr_automation.engines.ansible.results import Collector, TaskEvent
from ismgr_automation.engines.ansible.sweeping import environment, mark_of, sweep
from ismgr_automation.engines.ansible.telling import Teller
from ismgr_automation.engines.ssh import Session, session
from ismgr_automation.engines.ssh.fencing import Fence, Fenced, fence
from ismgr_automation.engines.ssh.remote import Rights, Targets
from ismgr_automation.engines.ssh.scratch import scratch
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Host, PlaybookRequest, PlaybookResult, Reachability, Status, TaskResult
from ismgr_automation.ports.secrets import SecretStore

GRACE = timedelta(seconds=2)
"""How long a stopped Ansible may take to end by itself."""
_LINES_KEPT = 200


class AnsibleEngine:
    """Implements ``ports.hosts.PlaybookEngine``."""

    def __init__(self, store: SecretStore) -> None:
        self._store = store

    def check(self, request: PlaybookRequest, context: Context) -> PlaybookResult:
        """Check mode with diff: looks, and changes nothing."""
        return self._play(request, context, looking=True)

    def run(self, request: PlaybookRequest, context: Context) -> PlaybookResult:
        """Make it so. Raises ``LeaseLost`` when a host has seen a larger fencing token, ``InputError`` for a wrong
        playbook, ``EngineError``, and ``Cancelled``."""
        return self._play(request, context, looking=False)

    def sweep(self, request: PlaybookRequest, context: Context) -> tuple[str, ...]:
        """End what the run ``context.run`` left running on the hosts of ``limit`` for this address."""
        cleaner = Cleaner()
        targets = _targets(request, request.limit)
        if not context.run or not targets.names:
            return ()
        try:
            for ref in _secrets(request):
                cleaner.learn(self._store.open(ref))
        except IsmgrError:
            # command lines may hold what we cannot open: then only the names of programs are told
            mark = mark_of(context.run, request.address)
            return sweep(mark, targets, request.become_password, self._store, _program).left
        mark = mark_of(context.run, request.address)
        return sweep(mark, targets, request.become_password, self._store, cleaner.clean).left

    def read_inventory(self, path: Path, root: Path) -> tuple[Host, ...]:
        """Hosts of an existing Ansible inventory (file, folder or script), with their groups and variables."""
        return read_inventory(path, root)

    def _play(self, request: PlaybookRequest, context: Context, *, looking: bool) -> PlaybookResult:
        if not request.playbook.is_file():
            raise InputError(f"{request.address}: there is no playbook {request.playbook}.")
        hosts = tuple(host for host in request.inventory if _uses_ssh(host))
        mark = mark_of(context.run, request.address)
        with _folders(context.work) as places, contextlib.ExitStack() as stack:
            marks = environment(mark)
            here = stack.enter_context(session(hosts, request.ssh, self._store, places.private, environment=marks))
            excluded = {one.host: one for one in here.excluded if one.host in request.limit}
            limit = [name for name in request.limit if name not in excluded]
            fenced = Fenced() if looking else self._fence(request, context, limit)
            excluded |= {one.host: one for one in fenced.unreachable}
            broken = dict(fenced.broken)
            run = _Run(
                request=request,
                context=context,
                looking=looking,
                places=places,
                limit=[name for name in limit if name not in excluded and name not in broken],
                mark=mark,
            )
            if run.limit:
                run.play(here, self._store)
        return run.result(excluded, broken)

    def _fence(self, request: PlaybookRequest, context: Context, limit: Sequence[str]) -> Fenced:
        if not request.fence or not context.token:
            return Fenced()
        ours = Fence(
            name=request.fence,
            token=context.token,
            run=context.run,
            rights=Rights.ROOT if request.become else Rights.USER,
            become_password=request.become_password,
        )
        return fence(ours, _targets(request, limit), self._store, context.cancelled)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Places:
    private: Path
    """Below the run's own folder: inventory, settings, SSH configuration; no secret."""
    memory: Path
    """In memory where the machine has such a place: Ansible renders templates there."""


@contextlib.contextmanager
def _folders(work: Path) -> Iterator[_Places]:
    shared = Path("/dev/shm")  # noqa: S108  the folder in it is private
    try:
        work.mkdir(parents=True, exist_ok=True)
        private = Path(tempfile.mkdtemp(prefix="ansible-", dir=work))
    except OSError as error:
        raise _full(error, work) from error
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, private, ignore_errors=True)
        base = shared if os.access(shared, os.W_OK) else private
        try:
            memory = stack.enter_context(scratch(base))
        except OSError as error:
            raise _full(error, base) from error
        yield _Places(private=private, memory=memory)


def _full(error: OSError, folder: Path) -> EngineFailed:
    return EngineFailed(
        f"Cannot prepare Ansible in {folder}: {error.strerror or error}.",
        engine=ENGINE,
        untouched="No host was touched.",
        next_step="Free space there and run again.",
    )


@dataclass(slots=True, kw_only=True)
class _Run:
    """One ansible-playbook, from files to result."""

    request: PlaybookRequest
    context: Context
    looking: bool
    places: _Places
    limit: list[str]
    mark: str
    teller: Teller = field(init=False)
    leftovers: tuple[str, ...] = ()
    cleaner: Cleaner = field(default_factory=Cleaner)
    collector: Collector = field(init=False)
    said: deque[str] = field(default_factory=lambda: deque(maxlen=_LINES_KEPT))

    def __post_init__(self) -> None:
        self.teller = Teller(self.context.emit, self.request.address)
        self.collector = Collector(looking=self.looking, shown_from=_shown_from(self.request))

    def play(self, here: Session, store: SecretStore) -> None:
        """Run it; the collector knows the rest afterwards."""
        desk = Desk(here.sockets, store, _secrets(self.request), self.cleaner, self._heard)
        try:
            with self.teller:
                body = self._prepare(here, desk)
                with desk:
                    code = self._execute(body)
        except BaseException as error:
            # Ansible's workers lead sessions of their own, so stopping it may leave some
            end_marked("ISMGR_TOKEN", desk.token)
            # after its end only a watcher can have failed
            told = self._sweep(store) if self.collector.failures is None else ()
            if isinstance(error, IsmgrError):
                error.next_step = " ".join(filter(None, (error.next_step, *told)))
            raise
        if self.collector.failures is None:
            raise failure(code, "\n".join(self.said), subject=str(self.request.address), root=self.request.root)
        self.leftovers = self._sweep(store, self._gone())

    def _sweep(self, store: SecretStore, names: Collection[str] | None = None) -> tuple[str, ...]:
        """End what still runs on hosts after we were stopped; what became of it, in sentences."""
        targets = _targets(self.request, sorted(self.collector.stories if names is None else names))
        if not targets.names:
            return ()
        swept = sweep(self.mark, targets, self.request.become_password, store, self.cleaner.clean)
        running = self.collector.running()
        ended = [f"{host} ({running[host]})" if host in running else host for host in swept.ended]
        return (*([f"What still ran was ended on {', '.join(ended)}."] if ended else []), *swept.left)

    def _gone(self) -> list[str]:
        """Hosts that went away when something had been done there already: a task may go on without us."""
        stories = self.collector.stories
        return [] if self.looking else [name for name in self.collector.unreachable if stories[name].counts.total() > 1]

    def result(self, excluded: Mapping[str, Reachability], broken: Mapping[str, str]) -> PlaybookResult:
        """What was found, the hosts that nobody could connect to included, and those that took no fence."""
        unreachable = {**excluded, **self.collector.unreachable}
        failed = self._failed(set(unreachable))
        recovered = {host for host in self.collector.stories if host not in failed}
        counts: dict[str, Mapping[Status, int]] = {
            host: dict(story.counts) for host, story in sorted(self.collector.stories.items())
        }
        counts |= {host: {Status.UNREACHABLE: 1} for host in excluded} | {host: {Status.FAILED: 1} for host in broken}
        refused = tuple(
            TaskResult(host=host, task="Fence", role="", status=Status.FAILED, message=why, path="fence")
            for host, why in sorted(broken.items())
        )
        kept = [
            one
            for one in self.collector.tasks
            # a failed task on a host that did not fail was rescued by its block
            if one.status is not Status.FAILED or one.unpredictable or one.host not in recovered
        ]
        return PlaybookResult(
            # hosts answer in any order; the tasks of each stay in theirs
            tasks=refused + tuple(sorted(kept, key=lambda one: one.host)),
            counts=counts,
            unreachable=tuple(unreachable[name] for name in sorted(unreachable)),
            failed=tuple(sorted(failed | set(broken))),
            engine=f"ansible-core {importlib.metadata.version('ansible-core')}",
            leftovers=self.leftovers,
        )

    def _failed(self, unreachable: Collection[str]) -> set[str]:
        failures = self.collector.failures or {}
        doubtful = {one.host for one in self.collector.tasks if one.status is Status.FAILED and one.unpredictable}
        failed = {host for host, count in failures.items() if count} - doubtful
        if self.collector.stopped:
            # neither done: those whose play was given up because of others, and those whose turn never came
            failed |= self.collector.cut_short | (set(self.limit) - set(self.collector.stories))
            failed -= doubtful if self.looking else set()
        return failed - set(unreachable)

    def _prepare(self, here: Session, desk: Desk) -> bytes:
        request, private = self.request, self.places.private
        estate = settings.find_settings(request.playbook, request.root)
        for name in estate.ignored:
            self._say(f"ansible.cfg: {name} is left out; ismgr decides about it")
        config = private / "ansible.cfg"
        files = {
            config: settings.render_settings(estate, request.roles_path, request.collections_path),
            private / "hosts.json": json.dumps(self._inventory(here)),
            private / "limit": "\n".join(self.limit) + "\n",
            private / "ours.json": json.dumps(self._ours(here)),
        }
        try:
            for path, text in files.items():
                path.write_text(text)
        except OSError as error:
            raise _full(error, private) from error
        environment = settings.environment(os.environ, config=config, memory=self.places.memory) | {
            "ANSIBLE_CALLBACK_PLUGINS": str(settings.PLUGINS / "callback"),
            "ANSIBLE_STDOUT_CALLBACK": "ismgr_events",
            "ANSIBLE_INVENTORY_ENABLED": "yaml",
            "ANSIBLE_TIMEOUT": str(max(1, round(request.ssh.connect_timeout.total_seconds()))),
            **({} if "gathering" in estate.defaults else {"ANSIBLE_GATHERING": "smart"}),
            **desk.environment,
        }
        body = {
            "executable": _executable("ansible-playbook"),
            "arguments": self._arguments(),
            "environment": environment,
            "private": str(private / "runner"),
            "artifacts": str(self.places.memory / "artifacts"),
            "folder": str(request.root),
        }
        return json.dumps(body).encode()

    def _inventory(self, here: Session) -> Json:
        request = self.request
        # the variables of the request are those of its group, by Ansible's own rules: a host's own come before them
        mine = rendering.group_name(request.address.name)
        known = {rendering.group_name(name) for name in request.groups}
        groups = dict(request.groups)
        if request.address.kind is not Kind.GROUP or mine not in known:
            groups[mine] = request.limit
        return rendering.render(
            request.inventory,
            groups,
            group_variables={mine: request.variables},
            become_password=request.become_password,
            ssh_config=here.config,
        )

    def _ours(self, here: Session) -> Mapping[str, Json]:
        return {**rendering.SSH_IS_OURS, "ansible_ssh_args": f"-F {here.config}"}

    def _arguments(self) -> list[str]:
        private = self.places.private
        return [
            *("-i", str(private / "hosts.json")),
            *("--limit", f"@{private / 'limit'}"),
            *("-e", f"@{private / 'ours.json'}"),
            *("--forks", str(self.request.forks)),
            "--diff",
            *(["--check"] if self.looking else []),
            *(["--become"] if self.request.become else []),
            "--",
            str(self.request.playbook),
        ]

    def _execute(self, body: bytes) -> int:
        request = self.request
        done = process.run(
            [sys.executable, "-m", "ismgr_automation.engines.ansible.worker"],
            engine=ENGINE,
            subject=str(request.address),
            deadline=request.deadline,
            cwd=request.root,
            env=settings.kept_environment(os.environ),
            stdin=body,
            on_stdout=self._say,
            on_stderr=self._say,
            cancelled=self.context.cancelled,
            grace=GRACE,
            clean=self.cleaner.clean,
            leash=self.context.leash,
        )
        return done.code

    def _say(self, line: str) -> None:
        cleaned = self.cleaner.clean(line)
        if cleaned.strip():
            self.said.append(cleaned)
            self.teller(OutputSeen(subject=self.request.address, text=cleaned))

    def _heard(self, message: Message) -> None:
        collector = self.collector
        match message.get("kind"):
            case "play":
                collector.play_started()
            case "start":
                collector.task_started(str(message["host"]), str(message["task"]))
            case "stopped":
                collector.play_stopped()
            case "stats":
                found = message["failures"]
                counted = found if isinstance(found, Mapping) else {}
                collector.ended({str(host): int(str(count)) for host, count in counted.items()})
            case "task":
                result = collector.task_ended(TaskEvent.read(message))
                self.teller(
                    TaskFinished(
                        subject=self.request.address, host=result.host, task=result.task, status=str(result.status)
                    )
                )
            case other:
                raise EngineFailed(
                    f"Ansible told something unknown: {other}",
                    engine=ENGINE,
                    next_step="Is another ismgr_automation on the path? Install one only.",
                )


def _targets(request: PlaybookRequest, names: Sequence[str]) -> Targets:
    """Those of the hosts that are worked on over SSH."""
    hosts = tuple(host for host in request.inventory if _uses_ssh(host))
    known = {host.name for host in hosts}
    return Targets(hosts=hosts, names=tuple(name for name in names if name in known), ssh=request.ssh)


def _secrets(request: PlaybookRequest) -> frozenset[SecretRef]:
    """What a run of this request may open."""
    named = [request.variables, *(host.variables for host in request.inventory)]
    found = frozenset[SecretRef]().union(*map(rendering.references, named))
    return found | ({request.become_password} if request.become_password else set())


def _program(command: str) -> str:
    return command.split(" ", 1)[0]


def _uses_ssh(host: Host) -> bool:
    return host.variables.get("ansible_connection", "ssh") in {"ssh", "smart", "ansible.builtin.ssh"}


def _shown_from(request: PlaybookRequest) -> tuple[tuple[Path, str], ...]:
    """Task paths must not name this machine's folders: a plan is the same wherever it is made."""
    return (
        (request.root, ""),
        *((folder, "roles") for folder in request.roles_path),
        (request.playbook.parent, ""),
    )


def _executable(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise EngineMissing(
            engine=ENGINE,
            needed=name,
            found=(str(beside), f"PATH: no {name}"),
            ways=("install ismgr_automation with its dependencies: pip install ansible-core",),
        )
    return found
