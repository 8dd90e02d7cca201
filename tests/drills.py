"""An estate whose database is rehearsed: a primary at dc1, its standby at dc2, balancers at both, webs, a recovery
plan, and the client that measures. All is in memory, on one clock that only moves when somebody works or looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ismgr_automation.converge.contract import apply_exactly
from ismgr_automation.converge.drill import plan_drill
from ismgr_automation.converge.report import Report
from ismgr_automation.converge.scope import Scope, Upkeep
from ismgr_automation.core.json import JsonObject
from ismgr_automation.estate.drill_mode import DrillMode
from ismgr_automation.estate.model import Estate as Documents
from ismgr_automation.planning.plan import Plan
from ismgr_automation.ports.context import Context
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.memory import (
    MemoryMember,
    MemoryRecoveryWorld,
    MemoryStandby,
    MemoryWorld,
    Task,
)
from ismgr_automation.ports.upkeep import Cluster, ClusterMember, Part, Switched
from ismgr_automation.recovery.result import DrillResult, read_result
from tests.rehearsal import Rehearsal, inventory_host

HOME, AWAY = "db1", "db2"
HOSTS = ("db1", "db2", "lb1", "lb2", "web1", "web2")

FILES: Mapping[str, str] = {
    "estate.yaml": """\
kind: Estate
name: clinic
owner: platform
environments:
  lab: {passphrase: {secret: "env:PASSPHRASE"}, evidence: {runner_key: {secret: "env:RUNNER"}}, plan_lifetime: 7d}
default_environment: lab
inventories: [hosts]
ssh: {user: debian, become: true, boot_timeout: 0s}
""",
    "hosts": "",
    "team.yaml": "kind: Team\nname: platform\nmembers: [{name: Ada, roles: [approver]}]\n",
    "sites.yaml": "---\n".join(
        f"""\
kind: Site
name: dc{number}
time_zone: Europe/Berlin
machines:
- name: db{number}
  address: 192.0.2.{number}0
  bmc: {{address: "https://bmc-db{number}.example", username: admin, password: {{secret: "env:APP"}}}}
"""
        for number in (1, 2)
    ),
    "groups.yaml": """\
kind: HostGroup
name: databases
selector: host.labels.role == "db"
playbook: play.yml
verify: [verify/db]
minimum_available: 1
switchover: {}
---
kind: HostGroup
name: edges
selector: host.labels.role == "lb"
playbook: play.yml
---
kind: HostGroup
name: webs
selector: host.labels.role == "web"
playbook: play.yml
verify: [verify/web]
""",
    "service.yaml": """\
kind: Service
name: records
owner: platform
groups: [webs]
objectives: {rto: 200ms, rpo: 0s}
""",
    "recovery.yaml": """\
kind: RecoveryPlan
name: records
service: records
cluster: databases
sites: {home: dc1, away: dc2}
probe:
  endpoints: ["192.0.2.30:5432"]
  database: records
  user: probe
  password: {secret: "env:APP"}
ready: {lag: 50}
failover:
- {name: fence, do: fence, way: power, deadline: 2s}
- {name: promote, do: promote, deadline: 5s}
- {name: balancers, do: haproxy, group: edges, backend: db, deadline: 1s}
switchover:
- {name: demote, do: demote}
- {name: promote, do: promote}
- {name: balancers, do: haproxy, group: edges, backend: db}
reprotect:
- {name: out, do: unfence}
- {name: join, do: rejoin}
after:
- {name: suites, do: verify, group: webs}
""",
    "play.yml": "[]\n",
    "verify/web/test_web.py": "",
    "verify/db/test_db.py": "",
}

BY_NETWORK = ("way: power", "way: network, witnesses: [edges]")


@dataclass(frozen=True, slots=True)
class PairManager:
    """``ports.upkeep.ClusterManager`` over the world of recoveries: what planning looks at."""

    world: MemoryRecoveryWorld

    def members(self, cluster: Cluster, context: Context) -> tuple[ClusterMember, ...]:
        """What a look of a recovery says."""
        found = MemoryStandby(self.world).look(cluster, replace(context, cancelled=type(context.cancelled)()))
        return tuple(
            ClusterMember(
                host=one.host, part=one.part, streaming=one.streaming, lag_bytes=one.lag_bytes, detail=one.detail
            )
            for one in found
        )

    def switchover(self, cluster: Cluster, to: str, context: Context) -> Switched:
        """Not here."""
        raise NotImplementedError


@dataclass(slots=True, kw_only=True)
class Drills(Rehearsal):
    """The estate, with what drills do to it."""

    def upkeep(self, documents: Documents) -> Upkeep:
        """The cluster is that of the recoveries."""
        return replace(Rehearsal.upkeep(self, documents), cluster=PairManager(self.pair))

    def scope(self, **selected: Any) -> Scope:
        """Hosts answer as they do in the world of recoveries."""
        self.world.reach.update(
            {name: Reach.OK if self.pair.managed(name) else Reach.TIMEOUT for name in (HOME, AWAY, "lb1", "lb2")}
        )
        return Rehearsal.scope(self, **selected)


def drills(folder: Path, *, slow: Mapping[str, int] | None = None) -> Drills:
    """db1 is the primary, db2 streams from it; both balancers send clients to db1, who write in each tick."""
    world = MemoryWorld()
    world.playbooks["play.yml"] = (Task(name="install", value="1"),)
    world.inventories["hosts"] = tuple(
        replace(inventory_host(name, name.rstrip("12")), address=f"192.0.2.{number}", site=f"dc{name[-1]}")
        for number, name in enumerate(HOSTS, start=10)
    )
    pair = MemoryRecoveryWorld(MemoryMember(HOME), MemoryMember(AWAY, follows=HOME))
    pair.balancers = {"lb1": {"db": HOME}, "lb2": {"db": HOME}}
    pair.slow = dict(slow or {"fence": 30, "confirm": 5, "promote": 20, "backend": 2, "demote": 25, "rejoin": 400})
    pair.each_tick.append(pair.write)
    pair.advance(3)
    return Drills(folder=folder, world=world, files=dict(FILES), pair=pair)


def arrive(pair: MemoryRecoveryWorld) -> None:
    """What was written is on both sides at once."""
    for name, one in pair.members.items():
        if source := pair.streams(name):
            one.log += pair.members[source].log[len(one.log) :]


def plan(site: Drills, mode: DrillMode = DrillMode.FAILOVER, now: datetime | None = None, **more: str) -> Plan:
    """What a drill would do."""
    return plan_drill(site.scope(), now or datetime.now(UTC), "records", mode, **more)


def drill(site: Drills, mode: DrillMode = DrillMode.FAILOVER, *, scope: Scope | None = None) -> Report:
    """Plan a drill and carry it out, without another look."""
    return site.apply(plan(site, mode), scope=scope)


def exactly(site: Drills, planned: Plan) -> Report:
    """Apply a plan under the whole contract."""
    looking, working = site.scope(), site.scope()
    with site.tenure(working) as tenure:
        return apply_exactly(planned, looking, working, tenure)


def result(site: Drills) -> DrillResult:
    """What the last drill measured."""
    return read_result(list(site.results.kept.values())[-1][1])


def entries(site: Drills, what: str) -> list[JsonObject]:
    """Entries of the journal of the last drill."""
    return [one for one in list(site.journals.values())[-1].entries() if one["what"] == what]


def acts(site: Drills) -> list[str]:
    """What verbs were begun, and what was confirmed, in order."""
    begun = ("fence", "confirm", "demote", "promote", "backend", "unfence", "retire", "rejoin", "hold", "reinstate")
    return [one for one in site.pair.calls if one.split()[0] in begun and not one.endswith(" done")]


def is_home(site: Drills) -> bool:
    """Whether the pair is as it was: one primary at home, the other one streams, clients are sent there."""
    pair = site.pair
    sent = {name: ready["db"] for name, ready in pair.balancers.items() if pair.managed(name)}
    return pair.writable() == (HOME,) and pair.streams(AWAY) == HOME and set(sent.values()) <= {HOME}


def is_safe(site: Drills) -> bool:
    """Whether no two ever took writes, and the old side none after a promotion."""
    return site.pair.several == [] and site.pair.late == []


def parts(site: Drills) -> dict[str, Part]:
    """What each member is."""
    cluster_context = Context(work=site.folder)
    scope = site.scope()
    from ismgr_automation.converge.drill_field import field_of
    from ismgr_automation.converge.ground import whole_ground

    cluster = field_of(scope, whole_ground(scope), "records").cluster
    return {one.host: one.part for one in MemoryStandby(site.pair).look(cluster, cluster_context)}


BROKEN_THINGS = """\
faults:
- {name: dark, do: power-off}
- {name: frozen, do: freeze}
- {name: cut, do: partition, gateways: gateways, network: net}
- {name: cut-out, do: partition, gateways: gateways, network: net, direction: out}
- {name: rolling, do: rolling, gateways: gateways, network: net}
- {name: slow, do: slow-link, gateways: gateways}
- {name: full, do: disk-full}
- {name: readonly, do: read-only}
- {name: stale, do: stale-primary}
- {name: hasty, do: cancels-commits}
"""


BY_POWER_AND_EDGES = ("way: power, witnesses: [edges]", "way: network, witnesses: [edges]")


def fence_by_network(site: Drills) -> None:
    """And no fault that takes the power which such a fence needs."""
    site.edit("recovery.yaml", *BY_POWER_AND_EDGES)
    for fault in ("dark, do: power-off", "stale, do: stale-primary"):
        site.edit("recovery.yaml", f"- {{name: {fault}}}\n", "")


def faulty_drills(folder: Path, **more: Any) -> Drills:
    """With faults in its plan, and a gateway at each site: behind it are the site's database and balancer."""
    site = drills(folder, **more)
    site.files["recovery.yaml"] += BROKEN_THINGS
    site.edit("recovery.yaml", "way: power", "way: power, witnesses: [edges]")
    site.files["groups.yaml"] += (
        '---\nkind: HostGroup\nname: gateways\nselector: host.labels.role == "gw"\nplaybook: play.yml\n'
    )
    for number in (1, 2):
        site.edit("sites.yaml", f"name: dc{number}\n", f"name: dc{number}\nnetworks: [NET{number}]\n")
        network = f"{{name: net, cidr: 192.0.2.{number}0/31}}"
        site.edit("sites.yaml", f"NET{number}", network)
        site.pair.damage.behind[f"gw{number}"] = (f"db{number}", f"lb{number}")
    site.world.inventories["hosts"] = (
        *site.world.inventories["hosts"],
        *(
            replace(inventory_host(f"gw{number}", "gw"), address=f"192.0.2.{100 + number}", site=f"dc{number}")
            for number in (1, 2)
        ),
    )
    return site
