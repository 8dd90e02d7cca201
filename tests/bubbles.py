"""The estate of the drills with a spare host at dc2, on a network of its own behind a gateway there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ismgr_automation.converge.scope import Bubbles, Recovery
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.ports.memory import MemoryBubbleWorld, MemoryClones, MemoryDrillJournal, MemoryIsolation
from tests.drills import Drills, arrive, drills
from tests.rehearsal import inventory_host

ISOLATED = DrillMode.ISOLATED
SPARE, GATEWAY, FAR_GATEWAY = "spare1", "gw2", "gw1"
COUNT = "SELECT count(*) FROM patients"

BUBBLE = f"""\
bubble:
  group: spares
  gateways: gateways
  checks:
  - {{name: patients, query: "{COUNT}", expect: "7"}}
"""
GROUPS = """\
---
kind: HostGroup
name: spares
selector: host.labels.role == "spare"
playbook: play.yml
verify: [verify/web]
---
kind: HostGroup
name: gateways
selector: host.labels.role == "gw"
playbook: play.yml
"""
MACHINES = """\
- name: {gateway}
  address: 192.0.2.{number}1
  addresses: {{{network}}}
  bmc: {{address: "https://bmc-{gateway}.example", username: admin, password: {{secret: "env:APP"}}}}
"""
SPARE_MACHINE = """\
- name: spare1
  address: 192.0.2.29
  addresses: {bubble: 198.51.100.50}
  bmc: {address: "https://bmc-spare1.example", username: admin, password: {secret: "env:APP"}}
networks:
- {name: bubble, cidr: 198.51.100.0/24}
"""


@dataclass(slots=True, kw_only=True)
class Isolated(Drills):
    """With the doubles of isolation and of clones."""

    bubbles: MemoryBubbleWorld
    mortal: bool = False

    def recovery(self) -> Recovery:
        """The journal of one that may die counts as a boundary."""
        known = replace(
            Drills.recovery(self),
            bubbles=Bubbles(isolation=MemoryIsolation(self.bubbles), clones=MemoryClones(self.bubbles)),
        )
        if not self.mortal:
            return known

        def journal(run: str) -> MemoryDrillJournal:
            return self.journals.setdefault(run, MortalJournalOfDrills(self.folder, site=self))

        return replace(known, journal=journal)


@dataclass(frozen=True, slots=True)
class MortalJournalOfDrills(MemoryDrillJournal):
    """A journal around whose writes the process may die."""

    site: Isolated | None = None

    def write(self, entry: dict[str, object]) -> None:  # type: ignore[override]  any JSON object
        """Keep it, if the process lives that long."""
        assert self.site is not None
        self.site.death.at(f"before write {entry['what']}")
        MemoryDrillJournal.write(self, entry)  # type: ignore[arg-type]
        self.site.death.at(f"after write {entry['what']}")


def isolated(folder: Path, *, mortal: bool = False) -> Isolated:
    """db2 streams from db1 and may be cloned on spare1, whose network gw2 closes; gw1 at dc1 has no part in it."""
    known = drills(folder)
    files = dict(known.files)
    one, two = files["sites.yaml"].split("---\n")
    one += MACHINES.format(gateway=FAR_GATEWAY, number=1, network="")
    two += MACHINES.format(gateway=GATEWAY, number=2, network="bubble: 198.51.100.1") + SPARE_MACHINE
    files["sites.yaml"] = f"{one}---\n{two}"
    files["groups.yaml"] += GROUPS
    files["recovery.yaml"] += BUBBLE
    hosts = list(known.world.inventories["hosts"])
    for number, (name, role, site) in enumerate(
        ((SPARE, "spare", "dc2"), (GATEWAY, "gw", "dc2"), (FAR_GATEWAY, "gw", "dc1")), start=40
    ):
        hosts.append(replace(inventory_host(name, role), address=f"192.0.2.{number}", site=site))
    known.world.inventories["hosts"] = tuple(hosts)
    bubbles = MemoryBubbleWorld(pair=known.pair, answers={COUNT: "7"})
    site = Isolated(folder=folder, world=known.world, files=files, pair=known.pair, bubbles=bubbles, mortal=mortal)
    site.pair.each_tick.append(lambda: arrive(site.pair))
    site.pair.slow |= {"shut": 30, "take": 400, "promote": 20, "remove": 50, "lift": 10}
    return site
