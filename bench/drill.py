"""How long a client waits when a site is lost, and when it is moved by plan: the demo's estate on a lab of its own,
each drill there and back, and a clone in isolation; and Patroni beside it (bench/patroni.py). A time that clients wait
is that of the client which measures, and not of a controller's own clock of success."""

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
from ismgr_automation.lab.topology import Segment

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
ROWS = 35_000
"""Seven to a page."""
FILL = f"""
DROP TABLE IF EXISTS filler;
CREATE TABLE filler AS SELECT n AS number, (SELECT string_agg(md5(random()::text || n || m), '')
  FROM generate_series(1, 32) AS m) AS words FROM generate_series(1, {ROWS}) AS n;
ALTER TABLE filler OWNER TO records;
VACUUM (FREEZE, ANALYZE) filler;
CHECKPOINT;
DO $$ BEGIN
  WHILE EXISTS (SELECT FROM pg_stat_replication WHERE replay_lsn < pg_current_wal_lsn())
  LOOP PERFORM pg_sleep(0.1); END LOOP; END $$;
SELECT pg_database_size('records');
"""  # noqa: S608  a number of ours
"""With what an empty database has it is 50 MB. Without ``VACUUM`` here the log has all pages once more, after the
checkpoint. The standby has all of it at the end; the size is printed."""
SPARES = """\
kind: HostGroup
name: spares
selector: host.labels.role == "spare"
playbook: ismgr:playbooks/base.yml
needs: [group/nameservers]
variables: {{base_management: ["{management}"]}}
"""
BUBBLE = {
    "group": "spares",
    "gateways": "nameservers",
    "checks": [{"name": "rows", "query": "SELECT count(*) FROM filler", "expect": str(ROWS)}],
}


def measure(folder: Path, runs: int) -> Iterator[Row]:
    """The lines of our drills, then those of Patroni on the same machines. Raises ``Failed``."""
    folder.mkdir()
    with machines.up(spare=True) as lab:
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
        yield _isolated(lab, estate, runs)
        yield from patroni.measure(lab, folder, runs)


def drill_of(stdout: str) -> Mapping[str, Any]:
    """What a drill measured, from what it printed. Raises ``Failed`` for one that proves nothing."""
    found: dict[str, Any] | None = next(
        (one for one in map(json.loads, stdout.splitlines()) if one.get("type") == "drill"), None
    )
    if found is None:
        raise Failed("a drill told nothing", stdout)
    if found["verdict"] not in {"passed", "failed"} or not (found["outages"] or found["isolation"]):
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


def _isolated(lab: Lab, estate: Path, runs: int) -> Row:
    """From the first rule on the gateway until none is left, with what production noticed and what got out."""
    size = int(_sql(lab, "db1.dc1", FILL).split()[-1])
    _sql(lab, "db1.dc2", "CHECKPOINT;")  # or the log of the filling would be copied with each clone
    told, samples = [], []
    for _ in range(runs):
        words = ("drill", "run", "records", "--mode", "isolated", "--yes")
        samples.append(command([ISMGR, "--json", "-C", estate, *words], codes=(0, MISSED)))
        told.append(drill_of(samples[-1].stdout)["isolation"])
    gap = max(one["longest_gap_ms"] for one in told)
    out = sum(one["passed_out"] + one["passed_in"] for one in told)
    disk = max(one["database_bytes"] for one in told)
    return row(
        f"isolated test of a database of {size / 1e6:.0f} MB",
        [replace(one, seconds=each["took_ms"] / 1000) for one, each in zip(samples, told, strict=True)],
        note=f"production's longest gap {gap:.0f} ms; {out} packets through the walls; clone {disk / 1e6:.0f} MB",
    )


def _sql(lab: Lab, name: str, text: str) -> str:
    argv = ("runuser", "-u", "postgres", "--", "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", "records", "-f", "-")
    return machines.on(lab, name, "sh", "-c", 'cd / && exec "$@"', "sh", *argv, stdin=text.encode())


def _alone(told: Sequence[Mapping[str, Any]]) -> str:
    seconds = [one["without_redundancy_s"] for one in told if one["without_redundancy_s"] is not None]
    return f"without redundancy for {max(seconds):.1f} s at most" if seconds else ""


def _estate(lab: Lab, folder: Path) -> Path:
    from ismgr_automation.cli.demo import commit, prepare

    prepare(lab, folder, lambda text: machines.moved(lab, text))
    plan = next(yaml.safe_load_all((folder / "recovery.yaml").read_text(encoding="utf-8")))
    plan["bubble"] = BUBBLE
    (folder / "recovery.yaml").write_text(yaml.safe_dump(plan), encoding="utf-8")
    management = lab.topology.network(Segment.MANAGEMENT)
    (folder / "spares.yaml").write_text(SPARES.format(management=management), encoding="utf-8")
    fence = {"name": "fence", "do": "fence", "way": "power", "deadline": "30s"}
    steps = [fence if one["do"] == "fence" else one for one in plan["failover"]]
    powered = {**plan, "name": POWERED, "failover": steps, "faults": [], "bubble": None}
    (folder / "recovery-by-power.yaml").write_text(yaml.safe_dump(powered), encoding="utf-8")
    commit(folder, "Let the power be the fence too, and try clones")
    return folder
