"""Which machine is below a host: two sites may call theirs alike, and nobody's power is cut on a guess."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ismgr_automation import shipped
from ismgr_automation.converge.machines import machine_of
from ismgr_automation.estate.load import load
from ismgr_automation.ports.hosts import Host


@pytest.fixture(scope="module")
def scope() -> Any:
    root = shipped.root() / "examples" / "two-sites"
    documents, _ = load(root, [str(one.relative_to(root)) for one in root.rglob("*") if one.is_file()])
    assert documents is not None
    return SimpleNamespace(estate=documents)


def host(name: str, site: str = "", machine: str = "") -> Host:
    return Host(name=name, address="192.0.2.1", origin="a test", site=site, machine=machine)


@pytest.mark.parametrize("site", ["dc1", "dc2"])
def test_a_host_finds_the_machine_of_its_own_site(scope: Any, site: str) -> None:
    found = machine_of(scope, host(f"web1.{site}", site, "web1"))
    assert found is not None
    name, machine = found
    assert name == f"web1.{site}"
    assert machine in scope.estate.sites[site].machines


def test_the_full_name_is_enough(scope: Any) -> None:
    found = machine_of(scope, host("web1.dc2"))
    assert found is not None
    assert found[1] in scope.estate.sites["dc2"].machines


@pytest.mark.parametrize(
    "one", [host("web1"), host("web", machine="web1"), host("web9.dc1", "dc1", "web9")], ids=lambda one: one.name
)
def test_nobody_guesses_on_which_machine_a_host_is(scope: Any, one: Host) -> None:
    assert machine_of(scope, one) is None
