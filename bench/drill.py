"""How long a client waits when a site is lost, and when it is moved by plan: the demo's estate on a lab of its own,
each drill there and back; and Patroni beside it (bench/patroni.py). Every time is that of the client which measures,
and not of a controller's own clock of success."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from bench import machines, patroni
from bench.machines import ISMGR
from bench.measure import Failed, Row, Sample, command, row
from ismgr_automation.lab import Lab

POWERED = "records-by-power"
"""The example's RecoveryPlan with the power as its fence."""
MISSED = 6
"""What a drill ends with that went well and missed its objective: on a busy machine it is a figure like any other."""
KINDS: Mapping[str, tuple[str, ...]] = {
    "declared failover, network fence": ("records", "--mode", "failover"),
    "declared failover, power fence": (POWERED, "--mode", "failover"),
    "planned switchover": ("records", "--mode", "switchover"),
    "partition, detector 3 x 300 ms": ("records", "--mode", "failover", "--fault", "cut"),
}


def measure(folder: Path, runs: int) -> Iterator[Row]:
    """The lines of our drills, then those of Patroni on the same machines. Raises ``Failed``."""
    folder.mkdir()
    with machines.up() as lab:
        estate = _estate(lab, folder / "estate")
        command([ISMGR, "-C", estate, "apply", "--yes"])
        for what, words in KINDS.items():
            samples = [
                command([ISMGR, "--json", "-C", estate, "drill", "run", *words, "--yes"], codes=(0, MISSED))
                for _ in range(runs)
            ]
            told = [drill_of(one.stdout) for one in samples]
            yield _waited(what, samples, told)
            yield row(f"{what}: there and back", samples, note=_alone(told))
        yield from patroni.measure(lab, folder, runs)


def drill_of(stdout: str) -> Mapping[str, Any]:
    """What a drill measured, from what it printed. Raises ``Failed`` for one that proves nothing."""
    found: dict[str, Any] | None = next(
        (one for one in map(json.loads, stdout.splitlines()) if one.get("type") == "drill"), None
    )
    if found is None:
        raise Failed("a drill told nothing", stdout)
    if found["verdict"] not in {"passed", "failed"} or not found["outages"]:
        raise Failed(f"a drill is {found['verdict']}", "; ".join(found["reasons"]))
    return found


def _waited(what: str, samples: Sequence[Sample], told: Sequence[Mapping[str, Any]]) -> Row:
    """The clients' outage in the first move, with what was lost of their writes."""
    waits = [one["outages"][0]["outage_ms"] / 1000 for one in told]
    lost = sum(one["writes"]["lost"] for one in told)
    acked = sum(one["writes"]["acked"] for one in told)
    off = max(one["outages"][0]["resolution_ms"] for one in told)
    return row(
        f"{what}: clients wait",
        [replace(one, seconds=seconds) for one, seconds in zip(samples, waits, strict=True)],
        note=f"± {off:.0f} ms; {lost} of {acked:,} acknowledged writes lost",
    )


def _alone(told: Sequence[Mapping[str, Any]]) -> str:
    seconds = [one["without_redundancy_s"] for one in told if one["without_redundancy_s"] is not None]
    return f"without redundancy for {max(seconds):.1f} s at most" if seconds else ""


def _estate(lab: Lab, folder: Path) -> Path:
    from ismgr_automation.cli.demo import commit, prepare

    prepare(lab, folder, lambda text: machines.moved(lab, text))
    plan = next(yaml.safe_load_all((folder / "recovery.yaml").read_text(encoding="utf-8")))
    fence = {"name": "fence", "do": "fence", "way": "power", "deadline": "30s"}
    steps = [fence if one["do"] == "fence" else one for one in plan["failover"]]
    powered = {**plan, "name": POWERED, "failover": steps, "faults": []}
    (folder / "recovery-by-power.yaml").write_text(yaml.safe_dump(powered), encoding="utf-8")
    commit(folder, "Let the power be the fence too")
    return folder
