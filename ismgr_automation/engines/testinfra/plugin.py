"""The pytest plugin of the child process: gives suites their hosts and variables, and says each result as it comes, one
JSON line on standard output. It reads its job from a file and writes none."""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from ismgr_automation.core.json import Json
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.engines.testinfra.backend import HostUnreachable, machine
from ismgr_automation.engines.testinfra.job import (
    CONTROLLER,
    LONGEST_MESSAGE,
    VARIABLE,
    Broken,
    Collected,
    Job,
    Word,
    say,
    shown,
)
from ismgr_automation.ports.hosts import Host
from ismgr_automation.ports.verification import CheckResult, Verdict

_PARAMETER = "_ismgr_machine"
# pytest puts a file in the place of standard output while tests run; this is the real one
_OUT = os.dup(1)
_JOB = Job.from_text(Path(os.environ[VARIABLE]).read_text(encoding="utf-8"))
_MACHINES = {host.name: machine(host, _JOB) for host in _JOB.hosts}
_HOSTS: Mapping[str, Host] = MappingProxyType({host.name: host for host in (*_JOB.inventory, *_JOB.hosts)})
_UNREACHABLE = pytest.StashKey[bool]()


@pytest.fixture(scope="module")
def _ismgr_machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def host(_ismgr_machine: str) -> Any:
    """The host as testinfra sees it; a test that takes it runs once for each host."""
    return _MACHINES[_ismgr_machine]


@pytest.fixture(scope="module")
def ismgr_host(_ismgr_machine: str) -> Host:
    """The host as ismgr knows it: name, address, labels, groups, site, variables."""
    return _HOSTS[_ismgr_machine]


@pytest.fixture(scope="session")
def ismgr_vars() -> Mapping[str, Json | SecretRef]:
    """The variables of the host group; secrets are references."""
    return MappingProxyType(dict(_JOB.variables))


@pytest.fixture(scope="session")
def ismgr_inventory() -> Mapping[str, Host]:
    """Every host of the estate by its name."""
    return _HOSTS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One run for each host, for tests that ask for one."""
    if _PARAMETER in metafunc.fixturenames:
        names = sorted(_MACHINES)
        metafunc.parametrize(_PARAMETER, names, ids=names, scope="module", indirect=True)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Say what will be checked; tests without a host are left to the first child."""
    suites = sorted({_suite(item) for item in items})
    others = [] if _JOB.first else [item for item in items if _host_of(item) == CONTROLLER]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]
    _say(Collected(suites=tuple(suites), checks=tuple(_identity(item) for item in items)))


def pytest_exception_interact(
    node: pytest.Item | pytest.Collector, call: pytest.CallInfo[Any], report: pytest.CollectReport | pytest.TestReport
) -> None:
    """A suite that cannot be loaded: say where."""
    if not isinstance(report, pytest.CollectReport) or call.excinfo is None:
        return
    problem = call.excinfo.value
    cause = problem.__cause__ or problem
    suite = shown(Path(node.path), _JOB.bases)
    if isinstance(cause, SyntaxError) and cause.filename:
        suite, line = shown(Path(cause.filename), _JOB.bases), cause.lineno or 1
    else:
        frames = [one for one in traceback.extract_tb(cause.__traceback__) if one.filename == str(node.path)]
        line = (frames[-1].lineno or 1) if frames else 1
    words = "".join(traceback.format_exception_only(cause)).strip().splitlines()
    _say(Broken(suite=suite, line=line, message=words[-1] if words else type(cause).__name__))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Turn what happened in a phase of a test into our verdict."""
    report: pytest.TestReport = yield
    if report.when == "call" or not report.passed:
        previous = item.stash.get(_DONE, None)
        verdict, message = _verdict(report, call)
        if previous is None:
            item.stash[_DONE] = (verdict, message, report.duration)
        elif verdict is Verdict.ERROR and previous[0] is not Verdict.FAILED:
            item.stash[_DONE] = (verdict, message, previous[2])
    if report.when == "teardown" and (found := item.stash.get(_DONE, None)) is not None:
        host_name, suite, check = _identity(item)
        verdict, message, seconds = found
        _say(
            CheckResult(
                host=host_name, suite=suite, check=check, verdict=verdict, seconds=round(seconds, 3), message=message
            )
        )
    return report


_DONE = pytest.StashKey[tuple[Verdict, str, float]]()


def _verdict(report: pytest.TestReport, call: pytest.CallInfo[None]) -> tuple[Verdict, str]:
    """A check that says no has failed; one that could not be made is an error."""
    if report.skipped:
        why = getattr(report, "wasxfail", "") or (call.excinfo.exconly() if call.excinfo else "")
        return Verdict.SKIPPED, str(why).removeprefix("Skipped: ")[:LONGEST_MESSAGE]
    if report.passed:
        return Verdict.PASSED, ""
    problem = call.excinfo.value if call.excinfo is not None else None
    if isinstance(problem, HostUnreachable):
        return Verdict.ERROR, str(problem)[:LONGEST_MESSAGE]
    said_no = isinstance(problem, AssertionError | pytest.fail.Exception) or problem is None
    verdict = Verdict.FAILED if said_no and report.when == "call" else Verdict.ERROR
    return verdict, _message(report, call)


def _message(report: pytest.TestReport, call: pytest.CallInfo[None]) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    where = f"{shown(Path(crash.path), _JOB.bases)}:{crash.lineno}: " if crash is not None else ""
    words = call.excinfo.exconly() if call.excinfo is not None else str(report.longrepr)
    return (where + words)[:LONGEST_MESSAGE]


def _identity(item: pytest.Item) -> tuple[str, str, str]:
    """Host, suite and name of a check; the host is taken out of the name, other parameters stay."""
    host_name = _host_of(item)
    callspec = getattr(item, "callspec", None)
    name = str(getattr(item, "originalname", None) or item.name)
    if callspec is not None:
        parts = list(callspec._idlist)  # noqa: SLF001  pytest joins them and keeps the list to itself
        if host_name in parts:
            parts.remove(host_name)
        name += f"[{'-'.join(parts)}]" if parts else ""
    parents = [one.name for one in item.listchain() if isinstance(one, pytest.Class)]
    return host_name, _suite(item), "::".join([*parents, name])


def _host_of(item: pytest.Item) -> str:
    callspec = getattr(item, "callspec", None)
    return str(callspec.params[_PARAMETER]) if callspec is not None and _PARAMETER in callspec.params else CONTROLLER


def _suite(item: pytest.Item) -> str:
    return shown(item.path, _JOB.bases)


def _say(word: Word) -> None:
    line = (say(word) + "\n").encode("utf-8", "backslashreplace")
    while line:
        line = line[os.write(_OUT, line) :]
