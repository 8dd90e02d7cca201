"""Plan files: what is written is read back, stored examples stay readable, and no byte can be altered unnoticed."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.core.errors import PlanFileError
from ismgr_automation.core.json import digest
from ismgr_automation.planning.change import Reason
from ismgr_automation.planning.forecast import Estimate, Forecast, HostForecast
from ismgr_automation.planning.plan import FORMAT, change_json
from ismgr_automation.planning.planfile import read, read_change, write
from ismgr_automation.ports.memory import Desired, MemorySecretStore
from ismgr_automation.ports.packages import Need
from tests.planning.test_compose import (
    composed,
    group,
    group_sight,
    observations,
    replace,
    seen,
    stack,
    stack_sight,
    step,
    task,
)
from tests.rehearsal import Rehearsal

FORMATS = Path(__file__).parents[1] / "cases" / "formats" / "plan"
STORED = sorted(FORMATS.glob("*/*.json"))
EXAMPLES = [path for path in STORED if not path.name.startswith("bad-")]


def named(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}"


@given(observations())
def test_a_plan_is_read_back_as_it_was(observation: Any) -> None:
    plan = composed(observation)
    assert read(write(plan), "plan.json") == plan


def test_odd_characters_and_big_numbers_survive() -> None:
    odd = replace(task("h1"), after="half \udcff a \u00e9 character", before="\x00\x1b[31m")
    big = replace(step("a"), after={"serial": 2**60, "share": 0.1, "none": None, "list": [1, [2]]})
    plan = composed(seen(group_sight(group("g"), odd), stack_sight(stack("s"), big)))
    text = write(plan)
    assert text.encode("utf-8")
    assert read(text, "plan.json").digest == plan.digest


def test_there_are_stored_examples_and_none_was_made_anew() -> None:
    # a plan that somebody signed last year must be readable next year: add files, never rewrite one
    for number in ("1", "2"):
        stems = {path.stem for path in EXAMPLES if path.parent.name == number}
        assert stems >= {"destroy", "drifted", "fresh-site", "tasks"}


@pytest.mark.parametrize("path", EXAMPLES, ids=named)
def test_a_stored_plan_stays_readable_and_keeps_its_digest(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    plan = read(text, path.name)
    assert plan.digest == json.loads(text)["digest"]
    assert plan.format == f"ismgr.plan/{path.parent.name}"
    assert write(plan) == text


@pytest.mark.parametrize("path", [path for path in EXAMPLES if path.parent.name == "1"], ids=named)
def test_a_plan_of_an_older_format_never_passes_for_one_of_today(path: Path) -> None:
    old = read(path.read_text(encoding="utf-8"), path.name)
    today = replace(old, format=FORMAT)
    assert today.digest != old.digest
    body = {**json.loads(write(old)), "format": FORMAT}
    body.pop("checksum")
    body["checksum"] = digest(body)
    with pytest.raises(PlanFileError):
        read(json.dumps(body), path.name)


def test_what_the_second_format_adds_is_inside_the_digest_or_beside_it() -> None:
    plan = read((FORMATS / "2" / "fresh-site.json").read_text(encoding="utf-8"), "fresh-site.json")
    first, *rest = plan.changes
    inside = [
        replace(plan, changes=(replace(first, batch=7), *rest)),
        replace(plan, changes=(replace(first, constraint="sha256:other"), *rest)),
        replace(plan, inputs=replace(plan.inputs, policies={})),
        replace(plan, inputs=replace(plan.inputs, secrets={"env:DNS_KEY": "newer"})),
    ]
    assert len({plan.digest, *(one.digest for one in inside)}) == 1 + len(inside)
    later = replace(plan, beside=replace(plan.beside, expires_at=None, sidecars={}))
    assert later.digest == plan.digest
    for one in (*inside, later):
        assert read(write(one), "plan.json") == one


def test_what_is_foretold_stands_beside_the_digest_and_cannot_be_altered() -> None:
    plan = read((FORMATS / "2" / "fresh-site.json").read_text(encoding="utf-8"), "fresh-site.json")
    hosts = (
        HostForecast(host="web1", reboot=Need.YES, why=("PID 1",), services=("a.service",), then="told only"),
        HostForecast(host="web2", reboot=Need.UNKNOWN),
    )
    one = Forecast(
        takes=Estimate(span=timedelta(minutes=3), source="p95 of 12 runs"), soak=timedelta(hours=1), hosts=hosts
    )
    foretold = replace(plan, beside=replace(plan.beside, forecasts={plan.changes[0].key: one}))
    assert foretold.digest == plan.digest
    text = write(foretold)
    assert read(text, "plan.json") == foretold
    assert "forecasts" not in write(plan)
    for before, after in (("p95 of 12 runs", "p95 of 13 runs"), ('"takes_seconds": 180', '"takes_seconds": 18')):
        assert before in text
        with pytest.raises(PlanFileError):
            read(text.replace(before, after), "plan.json")


@given(observations())
def test_a_change_is_read_back_from_its_own_json(observation: Any) -> None:
    plan = composed(observation)
    reasons = {one.key: str(one.reason) for one in plan.changes}
    for one in plan.changes:
        whole = replace(one, batch=3, constraint="sha256:x")
        assert read_change(change_json(whole), FORMAT, reasons) == whole
        assert read_change(change_json(whole)) == replace(whole, reason=Reason.INPUTS)


def leaves(value: Any, trail: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The place of every scalar and of every empty container."""
    if isinstance(value, dict) and value:
        return [one for key, item in value.items() for one in leaves(item, (*trail, key))]
    if isinstance(value, list) and value:
        return [one for index, item in enumerate(value) for one in leaves(item, (*trail, index))]
    return [trail]


def put(body: Any, trail: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    """A copy of a document with one place changed."""
    copy = json.loads(json.dumps(body))
    inner = copy
    for key in trail[:-1]:
        inner = inner[key]
    inner[trail[-1]] = change(inner[trail[-1]])
    return copy


FULL = {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in EXAMPLES if path.stem == "destroy"}
FULL["2"] = json.loads((FORMATS / "2" / "fresh-site.json").read_text(encoding="utf-8"))
PLACES = [(number, trail) for number, body in FULL.items() for trail in leaves(body)]
NEW = {"batch", "constraint", "policies", "secrets", "expires_at", "sidecars", "format"}


def spelled(value: Any) -> str:
    return ".".join(map(str, value)) if isinstance(value, tuple) else str(value)


# of the second format only what it adds: the rest is the same code
PLACES = [(number, trail) for number, trail in PLACES if number == "1" or NEW & set(trail)]


@pytest.mark.parametrize(("number", "trail"), PLACES, ids=spelled)
def test_no_value_of_a_plan_file_can_be_altered(number: str, trail: tuple[Any, ...]) -> None:
    full = FULL[number]
    for change in (_other, lambda _value: None, lambda value: [value], lambda _value: {"x": 1}, lambda _value: 10**400):
        altered = put(full, trail, change)
        if altered != full:
            with pytest.raises(PlanFileError):
                read(json.dumps(altered), "plan.json")


def _other(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case str():
            return value + "x"
        case _:
            return ["x"]


@pytest.mark.parametrize(("number", "trail"), [one for one in PLACES if one[1]], ids=spelled)
def test_no_value_of_a_plan_file_can_be_taken_out(number: str, trail: tuple[Any, ...]) -> None:
    copy = json.loads(json.dumps(FULL[number]))
    inner = copy
    for key in trail[:-1]:
        inner = inner[key]
    del inner[trail[-1]]
    with pytest.raises(PlanFileError):
        read(json.dumps(copy), "plan.json")
    # a sidecar is bound by its change's constraint, which is the engine's to compare
    if "checksum" not in trail and "sidecars" not in trail[:-1]:
        copy.pop("checksum")
        copy["checksum"] = digest(copy)
        with pytest.raises(PlanFileError):
            read(json.dumps(copy), "plan.json")


@given(st.data())
def test_no_byte_of_a_plan_file_can_be_altered(data: st.DataObject) -> None:
    text = EXAMPLES[0].read_text(encoding="utf-8")
    at = data.draw(st.integers(0, len(text) - 1))
    altered = text[:at] + data.draw(st.characters(codec="utf-8")) + text[at + 1 :]
    try:
        same = json.loads(altered) == FULL["1"]
    except ValueError:
        same = False
    if same:
        assert read(altered, "plan.json").digest == FULL["1"]["digest"]
    else:
        with pytest.raises(PlanFileError):
            read(altered, "plan.json")


@given(st.integers(0, 2000))
def test_a_plan_file_that_was_cut_is_refused(length: int) -> None:
    text = EXAMPLES[0].read_text(encoding="utf-8")
    with pytest.raises(PlanFileError):
        read(text[: min(length, len(text) - 2)], "plan.json")


def test_something_added_is_refused_wherever_it_stands() -> None:
    for trail in ((), ("intent",), ("beside",), ("intent", "inputs")):
        copy = json.loads(json.dumps(FULL["1"]))
        inner = copy
        for key in trail:
            inner = inner[key]
        inner["more"] = 1
        copy.pop("checksum")
        copy["checksum"] = digest(copy)
        with pytest.raises(PlanFileError):
            read(json.dumps(copy), "plan.json")


def test_a_key_that_stands_twice_is_refused() -> None:
    text = json.dumps(FULL["1"]).replace('"purpose": "destroy"', '"purpose": "apply", "purpose": "destroy"')
    assert text != json.dumps(FULL["1"])
    with pytest.raises(PlanFileError, match="a key twice"):
        read(text, "plan.json")


@pytest.mark.parametrize("path", [path for path in STORED if path.name.startswith("bad-")], ids=named)
def test_a_stored_bad_file_is_refused_with_its_place(path: Path) -> None:
    with pytest.raises(PlanFileError) as caught:
        read(path.read_text(encoding="utf-8"), path.name)
    (wrong,) = caught.value.diagnostics
    assert wrong.position is not None
    assert wrong.position.path == path.name
    assert "ismgr plan --out" in caught.value.next_step


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{}", "NaN", '{"format": "ismgr.plan/2"}', "[" * 100_000, "1" * 5000, '"\\ud800"', "\x00"],
)
def test_what_is_no_plan_is_refused_in_one_way(text: str) -> None:
    with pytest.raises(PlanFileError):
        read(text, "plan.json")


def test_an_unknown_format_is_named() -> None:
    with pytest.raises(PlanFileError) as caught:
        read('{"format": "ismgr.plan/9"}', "plan.json")
    assert "'ismgr.plan/9'" in str(caught.value)


@pytest.mark.parametrize("odd", ["2026", "x", 5, None, "2026-03-01T12:00:00"])
def test_a_time_that_is_none_is_refused_even_with_a_good_checksum(odd: object) -> None:
    body = put(FULL["1"], ("beside", "created_at"), lambda _value: odd)
    body.pop("checksum")
    body["checksum"] = digest(body)
    with pytest.raises(PlanFileError):
        read(json.dumps(body), "plan.json")


def test_no_secret_gets_into_a_plan_file(tmp_path: Path) -> None:
    site = Rehearsal(folder=tmp_path)
    site.settle()
    site.world.programs["names"] = lambda config, _made: Desired(
        resources={"www": {"to": config["to"], "key": config["key"]}}
    )
    site.edit("stacks.yaml", "config: {", 'config: {key: {secret: "env:CANARY"}, ')
    site.secrets = MemorySecretStore({"env:APP": "app-password", "env:CANARY": "a-canary-sings"})
    plan = site.plan()
    text = write(plan)
    assert "<secret>" in text
    for value in ("a-canary-sings", "app-password"):
        assert value not in text
    # what stands for it is its version, under a key
    assert plan.inputs.secrets["env:CANARY"].startswith("hmac-sha256:")
