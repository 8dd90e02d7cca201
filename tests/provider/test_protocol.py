"""The provider as a process, spoken to as the engine does: the SDK's ten traps, and what Pulumi sees of errors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from importlib.metadata import requires, version
from pathlib import Path

import grpc
import pytest
from google.protobuf import empty_pb2, struct_pb2
from pulumi.provider.experimental.property_value import Computed, PropertyValue
from pulumi.runtime import rpc
from pulumi.runtime.proto import provider_pb2 as p
from pulumi.runtime.proto import status_pb2

from ismgr_automation import __version__
from ismgr_automation.engines.pulumi.locate import PINNED
from ismgr_automation.provider import values
from tests.provider.fake_bmc import PASSWORD, USER, Authority, FakeBmc
from tests.provider.plugin import PLUGIN, RECORDS, SERVER, fails, plugin, secret, struct

UNKNOWN = rpc.UNKNOWN


@pytest.fixture(scope="module")
def stub():
    with plugin() as (_, one):
        yield one


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"), "bmc-ca")


@pytest.fixture
def bmc(authority):
    with FakeBmc(authority).running() as fake:
        yield fake


@pytest.fixture
def inputs(bmc, authority):
    return {
        "endpoint": bmc.url,
        "username": USER,
        "password": secret(PASSWORD),
        "ca": str(authority.file),
        "powerState": "On",
        "timeouts": {"readSeconds": 5, "changeSeconds": 0.6, "shutdownSeconds": 0.3},
    }


# the ten traps


def test_unknown_inputs_pass_the_check_and_are_unknown_outputs_in_a_preview(stub, inputs):
    unknown = {
        **inputs,
        "endpoint": UNKNOWN,
        "assetTag": UNKNOWN,
        "biosAttributes": {"A": UNKNOWN},
        "timeouts": UNKNOWN,
    }
    checked = stub.Check(p.CheckRequest(urn=SERVER, news=struct(unknown)))
    assert list(checked.failures) == []
    assert checked.inputs["endpoint"] == UNKNOWN
    made = stub.Create(p.CreateRequest(urn=SERVER, properties=checked.inputs, preview=True))
    assert made.properties["endpoint"] == UNKNOWN
    assert made.properties["address"] == UNKNOWN
    assert made.properties["powerState"] == "On"


def test_the_sdk_cannot_carry_an_unknown_as_computed():
    with pytest.raises(ValueError, match="Unsupported"):
        PropertyValue(Computed()).marshal()
    assert values.plain(values.property_value(values.UNKNOWN)) is values.UNKNOWN


def test_numbers_travel_as_floats_and_whole_ones_come_back_as_integers():
    with pytest.raises(TypeError, match="Unsupported"):
        PropertyValue(4)
    carried = PropertyValue.unmarshal(values.property_value({"cores": 4, "ratio": 0.5}).marshal())
    assert values.plain(carried) == {"cores": 4, "ratio": 0.5}
    assert isinstance(values.plain(carried)["cores"], int)


def test_a_secret_equals_the_same_plain_value_in_a_diff(stub, bmc):
    assert PropertyValue("x") != PropertyValue("x").with_secret(True)  # noqa: FBT003
    with pytest.raises(TypeError):
        hash(PropertyValue({"a": PropertyValue("x")}))
    old = {"endpoint": bmc.url, "powerState": "On", "assetTag": "A-17"}
    new = {"endpoint": secret(bmc.url), "powerState": "On", "assetTag": secret("A-17"), "username": USER}
    answer = stub.Diff(p.DiffRequest(urn=SERVER, id=bmc.url, olds=struct(old), news=struct(new)))
    assert answer.changes == p.DiffResponse.DIFF_NONE


def test_an_output_without_value_or_dependencies_is_an_unknown(stub, inputs):
    odd = {rpc._special_sig_key: rpc._special_output_value_sig}
    with pytest.raises((UnboundLocalError, ValueError)):
        PropertyValue.unmarshal(struct_pb2.Value(struct_value=struct(odd)))
    known = {**odd, "value": "A-17"}
    news = struct({**inputs, "bootDevice": odd, "assetTag": known})
    made = stub.Create(p.CreateRequest(urn=SERVER, properties=news, preview=True))
    assert made.properties["bootDevice"] == UNKNOWN
    assert made.properties["assetTag"] == "A-17"


def test_errors_are_one_clean_sentence_with_the_name_of_the_resource(stub, bmc, inputs):
    error = fails(stub.Create, p.CreateRequest(urn=SERVER, properties=struct({**inputs, "password": "wrong"})))
    assert error.details().startswith(f"db1.dc1: the BMC {bmc.url} rejected the credential of user 'admin'.")
    assert "Unexpected" not in error.details()
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION, "codes such as UNKNOWN make Pulumi doubt its state"
    missing = fails(stub.Read, p.ReadRequest(urn=RECORDS, id="no-such-id"))
    assert missing.details().startswith("www: 'no-such-id' is not the id of a record set.")


def test_a_bug_is_told_as_a_bug_and_not_as_a_class(stub):
    odd = struct({"endpoint": 3, "password": {"not text": "hunter2"}})
    error = fails(stub.Create, p.CreateRequest(urn=SERVER, properties=odd))
    assert error.details().startswith("This is a bug in the provider ismgr, please report it: ValidationError")
    assert "Traceback" not in error.details()
    assert "hunter2" not in error.details()


def test_a_resource_that_does_not_exist_is_refused_with_those_that_do(stub):
    error = fails(stub.Check, p.CheckRequest(urn="urn:pulumi:a::b::ismgr:redfish:Rack::r", news=struct({})))
    assert "ismgr:dns:RecordSet, ismgr:redfish:Server" in error.details()


def test_a_create_that_failed_after_it_began_is_reported_as_existing(stub, bmc, inputs):
    bmc.faults.ignores = frozenset({"On"})
    news = struct({**inputs, "assetTag": "A-17"})
    error = fails(stub.Create, p.CreateRequest(urn=SERVER, properties=news))
    (packed,) = [value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin"]
    (detail,) = status_pb2.Status.FromString(packed).details
    failed = p.ErrorResourceInitFailed()
    assert detail.Unpack(failed)
    assert failed.id == bmc.url
    assert (failed.properties["assetTag"], failed.properties["powerState"]) == ("A-17", "Off")
    assert "accepted On and is still Off" in failed.reasons[0]


def test_a_create_that_failed_before_it_began_is_not(stub, bmc, inputs):
    bmc.faults.garbage = b"<html>"
    error = fails(stub.Create, p.CreateRequest(urn=SERVER, properties=struct(inputs)))
    assert not [1 for key, _ in error.trailing_metadata() if key == "grpc-status-details-bin"]
    assert "not Redfish" in error.details()


def test_every_change_is_in_the_detailed_difference(stub, bmc):
    old = {"endpoint": bmc.url, "powerState": "Off", "biosAttributes": {"NumCores": "4"}}
    new = {
        "endpoint": bmc.url,
        "powerState": "On",
        "biosAttributes": {"NumCores": 4, "Boot.Mode": "Uefi"},
        "assetTag": "A",
    }
    answer = stub.Diff(p.DiffRequest(urn=SERVER, id=bmc.url, olds=struct(old), news=struct(new)))
    assert answer.hasDetailedDiff
    assert set(answer.detailedDiff) == {"powerState", 'biosAttributes["Boot.Mode"]', "assetTag"}
    assert set(answer.diffs) == {"powerState", "biosAttributes", "assetTag"}
    assert answer.changes == p.DiffResponse.DIFF_SOME


def test_a_changed_configuration_of_the_provider_can_be_compared(stub):
    answer = stub.DiffConfig(p.DiffRequest(olds=struct({"redfishCa": "a"}), news=struct({"redfishCa": "b"})))
    assert answer.changes == p.DiffResponse.DIFF_NONE


def test_a_slow_machine_holds_up_nobody(stub, bmc, inputs):
    bmc.faults.slow = 1.0
    patient = {**inputs, "timeouts": {"readSeconds": 60, "changeSeconds": 60}}
    ended = []

    def create() -> None:
        stub.Create(p.CreateRequest(urn=SERVER, properties=struct(patient)))
        ended.append("slow")

    thread = threading.Thread(target=create)
    thread.start()
    while not bmc.requests:
        time.sleep(0.005)
    for _ in range(5):
        stub.Check(p.CheckRequest(urn=SERVER, news=struct(inputs)))
    ended.append("quick")
    bmc.faults.slow = 0.0
    thread.join(60)
    assert ended == ["quick", "slow"]


def test_the_provider_ends_when_its_engine_is_killed():
    lines = f"import subprocess, time; subprocess.Popen([{str(PLUGIN)!r}, '127.0.0.1:1']); time.sleep(600)"
    engine = subprocess.Popen([sys.executable, "-c", lines], stdout=subprocess.PIPE)
    assert engine.stdout
    engine.stdout.readline()  # the port: it serves
    (child,) = Path(f"/proc/{engine.pid}/task/{engine.pid}/children").read_text().split()
    engine.kill()
    engine.wait(10)
    end = time.monotonic() + 15
    while Path(f"/proc/{child}").exists() and time.monotonic() < end:
        time.sleep(0.02)
    gone = not Path(f"/proc/{child}").exists()
    engine.stdout.close()
    if not gone:
        os.kill(int(child), signal.SIGKILL)
    assert gone


def test_the_sdk_is_pinned_and_is_that_of_the_engine():
    assert version("pulumi") == PINNED
    assert f"pulumi=={PINNED}" in (requires("ismgr_automation") or [])


# life as a plugin


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_provider_ends_at_once_when_it_is_asked_to(number):
    with plugin() as (process, _):
        process.send_signal(number)
        assert process.wait(10) == 0


def test_a_cancelled_operation_stops_waiting_and_remembers_what_it_began(bmc, inputs):
    bmc.faults.lies = True
    news = struct({**inputs, "timeouts": {"changeSeconds": 600}})
    with plugin() as (_, stub):
        asked = stub.Create.future(p.CreateRequest(urn=SERVER, properties=news))
        while not bmc.changes:
            time.sleep(0.005)
        stub.Cancel(empty_pb2.Empty())
        error = asked.exception(timeout=10)
    assert "Stopped by request" in error.details()
    assert [1 for key, _ in error.trailing_metadata() if key == "grpc-status-details-bin"]


def test_started_by_hand_it_says_who_starts_it():
    done = subprocess.run([PLUGIN], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "is started by Pulumi" in done.stderr
    shown = subprocess.run([PLUGIN, "--version"], capture_output=True, text=True, check=False)
    assert shown.stdout.strip() == __version__


def test_the_plugin_says_its_version(stub):
    assert stub.GetPluginInfo(empty_pb2.Empty()).version == __version__


def test_a_refresh_of_a_system_that_is_gone_forgets_it(stub, bmc, inputs):
    body = struct({**inputs, "system": "7"})
    answer = stub.Read(p.ReadRequest(urn=SERVER, id=f"{bmc.url}#7", inputs=body, properties=struct({})))
    assert answer.id == ""


def test_a_refresh_keeps_the_password_secret(stub, bmc, inputs):
    answer = stub.Read(p.ReadRequest(urn=SERVER, id=bmc.url, inputs=struct(inputs), properties=struct({})))
    assert answer.inputs["password"][rpc._special_sig_key] == rpc._special_secret_sig
    assert answer.inputs["powerState"] == "Off"
    assert answer.properties["powerState"] == "Off"
    assert "password" not in answer.properties


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"passwordRef": "env:NOT_SET_ANYWHERE"}, "Secret env:NOT_SET_ANYWHERE"),
        ({"passwordRef": "vault:x"}, "there is no backend 'vault'"),
        ({"ca": "missing/ca.pem"}, "db1.dc1: the authority file missing/ca.pem cannot be used"),
    ],
)
def test_what_cannot_be_opened_is_said_before_anybody_is_asked(stub, bmc, inputs, body, said):
    given = {**inputs, **body}
    if "passwordRef" in body:
        del given["password"]
    error = fails(stub.Create, p.CreateRequest(urn=SERVER, properties=struct(given)))
    assert said in error.details()
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert bmc.requests == []


@pytest.mark.parametrize("backends", ["{", "[]", '{"file": {"kind": "file", "root": "relative"}}'])
def test_a_wrong_description_of_secret_backends_is_said(bmc, inputs, backends):
    body = {**inputs, "passwordRef": "file:bmc/db1.dc1"}
    del body["password"]
    with plugin(ISMGR_SECRET_BACKENDS=backends) as (_, stub):
        error = fails(stub.Create, p.CreateRequest(urn=SERVER, properties=struct(body)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "backend" in error.details().lower()
    assert bmc.requests == []
