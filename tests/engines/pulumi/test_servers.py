"""The stack that we ship, its native provider and a Redfish service, together through PulumiEngine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ismgr_automation import shipped
from ismgr_automation.core.errors import EngineError
from ismgr_automation.core.events import OutputSeen
from ismgr_automation.ports.stacks import Operation
from tests.provider.fake_bmc import PASSWORD, USER, Authority, FakeBmc

pytestmark = pytest.mark.engine


@pytest.fixture
def bmc(tmp_path):
    (tmp_path / "trust").mkdir()
    with FakeBmc(Authority(tmp_path / "trust", "bmc-ca")).running() as fake:
        yield fake


@pytest.fixture
def request_for_site(bmc, bench, tmp_path):
    """A site with one machine; the BMC's authority is in the estate, its password in a private file."""
    (tmp_path / "trust").rename(bench.root / "trust")
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "db1").write_text(PASSWORD)
    (secrets / "db1").chmod(0o600)
    site = {
        "name": "dc1",
        "machines": [
            {
                "name": "db1",
                "address": "192.0.2.30",
                "labels": {"role": "db"},
                "host_keys": ["ssh-ed25519 AAAA"],
                "bmc": {
                    "address": bmc.url,
                    "username": USER,
                    "password": {"secret": "file:db1"},
                    "ca": "trust/bmc-ca.pem",
                },
            }
        ],
    }
    asked = bench.program("", name="dc1-servers", config={"site": site})
    return replace(
        asked,
        program=shipped.root() / "stacks" / "servers",
        secret_backends={"file": {"kind": "file", "root": str(secrets)}},
    )


def test_a_server_switched_off_by_hand_is_drift_and_an_update_that_brings_it_back(bench, bmc, request_for_site):
    first = bench.preview(request_for_site)
    assert [(step.name, step.operation) for step in first.steps] == [("db1.dc1", Operation.CREATE)]
    assert bmc.changes == []

    done = bench.up(request_for_site)
    assert done.failed == ()
    assert bmc.machine.power == "On"
    (host,) = done.outputs["hosts"].value
    assert (host["name"], host["address"]) == ("db1.dc1", "192.0.2.30")
    idle = bench.preview(request_for_site)
    assert (idle.steps, idle.drift, idle.unchanged) == ((), (), 1)
    assert idle.engine.startswith("pulumi 3.230.0; ismgr")

    bmc.machine.power = "Off"
    changes = len(bmc.changes)
    seen = bench.preview(request_for_site)
    assert len(bmc.changes) == changes, "a preview changes nothing"
    (drift,), (step,) = seen.drift, seen.steps
    assert (drift.name, drift.operation, step.operation) == ("db1.dc1", Operation.DRIFT, Operation.UPDATE)
    (path,) = drift.changed
    assert (drift.before, drift.after) == ({path: "On"}, {path: "Off"})
    assert (step.before, step.after) == ({path: "Off"}, {path: "On"})

    assert bench.up(request_for_site).failed == ()
    assert bmc.machine.power == "On"
    assert bench.destroy(request_for_site).failed == ()


def test_a_bmc_that_rejects_us_is_named_and_the_password_is_not(bench, bmc, request_for_site, tmp_path):
    bench.up(request_for_site)
    (tmp_path / "secrets" / "db1").write_text("not-the-password-0815")
    with pytest.raises(EngineError) as caught:
        bench.preview(request_for_site)
    assert "db1.dc1" in str(caught.value)
    said = "".join(one.text for one in bench.events if isinstance(one, OutputSeen))
    assert "0815" not in str(caught.value) + caught.value.detail + said
