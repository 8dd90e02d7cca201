"""The drill of the drill: defects that somebody has planted, each with the verdict and the sentence by which it must be
found out. The same drill passes without its defect, so that no sentence is one that is always said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ismgr_automation.converge.drill import plan_drill
from ismgr_automation.core.errors import EngineFailed
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.memory import MemoryWorldProbe
from ismgr_automation.ports.memory.recovery import Entry
from ismgr_automation.ports.recovery import Outcome, ProbeRequest, Seen, Sight
from ismgr_automation.recovery.result import Verdict
from tests.drills import AWAY, HOME, Drills, arrive, faulty_drills
from tests.drills import result as measured

FAILED = EngineFailed("The engine fell over.", engine="postgresql", next_step="Look at it.")
FAULT, RECOVERY, CLEANUP = "fault", "recovery", "cleanup"

DNS = """\
- {name: balancers, do: dns, server: 192.0.2.53, zone: example.org, record: db, values: {dc1: [192.0.2.10], \
dc2: [192.0.2.11]}, key_name: update, key_secret: {secret: "env:APP"}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rosy(MemoryWorldProbe):
    """A detector that finds a primary whatever happens."""

    def sees(self, request: ProbeRequest, context: Context) -> Seen:
        """All is well."""
        MemoryWorldProbe.sees(self, request, context)
        return Seen(sight=Sight.DONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """What is planted, in a drill with which fault; the part of the verdict that must not be ``passed``, which it must
    be, and what must be said."""

    plant: Callable[[Drills], object]
    part: str
    verdict: Verdict
    said: str
    fault: str = "cut"


def at(site: Drills, call: str, then: Callable[[], object]) -> None:
    site.pair.watch.append(lambda now: then() if now == call else None)


def detector(site: Drills, call: str) -> None:
    """From a call on it finds nobody."""
    at(site, call, lambda: site.probe.faults.update({"sees": FAILED}))


def both_balancers_to_home(site: Drills) -> None:
    for ready in site.pair.balancers.values():
        ready["db"] = HOME


def known_by_address(site: Drills) -> None:
    """Clients that have asked for the name once, and know home by its address."""
    site.pair.balancers.clear()
    site.pair.direct = [HOME]
    step = "- {name: balancers, do: haproxy, group: edges, backend: db"
    for more in (", deadline: 1s}\n", "}\n"):
        site.edit("recovery.yaml", f"{step}{more}", DNS)


def forget(site: Drills) -> None:
    """A write that was acknowledged before anything happened is gone, everywhere."""
    number = next(one.number for one in site.pair.attempts[-500:] if one.outcome is Outcome.ACKED)
    for member in site.pair.members.values():
        member.log = [one for one in member.log if one.number != number]


def conjure(site: Drills) -> None:
    """A write that was refused is there, everywhere."""
    number = next(one.number for one in site.pair.attempts if one.outcome is Outcome.FAILED)
    for member in site.pair.members.values():
        member.log.append(Entry(number=number, host=AWAY, tick=site.pair.tick, timeline=member.timeline))


def second_primary(site: Drills) -> None:
    """Somebody gives home its power, and starts what is there."""
    site.pair.power_on(HOME)
    site.pair.start(HOME)


def lapse(site: Drills) -> None:
    """The hosts' timer is faster than it should be."""
    for name, one in tuple(site.pair.damage.broken.items()):
        one.mend()
        del site.pair.damage.broken[name]


DEFECTS: Mapping[str, Defect] = {
    "a detector that is always red": Defect(
        plant=lambda site: site.probe.faults.update({"sees": FAILED}),
        part=FAULT, verdict=Verdict.INVALID, said="the detector was red before the fault: no endpoint takes a write",
    ),
    "a detector that never fires": Defect(
        plant=lambda site: setattr(site, "client", Rosy(world=site.pair)),
        part=RECOVERY, verdict=Verdict.FAILED, said="the detector has not declared the site lost, in 3",
    ),
    "a detector that fires at what is slow": Defect(
        plant=lambda site: detector(site, "break slow done"), fault="slow",
        part=RECOVERY, verdict=Verdict.FAILED, said="a false alarm: the detector declared a site lost that is slow",
    ),
    "a fault that cannot be done": Defect(
        plant=lambda site: site.pair.unmanaged.add("gw1"),
        part=FAULT, verdict=Verdict.INVALID, said="fault: the fault cut cannot be done: gw1 cannot be reached",
    ),
    "a fault that does not bite": Defect(
        plant=lambda site: site.pair.damage.toothless.add("cut"),
        part=FAULT, verdict=Verdict.INVALID, said="fault: the fault cut did not bite: the world: everything goes on as",
    ),
    "a fault that cannot be lifted": Defect(
        plant=lambda site: site.pair.damage.stuck.add("cut"),
        part=FAULT, verdict=Verdict.INVALID, said="the fault cut was not seen to be lifted: the world: cut stands",
    ),
    "a leftover of a fault": Defect(
        plant=lambda site: site.pair.damage.stuck.add("cut"),
        part=CLEANUP, verdict=Verdict.FAILED, said="cleanup: gw1: partition of ",
    ),
    "a timer that fires early": Defect(
        plant=lambda site: at(site, "fence db1", lambda: lapse(site)),
        part=FAULT, verdict=Verdict.INVALID, said="did not stand as long as it should: the hosts have lifted it",
    ),
    "the wrong network": Defect(
        plant=lambda site: site.pair.damage.behind.update({"gw1": ("web1",)}),
        part=RECOVERY, verdict=Verdict.FAILED, said="the detector has not declared the site lost, in 3",
    ),
    "a commit that nobody cancels": Defect(
        plant=lambda _site: None, fault="hasty",
        part=FAULT, verdict=Verdict.INVALID, said="the fault hasty did not bite: no write of the client shows it",
    ),
    "a fence that is raised and keeps nobody out": Defect(
        plant=lambda site: site.pair.liars.add(HOME), fault="readonly",
        part=FAULT, verdict=Verdict.INVALID, said="the old side was not lost: lb1, lb2, by connecting does not confirm",
    ),
    "a fence that keeps nobody out, behind a cut": Defect(
        plant=lambda site: site.pair.liars.add(HOME),
        part=FAULT, verdict=Verdict.INVALID, said="the old side was not lost: lb1, by connecting does not confirm",
    ),
    "a fence that nobody can confirm": Defect(
        plant=lambda site: at(site, "fence db1 done", lambda: site.pair.unmanaged.add("lb1")),
        part=FAULT, verdict=Verdict.INVALID, said="does not confirm its fence: lb1 cannot look",
    ),
    "a fence whose BMC is dead": Defect(
        plant=lambda site: at(site, "break cut", lambda: site.pair.dead_bmcs.add(HOME)),
        part=RECOVERY, verdict=Verdict.FAILED, said="step fence of failover did not end well: the BMC of db1 does",
    ),
    "a proxy that goes on sending to the old side": Defect(
        plant=lambda site: at(site, "backend db2 done", lambda: both_balancers_to_home(site)), fault="stale",
        part=RECOVERY, verdict=Verdict.FAILED, said="recovery: the stale primary took ",
    ),
    "a proxy that was not reached": Defect(
        plant=lambda site: at(site, "fence db1", lambda: site.pair.unmanaged.add("lb2")),
        part=CLEANUP, verdict=Verdict.FAILED, said="balancers does not lead to db1 everywhere: 1 of 2 balancers can",
    ),
    "a switch that was skipped": Defect(
        plant=lambda site: at(site, "backend db2 done", lambda: both_balancers_to_home(site)),
        part=RECOVERY, verdict=Verdict.FAILED, said="after failover service did not come back by it: clients waited ",
    ),
    "clients that know the old address by heart": Defect(
        plant=known_by_address,
        part=RECOVERY, verdict=Verdict.FAILED, said="after failover service did not come back by it: clients waited ",
    ),
    "a standby that does not stream": Defect(
        plant=lambda site: at(site, "stage promote db2", lambda: site.pair.part([HOME], [AWAY])),
        part=RECOVERY, verdict=Verdict.FAILED, said="refused by the rule caught-up: db2 did not stream from db1",
    ),
    "a standby of another cluster": Defect(
        plant=lambda site: at(
            site, "stage promote db2", lambda: setattr(site.pair.members[AWAY], "upstream", "elsewhere")
        ),
        part=RECOVERY, verdict=Verdict.FAILED, said="refused by the rule caught-up: db2 did not stream from db1",
    ),
    "a promotion that lies": Defect(
        plant=lambda site: at(site, "promote db2 done", lambda: setattr(site.pair.members[AWAY], "readonly", True)),
        part=CLEANUP, verdict=Verdict.FAILED, said="no standby streams in the original direction at the end",
    ),
    "a promotion that lands late": Defect(
        plant=lambda site: setattr(site.pair.members[AWAY], "sluggish", 30),
        part=RECOVERY, verdict=Verdict.FAILED, said="step promote of failover did not end well: db2 does not answer",
    ),
    "a standby that does not come back": Defect(
        plant=lambda site: site.pair.faults.update({"rejoin db1": FAILED}),
        part=CLEANUP, verdict=Verdict.FAILED, said="no standby streams in the original direction at the end",
    ),
    "a second primary": Defect(
        plant=lambda site: at(site, "unfence db1 done", lambda: second_primary(site)),
        part=RECOVERY, verdict=Verdict.INVALID, said="refused by the rule rejoin-the-loser: db1 takes writes itself",
    ),
    "an acknowledged write that is gone": Defect(
        plant=lambda site: at(site, "rejoin db2 done", lambda: forget(site)),
        part=RECOVERY, verdict=Verdict.FAILED, said="recovery: 1 acknowledged writes of ",
    ),
    "a refused write that is there": Defect(
        plant=lambda site: at(site, "rejoin db2 done", lambda: conjure(site)),
        part=RECOVERY, verdict=Verdict.FAILED, said="recovery: 1 writes that were refused are there all the same",
    ),
    "a client that dies": Defect(
        plant=lambda site: at(site, "break cut", site.pair.each_tick.clear),
        part=RECOVERY, verdict=Verdict.INVALID, said="the outage of failover is not known: the probe's log ends before",
    ),
}  # fmt: skip


def clinic(folder: Path) -> Drills:
    site = faulty_drills(folder)
    site.pair.each_tick.append(lambda: arrive(site.pair))
    site.edit("service.yaml", "rto: 200ms", "rto: 2s")
    return site


def drilled(site: Drills, fault: str, plant: Callable[[Drills], object]) -> None:
    planned = plan_drill(site.scope(), datetime.now(UTC), "records", DrillMode.FAILOVER, fault=fault)
    before = dict(site.files)
    plant(site)
    if site.files != before:
        planned = plan_drill(site.scope(), datetime.now(UTC), "records", DrillMode.FAILOVER, fault=fault)
    site.apply(replace(planned, findings=()))


@pytest.mark.parametrize("case", DEFECTS)
def test_a_planted_defect_is_found_out_by_its_name(tmp_path: Path, case: str) -> None:
    defect = DEFECTS[case]
    site = clinic(tmp_path)
    drilled(site, defect.fault, defect.plant)
    found = measured(site)
    assert found.verdict is not Verdict.PASSED
    assert found.verdicts[defect.part] is defect.verdict, found.reasons
    assert any(defect.said in one for one in found.reasons), found.reasons


@pytest.mark.parametrize("fault", sorted({one.fault for one in DEFECTS.values()} - {"hasty"}))
def test_the_same_drill_passes_without_a_defect(tmp_path: Path, fault: str) -> None:
    site = clinic(tmp_path)
    drilled(site, fault, lambda _site: None)
    assert measured(site).reasons == ()


def test_there_are_enough_of_them() -> None:
    assert len(DEFECTS) >= 15
