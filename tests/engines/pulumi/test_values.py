"""From the engine's JSON to values: state, story, environment. No engine is needed."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ismgr_automation.core.address import stack
from ismgr_automation.core.errors import EngineFailed
from ismgr_automation.core.events import OutputSeen, ResourceStepped
from ismgr_automation.engines.pulumi import environment
from ismgr_automation.engines.pulumi.backend import Asked, Files, StackId, folder_of, write
from ismgr_automation.engines.pulumi.state import (
    NEVER,
    SECRET_SIGNATURE,
    SIGNATURE,
    UNKNOWNS,
    Checkpoint,
    normal,
    outputs_of,
)
from ismgr_automation.engines.pulumi.story import OPERATIONS, Story, _lookup
from ismgr_automation.ports.stacks import Operation, Output

STACK_OPS = {
    "same", "create", "update", "delete", "replace", "create-replacement", "delete-replaced", "read",
    "read-replacement", "refresh", "discard", "discard-replaced", "remove-pending-replace", "import",
    "import-replacement", "diff",
}  # fmt: skip
"""Every StepOp of the engine (deploy/step.go, 3.230.0)."""

HIDDEN = {SIGNATURE: SECRET_SIGNATURE, "ciphertext": "v1:abc:def"}
URN = "urn:pulumi:dev::p::probe:index:Thing::"


def story(*events: dict[str, object], acting: bool = True) -> tuple[Story, list[object]]:
    seen: list[object] = []
    told = Story(subject=stack("s"), emit=seen.append, clean=lambda text: text.replace("pw", "<secret>"), acting=acting)
    for event in events:
        told.hear(event)
    return told, seen


def event(kind: str, op: str, name: str = "a", **more: object) -> dict[str, object]:
    return {kind: {"metadata": {"op": op, "urn": URN + name, "type": "probe:index:Thing", **more}}}


def test_every_operation_of_the_engine_has_one_of_ours():
    assert set(OPERATIONS) == STACK_OPS
    assert {one for one in OPERATIONS.values() if one} == set(Operation) - {Operation.DRIFT}


def test_an_operation_of_a_newer_engine_is_an_error_and_not_passed_over():
    with pytest.raises(EngineFailed, match="'teleport'"):
        story(event("resourcePreEvent", "teleport"))


@pytest.mark.parametrize("op", sorted(STACK_OPS - {"refresh", "diff"}))
def test_each_operation_makes_a_step(op):
    told, _ = story(event("resourcePreEvent", op, old={"inputs": {}}, new={"inputs": {}}))
    assert len(told.planned) == (op != "same")
    assert told.unchanged == (op == "same")


def test_what_a_secret_replaces_is_hidden_with_it():
    sides = {
        "old": {"inputs": {"key": "old", "size": 1, "new": None}},
        "new": {"inputs": {"key": "pw", "size": 2, "new": "pw"}},
    }
    told, _ = story(event("resourcePreEvent", "update", diffs=["key", "size", "new"], **sides))
    (step,) = told.planned
    assert step.before == {"key": "<secret>", "size": 1, "new": None}
    assert step.after == {"key": "<secret>", "size": 2, "new": "<secret>"}


def test_what_is_special_in_the_engines_json_is_told_in_words():
    raw = {
        "secret": HIDDEN,
        "list": [1, HIDDEN, *sorted(UNKNOWNS)],
        "asset": {SIGNATURE: "c44067f5952c0a294b673a41bacd8c17", "hash": "0123456789abcdef", "text": "x"},
        "resource": {SIGNATURE: "5cf8f73096256a8f31e491e813e4eb8e", "urn": URN + "db1", "id": "1"},
        "output": {SIGNATURE: "d0e6a833031e9bbcd3f4e8bde6ca49a4", "value": "plain"},
        "later": {SIGNATURE: "d0e6a833031e9bbcd3f4e8bde6ca49a4"},
        "hidden": {SIGNATURE: "d0e6a833031e9bbcd3f4e8bde6ca49a4", "value": "x", "secret": True},
        "__defaults": [],
    }
    assert normal(raw) == {
        "secret": "<secret>",
        "list": [1, "<secret>", *["<unknown>"] * len(UNKNOWNS)],
        "asset": "<asset 0123456789ab>",
        "resource": "db1",
        "output": "plain",
        "later": "<unknown>",
        "hidden": "<secret>",
    }


def test_an_output_with_a_secret_inside_is_secret_as_a_whole():
    found = outputs_of({"a": {"x": [HIDDEN]}, "b": 1, "c": [next(iter(UNKNOWNS))]})
    assert found == {
        "a": Output(value=None, secret=True),
        "b": Output(value=1),
        "c": Output(value=["<unknown>"], known=False),
    }


def checkpoint(*resources: dict[str, object], **more: object) -> Checkpoint:
    return Checkpoint({"manifest": {"time": "t"}, "resources": list(resources), **more})


def test_the_digest_passes_over_times_and_ciphertext_and_sees_everything_else():
    one = {"urn": URN + "a", "type": "t", "inputs": {"x": 1}, "modified": "1", "created": "1"}
    assert checkpoint(one).digest == checkpoint({**one, "modified": "2", "sourcePosition": "file:1"}).digest
    assert checkpoint(one).digest != checkpoint({**one, "inputs": {"x": 2}}).digest
    secret = {**one, "inputs": {"x": HIDDEN}}
    again = {**one, "inputs": {"x": {**HIDDEN, "ciphertext": "v1:other"}}}
    assert checkpoint(secret).digest == checkpoint(again).digest
    assert checkpoint(secret).digest != checkpoint({**again, "modified": "2"}).digest
    pending = [{"resource": {"urn": URN + "b"}, "type": "creating"}]
    assert checkpoint(one).digest != checkpoint(one, pending_operations=pending).digest
    assert checkpoint(one, pending_operations=pending).pending[0].resource == "b"
    assert checkpoint().digest == NEVER.digest


def test_numbers_past_what_json_can_hold_exactly_do_not_break_the_digest():
    assert checkpoint({"urn": URN, "inputs": {"x": 2**70}}).digest.startswith("sha256:")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_plain_values_pass_through_unchanged(value):
    if not (isinstance(value, dict) and SIGNATURE in value):
        assert normal(value) == value


def test_drift_is_what_the_provider_calls_a_difference():
    old = {"inputs": {"size": 1}, "outputs": {"size": 1, "uptime": 5}}
    new = {"inputs": {"size": 9}, "outputs": {"size": 9, "uptime": 6}}
    detailed = {"size": {"diffKind": "update", "inputDiff": False}}
    told, _ = story(event("resOutputsEvent", "refresh", old=old, new=new, detailedDiff=detailed))
    assert [(one.changed, one.before, one.after) for one in told.drift] == [(("size",), {"size": 1}, {"size": 9})]
    same, _ = story(event("resOutputsEvent", "refresh", old=old, new={**old}, detailedDiff={}))
    assert same.drift == ()
    gone, _ = story(event("resOutputsEvent", "refresh", old=old, new=None, detailedDiff=None))
    assert [(one.before, one.after) for one in gone.drift] == [({"size": 1, "uptime": 5}, None)]


def test_a_replacement_of_three_steps_is_told_as_one_with_its_reason():
    detailed = {"key": {"diffKind": "update-replace", "inputDiff": False}}
    old, new = {"outputs": {"key": "x"}}, {"inputs": {"key": "y"}}
    told, seen = story(
        event("resourcePreEvent", "create-replacement", old=old, new=new, detailedDiff=detailed),
        event("resOutputsEvent", "create-replacement", old=old, new=new, detailedDiff=detailed),
        event("resourcePreEvent", "replace", old=old, new=new, detailedDiff=detailed),
        event("resOutputsEvent", "replace", old=old, new=new, detailedDiff=detailed),
        event("resourcePreEvent", "delete-replaced", old=old, new=None),
        event("resOutputsEvent", "delete-replaced", old=old, new=None),
    )
    assert [(one.operation, one.changed, one.before, one.after) for one in told.landed] == [
        (Operation.REPLACE, ("key",), {"key": "x"}, {"key": "y"})
    ]
    assert {one.operation for one in seen if isinstance(one, ResourceStepped)} == {"replace"}


def test_what_began_and_did_not_end_is_in_flight_and_what_failed_is_not():
    told, _ = story(
        event("resourcePreEvent", "create", "a"),
        event("resourcePreEvent", "create", "b"),
        event("resourcePreEvent", "create", "c"),
        event("resOutputsEvent", "create", "a"),
        event("resOpFailedEvent", "create", "b"),
    )
    assert ([one.name for one in told.landed], told.in_flight) == (["a"], ("c",))
    assert told.failures == ("b: failed, and the engine does not say why",)
    told.hear({"diagnosticEvent": {"severity": "error", "urn": URN + "b", "message": "Preview failed: b: no power\n"}})
    assert told.failures == ("b: no power",)


def test_a_preview_tells_of_no_steps_and_secrets_are_cleaned_from_words_and_values():
    said = {"diagnosticEvent": {"severity": "info", "message": "pw and [secret]\n"}}
    noise = {"diagnosticEvent": {"severity": "warning", "message": "using pulumi-resource-x from $PATH at /bin/x\n"}}
    told, seen = story(said, noise, event("resourcePreEvent", "create", new={"inputs": {"x": "the pw"}}), acting=False)
    assert seen == [OutputSeen(subject=stack("s"), text="<secret> and <secret>")]
    assert told.planned[0].after == {"x": "the <secret>"}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a", (True, {"b": [1, {"c.d": 2}]})),
        ("a.b[0]", (True, 1)),
        ('a.b[1]["c.d"]', (True, 2)),
        ("a.b[7]", (False, None)),
        ("a.x", (False, None)),
        ("x", (False, None)),
    ],
)
def test_property_paths_are_followed(path, found):
    assert _lookup({"a": {"b": [1, {"c.d": 2}]}}, path) == found


def test_children_see_only_what_they_need():
    found = environment.allowed(
        {
            "HOME": "/h",
            "PATH": "/bin",
            "AWS_PROFILE": "x",
            "LC_ALL": "C",
            "MY_TOKEN": "t",
            "PULUMI_CONFIG_PASSPHRASE": "p",
        }
    )
    assert set(found) == {"HOME", "PATH", "AWS_PROFILE", "LC_ALL"}
    assert found["PATH"].endswith(":/bin")


def test_variables_that_references_name_are_passed_on_and_no_others():
    variables = {"BMC_A": "1", "BMC_B": "2", "ESTATE_X": "3", "OTHER": "4"}
    config = {"site": {"machines": [{"password": {"secret": "env:BMC_A"}}, {"password": {"secret": "file:x"}}]}}
    backends = {"prefixed": {"kind": "environment", "prefix": "ESTATE_"}, "file": {"kind": "file", "root": "/x"}}
    assert environment.referred(config, backends, variables) == {"BMC_A": "1", "ESTATE_X": "3"}
    assert environment.referred(config, {}, variables) == {"BMC_A": "1"}


def test_a_reference_that_a_program_passes_on_as_text_is_let_through_as_well():
    variables = {"DNS_KEY": "1", "OTHER": "2"}
    assert environment.referred({"key_secret_ref": "env:DNS_KEY"}, {}, variables) == {"DNS_KEY": "1"}
    assert environment.referred({"machines": [{"passwordRef": "env:DNS_KEY"}]}, {}, variables) == {"DNS_KEY": "1"}
    assert environment.referred({"note": "env:DNS_KEY"}, {}, variables) == {}


def test_providers_get_what_opens_the_backends_of_their_secrets():
    login = {"kind": "vault", "address": "https://vault:8200", "token": {"secret": "sealed:token"}}
    sealed = {"kind": "ansible-vault", "files": ["/a.yaml"], "password": {"secret": "env:VAULT_PASSWORD"}}
    backends = {"vault": login, "sealed": sealed}
    variables = {"VAULT_PASSWORD": "1", "OTHER": "2"}
    config = {"bmc": {"password": {"secret": "vault:bmc/db1#password"}}}
    assert environment.referred(config, backends, variables) == {"VAULT_PASSWORD": "1"}
    assert environment.referred({"x": {"secret": "file:a"}}, backends, variables) == {}


@pytest.mark.parametrize(
    ("url", "folder"),
    [("file:///srv/state", Path("/srv/state")), ("s3://bucket", None), ("postgres://u:p@h/db", None)],
)
def test_only_file_urls_are_folders(url, folder):
    assert folder_of(url) == folder


def test_state_in_files_is_read_packed_or_not_and_found_by_name(tmp_path):
    files = Files(tmp_path)
    here = StackId(project="p", name="s")
    assert files.read(here) is NEVER
    assert files.named("s") == ()
    folder = tmp_path / ".pulumi" / "stacks" / "p"
    folder.mkdir(parents=True)
    one = checkpoint({"urn": URN + "a", "type": "t"})
    write(folder / "s.json", here, one)
    assert files.read(here).digest == one.digest
    (folder / "s.json").rename(folder / "plain")
    (folder / "s.json.gz").write_bytes(gzip.compress((folder / "plain").read_bytes()))
    assert files.read(here).digest == one.digest
    assert files.named("s") == (here,)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"checkpoint": null}', '{"checkpoint": []}'])
def test_a_damaged_state_file_is_an_engine_error(tmp_path, text):
    folder = tmp_path / ".pulumi" / "stacks" / "p"
    folder.mkdir(parents=True)
    (folder / "s.json").write_text(text)
    with pytest.raises(EngineFailed, match="damaged"):
        Files(tmp_path).read(StackId(project="p", name="s"))


def test_state_elsewhere_is_asked_through_the_engine():
    answers = {
        "export": json.dumps({"version": 3, "deployment": {"resources": [{"urn": URN + "a", "type": "x:y:Z"}]}}),
        "ls": json.dumps([{"name": "organization/p/s"}, {"name": "organization/p/other"}]),
    }
    asked = Asked(lambda *arguments: answers.get(arguments[1]))
    assert asked.read(StackId(project="p", name="s")).state.resources == 1
    assert asked.named("s") == (StackId(project="p", name="s"),)
    assert Asked(lambda *_: None).read(StackId(project="p", name="s")) is NEVER
