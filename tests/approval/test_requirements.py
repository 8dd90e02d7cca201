"""What holds for what is touched, and that the stricter of two revisions wins."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ismgr_automation.approval.requirements import Requirement, guard, requirements, strictest
from ismgr_automation.approval.touched import Touched, Whereabouts, reworded, touched
from ismgr_automation.estate.documents import ApprovalRule, Environment, Role
from ismgr_automation.planning.change import Action
from ismgr_automation.planning.plan import URGENT, Purpose
from tests.approval.cast import change, estate, group, plan, service, stack

SITE = estate(
    stacks=(stack("servers", hosts=True), stack("others", hosts=True), stack("names")),
    groups=(group("databases", "stack/servers"), group("webs")),
    services=(service("records", "databases", holds=("phi",)), service("site", "webs", holds=("public",))),
)

ALL_CLASSES = frozenset({"phi", "public"})
CASES = [
    (plan(), Touched()),
    (plan(change("stack/names")), Touched(anything=True, stacks=frozenset({"names"}))),
    (
        plan(change("group/databases", Action.CONFIGURE)),
        Touched(anything=True, groups=frozenset({"databases"}), data_classes=frozenset({"phi"})),
    ),
    # the stack that makes the databases' hosts holds their data; that of the webs is not said, so it may be any
    (
        plan(change("stack/servers")),
        Touched(anything=True, stacks=frozenset({"servers"}), data_classes=ALL_CLASSES),
    ),
    (
        plan(change("stack/others")),
        Touched(anything=True, stacks=frozenset({"others"}), data_classes=frozenset({"public"})),
    ),
    (
        plan(change("stack/names", Action.UPDATE, Action.REPLACE)),
        Touched(anything=True, stacks=frozenset({"names"}), destroys=True),
    ),
    # who loses hosts is touched
    (
        plan(change("stack/servers", Action.DELETE), purpose=Purpose.DESTROY),
        Touched(
            anything=True,
            stacks=frozenset({"servers"}),
            groups=frozenset({"databases", "webs"}),
            data_classes=ALL_CLASSES,
            destroys=True,
        ),
    ),
]


@pytest.mark.parametrize(("planned", "expected"), CASES)
def test_what_a_plan_touches(planned, expected) -> None:
    assert touched(planned, SITE) == expected


DATABASES = SITE.groups["databases"]
REWORDED = [
    ({}, Touched()),
    ({"stacks": {}}, Touched()),
    # what comes anew has nobody who was asked before
    ({"services": {**SITE.services, "new": service("new", "webs", holds=("phi",))}}, Touched()),
    ({"services": {"site": SITE.services["site"]}}, Touched(data_classes=frozenset({"phi"}))),
    (
        {"services": {**SITE.services, "records": service("records", holds=("phi",))}},
        Touched(data_classes=frozenset({"phi"})),
    ),
    ({"groups": {"databases": DATABASES}}, Touched(groups=frozenset({"webs"}), data_classes=frozenset({"public"}))),
    (
        {"groups": {**SITE.groups, "databases": DATABASES.model_copy(update={"selector": "false"})}},
        Touched(groups=frozenset({"databases"}), data_classes=frozenset({"phi"})),
    ),
    ({"groups": {**SITE.groups, "databases": DATABASES.model_copy(update={"playbook": "q.yml"})}}, Touched()),
    ({"teams": {}}, Touched(judges=True)),
    ({"document": estate(ApprovalRule()).document}, Touched(judges=True)),
]


@pytest.mark.parametrize(("changed", "expected"), REWORDED)
def test_what_documents_touch_that_are_to_be_the_base(changed, expected) -> None:
    assert reworded(SITE, replace(SITE, **changed), "prod", Whereabouts()) == expected


def test_what_changes_who_judges_is_asked_for_by_every_rule() -> None:
    rules = (ApprovalRule(), ApprovalRule(count=2, destroys=True), ApprovalRule(role=Role.AUTHOR, urgent=True))
    found = requirements(rules, Touched(anything=True, judges=True))
    assert [(one.count, one.role) for one in found] == [(1, Role.APPROVER), (2, Role.APPROVER), (1, Role.AUTHOR)]
    assert len(requirements(rules, Touched(anything=True))) == 1
    assert requirements(rules, Touched(judges=True)) == ()


def test_what_is_known_of_hosts_adds_to_what_is_touched() -> None:
    known = Whereabouts(members={"databases": frozenset({"db1"})}, makers={"db1": "others"})
    assert "phi" in touched(plan(change("stack/others")), SITE, known).data_classes
    # another group's playbook on a host of the databases
    found = touched(plan(change("group/webs", Action.CONFIGURE, targets=("db1",))), SITE, known)
    assert found.groups == {"webs", "databases"}
    assert found.data_classes == ALL_CLASSES


RULES = [
    (ApprovalRule(), "something changes"),
    (ApprovalRule(stacks=("servers",)), "stack servers is touched"),
    (ApprovalRule(groups=("databases",)), ""),
    (ApprovalRule(data_classes=("phi",)), "it touches what holds phi data"),
    (ApprovalRule(destroys=True), ""),
    (ApprovalRule(destroys=True, stacks=("servers",)), "stack servers is touched"),
    (ApprovalRule(stacks=("names",), data_classes=("personal",)), ""),
    (ApprovalRule(urgent=True), ""),
]


@pytest.mark.parametrize(("rule", "because"), RULES)
def test_a_rule_holds_for_what_it_names(rule, because) -> None:
    found = requirements([rule], touched(plan(change("stack/servers")), SITE))
    assert [one.because for one in found] == ([because] if because else [])
    assert requirements([rule], touched(plan(), SITE)) == ()


def test_a_rule_for_urgent_work_holds_for_urgent_work_alone() -> None:
    calm = plan(change("stack/servers"))
    policies = {**calm.inputs.policies, URGENT: "it is exploited"}
    urgent = replace(calm, inputs=replace(calm.inputs, policies=policies))
    rule = ApprovalRule(urgent=True, stacks=("names",))
    assert requirements([rule], touched(calm, SITE)) == ()
    (one,) = requirements([rule], touched(urgent, SITE))
    assert one.because == "windows and freezes are overridden"
    assert (touched(calm, SITE) | touched(urgent, SITE)).urgent


def asked(count: int, because: str = "x", role: Role = Role.APPROVER) -> Requirement:
    return Requirement(count=count, role=role, team=None, because=because)


@pytest.mark.parametrize(
    ("base", "proposed", "expected"),
    [
        ([asked(2)], [], [asked(2)]),
        ([], [asked(1)], [asked(1)]),
        ([asked(2)], [asked(1)], [asked(2)]),
        ([asked(1)], [asked(3)], [asked(3)]),
        ([asked(1)], [asked(1, role=Role.OPERATOR)], [asked(1), asked(1, role=Role.OPERATOR)]),
        ([asked(1)], [asked(1, "y")], [asked(1), asked(1, "y")]),
    ],
)
def test_the_stricter_of_two_revisions_wins(base, proposed, expected) -> None:
    assert list(strictest(base, proposed)) == expected


def environments(**named: Environment):
    return estate(environments=named).document


RULED = Environment(approvals=(ApprovalRule(count=2),), signed_commits=True, break_glass=True)


def test_a_rule_that_a_commit_deletes_still_holds() -> None:
    found = guard(environments(prod=RULED), environments(prod=Environment()), "prod")
    assert found.base == (ApprovalRule(count=2),)
    assert found.proposed == ()
    assert found.signed_commits
    assert found.wanted


def test_break_glass_must_be_allowed_by_both() -> None:
    allowed, not_allowed = environments(prod=RULED), environments(prod=Environment())
    assert guard(allowed, allowed, "prod").break_glass
    assert not guard(not_allowed, allowed, "prod").break_glass
    assert not guard(allowed, not_allowed, "prod").break_glass


def test_an_environment_under_a_new_name_is_judged_by_all_that_the_base_has() -> None:
    found = guard(environments(prod=RULED, lab=Environment()), environments(production=Environment()), "production")
    assert found.base == (ApprovalRule(count=2),)
    assert found.signed_commits


def test_nothing_is_asked_where_nothing_is_written() -> None:
    assert not guard(None, environments(prod=Environment()), "prod").wanted
