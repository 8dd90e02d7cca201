"""What a preview tells of the providers that it used: their versions are inputs of a plan."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ismgr_automation.cli.main import run
from ismgr_automation.converge.scope import Scope
from ismgr_automation.core.errors import ExitCode
from ismgr_automation.engines.pulumi.engine import PulumiEngine
from ismgr_automation.engines.pulumi.locate import Engine
from ismgr_automation.engines.secrets import Backends
from tests.engines.pulumi.conftest import Bench
from tests.rehearsal import Rehearsal

# as a package for a provider does: the program asks for the version of the package that is installed beside it
PROGRAM = """\
from pathlib import Path

import pulumi

WORLD = {world!r}
VERSION = Path(WORLD, "installed-version").read_text()

class Thing(pulumi.CustomResource):
    def __init__(self, name, **props):
        opts = pulumi.ResourceOptions(version=VERSION)
        super().__init__("probe:index:Thing", name, {{"world": WORLD, **props}}, opts)

Thing("a", size=1)
"""


def install(bench: Bench, version: str) -> None:
    """Another version of the provider's package, where no digest of an estate looks."""
    (bench.world / "installed-version").write_text(version)


@dataclass(slots=True, kw_only=True)
class RealStacks(Rehearsal):
    """An estate whose stacks are previewed and changed by the real engine."""

    bench: Bench
    engine: Engine

    def wire(self, *args: Any, **settings: Any) -> Scope:
        scope = Rehearsal.wire(self, *args, **settings)
        engine = PulumiEngine(lambda: self.engine, Backends({}), scope.tree.root)
        engines = dataclasses.replace(scope.engines, stacks=engine)
        return dataclasses.replace(scope, engines=engines, state=f"file://{self.bench.state_folder}")


@pytest.fixture
def site(bench: Bench, pulumi_engine: Engine, tmp_path: Path) -> RealStacks:
    """One team with one stack."""
    made = RealStacks(folder=tmp_path / "site", bench=bench, engine=pulumi_engine)
    made.folder.mkdir()
    made.files = {
        "estate.yaml": made.files["estate.yaml"].replace("env:PASSPHRASE", "env:PROBE_PASSPHRASE"),
        "team.yaml": made.files["team.yaml"],
        "stacks.yaml": "kind: Stack\nname: things\nprogram: stacks/things\n",
        "stacks/things/Pulumi.yaml": "name: things\nruntime: python\n",
        "stacks/things/__main__.py": PROGRAM.format(world=str(bench.world)),
    }
    return made


@pytest.mark.engine
def test_a_preview_names_the_version_of_each_provider(bench: Bench) -> None:
    asked = bench.program(PROGRAM.format(world=str(bench.world)), head="")
    seen = {}
    for version in ("1.2.3", "1.3.0"):
        install(bench, version)
        seen[version] = bench.preview(asked)
        assert seen[version].engine.endswith(f"; probe {version}")
    assert seen["1.2.3"].steps == seen["1.3.0"].steps


@pytest.mark.engine
def test_a_plan_is_stale_when_another_version_of_a_provider_would_carry_it_out(
    site: RealStacks, capsys: pytest.CaptureFixture[str]
) -> None:
    def ismgr(*words: str) -> int:
        return run(["-C", str(site.folder), *words], wiring=site)

    saved = str(site.folder / "plan.json")
    install(site.bench, "1.2.3")
    assert ismgr("plan", "--out", saved) == ExitCode.CHANGES
    install(site.bench, "1.3.0")
    capsys.readouterr()
    assert ismgr("apply", "--yes", saved) == ExitCode.REFUSED
    assert "engine of stack/things changed" in capsys.readouterr().err
    assert site.bench.things() == {}

    # with the version that was planned nothing else is in the way
    install(site.bench, "1.2.3")
    assert ismgr("apply", "--yes", saved) == ExitCode.DONE, capsys.readouterr().err
    assert set(site.bench.things()) == {"a"}
