"""Which hosts and windows a question is about, from documents alone."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from ismgr_automation.core.errors import InputError
from ismgr_automation.estate.load import load
from ismgr_automation.estate.maintenance import Scope
from ismgr_automation.estate.model import Estate
from ismgr_automation.planning.documented import Asked, asked, machines

DOCUMENTS = """\
kind: Estate
name: clinic
owner: platform
environments: {lab: {}}
---
kind: Team
name: platform
---
kind: Site
name: dc1
time_zone: UTC
machines:
  - {name: db1, address: 192.0.2.1, labels: {role: db}, bmc: BMC1}
  - {name: db2.dc1, address: 192.0.2.2, labels: {role: db}, bmc: BMC2}
  - {name: web1, address: 192.0.2.3, labels: {role: web}, bmc: BMC3}
---
kind: HostGroup
name: all
selector: "true"
playbook: p.yml
---
kind: HostGroup
name: databases
selector: host.labels.role == "db"
playbook: p.yml
---
kind: MaintenanceWindow
name: night
time_zone: UTC
start: 2026-01-04T01:00:00
---
kind: MaintenanceWindow
name: noon
time_zone: UTC
start: 2026-01-04T12:00:00
---
kind: PatchBaseline
name: databases
selector: '"databases" in host.groups'
rules: [{name: all, when: "true"}]
windows: [night, noon]
"""


@pytest.fixture
def estate(tmp_path: Path) -> Estate:
    bmc = '{{address: "https://bmc{}.example.org", username: a, password: {{secret: "env:B"}}}}'
    text = re.sub(r"BMC(\d)", lambda match: bmc.format(match[1]), DOCUMENTS)
    (tmp_path / "estate.yaml").write_text(text)
    (tmp_path / "p.yml").write_text("[]\n")
    found, diagnostics = load(tmp_path, ["estate.yaml", "p.yml"])
    assert found is not None, [str(one) for one in diagnostics]
    return found


def ask(estate: Estate, *targets: str, windows: tuple[str, ...] = (), scope: Scope = Scope.PATCH) -> Asked:
    return asked(estate, targets, windows, scope=scope, needs=timedelta(hours=1))


def works(found: Asked) -> list[tuple[tuple[str, ...], list[str]]]:
    return [(tuple(one.windows), [host.name for host in one.hosts]) for one in found.works]


def test_machines_have_the_names_that_inventories_give_them_and_the_groups_that_select_them(estate: Estate) -> None:
    assert [(one.name, one.groups) for one in machines(estate)] == [
        ("db1.dc1", ("all", "databases")),
        ("db2.dc1", ("all", "databases")),
        ("web1.dc1", ("all",)),
    ]


def test_hosts_are_asked_about_with_the_windows_of_their_baseline(estate: Estate) -> None:
    found = ask(estate, "group/all", "host/db1.dc1")
    assert works(found) == [((), ["web1.dc1"]), (("night", "noon"), ["db1.dc1", "db2.dc1"])]
    assert found.notes == ()


def test_windows_that_are_named_replace_those_of_baselines_and_only_patches_have_any(estate: Estate) -> None:
    assert works(ask(estate, "group/databases", windows=("noon",))) == [(("noon",), ["db1.dc1", "db2.dc1"])]
    assert works(ask(estate, "group/databases", scope=Scope.DRILL)) == [((), ["db1.dc1", "db2.dc1"])]


def test_a_host_that_no_site_has_is_said_to_be_unknown(estate: Estate) -> None:
    found = ask(estate, "host/vm7", windows=("noon",))
    assert works(found) == [(("noon",), [])]
    assert "host/vm7" in found.notes[0]


@pytest.mark.parametrize("target", ["group/none", "stack/none", "db1", "window/night", ""])
def test_a_target_that_cannot_be_is_refused(estate: Estate, target: str) -> None:
    with pytest.raises(InputError):
        ask(estate, target)


def test_a_window_that_is_not_there_is_refused(estate: Estate) -> None:
    with pytest.raises(InputError, match="no window 'nihgt'"):
        ask(estate, windows=("nihgt",))
