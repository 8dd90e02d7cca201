"""What the provider says before anybody is asked: its schema, and every wrong input by its path."""

from __future__ import annotations

import json
import subprocess

import pytest
from pulumi.runtime import rpc
from pulumi.runtime.proto import provider_pb2 as p

from ismgr_automation.provider.schema import package
from tests.provider.plugin import RECORDS, SERVER, plugin, struct


@pytest.fixture(scope="module")
def stub():
    with plugin() as (_, one):
        yield one


# the schema


def test_the_schema_is_served(stub):
    assert json.loads(stub.GetSchema(p.GetSchemaRequest(version=0)).schema) == package()


@pytest.mark.engine
def test_pulumi_accepts_the_schema(tmp_path, pulumi_engine_path):
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(package()))
    done = subprocess.run(
        [pulumi_engine_path, "schema", "check", file],
        capture_output=True,
        text=True,
        check=False,
        env={"HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stdout + done.stderr


def test_every_property_of_the_schema_is_described():
    schema = package()
    pieces = [*schema["resources"].values(), *schema["types"].values()]
    for piece in pieces:
        assert piece["description"]
        for part in ("inputProperties", "properties"):
            for name, body in piece.get(part, {}).items():
                assert body.get("description"), name
    assert all(body["description"] for body in schema["config"]["variables"].values())


def test_secrets_are_secret_in_the_schema():
    schema = package()
    assert schema["resources"]["ismgr:redfish:Server"]["inputProperties"]["password"]["secret"]
    assert schema["types"]["ismgr:dns:KeyInputs"]["properties"]["secret"]["secret"]


def test_a_password_that_the_program_forgot_to_mark_becomes_secret(stub):
    answer = stub.Check(p.CheckRequest(urn=SERVER, news=struct({**BMC, "password": "in the clear"})))
    assert answer.inputs["password"][rpc._special_sig_key] == rpc._special_secret_sig


# checks


BMC = {"endpoint": "https://192.0.2.1", "username": "a", "passwordRef": "env:X"}
ZONE = {"server": "192.0.2.5", "zone": "z.test", "name": "www", "type": "A", "records": ["192.0.2.1"]}
KEY = {"key": {"name": "k", "secretRef": "env:X"}}


@pytest.mark.parametrize(
    ("urn", "body", "path"),
    [
        (SERVER, {**BMC, "endpoint": "http://192.0.2.1"}, "endpoint"),
        (SERVER, {**BMC, "endpoint": "https://user:word@192.0.2.1"}, "endpoint"),
        (SERVER, {"username": "a", "passwordRef": "env:X"}, "endpoint"),
        (SERVER, {**BMC, "powerState": "on"}, "powerState"),
        (SERVER, {**BMC, "bootDevice": "Tape"}, "bootDevice"),
        (SERVER, {**BMC, "biosAttributes": {"A": [1]}}, "biosAttributes.A"),
        (SERVER, {**BMC, "timeouts": {"readSeconds": 0}}, "timeouts.readSeconds"),
        (SERVER, {**BMC, "onDelete": "explode"}, "onDelete"),
        (SERVER, {**BMC, "passwordRef": "no-colon"}, "passwordRef"),
        (SERVER, {**BMC, "password": "both"}, "passwordRef"),
        (SERVER, {"endpoint": "https://192.0.2.1", "username": "a"}, "passwordRef"),
        (SERVER, {"endpoint": "https://192.0.2.1", "passwordRef": "env:X"}, "username"),
        (SERVER, {**BMC, "powerstate": "On"}, "powerstate"),
        (RECORDS, {**ZONE}, "key.name"),
        (RECORDS, {**ZONE, "key": {"name": "k"}}, "key.secretRef"),
        (RECORDS, {**ZONE, **KEY, "server": ""}, "server"),
        (RECORDS, {**ZONE, **KEY, "records": []}, "records"),
        (RECORDS, {**ZONE, **KEY, "records": ["192.0.2.256"]}, "records"),
        (RECORDS, {**ZONE, **KEY, "type": "SOA"}, "type"),
        (RECORDS, {**ZONE, **KEY, "name": "www.other.test."}, "name"),
        (RECORDS, {**ZONE, **KEY, "ttl": -1}, "ttl"),
        (RECORDS, {**ZONE, **KEY, "port": 70_000}, "port"),
        (RECORDS, {**ZONE, "key": {"name": "k", "secretRef": "env:X", "algorithm": "hmac-md5"}}, "key"),
    ],
)
def test_a_wrong_input_is_named_by_its_path(stub, urn, body, path):
    answer = stub.Check(p.CheckRequest(urn=urn, news=struct(body)))
    assert path in [failure.property for failure in answer.failures]
    assert all(failure.reason for failure in answer.failures)


@pytest.mark.parametrize(("urn", "body"), [(SERVER, BMC), (RECORDS, {**ZONE, **KEY})])
def test_right_inputs_pass(stub, urn, body):
    assert list(stub.Check(p.CheckRequest(urn=urn, news=struct(body))).failures) == []


def test_an_unknown_option_of_the_provider_is_named_with_the_near_one(stub):
    answer = stub.CheckConfig(p.CheckRequest(news=struct({"redfishUser": "admin", "version": "0.1.0"})))
    (failure,) = answer.failures
    assert failure.property == "redfishUser"
    assert "redfishUsername" in failure.reason
