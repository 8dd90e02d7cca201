"""An estate whose hosts are patched: webs behind a load balancer, a replicated pair, rings, and what is installed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ismgr_automation.converge.contract import apply_exactly
from ismgr_automation.converge.patch import plan_patch, plan_rollback
from ismgr_automation.converge.report import Fate, Report
from ismgr_automation.planning.change import Action
from ismgr_automation.planning.plan import Plan
from ismgr_automation.ports.memory import MemoryPackageWorld, MemoryWorld, Task
from ismgr_automation.ports.packages import Installed, Offered
from ismgr_automation.ports.upkeep import Part
from tests.rehearsal import NOON, Rehearsal, inventory_host

HOSTS = ("db1", "db2", "lb1", "web1", "web2", "web3")
NEW, OLD = "1.1-1", "1.0-1"

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
    "groups.yaml": """\
kind: HostGroup
name: balancers
selector: host.labels.role == "lb"
playbook: play.yml
---
kind: HostGroup
name: webs
selector: host.labels.role == "web"
playbook: play.yml
verify: [verify/web]
drain: {group: balancers, backend: web}
---
kind: HostGroup
name: databases
selector: host.labels.role == "db"
playbook: play.yml
verify: [verify/db]
minimum_available: 1
switchover: {back: true}
""",
    "play.yml": "[]\n",
    "verify/web/test_web.py": "",
    "verify/db/test_db.py": "",
    "baseline.yaml": """\
kind: PatchBaseline
name: all
selector: host.labels.role != "lb"
rules: [{name: everything, when: "true"}]
rings:
- {name: canary, selector: host.name == "web1"}
reboot: {policy: if-needed}
""",
}


def package(version: str = OLD, name: str = "tool") -> Installed:
    """What is installed."""
    return Installed(name=name, architecture="amd64", version=version, source=name, source_version=version)


def offer(version: str, name: str = "tool", digest: str = "") -> Offered:
    """What the repository has."""
    return Offered(
        name=name,
        architecture="amd64",
        version=version,
        source=name,
        source_version=version,
        digest=f"sha256:{digest or version}",
        origin="Debian",
        suite="stable",
    )


def patched(folder: Path, *, budget: int | str = 0, hosts: Iterable[str] = HOSTS) -> Rehearsal:
    """Every host has ``tool`` 1.0-1 and is offered 1.1-1; db1 is the primary."""
    world = MemoryWorld()
    world.playbooks["play.yml"] = (Task(name="install", value="1"),)
    roles = {name: name.rstrip("0123456789") for name in hosts}
    world.inventories["hosts"] = tuple(
        replace(inventory_host(name, role), address=f"192.0.2.{number}")
        for number, (name, role) in enumerate(sorted(roles.items()), start=10)
    )
    site = Rehearsal(folder=folder, world=world, files=dict(FILES), packages=MemoryPackageWorld(answers=world.answer))
    site.edit("estate.yaml", "plan_lifetime: 7d", f"plan_lifetime: 7d, failure_budget: {budget}")
    site.packages.repository.extend([offer(OLD), offer(NEW)])
    for name in roles:
        site.packages.add(name, package())
    site.service.parts.update(
        {name: Part.STANDBY for name, role in roles.items() if role == "db"} | {"db1": Part.PRIMARY}
    )
    return site


def plan(site: Rehearsal, now: datetime = NOON, *, urgent: str = "", targets: tuple[str, ...] = ()) -> Plan:
    """What would be patched."""
    return plan_patch(site.scope(targets=targets), now, urgent=urgent)


def patch(site: Rehearsal, planned: Plan | None = None) -> Report:
    """Apply a plan of patches, or a new one, without another look."""
    return site.apply(planned or plan(site))


def roll_back(site: Rehearsal, run: str) -> Report:
    """The way back from a run."""
    return site.apply(plan_rollback(site.scope(), NOON, run))


def exactly(site: Rehearsal, planned: Plan) -> Report:
    """Apply a plan under the whole contract."""
    looking, working = site.scope(), site.scope()
    with site.tenure(working) as tenure:
        return apply_exactly(planned, looking, working, tenure)


def today(site: Rehearsal, **more: str) -> Plan:
    """A plan that is not too old to be applied."""
    return plan(site, datetime.now(UTC), **more)


def versions(site: Rehearsal, name: str = "tool") -> dict[str, str]:
    """What each host has, the balancer left out."""
    return {host: one.installed[name].version for host, one in site.packages.machines.items() if host != "lb1"}


def on_new(site: Rehearsal) -> list[str]:
    """Hosts with the new version."""
    return [host for host, version in sorted(versions(site).items()) if version == NEW]


def planned_moves(planned: Plan) -> dict[str, tuple[str, str]]:
    """From and to of each package of each host, as ``host package``."""
    return {
        f"{step.target} {step.what}": (str(step.before["version"]), str(step.after["version"]))
        for change in planned.changes
        for step in change.steps
        if step.action is Action.UPDATE
    }


def fates(report: Report) -> dict[str, Fate]:
    """What became of each change."""
    return {one.key: one.fate for one in report.outcomes}


def effects(site: Rehearsal) -> list[str]:
    """Calls that change something on hosts, balancers or machines, in order."""
    changing = {
        "apply",
        "rollback",
        "reboot",
        "services",
        "drain",
        "restore",
        "switchover",
        "update",
        "power_cycle",
        "restart",
    }
    return [one for one in (*site.packages.calls, *site.service.calls) if one.split()[0] in changing]


@contextmanager
def order(site: Rehearsal):
    """Everything that is asked of packages and of services meanwhile, in one order."""
    calls: list[str] = []
    site.packages.watch.append(calls.append)
    site.service.watch.append(calls.append)
    yield calls
    site.packages.watch.remove(calls.append)
    site.service.watch.remove(calls.append)


def days(count: float) -> timedelta:
    """So many days."""
    return timedelta(days=count)
