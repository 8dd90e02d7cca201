"""What is written for machines is what its schema says, and what was ever written can still be read."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from ismgr_automation.cli.face import RESULT_FORMAT
from ismgr_automation.cli.main import run as ismgr
from ismgr_automation.converge.outcomefile import read_outcome
from ismgr_automation.core import events
from ismgr_automation.core.address import stack
from ismgr_automation.core.events import Event
from ismgr_automation.engines.signing import SshVerifier
from ismgr_automation.evidence.audit import Claims, verify
from ismgr_automation.evidence.chain import Kind, parse
from ismgr_automation.planning.plan import FORMATS as PLAN_FORMATS
from ismgr_automation.planning.planfile import encode, read
from ismgr_automation.ports.approvals import NAMESPACE as APPROVAL
from ismgr_automation.ports.approvals import Permission
from ismgr_automation.ports.evidence import NAMESPACE
from ismgr_automation.ports.signing import AllowedSigner, Signature
from ismgr_automation.recovery.particulars import SIGN_OFF_NAMESPACE, SignOff
from ismgr_automation.recovery.topics import SignRole
from ismgr_automation.reports.formats import FORMATS, schema
from ismgr_automation.reports.formats.results import RESULT
from tests.evidence.chains import EVERY_ENTRY, PERMISSION, Chain
from tests.reports import stories

CASES = Path(__file__).parents[1] / "cases/formats"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SAMPLES = {
    "str": "text",
    "int": 3,
    "float": 1.5,
    "float | None": None,
    "int | None": None,
    "Address": stack("names"),
    "Address | None": None,
    "tuple[Address, ...]": (stack("a"), stack("b")),
}
EVENTS = [
    kind for kind in vars(events).values() if inspect.isclass(kind) and issubclass(kind, Event) and kind is not Event
]
RUNS = (stories.done, stories.stopped, stories.glass)


def closed(body: Any) -> Any:
    """The same schema for what we write ourselves: what no schema names would be undocumented."""
    if isinstance(body, list):
        return [closed(one) for one in body]
    if not isinstance(body, dict):
        return body
    inner = {key: closed(value) for key, value in body.items()}
    if "properties" in inner and inner.get("type") == "object" and "additionalProperties" not in inner:
        inner["additionalProperties"] = False
    return inner


def check(name: str, body: object) -> None:
    """Raise unless it is exactly what the schema says."""
    plain = json.loads(json.dumps(body, default=dict))
    Draft202012Validator(closed(copy.deepcopy(dict(schema(name))))).validate(plain)


def lines(path: Path) -> Iterator[Any]:
    return map(json.loads, path.read_text().splitlines())


@pytest.mark.parametrize("name", FORMATS)
def test_a_schema_is_one_and_says_what_it_is_for(name: str) -> None:
    body = schema(name)
    Draft202012Validator.check_schema(dict(body))
    assert body["title"]
    assert body["description"]


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_every_event_is_what_its_schema_says(kind: type[Event]) -> None:
    event = kind(**{field.name: SAMPLES[str(field.type)] for field in fields(kind)})
    check("event", event.to_json(NOON))


def test_every_record_of_evidence_is_what_its_schema_says() -> None:
    made = Chain()
    made.run("run-1", EVERY_ENTRY)
    kinds = set()
    for line in made.lines:
        check("evidence", json.loads(line))
        kinds.add(parse(line).kind)
    assert kinds == set(Kind)


@pytest.mark.parametrize("make", RUNS)
def test_every_report_is_what_its_schema_says(make: Any) -> None:
    check("report", make().report)


def test_a_plan_of_today_is_what_its_schema_says() -> None:
    check("plan", encode(stories.plan()))


def test_an_approval_is_what_its_schema_says() -> None:
    check("approval", json.loads(PERMISSION.to_bytes()))


@pytest.mark.parametrize("words", [["validate"], ["apply", "no-such-file.json"], ["no-such-command"]])
def test_an_error_is_what_the_schema_of_results_says(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ismgr(["-C", str(tmp_path), "--json", *words])
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["type"] == "error"
    check_open("result", last)
    assert RESULT_FORMAT == RESULT


def check_open(name: str, body: object) -> None:
    """As a reader would: what it does not know it lets pass."""
    Draft202012Validator(dict(schema(name))).validate(body)


@pytest.mark.parametrize(
    ("name", "case", "change"),
    [
        ("event", "event/1/every-kind.jsonl", {"type": "gossip"}),
        ("evidence", "evidence/1/records.jsonl", {"sequence": 0}),
        ("evidence", "evidence/1/records.jsonl", {"more": 1}),
        ("report", "report/1/stopped.json", {"exit_code": 99}),
        ("plan", "plan/2/tasks.json", {"digest": "sha256:short"}),
        ("approval", "approval/1/permission.json", {"nonce": "again"}),
        ("sign-off", "sign-off/1/management.json", {"as": "somebody"}),
        ("result", "result/1/errors.jsonl", {"exit_code": "many"}),
    ],
)
def test_a_schema_refuses_what_is_not_of_its_format(name: str, case: str, change: dict[str, object]) -> None:
    text = (CASES / case).read_text()
    body = json.loads(text.splitlines()[0] if case.endswith("l") else text)
    check_open(name, body)
    with pytest.raises(ValidationError):
        check_open(name, body | change)


@pytest.mark.parametrize(
    "path", sorted(CASES.glob("plan/*/[!b]*.json")), ids=lambda path: f"{path.parts[-2]}-{path.stem}"
)
def test_plans_of_every_format_can_be_read_and_are_what_the_schema_says(path: Path) -> None:
    check("plan", json.loads(path.read_text()))
    assert read(path.read_text(), str(path)).format in PLAN_FORMATS


def test_events_of_format_1_are_what_the_schema_says() -> None:
    for body in lines(CASES / "event/1/every-kind.jsonl"):
        check_open("event", body)


def test_reports_of_format_1_can_be_read() -> None:
    for path in CASES.glob("report/1/*.json"):
        body = json.loads(path.read_text())
        check_open("report", body)
        assert [read_outcome(one).key for one in body["outcomes"]]


def test_errors_of_format_1_are_what_the_schema_says() -> None:
    for body in lines(CASES / "result/1/errors.jsonl"):
        check_open("result", body)


def signer(namespace: str, folder: str = "evidence/1") -> tuple[AllowedSigner, ...]:
    """The key that signed the stored examples of a folder; its private half was thrown away."""
    key = (CASES / folder / "runner.pub").read_text().strip()
    return (AllowedSigner(principal="runner", key=key, namespaces=(namespace,)),)


@pytest.mark.parametrize(("name", "later"), [("evidence/1", {Kind.DRILL_NOTED}), ("evidence/1/noted", set())])
def test_evidence_of_format_1_can_be_read_and_checked(name: str, later: set[Kind]) -> None:
    folder = CASES / name
    found = (folder / "records.jsonl").read_bytes().splitlines()
    for line in found:
        check_open("evidence", json.loads(line))
    assert {parse(line).kind for line in found} == set(Kind) - later, "there is one of each kind"
    armored = (folder / "closing.sig").read_text()
    runners = signer(NAMESPACE, name)
    signature = Signature(armored=armored, key=runners[0].key)
    claims = Claims(environment="lab", estate="two-sites", signatures={"run-1": signature}, runners=runners)
    audit = verify(found, claims, SshVerifier())
    assert audit.ok, audit.problems
    assert audit.runs[0].signed_by == "runner"


def test_approvals_of_version_1_can_be_read_and_checked() -> None:
    data = (CASES / "approval/1/permission.json").read_bytes()
    permission = Permission.from_bytes(data)
    check_open("approval", json.loads(data))
    runners = signer(APPROVAL)
    signature = Signature(armored=(CASES / "approval/1/permission.sig").read_text(), key=runners[0].key)
    assert SshVerifier().verify(permission.to_bytes(), signature, APPROVAL, runners) == "runner"


def test_sign_offs_of_version_1_can_be_checked() -> None:
    folder = CASES / "sign-off/1"
    body = json.loads((folder / "management.json").read_bytes())
    check("sign-off", body)
    again = SignOff(
        run=body["run"],
        at=datetime.fromisoformat(body["at"]),
        by="cleo@desk",
        role=SignRole(body["as"]),
        estate=body["estate"],
        environment=body["environment"],
        digest=body["digest"],
    )
    key = (folder / "management.pub").read_text().strip()
    people = (AllowedSigner(principal="Cleo", key=key, namespaces=(SIGN_OFF_NAMESPACE,)),)
    signature = Signature(armored=(folder / "management.sig").read_text(), key=key)
    assert SshVerifier().verify(again.to_bytes(), signature, SIGN_OFF_NAMESPACE, people) == "Cleo"


@pytest.mark.parametrize("name", [*FORMATS, "plam"])
def test_the_command_line_prints_the_schema_of_a_format(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = ismgr(["schema", "--format", name])
    said = capsys.readouterr()
    if name in FORMATS:
        assert (code, json.loads(said.out)) == (0, json.loads(json.dumps(schema(name), default=dict)))
    else:
        assert code == 1
        assert "Did you mean plan?" in said.err
