"""Runs suites against hosts: a few pytest processes side by side, each with its share of the hosts, results as they
come. A suite that cannot be loaded is an input error, a host that cannot be reached an error for each of its checks."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from ismgr_automation import shipped
from ismgr_automation.core.diagnostic import Diagnostic, Position
from ismgr_automation.core.errors import EngineFailed, EngineTimedOut, InputError
from ismgr_automation.core.events import CheckFinished
from ismgr_automation.core.secret import Redactor
from ismgr_automation.engines import process
from ismgr_automation.engines.ssh import session
from ismgr_automation.engines.testinfra.job import VARIABLE, Broken, Collected, Job, hear, shown
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Host
from ismgr_automation.ports.secrets import SecretStore
from ismgr_automation.ports.verification import CheckResult, SuiteRequest, Verdict

ENGINE = "testinfra"
PROCESSES = 4
"""Checks wait for hosts most of the time: more processes than processors pay, up to about this many."""

_PLUGIN = "ismgr_automation.engines.testinfra.plugin"

EXITS: Mapping[int, bool] = {
    0: True,  # all passed
    1: True,  # some failed
    2: False,  # interrupted; also for a suite that cannot be read, which is said before
    3: False,  # an error inside pytest or a plugin
    4: False,  # wrong arguments
    5: True,  # no tests: they may all belong to another child
    6: False,  # too many warnings
}
"""Each exit code of pytest: whether what the child said is all that there is to say."""

_GRACE = timedelta(seconds=3)


class TestinfraVerifier:
    """Implements ``ports.verification.Verifier``."""

    __test__ = False  # a name that begins with Test is not always a test

    def __init__(self, store: SecretStore, processes: int = PROCESSES) -> None:
        self._store = store
        self._processes = processes

    def verify(self, request: SuiteRequest, context: Context) -> tuple[CheckResult, ...]:
        """Every check on every host, sorted by host, suite and name.

        What is not finished at the deadline is an error, like what could not be made. Raises ``InputError`` with every
        suite that is missing, empty or broken, ``EngineFailed`` when pytest itself fails, ``EngineTimedOut`` when not
        even the suites were read in time, ``Cancelled``.
        """
        bases = ((str(request.root.resolve()), ""), (str(shipped.root()), shipped.PREFIX))
        _present(request.suites, bases)
        if not request.hosts or not request.suites:
            return ()
        shards = _spread(request.hosts, self._processes)
        everyone = {host.name: host for host in (*request.inventory, *request.hosts)}
        with session(tuple(everyone.values()), request.ssh, self._store, context.work) as way:
            excluded = {one.host: f"{one.host} cannot be reached ({one.reach}): {one.detail}" for one in way.excluded}
            jobs = [
                Job(
                    hosts=shard,
                    inventory=request.inventory,
                    variables=request.variables,
                    ssh_config=str(way.config),
                    become=request.become,
                    excluded=excluded,
                    bases=bases,
                    first=index == 0,
                )
                for index, shard in enumerate(shards)
            ]
            run = _Run(request=request, context=context, redactor=way.redactor)
            with ThreadPoolExecutor(max_workers=len(jobs), thread_name_prefix="ismgr-verify") as pool:
                shares = list(pool.map(run.shard, jobs))
        _refuse_broken(shares, request, bases)
        found = [check for share in shares for check in share.results()]
        return tuple(sorted(found, key=lambda one: (one.host, one.suite, one.check)))


@dataclass(slots=True, kw_only=True)
class _Share:
    """What one child has said so far."""

    collected: Collected | None = None
    broken: list[Broken] = field(default_factory=list)
    checks: list[CheckResult] = field(default_factory=list)
    stopped: str = ""
    """Why the child ended early, empty when it did not."""

    def results(self) -> list[CheckResult]:
        """What was checked, and an error for whatever was meant to be and was not."""
        done = {(one.host, one.suite, one.check) for one in self.checks}
        missing = [one for one in (self.collected.checks if self.collected else ()) if one not in done]
        return self.checks + [
            CheckResult(host=host, suite=suite, check=check, verdict=Verdict.ERROR, seconds=0.0, message=self.stopped)
            for host, suite, check in missing
        ]


@dataclass(slots=True, kw_only=True)
class _Run:
    """One call of ``verify``: what its children share."""

    request: SuiteRequest
    context: Context
    redactor: Redactor
    lock: threading.Lock = field(default_factory=threading.Lock)

    def shard(self, job: Job) -> _Share:
        """Run one child to its end."""
        with self._folder(job) as folder:
            return self._child(job, folder)

    def _child(self, job: Job, folder: Path) -> _Share:
        share = _Share()
        names = ", ".join(host.name for host in job.hosts[:3]) + (", ..." if job.hosts[3:] else "")
        try:
            finished = process.run(
                _command(self.request, folder),
                engine=ENGINE,
                subject=f"verification of {names}",
                deadline=self.request.deadline,
                cwd=folder,
                env=_environment(folder),
                on_stdout=lambda line: self._heard(line, share),
                cancelled=self.context.cancelled,
                leash=self.context.leash,
                grace=_GRACE,
                clean=self.redactor.clean,
            )
        except EngineTimedOut:
            if share.collected is None:
                raise
            share.stopped = f"not finished after {self.request.deadline.total_seconds():g} s, and stopped"
            return share
        complete = EXITS.get(finished.code, False) and share.collected is not None
        if not complete and not share.broken:
            raise EngineFailed(
                f"pytest ended with {finished.code} while it verified {names}.",
                engine=ENGINE,
                subject=names,
                untouched="Verification changes nothing.",
                next_step="The words of pytest are above; run the suite alone with `ismgr verify -t group/NAME`.",
                detail=self.redactor.clean((finished.stderr or finished.stdout)[-4000:]),
            )
        share.stopped = "the suite ended before this check was made"
        return share

    def _heard(self, line: str, share: _Share) -> None:
        word = hear(line)
        match word:
            case None:
                pass
            case Collected():
                share.collected = word
            case Broken():
                share.broken.append(replace(word, message=self.redactor.clean(word.message)))
            case CheckResult():
                check = replace(word, message=self.redactor.clean(word.message))
                share.checks.append(check)
                with self.lock:
                    self.context.emit(
                        CheckFinished(
                            host=check.host,
                            check=check.check,
                            verdict=str(check.verdict),
                            seconds=check.seconds,
                            message=check.message,
                        )
                    )

    @contextlib.contextmanager
    def _folder(self, job: Job) -> Iterator[Path]:
        """A private folder for one child, with its job; gone afterwards."""
        work = self.context.work
        try:
            work.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix="verify-", dir=work))
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            try:
                (folder / "job.json").write_text(job.to_text(), encoding="utf-8")
            except OSError as error:
                raise self._unwritable(error) from error
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _unwritable(self, error: OSError) -> EngineFailed:
        return EngineFailed(
            f"Cannot prepare the verification in {self.context.work}: {error.strerror or error}.",
            engine=ENGINE,
            untouched="No host was touched.",
            next_step="Free space there, or set TMPDIR to a folder with some.",
        )


def _command(request: SuiteRequest, folder: Path) -> list[str]:
    """Pytest with nothing of the surroundings: no settings file, no plugin that happens to be installed, no cache."""
    root = str(request.root.resolve())
    return [
        *(sys.executable, "-P", "-m", "pytest"),
        *("-c", os.devnull, "--rootdir", root, "--confcutdir", root),
        *("--import-mode", "importlib", "--basetemp", str(folder / "tmp")),
        *("-p", "no:cacheprovider", "-p", "no:terminal", "-p", "no:doctest", "-p", _PLUGIN),
        *("-o", "python_files=test_*.py *_test.py"),
        "--",
        *(str(path.resolve()) for path in request.suites),
    ]


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_CORE_"))}
    return {
        **kept,
        VARIABLE: str(folder / "job.json"),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(folder),
    }


def _spread(hosts: Sequence[Host], processes: int) -> list[tuple[Host, ...]]:
    """Deal the hosts out; neighbours, which are often equally slow, go to different processes. Names of one machine
    stay together: they share a connection, and it ends with the process that made it."""
    machines: dict[tuple[str, int], list[Host]] = {}
    for host in hosts:
        machines.setdefault((host.address, host.port), []).append(host)
    dealt = list(machines.values())
    count = max(1, min(processes, len(dealt)))
    return [tuple(itertools.chain.from_iterable(dealt[index::count])) for index in range(count)]


def _present(suites: Iterable[Path], bases: tuple[tuple[str, str], ...]) -> None:
    wrong = [
        Diagnostic(
            summary="there is no such suite",
            position=Position(shown(path.resolve(), bases), 1, 1),
            expected="a file or a folder with tests",
        )
        for path in suites
        if not path.exists()
    ]
    if wrong:
        raise InputError("A verification suite is missing.", diagnostics=wrong)


def _refuse_broken(shares: Sequence[_Share], request: SuiteRequest, bases: tuple[tuple[str, str], ...]) -> None:
    """Every child reads the same suites: what is broken is said once, and nothing of the run counts."""
    broken = {(one.suite, one.line): one for share in shares for one in share.broken}
    wrong = [
        Diagnostic(summary=f"the suite cannot be loaded: {one.message}", position=Position(one.suite, one.line, 1))
        for _, one in sorted(broken.items())
    ]
    held = {suite for share in shares if share.collected for suite in share.collected.suites}
    for path in () if wrong else request.suites:
        label = shown(path.resolve(), bases)
        if not any(one == label or one.startswith(f"{label}/") for one in held):
            summary = "the suite holds no tests"
            wrong.append(Diagnostic(summary=summary, position=Position(label, 1, 1), expected="functions test_*"))
    if wrong:
        raise InputError("A verification suite cannot be used.", diagnostics=wrong)
