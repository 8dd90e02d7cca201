"""From nothing to two running sites, and back to a site that somebody touched: plans, rounds, waves, second plans."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ismgr_automation.converge import fleet
from ismgr_automation.converge.report import Fate
from ismgr_automation.converge.stacks import read_states
from ismgr_automation.core.address import group, host, stack
from ismgr_automation.core.errors import ExitCode
from ismgr_automation.core.events import ChangeFinished, ChangeStarted, ObservationFinished, RoundStarted, WaveStarted
from ismgr_automation.planning.change import Action, Reason
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.memory import UNKNOWN, Desired
from tests.rehearsal import Rehearsal, host_entry, inventory_host, servers

ORDER = [
    "up dc1-servers",
    "up dc2-servers",
    "run databases",
    "run databases",
    "run webs",
    "run edges",
    "up names",
]


def test_the_plan_of_a_fresh_site_creates_stacks_and_defers_what_needs_them(site: Rehearsal) -> None:
    plan = site.plan()
    assert plan.waves == (("stack/dc1-servers", "stack/dc2-servers"),)
    assert [one.action for one in plan.changes] == [Action.CREATE, Action.CREATE]
    assert [one.address for one in plan.deferred] == [
        group("databases"),
        group("edges"),
        group("webs"),
        stack("names"),
    ]
    assert (plan.complete, plan.applicable, plan.errored, plan.findings) == (False, True, False, ())


def test_an_envelope_names_the_hosts_that_will_come_and_what_is_not_known(site: Rehearsal) -> None:
    by_address = {one.address: one for one in site.plan().deferred}
    databases = by_address[group("databases")]
    assert databases.expected == (host("db1.dc1"), host("db1.dc2"))
    assert databases.envelope.at_most == 2
    assert databases.envelope.actions == (Action.CONFIGURE,)
    assert databases.waits_for == (stack("dc1-servers"), stack("dc2-servers"))
    assert by_address[stack("names")].envelope.unknown == ("dc1-servers.edge",)


def test_planning_touches_nothing(site: Rehearsal) -> None:
    site.plan()
    assert site.world.effects() == []
    assert (site.world.state, site.world.actual, site.world.values) == ({}, {}, {})
    assert not [call for call in site.world.calls if call.startswith(("record", "forget"))]


def test_rounds_and_waves_run_in_the_order_of_needs(site: Rehearsal) -> None:
    report = site.apply()
    assert report.ok
    assert report.exit_code is ExitCode.DONE
    assert (report.rounds, report.stopped, report.waiting) == (2, "", ())
    # the two stacks of the first wave are carried out side by side
    first, rest = site.world.effects()[:2], site.world.effects()[2:]
    assert (sorted(first), rest) == (ORDER[:2], ORDER[2:])
    runs = [(name, limit) for verb, name, limit in site.world.limits if verb == "run"]
    assert runs == [
        ("databases", ("db1.dc1",)),
        ("databases", ("db1.dc2",)),
        ("webs", ("web1.dc1", "web1.dc2")),
        ("edges", ("edge1.dc1",)),
    ]


def test_each_part_is_verified_before_the_next_one_begins(site: Rehearsal) -> None:
    site.apply()
    calls = [one for one in site.world.calls if one.startswith(("run", "verify"))]
    assert calls[:4] == ["run databases", "verify db1.dc1", "run databases", "verify db1.dc2"]


def test_a_second_plan_is_empty_and_complete(running: Rehearsal) -> None:
    plan = running.plan()
    assert (plan.empty, plan.complete, plan.applicable, plan.drift, plan.findings) == (True, True, False, (), ())
    report = running.apply(plan)
    assert report.ok
    assert running.world.effects() == []


def test_events_tell_the_story_of_a_run(site: Rehearsal) -> None:
    site.apply()
    assert [one.round for one in site.events if isinstance(one, RoundStarted)] == [1, 2]
    assert [one.wave for one in site.events if isinstance(one, WaveStarted)] == [1, 1, 2, 3, 4, 5]
    begun = [one.subject for one in site.events if isinstance(one, ChangeStarted)]
    ended = [one.subject for one in site.events if isinstance(one, ChangeFinished)]
    assert sorted(begun) == sorted(ended)
    assert len(begun) == len(ORDER)


def test_hosts_that_boot_are_waited_for_and_each_is_told_when_it_answers(site: Rehearsal) -> None:
    site.edit("estate.yaml", "boot_timeout: 2s", "boot_timeout: 5m")
    site.world.settings["boot_probes"] = 2
    site.world.watch.append(lambda call: site.world.booting.pop("db1.dc1", None) if call.startswith("probe") else None)
    assert site.apply().ok
    boots = [one for one in site.events if isinstance(one, ObservationFinished) and one.how == "boot"]
    assert {one.found for one in boots} == {"it answers"}
    assert len(boots) == len({one.subject for one in boots}) == 4
    assert site.plan().empty


def test_hosts_that_never_come_up_stop_the_run_before_they_are_touched(site: Rehearsal) -> None:
    site.edit("estate.yaml", "boot_timeout: 2s", "boot_timeout: 10ms")
    site.world.reach["db1.dc2"] = Reach.TIMEOUT
    report = site.apply()
    assert "db1.dc2 (timeout)" in report.stopped
    assert sorted(site.world.effects()) == ["up dc1-servers", "up dc2-servers"]
    assert [one.address for one in report.waiting] == [
        group("databases"),
        group("edges"),
        group("webs"),
        stack("names"),
    ]
    assert report.exit_code is ExitCode.PARTLY_APPLIED


def test_a_login_that_is_refused_for_long_is_no_boot_any_more(site: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> None:
    site.edit("estate.yaml", "boot_timeout: 2s", "boot_timeout: 10h")
    monkeypatch.setattr(fleet, "LOGINS_OPEN_S", 0.0)
    site.world.reach["web1.dc1"] = Reach.AUTH
    assert "web1.dc1 (auth)" in site.apply().stopped


@pytest.mark.parametrize("reach", [Reach.HOST_KEY, Reach.SUDO])
def test_what_no_boot_will_mend_is_not_waited_for(site: Rehearsal, reach: Reach) -> None:
    site.edit("estate.yaml", "boot_timeout: 2s", "boot_timeout: 10h")
    site.world.reach["web1.dc1"] = reach
    assert f"web1.dc1 ({reach})" in site.apply().stopped


def test_a_host_that_was_switched_off_is_drift_and_a_change_and_a_deferred_group(running: Rehearsal) -> None:
    running.world.actual["dc1-servers"]["db1.dc1"] = {"power": "off"}
    plan = running.plan()
    assert [(one.address, one.target, one.before, one.after) for one in plan.drift] == [
        (stack("dc1-servers"), "db1.dc1", {"power": "on"}, {"power": "off"})
    ]
    assert [(one.key, one.action, one.reason) for one in plan.changes] == [
        ("stack/dc1-servers", Action.UPDATE, Reason.DRIFT)
    ]
    assert [one.address for one in plan.deferred] == [group("databases")]
    assert running.apply(plan).ok
    assert running.plan().empty


def test_a_value_that_somebody_changed_on_a_host_is_drift_and_a_change(running: Rehearsal) -> None:
    running.world.values["db1.dc2"]["tune"] = "slow"
    plan = running.plan()
    assert [(one.address, one.what, one.before, one.after) for one in plan.drift] == [
        (host("db1.dc2"), "tune", "slow", "fast")
    ]
    assert [(one.key, one.reason) for one in plan.changes] == [("group/databases#1", Reason.DRIFT)]
    assert running.apply(plan).ok
    assert running.world.values["db1.dc2"]["tune"] == "fast"
    assert running.plan().empty


def test_new_inputs_are_a_change_and_no_drift(running: Rehearsal) -> None:
    running.versions["playbooks/database.yml"] = "edited"
    running.world.playbooks["database.yml"] = running.world.playbooks["database.yml"][:1]
    running.world.values["db1.dc1"]["install"] = "16"
    plan = running.plan()
    assert plan.drift == ()
    assert [(one.key, one.reason) for one in plan.changes] == [("group/databases#1", Reason.INPUTS)]


def test_a_new_machine_is_created_and_its_group_deferred_with_a_bound(running: Rehearsal) -> None:
    running.world.programs["dc2-servers"] = lambda _config, _made: servers("db1.dc2", "web1.dc2", "web2.dc2")
    plan = running.plan()
    assert [(one.key, one.action) for one in plan.changes] == [("stack/dc2-servers", Action.CREATE)]
    webs = next(one for one in plan.deferred if one.address == group("webs"))
    assert webs.envelope.at_most == 3
    assert running.apply(plan).ok
    assert running.plan().empty


def test_unknown_leaves_of_a_host_are_pending_and_not_wrong(site: Rehearsal) -> None:
    def program(_config: object, made: bool) -> Desired:
        keys = ["ssh-ed25519 AAAA"] if made else UNKNOWN
        return Desired(
            resources={"db1.dc2": {"power": "on"}},
            outputs={"hosts": [host_entry("db1.dc2", host_keys=keys)]},
        )

    site.world.programs["dc2-servers"] = program
    databases = next(one for one in site.plan().deferred if one.address == group("databases"))
    assert databases.envelope.unknown == ("db1.dc2: host_keys not known yet",)
    assert site.apply().ok


def test_hosts_of_an_inventory_are_configured_beside_those_of_stacks(site: Rehearsal) -> None:
    site.files["inventory/hosts"] = "[old]\n"
    site.edit("estate.yaml", "ssh:", "inventories: [inventory/hosts]\nssh:")
    site.world.inventories["hosts"] = (inventory_host("web9", "web"),)
    plan = site.plan()
    assert next(one for one in plan.deferred if one.address == group("webs")).envelope.at_most == 3
    assert site.apply(plan).ok
    assert site.world.values["web9"]["install"] == "1"


@pytest.mark.parametrize(
    ("said", "own", "user"), [("user: debian", "", "debian"), ("user: debian", "ada", "ada"), ("port: 22", "", "")]
)
def test_a_host_of_an_inventory_without_a_user_takes_the_one_that_the_estate_names(
    site: Rehearsal, said: str, own: str, user: str
) -> None:
    site.files["inventory/hosts"] = "[old]\n"
    site.edit("estate.yaml", "ssh: {user: debian", f"inventories: [inventory/hosts]\nssh: {{{said}")
    site.world.inventories["hosts"] = (replace(inventory_host("web9", "web"), user=own),)
    scope = site.scope()
    met = fleet.meet(scope, {}, read_states(scope))
    assert [one.user for one in met.hosts if one.name == "web9"] == [user]


def test_a_group_that_waits_for_an_output_of_another_stack_is_deferred(site: Rehearsal) -> None:
    site.files["inventory/hosts"] = "[old]\n"
    site.edit("estate.yaml", "ssh:", "inventories: [inventory/hosts]\nssh:")
    site.world.inventories["hosts"] = (inventory_host("relay1", "relay"),)
    site.files["relays.yaml"] = (
        "kind: HostGroup\nname: relays\nselector: host.labels.role == 'relay'\nplaybook: playbooks/edge.yml\n"
        "variables: {url: {output: names.url}}\n"
    )
    plan = site.plan()
    relays = next(one for one in plan.deferred if one.address == group("relays"))
    assert relays.why == "needs names.url, not known yet"
    assert site.apply(plan).ok
    assert site.world.effects()[-2:] == ["up names", "run relays"]
    assert site.plan().empty


def test_what_landed_is_remembered_with_its_commit(running: Rehearsal) -> None:
    rows = running.ledgers["lab"].rows
    assert {str(address) for address in rows} == {
        "group/databases",
        "group/edges",
        "group/webs",
        "stack/dc1-servers",
        "stack/dc2-servers",
        "stack/names",
    }
    assert {commit for _inputs, commit in rows.values()} == {running.scope().tree.revision.commit}


def test_nothing_of_a_run_is_left_out_of_its_report(site: Rehearsal) -> None:
    report = site.apply()
    assert [one.fate for one in report.outcomes] == [Fate.LANDED] * len(ORDER)
    assert {one.host for one in report.checks} == {"db1.dc1", "db1.dc2", "web1.dc1", "web1.dc2"}


def test_a_stack_whose_outputs_alone_differ_is_a_change_and_its_hosts_are_met(running: Rehearsal) -> None:
    plain = servers("db1.dc2", "web1.dc2")
    running.world.programs["dc2-servers"] = lambda _config, _made: Desired(
        resources=plain.resources, outputs={**plain.outputs, "note": "new"}
    )
    plan = running.plan()
    assert [(one.key, one.action, [step.target for step in one.steps]) for one in plan.changes] == [
        ("stack/dc2-servers", Action.CREATE, ["note"])
    ]
    assert running.apply(plan).ok
    assert running.plan().empty


def test_what_a_stack_tells_others_is_passed_on_in_the_same_apply(running: Rehearsal) -> None:
    plain = servers("db1.dc1", "edge1.dc1", "web1.dc1")
    running.world.programs["dc1-servers"] = lambda _config, _made: Desired(
        resources=plain.resources, outputs={**plain.outputs, "edge": "192.0.2.77"}
    )
    plan = running.plan()
    assert [one.key for one in plan.changes] == ["stack/dc1-servers"]
    assert [str(one.address) for one in plan.deferred] == ["stack/names"]
    assert running.apply(plan).ok
    assert running.world.actual["names"]["www"] == {"to": "192.0.2.77"}
    assert running.plan().empty
