"""What a look at the world finds besides changes: hosts that do not answer, engines that fail, claims that clash."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ismgr_automation.core.address import group, host, stack
from ismgr_automation.core.errors import Cancelled, EngineFailed, EngineMissing, EstateError, InputError
from ismgr_automation.core.events import ObservationFinished, ObservationStarted
from ismgr_automation.planning.change import Level
from ismgr_automation.ports.hosts import Reach
from ismgr_automation.ports.memory import UNKNOWN, Desired, Task
from ismgr_automation.ports.stacks import Output
from tests.rehearsal import Rehearsal, host_entry, inventory_host, names_program, servers

FAILED = EngineFailed("The engine fell over.", engine="pulumi", detail="boom", next_step="Look at it.")


@pytest.mark.parametrize("reach", [one for one in Reach if one is not Reach.OK])
def test_a_host_that_cannot_be_worked_on_is_a_finding_with_its_reason(running: Rehearsal, reach: Reach) -> None:
    running.world.reach["db1.dc2"] = reach
    plan = running.plan()
    (finding,) = plan.findings
    assert (finding.level, finding.subject) == (Level.DENY, host("db1.dc2"))
    assert f"({reach})" in finding.summary
    assert "--exclude host/db1.dc2" in finding.next_step
    assert (plan.errored, plan.applicable, plan.complete) == (True, False, False)


def test_the_rest_of_a_group_is_still_looked_at_when_one_host_does_not_answer(running: Rehearsal) -> None:
    running.world.reach["db1.dc2"] = Reach.TIMEOUT
    running.world.values["db1.dc1"]["tune"] = "slow"
    plan = running.plan()
    assert [one.key for one in plan.changes] == ["group/databases#1"]
    assert running.world.limits[0] == ("check", "databases", ("db1.dc1",))


def test_a_host_that_goes_away_while_it_is_checked_is_a_finding(running: Rehearsal) -> None:
    def leave(call: str) -> None:
        if call == "check databases":
            running.world.reach["db1.dc1"] = Reach.TIMEOUT

    running.world.watch.append(leave)
    assert [str(one.subject) for one in running.plan().findings] == ["host/db1.dc1"]


@pytest.mark.parametrize(
    ("call", "subject"),
    [
        ("preview names", stack("names")),
        ("check webs", group("webs")),
        ("state names", stack("names")),
    ],
)
def test_an_engine_that_fails_is_a_finding_and_the_rest_is_shown(
    running: Rehearsal, call: str, subject: object
) -> None:
    running.world.faults[call] = FAILED
    running.world.values["edge1.dc1"]["install"] = "0"
    plan = running.plan()
    assert [(one.subject, one.level, one.summary) for one in plan.findings] == [
        (subject, Level.DENY, "The engine fell over.: boom")
    ]
    assert [one.key for one in plan.changes] == ["group/edges#1"]
    assert plan.errored


def test_a_state_of_a_stack_outside_the_selection_that_cannot_be_read_is_a_finding_too(running: Rehearsal) -> None:
    running.world.faults["state dc2-servers"] = FAILED
    plan = running.plan(targets=("stack/names",))
    assert [one.subject for one in plan.findings] == [stack("dc2-servers")]
    assert plan.errored


@pytest.mark.parametrize("call", ["state names", "preview names", "check webs"])
@pytest.mark.parametrize(
    "fault",
    [EngineMissing(engine="x", needed="1", found=[], ways=[]), Cancelled("Stopped."), InputError("Bad program.")],
)
def test_what_makes_a_plan_pointless_is_raised_once(running: Rehearsal, call: str, fault: Exception) -> None:
    running.world.faults[call] = fault
    with pytest.raises(type(fault)):
        running.plan()


def test_a_look_that_fails_is_told_as_finished(running: Rehearsal) -> None:
    running.world.faults["preview names"] = FAILED
    running.plan()
    begun = [(one.subject, one.how) for one in running.events if isinstance(one, ObservationStarted)]
    ended = {(one.subject, one.how): one.found for one in running.events if isinstance(one, ObservationFinished)}
    assert sorted(begun) == sorted(ended)
    assert ended[stack("names"), "preview"] == "failed"
    assert ended[group("webs"), "check"] == "nothing to do"


def test_two_stacks_that_claim_one_host_name_are_refused_with_both_names(site: Rehearsal) -> None:
    site.world.programs["dc2-servers"] = lambda _config, _made: servers("db1.dc1")
    with pytest.raises(EstateError) as caught:
        site.plan()
    assert "db1.dc1 (stack/dc1-servers and stack/dc2-servers)" in str(caught.value)


@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        ("db1", "is not a list"),
        ({"db1": {}}, "is not a list"),
        (["db1"], "has an entry 0 that is not an object"),
        ([host_entry("db1"), {}], "has an entry 1 that has no name"),
        ([{"name": "db1"}], "has an entry 0 that has no address (db1)"),
        ([{"name": 5, "address": "x"}], "has an entry 0 that has no name"),
    ],
)
def test_a_malformed_list_of_hosts_is_an_estate_error_at_its_stack(site: Rehearsal, hosts: object, words: str) -> None:
    site.world.programs["dc2-servers"] = lambda _config, _made: Desired(resources={}, outputs={"hosts": hosts})
    site.world.outputs["dc2-servers"] = {"hosts": Output(value=hosts)}
    with pytest.raises(EstateError) as caught:
        site.plan()
    (wrong,) = caught.value.diagnostics
    assert words in wrong.summary
    assert str(wrong.position).startswith("stacks.yaml:")


def test_a_group_whose_hosts_cannot_be_counted_must_say_how_many(site: Rehearsal) -> None:
    site.world.programs["dc2-servers"] = lambda _config, made: (
        servers("cache1.dc2")
        if made
        else Desired(resources={"cache1.dc2": {"power": "on"}}, outputs={"hosts": UNKNOWN})
    )
    caches = "kind: HostGroup\nname: caches\nselector: host.labels.role == 'cache'\nplaybook: playbooks/edge.yml\n"
    site.files["caches.yaml"] = caches
    plan = site.plan()
    assert [(one.subject, one.level) for one in plan.findings] == [(group("caches"), Level.DENY)]
    assert "at_most" in plan.findings[0].next_step
    site.files["caches.yaml"] = caches + "at_most: 4\n"
    plan = site.plan()
    assert next(one for one in plan.deferred if one.address == group("caches")).envelope.at_most == 4
    assert site.apply(plan).ok
    assert site.world.values["cache1.dc2"] == {"install": "3"}


@pytest.mark.parametrize("unknown", [{"name": UNKNOWN}, {"labels": UNKNOWN}, {"labels": {"role": UNKNOWN}}])
def test_a_host_whose_name_or_labels_are_not_known_yet_is_not_counted_as_none(
    site: Rehearsal, unknown: dict[str, object]
) -> None:
    site.files["caches.yaml"] = (
        "kind: HostGroup\nname: caches\nselector: host.labels.role == 'cache'\nplaybook: playbooks/edge.yml\n"
        "at_most: 2\n"
    )
    site.world.programs["dc2-servers"] = lambda _config, made: Desired(
        resources={"cache1.dc2": {"power": "on"}},
        outputs={"hosts": [host_entry("cache1.dc2", **({} if made else unknown))]},
    )
    plan = site.plan()
    assert group("caches") in {one.address for one in plan.deferred}
    assert site.apply(plan).ok
    assert site.plan().empty


def test_a_group_that_grew_over_its_own_bound_is_a_finding_at_plan_time(site: Rehearsal) -> None:
    site.edit("groups.yaml", "name: webs\n", "name: webs\nat_most: 1\n")
    (finding,) = site.plan().findings
    assert (finding.subject, finding.level) == (group("webs"), Level.DENY)


def test_a_group_without_hosts_is_an_advice(site: Rehearsal) -> None:
    site.files["caches.yaml"] = (
        "kind: HostGroup\nname: caches\nselector: host.labels.role == 'cache'\nplaybook: playbooks/edge.yml\n"
    )
    plan = site.plan()
    assert [(one.subject, one.level) for one in plan.findings] == [(group("caches"), Level.ADVISE)]
    assert not plan.errored


def test_a_check_that_fails_on_a_host_is_a_finding_with_the_task(running: Rehearsal) -> None:
    running.versions["playbooks/web.yml"] = "new"
    running.world.playbooks["web.yml"] = (Task(name="hook", value="ran", unpredictable="command"),)
    assert [one.key for one in running.plan().changes] == ["group/webs#1"]


def test_an_output_that_no_program_exports_is_a_finding_that_names_what_there_is(running: Rehearsal) -> None:
    running.edit(
        "stacks.yaml",
        "outputs: {hosts: {type: hosts}, edge: {type: string}}",
        "outputs: {hosts: {type: hosts}, front: {type: string}}",
    )
    running.edit("stacks.yaml", "dc1-servers.edge", "dc1-servers.front")
    (finding,) = running.plan().findings
    assert finding.subject == stack("names")
    assert "dc1-servers.front, which stack/dc1-servers does not have; it has edge, hosts" in finding.summary
    assert "Export front" in finding.next_step


def test_an_output_of_a_stack_that_is_left_out_and_was_never_applied_is_a_finding(site: Rehearsal) -> None:
    (finding,) = site.plan(targets=("stack/names",)).findings
    assert finding.subject == stack("names")
    assert finding.next_step == "Apply stack/dc1-servers first, or leave stack/names out."


def test_a_stack_behind_a_deferred_one_waits_even_if_its_old_value_is_known(running: Rehearsal) -> None:
    running.files["mirrors.yaml"] = (
        "kind: Stack\nname: mirrors\nprogram: stacks/names\nconfig: {to: {output: names.url}}\n"
    )
    running.world.programs["mirrors"] = lambda config, _made: Desired(resources={"m": {"of": config["to"]}})
    assert running.apply().ok
    running.world.programs["dc1-servers"] = lambda _config, _made: Desired(
        resources={name: {"power": "on"} for name in ("db1.dc1", "edge1.dc1", "web1.dc1")},
        outputs={**servers("db1.dc1", "edge1.dc1", "web1.dc1").outputs, "edge": "192.0.2.99"},
    )
    running.world.actual["dc1-servers"]["db1.dc1"] = {"power": "off"}
    plan = running.plan()
    assert [str(one.address) for one in plan.deferred] == ["group/databases", "stack/mirrors", "stack/names"]
    assert running.apply(plan).ok
    assert running.world.actual["mirrors"]["m"] == {"of": "http://192.0.2.99/"}
    assert running.plan().empty


def test_a_secret_output_is_never_handed_to_a_group(running: Rehearsal) -> None:
    running.edit(
        "groups.yaml",
        "playbook: playbooks/edge.yml",
        "playbook: playbooks/edge.yml\nvariables: {u: {output: names.url}}",
    )
    running.edit("groups.yaml", "needs: [group/webs]", "needs: []")
    running.edit("stacks.yaml", "needs: [group/edges]", "needs: []")
    secret = Output(value=None, secret=True)
    running.world.programs["names"] = lambda config, made: replace(names_program(config, made), outputs={"url": secret})
    running.world.outputs["names"]["url"] = secret
    with pytest.raises(InputError, match="secret output never leaves its stack"):
        running.plan()


def test_a_group_and_a_stack_that_need_each_other_through_hosts_are_a_circle(site: Rehearsal) -> None:
    site.edit("stacks.yaml", "name: dc2-servers\n", "name: dc2-servers\nneeds: [group/databases]\n")
    with pytest.raises(EstateError, match="group needs the stacks that make its hosts") as caught:
        site.plan()
    assert str(caught.value.diagnostics[0].position).startswith("stacks.yaml:")


def test_a_host_behind_a_bastion_that_a_stack_will_switch_on_waits_for_that_stack(running: Rehearsal) -> None:
    running.files["inventory/hosts"] = "[old]\n"
    running.edit("estate.yaml", "ssh:", "inventories: [inventory/hosts]\nssh:")
    running.world.inventories["hosts"] = (replace(inventory_host("web9", "web"), bastion="edge1.dc1"),)
    running.world.actual["dc1-servers"]["edge1.dc1"] = {"power": "off"}
    running.world.reach["web9"] = Reach.TIMEOUT
    plan = running.plan()
    assert plan.findings == ()
    assert {str(one.address) for one in plan.deferred} >= {"group/edges", "group/webs"}


def test_a_bastion_is_probed_along(site: Rehearsal) -> None:
    site.files["inventory/hosts"] = "[old]\n"
    site.edit("estate.yaml", "ssh: {", "inventories: [inventory/hosts]\nssh: {bastion: gate, ")
    site.world.inventories["hosts"] = (inventory_host("gate", "gate"),)
    site.settle()
    site.plan()
    assert any(call.startswith("probe") and call.endswith(",gate") for call in site.world.calls)


def test_drift_is_seen_on_the_other_hosts_of_a_group_that_waits_for_one(running: Rehearsal) -> None:
    running.world.actual["dc1-servers"]["db1.dc1"] = {"power": "off"}
    running.world.values["db1.dc2"]["tune"] = "slow"
    plan = running.plan()
    assert [str(one.address) for one in plan.deferred] == ["group/databases"]
    assert [str(one.address) for one in plan.drift] == ["stack/dc1-servers", "host/db1.dc2"]
    assert plan.findings == ()


def test_an_engine_that_fails_while_it_looks_at_a_waiting_group_is_a_warning(running: Rehearsal) -> None:
    running.world.actual["dc1-servers"]["db1.dc1"] = {"power": "off"}
    running.world.faults["check databases"] = FAILED
    plan = running.plan()
    assert [one.level for one in plan.findings] == [Level.WARN]
    assert plan.applicable


def test_every_plan_says_that_nobody_signs_the_evidence(site: Rehearsal) -> None:
    assert not [one for one in site.plan().findings if "runner key" in one.summary]
    before = site.plan()
    site.edit("estate.yaml", ', evidence: {runner_key: {secret: "env:RUNNER"}}', "")
    plan = site.plan()
    (advice,) = [one for one in plan.findings if "runner key" in one.summary]
    assert advice.level is Level.ADVISE
    assert "runner_key" in advice.next_step
    assert plan.errored == before.errored
    site.edit("estate.yaml", "lab: {", 'lab: {evidence: {runner_agent: "ssh-ed25519 AAAA runner"}, ')
    assert not [one for one in site.plan().findings if "runner key" in one.summary]
