"""Results of drills for tests: one that has all that a product can know, to be changed field by field."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.ports.recovery import Standing
from ismgr_automation.ports.upkeep import Part
from ismgr_automation.recovery.clauses import Case, Seal
from ismgr_automation.recovery.isolated import CheckTold, IsolationTold
from ismgr_automation.recovery.particulars import (
    Confirmed,
    Extent,
    Finding,
    Method,
    Note,
    People,
    Scenario,
    Statement,
)
from ismgr_automation.recovery.restore_told import Invariant, RestoreStep, RestoreTold
from ismgr_automation.recovery.result import DrillResult, Goals, Outage, Readings, Span, TaskResult, Verdict, Writes
from ismgr_automation.recovery.topics import Topic
from ismgr_automation.recovery.trend import trend

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
NOBODY_MOVES: dict[str, Any] = {"outages": (), "without_redundancy_s": None, "confirmations": ()}
"""What a drill has not that leaves the service where it is."""


def outage(ms: float = 92.0, resolution: float = 5.0, leg: str = "failover", start: float = -4.0) -> Outage:
    spans = [("detect", 4.0), ("fence", ms - 54), ("confirm", 10.0), ("promote", 20.0), ("reconnect", 20.0)]
    pieces, at = [], start
    for name, took in spans:
        pieces.append(Span(name=name, began_ms=at, ended_ms=at + took))
        at += took
    return Outage(leg=leg, outage_ms=ms, resolution_ms=resolution, waterfall=tuple(pieces))


def standings(lag: int = 120) -> tuple[Standing, ...]:
    return (
        Standing(host="db1", part=Part.PRIMARY, writable=True, streaming=True, position=1000, timeline=3),
        Standing(
            host="db2",
            part=Part.STANDBY,
            streaming=True,
            position=1000 - lag,
            lag_bytes=lag,
            lag_seconds=0.004,
            timeline=3,
        ),
    )


def task(leg: str, name: str, action: str, began: float, took: float, **more: Any) -> TaskResult:
    return TaskResult(
        **{
            "leg": leg, "name": name, "action": action, "ok": True, "began_ms": began, "ended_ms": began + took,
            **more,
        }
    )  # fmt: skip


def result(**more: Any) -> DrillResult:
    known: dict[str, Any] = {
        "run": "20261127T120000-3f9a",
        "plan": "records",
        "service": "records",
        "mode": DrillMode.FAILOVER,
        "estate": "clinic",
        "environment": "lab",
        "commit": "0123456789abcdef0123",
        "digest": "sha256:12ab",
        "began_at": NOON,
        "ended_at": NOON + timedelta(seconds=24),
        "goals": Goals(rto=2.0, rpo=0.0, mtd=900.0),
        "verdict": Verdict.PASSED,
        "verdicts": {"fault": Verdict.PASSED, "recovery": Verdict.PASSED, "cleanup": Verdict.PASSED},
        "reasons": (),
        "home": "db1",
        "away": "db2",
        "outages": (outage(), outage(61.0, leg="failback", start=9000.0)),
        "writes": Writes(
            written=2000, acked=1985, lost=0, lost_span_ms=0.0, failed=13, unknown_held=1, unknown_gone=1,
            contradictions=0,
        ),
        "tasks": (
            task("failover", "fence", "fence", 0.0, 38.0, words="reset by lb1"),
            task("failover", "promote", "promote", 48.0, 20.0),
            task("after", "suites", "verify", 120.0, 900.0),
            task("reprotect", "join", "rejoin", 2000.0, 1800.0),
        ),
        "readings": (Readings(at="failover", standings=standings()), Readings(at="failback", standings=standings(0))),
        "without_redundancy_s": 3.9,
        "load_average": (1.5, 1.4, 1.3),
        "people": People(planned=("Ada <ada@example.org>",), approved=("bob@example.org",), ran=("eve@ops1",)),
        "extent": Extent(
            hosts=("db1", "db2", "lb1"), groups=("databases", "edges"), sites=("dc1", "dc2"), data_classes=("phi",),
            tier=0,
        ),
        "scenario": Scenario(
            threat="fire at dc1", severity="high", assumptions=("the WAN is up",), third_parties=("none",),
            left_out=("the archive: it has a plan of its own",), bia="wiki/bia",
        ),
        "method": Method(
            client="numbered rows", endpoints=("192.0.2.30:5432",), every_ms=5.0, patience_ms=500.0, steady_ms=2000.0
        ),
        "tools": {"ismgr": "0.1.0"},
        "confirmations": (Confirmed(leg="failover", by="lb1", ok=True, at_ms=47.0),),
        "start_ns": 10**9,
        "steady": True,
    }  # fmt: skip
    return DrillResult(**{**known, **more})


def earlier(days: int, ms: float, **more: Any) -> DrillResult:
    """A drill that passed so many days before."""
    began = NOON - timedelta(days=days)
    known = {"run": f"{began:%Y%m%dT%H%M%S}-0000", "began_at": began, "outages": (outage(ms),)}
    return result(**{**known, **more})


def finding(**more: Any) -> Finding:
    known = {
        "run": result().run, "at": NOON, "by": "eve@ops1", "text": "The runbook names a host that is gone.",
        "owner": "Ada", "due": date(2026, 12, 24), "cause": "nobody read it",
    }  # fmt: skip
    return Finding(**{**known, **more})


def statement(topic: Topic, text: str = "as agreed") -> Statement:
    return Statement(run=result().run, at=NOON, by="eve@ops1", topic=topic, text=text, person="Ada")


def case(*, notes: tuple[Note, ...] | None = None, seal: Seal | None = None, **more: Any) -> Case:
    """A case with everything that can be known of it, and such drills before it."""
    found = result(**more)
    everything = (finding(), *map(statement, Topic))
    return Case(
        result=found,
        trend=trend(found, [earlier(days, 90.0 + days, mode=found.mode) for days in (7, 14, 21)]),
        notes=everything if notes is None else notes,
        seal=seal or Seal(recorded=True, signed_by="runner@example.org", next_due="2027-05-27"),
    )


def restored(**more: Any) -> Case:
    """A restore with everything that can be known of it."""
    known: dict[str, Any] = {
        "host": "db2", "repository": "db3", "stanza": "records", "label": "20261127-020000F", "kind": "full",
        "taken_at": NOON - timedelta(hours=10), "wal_last": "000000030000000000000006", "timeline": 4,
        "rto_ms": 4000.0, "age_s": 1.5,
        "steps": (RestoreStep(name="recover", ok=True, began_ms=0.0, ended_ms=4000.0),),
        "invariants": (Invariant(name="repository", ok=True), Invariant(name="patients", ok=True)),
        **more,
    }  # fmt: skip
    return case(mode=DrillMode.RESTORE, restore=RestoreTold(**known), tasks=(), readings=(), **NOBODY_MOVES)


def isolated(**more: Any) -> Case:
    """A drill in isolation with everything that can be known of it."""
    known: dict[str, Any] = {
        "network": "bubble", "gateways": ("gw1",), "spare": "spare1", "source": "db2", "passed_out": 0,
        "longest_gap_ms": 12.0, "expected_rows": 40, "held_rows": 40, "behind_ms": 4.0,
        "checks": (CheckTold(name="patients", ok=True),), **more,
    }  # fmt: skip
    tasks = (task("isolated", "promote", "promote", 0.0, 20.0),)
    return case(mode=DrillMode.ISOLATED, isolation=IsolationTold(**known), tasks=tasks, **NOBODY_MOVES)


def bare() -> Case:
    """A drill of which nothing but its name is known."""
    found = result(
        outages=(), writes=None, tasks=(), readings=(), without_redundancy_s=None, load_average=None, verdicts={},
        people=People(), extent=Extent(), scenario=Scenario(), method=None, tools={}, confirmations=(), steady=None,
        goals=Goals(rto=None, rpo=None), commit="", verdict=Verdict.ABORTED, start_ns=None,
        reasons=("recovery: stopped on request",),
    )  # fmt: skip
    return Case(result=replace(found, digest=""), trend=trend(found, []))
