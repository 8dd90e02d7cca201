"""Each example is composed twice, in two folders, from two worlds that look the same: the plans are the same bytes."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ismgr_automation.converge.scope import Scope
from ismgr_automation.planning.plan import Plan
from ismgr_automation.planning.planfile import read, write
from ismgr_automation.ports.memory import Desired, MemorySecretStore, MemoryWorld, Task
from ismgr_automation.wiring import TreeContent
from tests.rehearsal import NOON, Rehearsal, host_entry

EXAMPLES = Path(__file__).parents[2] / "examples"
ROLES = {"gw": "gateway", "db": "db", "web": "web", "edge": "edge"}


class Example(Rehearsal):
    """An example's own files, with the content of the roles and stacks that it names, over doubles of the engines."""

    def __init__(self, name: str, folder: Path) -> None:
        folder.mkdir()
        super().__init__(folder=folder, world=world())
        listed = subprocess.run(
            ["git", "ls-files", "--", name], cwd=EXAMPLES, capture_output=True, text=True, check=True
        ).stdout.split()
        self.files = {one.removeprefix(f"{name}/"): (EXAMPLES / one).read_text() for one in listed}
        references = re.findall(r"\b(?:file|env):[\w/.-]+", "\n".join(self.files.values()))
        self.secrets = MemorySecretStore(dict.fromkeys(references, "a secret of the example"))

    def wire(self, *args: Any, **settings: Any) -> Scope:
        documents, tree = args
        settings["environment"] = documents.document.default_environment
        scope = super().wire(*args, **settings)
        return replace(scope, engines=replace(scope.engines, content=TreeContent(tree=tree)))


def machines(site: str) -> Desired:
    names = [f"{kind}1.{site}" for kind in ROLES]
    labels = {name: {"role": ROLES[name.partition("1")[0]], "site": site} for name in names}
    return Desired(
        resources={name: {"power": "on"} for name in names},
        outputs={"hosts": [host_entry(name, labels=labels[name]) for name in names]},
    )


def world() -> MemoryWorld:
    made = MemoryWorld()
    for site in ("dc1", "dc2"):
        made.programs[f"{site}-servers"] = lambda _config, _made, site=site: machines(site)
    made.programs["names"] = lambda _config, _made: Desired(resources={"records": {"values": "10.41.0.20"}})
    for name in ("gateway", "database", "web", "edge"):
        made.playbooks[f"{name}.yml"] = (Task(name="install", value="1"), Task(name="start", value="yes"))
    return made


@dataclass(frozen=True, slots=True)
class Kept:
    """A plan as the bytes of its file, at a time that was agreed."""

    plan: Plan

    @property
    def text(self) -> str:
        return write(replace(self.plan, beside=replace(self.plan.beside, created_at=NOON, expires_at=None)))


def composed(name: str, folder: Path, drift: Mapping[str, str]) -> tuple[Kept, Kept]:
    """The plan of the fresh site, and the one of a site that runs and has drifted."""
    site = Example(name, folder)
    fresh = site.plan()
    assert site.apply(fresh).ok
    for host, value in drift.items():
        site.world.values[host]["install"] = value
    return Kept(fresh), Kept(site.plan())


@pytest.mark.parametrize("name", sorted(one.name for one in EXAMPLES.iterdir() if (one / "estate.yaml").exists()))
def test_an_example_that_is_composed_twice_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    drift = {"web1.dc1": "0", "db1.dc2": "0"}
    first = composed(name, tmp_path / "first", drift)
    second = composed(name, tmp_path / "second", dict(reversed(drift.items())))
    for one, other in zip(first, second, strict=True):
        assert one.plan.changes
        assert one.text == other.text
        assert read(one.text, "it").digest == other.plan.digest
    assert first[0].plan.digest != first[1].plan.digest
