"""``redfish.Server`` through the real Pulumi engine against a real Redfish service."""

from __future__ import annotations

import json
from dataclasses import replace

import pulumi
import pytest

from ismgr_automation.resources.redfish import Server, ServerArgs, Timeouts
from tests.provider.fake_bmc import PASSWORD, USER, Authority, FakeBmc
from tests.provider.inline import Failed, Inline

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def estate(tmp_path_factory):
    """An estate's folder with the BMC's authority and a private secret."""
    root = tmp_path_factory.mktemp("estate")
    (root / "trust").mkdir()
    authority = Authority(root / "trust", "bmc-ca")
    (root / "bmc").mkdir()
    (root / "bmc" / "db1.dc1").write_text(PASSWORD + "\n")
    (root / "bmc" / "db1.dc1").chmod(0o600)
    return root, authority


@pytest.fixture
def bmc(estate):
    with FakeBmc(estate[1]).running() as fake:
        yield fake


@pytest.fixture
def stack(tmp_path, pulumi_engine_path, estate):
    environment = {
        "ISMGR_ESTATE_ROOT": str(estate[0]),
        "ISMGR_SECRET_BACKENDS": json.dumps({"file": {"kind": "file", "root": str(estate[0])}}),
    }
    return Inline(tmp_path, pulumi_engine_path, environment)


@pytest.fixture
def args(bmc):
    return ServerArgs(
        endpoint=bmc.url,
        username=USER,
        password_ref="file:bmc/db1.dc1",
        ca="trust/bmc-ca.pem",
        power_state="On",
        timeouts=Timeouts(connect_seconds=20, read_seconds=30, change_seconds=60, shutdown_seconds=10),
    )


def program(args, opts=None):
    def run() -> None:
        server = Server("db1.dc1", args, opts)
        pulumi.export("power", server.power_state)
        pulumi.export("address", server.address)
        pulumi.export("serial", server.serial)
        pulumi.export("firmware", server.firmware)
        pulumi.export("bios", server.bios_attributes)

    return run


def test_the_life_of_a_server(stack, bmc, args):
    assert stack.preview(program(args)) == {"create": 2}
    assert bmc.requests == [], "a preview of a create asks nobody"

    stack.up()
    assert bmc.machine.power == "On"
    assert stack.outputs() == {
        "power": "On",
        "address": "192.0.2.30",
        "serial": "SN-0001",
        "firmware": {"bios": "2.4.1", "bmc": "1.00"},
        "bios": {},
    }

    bmc.requests.clear()
    assert set(stack.preview()) == {"same"}
    assert bmc.requests == [], "a preview asks nobody"

    changed = replace(args, asset_tag="A-17", bios_attributes={"NumCores": 8, "Hyperthreading": False})
    stack.preview(program(changed))
    assert bmc.requests == [], "a preview of an update asks nobody"
    (step,) = stack.steps("update")
    assert sorted(step["detailedDiff"]) == ["assetTag", "biosAttributes.Hyperthreading", "biosAttributes.NumCores"]
    stack.up()
    assert bmc.machine.asset_tag == "A-17"
    assert (bmc.machine.bios["NumCores"], bmc.machine.bios["Hyperthreading"]) == (8, False)
    assert bmc.machine.bios["BootMode"] == "Uefi"

    bmc.machine.power = "Off"
    bmc.requests.clear()
    assert stack.drift().get("update") == 1, "somebody switched it off by hand"
    assert {method for method, _ in bmc.requests} == {"GET"}
    (step,) = stack.steps("refresh")
    assert list(step["detailedDiff"] or {}) in ([], ["powerState"])
    stack.refresh()
    stack.preview()
    (step,) = stack.steps("update")
    assert list(step["detailedDiff"]) == ["powerState"]
    stack.up()
    assert bmc.machine.power == "On"

    stack.destroy()
    assert bmc.machine.power == "Off"
    assert PASSWORD not in stack.state_text()


def test_a_new_endpoint_is_a_new_machine_and_the_old_one_goes_first(stack, bmc, args, estate):
    stack.up(program(args))
    with FakeBmc(estate[1]).running() as other:
        moved = program(replace(args, endpoint=other.url))
        stack.preview(moved)
        assert len(stack.steps("replace")) == 1
        assert other.requests == []
        stack.up(moved)
        assert (bmc.machine.power, other.machine.power) == ("Off", "On")
        stack.destroy()


def test_a_server_is_imported_as_it_is_and_then_managed(tmp_path, pulumi_engine_path, estate, bmc, args):
    bmc.machine.power = "On"
    environment = {
        "ISMGR_ESTATE_ROOT": str(estate[0]),
        "ISMGR_SECRET_BACKENDS": json.dumps({"file": {"kind": "file", "root": str(estate[0])}}),
        "ISMGR_REDFISH_USERNAME": USER,
        "ISMGR_REDFISH_PASSWORD_REF": "file:bmc/db1.dc1",
        "ISMGR_REDFISH_CA": "trust/bmc-ca.pem",
    }
    stack = Inline(tmp_path, pulumi_engine_path, environment)
    wanted = replace(args, asset_tag="OLD-1", bios_attributes={"BootMode": "Uefi"})
    stack.up(program(wanted, pulumi.ResourceOptions(import_=bmc.url)))
    assert bmc.changes == []
    assert set(stack.preview(program(wanted))) == {"same"}
    assert set(stack.drift()) == {"same"}
    stack.up(program(replace(wanted, asset_tag="NEW-1")))
    assert bmc.machine.asset_tag == "NEW-1"


def test_a_rotated_password_is_no_change_of_the_machine_and_the_new_one_is_used(stack, bmc, args):
    stack.up(program(replace(args, password_ref=None, password=PASSWORD)))
    bmc.password = "a-new-password-1"
    rotated = program(replace(args, password_ref=None, password="a-new-password-1"))
    assert set(stack.preview(rotated)) == {"same"}
    stack.up(rotated)
    stack.destroy()
    assert bmc.machine.power == "Off"
    text = stack.state_text()
    assert PASSWORD not in text
    assert "a-new-password-1" not in text


def test_a_wrong_credential_names_the_resource_and_leaves_nothing_in_the_state(stack, bmc, args):
    bmc.password = "something else"
    with pytest.raises(Failed) as caught:
        stack.up(program(args))
    text = str(caught.value)
    assert f"db1.dc1: the BMC {bmc.url} rejected the credential of user 'admin'" in text
    assert "Unexpected <class" not in text
    assert "Traceback" not in text
    assert stack.resources() == []
    assert bmc.changes == []


def test_a_create_that_fails_after_it_began_is_remembered_and_taken_up_again(stack, bmc, args):
    bmc.faults.ignores = frozenset({"On", "ForceOn"})
    with pytest.raises(Failed, match="accepted On and is still Off"):
        stack.up(program(replace(args, asset_tag="A-17", timeouts=replace(args.timeouts, change_seconds=1.5))))
    (remembered,) = stack.resources()
    assert remembered["id"] == bmc.url
    assert remembered["outputs"]["powerState"] == "Off"
    assert "accepted On and is still Off" in remembered["initErrors"][0]
    bmc.faults.ignores = frozenset()
    stack.up()
    assert bmc.machine.power == "On"
    (healthy,) = stack.resources()
    assert "initErrors" not in healthy


def test_leaving_a_machine_makes_no_call_at_all(stack, bmc, args):
    stack.up(program(args))
    leave = program(replace(args, on_delete="leave"))
    assert set(stack.preview(leave)) == {"same"}
    stack.up(leave)
    bmc.requests.clear()
    stack.destroy()
    assert bmc.requests == []
    assert bmc.machine.power == "On"


def test_wrong_inputs_are_all_named_with_their_paths(stack, bmc, args):
    wrong = replace(
        args,
        endpoint="http://10.0.0.1/redfish",
        password="both",
        boot_device="Tape",
        power_state="Maybe",
        timeouts=Timeouts(read_seconds=-1),
    )
    with pytest.raises(Failed) as caught:
        stack.preview(program(wrong))
    text = str(caught.value)
    for path in ("endpoint", "passwordRef", "bootDevice", "powerState", "timeouts.readSeconds"):
        assert path in text
    assert bmc.requests == []
