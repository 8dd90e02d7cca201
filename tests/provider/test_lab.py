"""The shipped stacks against the lab's real BMCs, machines and name server."""

from __future__ import annotations

import json
import runpy
from datetime import timedelta

import pytest
import yaml

from ismgr_automation import shipped
from ismgr_automation.core.errors import EngineFailed
from ismgr_automation.core.secret import Secret
from ismgr_automation.engines import redfish
from ismgr_automation.engines.redfish import Bmc, Power, Timeouts, Wanted
from ismgr_automation.estate.documents import Site
from ismgr_automation.lab import Fault, FaultKind
from tests.fixtures_lab import answers_ssh, switch_off, switch_on, until
from tests.provider.inline import Inline

pytestmark = [pytest.mark.lab, pytest.mark.engine]
SITE = "dc2"
MACHINES = ("gw1.dc2", "edge1.dc2", "web1.dc2", "db1.dc2")


@pytest.fixture
def estate(lab, tmp_path):
    root = tmp_path / "estate"
    lab.write(root)
    return root


@pytest.fixture
def stack(estate, tmp_path, pulumi_engine_path):
    backends = {"file": {"kind": "file", "root": str(estate / ".secrets")}}
    environment = {"ISMGR_ESTATE_ROOT": str(estate), "ISMGR_SECRET_BACKENDS": json.dumps(backends)}
    return Inline(tmp_path, pulumi_engine_path, environment)


def program(name):
    main = shipped.root() / "stacks" / name / "__main__.py"
    return lambda: runpy.run_path(str(main), run_name="__main__") and None


def client(lab, name, change=20.0):
    user, password = lab.bmc_credential(name)
    timeouts = Timeouts(change=timedelta(seconds=change), shutdown=timedelta(seconds=8), poll=timedelta(seconds=0.1))
    return redfish.connect(
        Bmc(
            subject=name,
            url=lab.bmc_url(name),
            username=user,
            password=Secret(password),
            ca=lab.folder.authority,
            timeouts=timeouts,
        )
    )


def off(lab, name):
    return not answers_ssh(lab, name)


def test_the_servers_of_a_site_live_and_die_by_their_stack(lab, healthy_bmcs, estate, stack):
    document = Site.model_validate(yaml.safe_load((estate / "sites" / f"{SITE}.yaml").read_text()))
    stack.config(site=document.model_dump(mode="json"))
    stack.up(program("servers"))
    for name in MACHINES:
        until(f"{name} answers SSH", lambda name=name: answers_ssh(lab, name))
    hosts = {host["name"]: host for host in stack.outputs()["hosts"]}
    assert set(hosts) == set(MACHINES)
    assert hosts["db1.dc2"]["address"] == str(lab.machine("db1.dc2").management)
    assert hosts["db1.dc2"]["host_keys"]

    assert set(stack.preview()) == {"same"}
    switch_off(lab, "web1.dc2")
    assert stack.drift().get("update") == 1, "somebody pulled a plug"
    stack.refresh()
    stack.up()
    until("web1.dc2 answers SSH", lambda: answers_ssh(lab, "web1.dc2"))

    stack.destroy()
    for name in MACHINES:
        until(f"{name} is off", lambda name=name: off(lab, name))


def test_the_name_server_of_the_lab_takes_our_names(lab, estate, stack):
    stack.config(
        server=str(lab.machine("ns").management),
        zone="two-sites.test",
        key_name="ismgr-update.",
        key_secret_ref="file:dns/tsig",
        records={"proof": {"type": "A", "ttl": 30, "records": ["192.0.2.7"]}},
    )
    stack.up(program("names"))
    assert stack.outputs()["names"] == {"proof A": {"fqdn": "proof.two-sites.test.", "records": ["192.0.2.7"]}}
    assert set(stack.drift()) == {"same"}
    stack.destroy()


def test_a_machine_tells_what_it_is(lab, healthy_bmcs):
    with client(lab, "edge1.dc2") as machine:
        facts = machine.read()
    assert facts.serial
    assert facts.bios_version
    assert facts.bmc_version
    assert str(lab.machine("edge1.dc2").management) in facts.addresses


def test_settings_are_changed_and_wait_for_the_next_power_on(lab, healthy_bmcs):
    with client(lab, "edge1.dc2") as machine:
        machine.make(Wanted(power=Power.OFF))
        name, before = min(machine.read().bios.items())
        facts = machine.make(Wanted(asset_tag="A-4711", boot_device="Pxe", bios={name: f"{before}-new"}))
        assert (facts.asset_tag, facts.boot_device, facts.bios_pending) == ("A-4711", "Pxe", (name,))
        facts = machine.make(Wanted(power=Power.ON, bios={name: f"{before}-new"}))
        assert facts.bios_pending == ()
        assert facts.bios[name] == f"{before}-new"
        machine.make(Wanted(boot_device="Hdd", asset_tag="", bios={name: before}))


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind=FaultKind.UNAVAILABLE, times=2),
        Fault(kind=FaultKind.UNAVAILABLE, times=2, methods=("POST",)),
        Fault(kind=FaultKind.SILENT, times=1, methods=("POST",)),
        Fault(kind=FaultKind.SLOW, times=1, seconds=1.0),
        Fault(kind=FaultKind.IGNORES, times=1),
    ],
)
def test_a_bmc_in_trouble_still_brings_its_machine_to_the_wanted_state(lab, healthy_bmcs, fault):
    """A graceful shutdown may be lost or ignored: then the plug is pulled."""
    switch_on(lab, "edge1.dc2")
    lab.arrange("edge1.dc2", fault)
    with client(lab, "edge1.dc2") as machine:
        machine.switch(Power.OFF)
        assert machine.power() is Power.OFF
    until("edge1.dc2 is off", lambda: off(lab, "edge1.dc2"))


def test_a_reset_that_is_accepted_and_never_happens_is_an_error(lab, healthy_bmcs):
    with client(lab, "edge1.dc2", change=3) as machine:
        machine.make(Wanted(power=Power.OFF))
        lab.arrange("edge1.dc2", Fault(kind=FaultKind.IGNORES, times=10))
        with pytest.raises(EngineFailed, match=r"edge1\.dc2: .*accepted On and is still Off"):
            machine.switch(Power.ON)
