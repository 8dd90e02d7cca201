"""Verification suites: what we ask of a test runner such as testinfra, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from ismgr_automation.core.json import Json
from ismgr_automation.core.secret import SecretRef
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Host, Ssh


class Verdict(StrEnum):
    """How one check ended. ERROR means the check could not be made: it never counts as passed."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One check on one host. ``suite`` is the file, relative to the estate or to our shipped content."""

    host: str
    suite: str
    check: str
    verdict: Verdict
    seconds: float
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteRequest:
    """Test files to run against hosts. Tests get testinfra's ``host`` fixture, and a fixture ``ismgr_vars`` with the
    group's variables (secret references stay references there)."""

    suites: tuple[Path, ...]
    hosts: Sequence[Host]
    inventory: tuple[Host, ...]
    variables: Mapping[str, Json | SecretRef]
    ssh: Ssh
    become: bool
    root: Path
    deadline: timedelta


class Verifier(Protocol):
    """Runs suites in parallel. Raises ``EngineError``; ``InputError`` for a suite that cannot be loaded."""

    def verify(self, request: SuiteRequest, context: Context) -> tuple[CheckResult, ...]:
        """Every check on every host, sorted by host, suite, check."""
        ...
