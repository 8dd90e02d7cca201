"""The suite's own guard: after the last test no file, process or printed line holds a canary secret (see canaries)."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.canaries import Leak, ProcessWatch, Wanted, given, kept, learn, learnt, patterns, search, spelled

RUNS = ((Path(tempfile.gettempdir()), "ismgr-*"), (Path("/dev/shm"), "ismgr-*"))
"""Folders that runs make outside of those of tests, and should have removed: where, and how they are called."""


class Guard:
    """What one pytest process saw: processes started by it and below it, and what tests printed."""

    def __init__(self) -> None:
        self.began = time.time()
        self.leaks: dict[str, str] = {}
        self.now = ""
        self.wanted = Wanted(spelled())
        self.watch = ProcessWatch(self.wanted, note=self.note)
        self.looking = True
        self.seconds = 0.0

    def note(self, leak: Leak) -> None:
        """Keep where it was found first."""
        if "house/test_canaries.py" in self.now:
            return  # there a run within this run leaks on purpose, and finds it
        self.leaks.setdefault(str(leak), self.now)

    def started(self, event: str, args: tuple[object, ...]) -> None:
        """An audit hook: every child that this process starts, however short its life is."""
        if event != "subprocess.Popen" or not self.looking:
            return
        program, arguments, _, environment = args
        words = arguments if isinstance(arguments, Iterable) and not isinstance(arguments, str | bytes) else [arguments]
        variables = environment if isinstance(environment, Mapping) else os.environ
        encoded = {_bytes(key): _bytes(value) for key, value in variables.items()}
        for leak in given(str(program), map(_bytes, words), encoded, self.wanted):
            self.note(leak)

    def printed(self, report: pytest.TestReport) -> None:
        """What a test printed or logged, and nobody took."""
        for title, text in report.sections:
            if self.wanted.search(text.encode(errors="replace")):
                self.leaks.setdefault(f"{report.nodeid}: {title}", report.nodeid)


def search_now(folder: Path) -> None:
    """Search a folder that will not be there any more when the session ends."""
    for path in search([folder], patterns({*spelled(), *learnt()})):
        _here[-1].leaks.setdefault(f"the file {path}", "")


_guard = pytest.StashKey[Guard]()
_here: list[Guard] = []
"""The guard of this process: some hooks are not told which session they belong to."""


def pytest_configure(config: pytest.Config) -> None:
    """One guard for each process of pytest."""
    guard = config.stash[_guard] = Guard()
    _here.append(guard)
    sys.addaudithook(guard.started)
    guard.watch.__enter__()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Nothing is left behind."""
    guard = config.stash[_guard]
    guard.looking = False
    guard.watch.__exit__()
    _here.remove(guard)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Which test it was."""
    item.config.stash[_guard].now = item.nodeid
    return (yield)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """What was printed is looked at where it comes together."""
    if _here:
        _here[-1].printed(report)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object, error: object | None) -> None:
    """What a worker saw, and what its fixtures made up."""
    told = getattr(node, "workeroutput", {}).get("canaries", {})
    for what, where in told.get("leaks", {}).items():
        _here[-1].leaks.setdefault(what, where)
    for value in told.get("learnt", ()):
        learn(value)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker tells what it saw; the process that somebody started searches all files, and fails the run."""
    config = session.config
    guard = config.stash[_guard]
    output = getattr(config, "workeroutput", None)
    if output is not None:
        output["canaries"] = {"leaks": guard.leaks, "learnt": list(learnt())}
        return
    before = time.monotonic()
    folders = list(_folders(config, guard.began))
    secrets = {*spelled(), *learnt(), *(value for folder in folders for value in kept(folder))}
    for path in search(folders, patterns(secrets)):
        guard.leaks.setdefault(f"the file {path}", "")
    guard.seconds = time.monotonic() - before
    if guard.leaks and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What was found, or that nothing was."""
    guard = config.stash[_guard]
    if not guard.leaks:
        return
    terminalreporter.section("canary secrets", red=True)
    for what, where in sorted(guard.leaks.items()):
        terminalreporter.line(f"CANARY {what}{f' ({where})' if where else ''}")
    terminalreporter.line(
        f"{len(guard.leaks)} places hold a secret, and none may: see tests/canaries.py ({guard.seconds:.1f} s)."
    )


def _folders(config: pytest.Config, began: float) -> Iterator[Path]:
    """Where this session can have written: its own folders, and those of runs that it left behind."""
    base: Path | None = getattr(config, "_tmp_path_factory").getbasetemp()  # noqa: B009  it has no public name
    if base is not None:
        yield base
    for place, name in RUNS:
        yield from (one for one in place.glob(name) if _since(one, began))
    for report in (config.getoption("xmlpath", None), config.getoption("log_file", None)):
        if report:
            yield Path(report)


def _since(path: Path, began: float) -> bool:
    try:
        return path.stat().st_mtime >= began and path.stat().st_uid == os.geteuid()
    except OSError:
        return False  # gone between the two looks


def _bytes(value: object) -> bytes:
    return os.fsencode(value) if isinstance(value, str | bytes | os.PathLike) else str(value).encode()
