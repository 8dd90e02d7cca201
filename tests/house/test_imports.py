"""What importing costs, and which room may know which library."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.house.sources import PACKAGE, Source, python

HEAVY = {
    *("ansible", "ansible_runner", "asyncssh", "boto3", "botocore", "celpy", "cryptography", "dbos", "debugpy", "dns"),
    *("fastapi", "git", "grpc", "jinja2", "opentelemetry", "psutil", "pulumi", "pydantic", "pytest", "requests"),
    *("hvac", "sushy", "sushy_tools", "testinfra", "yaml"),
    *("cvss", "dateutil", "debian", "icalendar", "recurring_ical_events"),
    "fpdf",
}
"""What may not be loaded before it is used."""

ROOMS: dict[str, tuple[str, ...]] = {
    "ansible": ("engines.ansible", "engines.secrets"),  # the latter for ansible-vault alone
    "ansible_runner": ("engines.ansible",),
    "asyncssh": ("engines.ssh", "lab"),
    "boto3": ("engines.aws",),
    "cvss": ("engines.advisories",),
    "dateutil": ("core.windows", "engines.calendars"),
    "debian": ("engines.advisories", "engines.apt", "patching"),
    "dns": ("engines.dns", "engines.probe.names", "engines.switches.secondaries", "lab"),
    "fpdf": ("reports.drill_pdf",),
    "git": ("engines.git",),
    "hvac": ("engines.secrets",),
    "icalendar": ("engines.calendars",),
    "pulumi": ("engines.pulumi", "provider", "resources"),
    "pytest": ("engines.testinfra",),
    "recurring_ical_events": ("engines.calendars",),
    "requests": ("engines.advisories", "engines.redfish", "engines.secrets", "lab"),
    "rich": ("cli", "lab", "reports"),
    "sushy": ("engines.redfish",),
    "sushy_tools": ("lab",),
    "testinfra": ("engines.testinfra",),
    "typer": ("cli",),
    "yaml": ("estate", "engines", "lab"),
}
"""One technology, one room: the library on the left is imported only below the rooms on the right."""


def _loaded(statement: str) -> set[str]:
    """The modules that a fresh interpreter has after the statement and had not before."""
    look = "print(json.dumps(sorted(set(sys.modules) - before)))"
    code = f"import sys, json; before = set(sys.modules); {statement}; {look}"
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    return set(json.loads(answer.stdout.splitlines()[-1]))


def _packages(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


def _strangers(source: Source) -> list[str]:
    return [
        f"{source.path}:{line} imports {library}; only {', '.join(ROOMS[library])} may"
        for line, library in _imported(source)
        if library in ROOMS and not any(source.module.startswith(f"ismgr_automation.{room}") for room in ROOMS[library])
    ]


def _imported(source: Source) -> Iterator[tuple[int, str]]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module.partition(".")[0]


def test_importing_the_library_loads_next_to_nothing() -> None:
    modules = _loaded("import ismgr_automation")
    assert not _packages(modules) & (HEAVY | {"rich", "typer", "asyncio", "rfc8785"})
    # what takes time is files read: 100 ms are several hundred modules, we stay far below
    assert len(modules) < 60


@pytest.mark.parametrize("statement", ["from ismgr_automation.cli.main import build; build()"])
def test_showing_help_loads_no_engine(statement: str) -> None:
    assert not _packages(_loaded(statement)) & HEAVY


def test_the_heavy_are_noticed_when_they_are_loaded() -> None:
    assert "yaml" in _packages(_loaded("import yaml")) & HEAVY


def test_each_library_is_imported_in_its_own_room_only() -> None:
    strangers = [line for source in python("ismgr_automation") for line in _strangers(source)]
    assert not strangers, "\n".join(strangers)


def test_a_library_in_the_wrong_room_is_noticed() -> None:
    assert _strangers(Source("ismgr_automation/planning/compose.py", "def f():\n    import boto3.session\n"))
    assert not _strangers(Source("ismgr_automation/engines/git.py", "from git import Repo\n"))


def test_only_the_command_line_knows_the_lab() -> None:
    knowing = [
        source.path
        for source in python("ismgr_automation")
        if "ismgr_automation.lab" in source.text and source.room not in {"lab", "cli"}
    ]
    assert not knowing


def test_every_room_is_a_package() -> None:
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert not [str(folder) for folder in folders if not (folder / "__init__.py").exists()]
