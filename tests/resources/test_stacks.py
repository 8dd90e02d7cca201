"""The shipped programs, run by runpy as ismgr does and on the real engine."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from ismgr_automation import shipped
from tests.provider import knot
from tests.provider.fake_bmc import PASSWORD, USER, Authority, FakeBmc
from tests.provider.inline import Failed, Inline

pytestmark = pytest.mark.engine


def program(name):
    """As a worker runs it."""
    main = shipped.root() / "stacks" / name / "__main__.py"
    return lambda: runpy.run_path(str(main), run_name="__main__") and None


@pytest.fixture
def estate(tmp_path):
    root = tmp_path / "estate"
    (root / "trust").mkdir(parents=True)
    (root / "secrets" / "bmc").mkdir(parents=True)
    return root


@pytest.fixture
def stack(tmp_path, pulumi_engine_path, estate):
    environment = {
        "ISMGR_ESTATE_ROOT": str(estate),
        "ISMGR_SECRET_BACKENDS": json.dumps({"file": {"kind": "file", "root": str(estate / "secrets")}}),
    }
    return Inline(tmp_path, pulumi_engine_path, environment)


def private(file: Path, text: str) -> None:
    file.write_text(text)
    file.chmod(0o600)


def machine(name, bmc, *, address):
    return {
        "name": name,
        "address": address,
        "labels": {"role": name.rstrip("1"), "site": "dc1"},
        "host_keys": ["ssh-ed25519 AAAA"],
        "addresses": {"dc1": "10.41.0.40"},
        "bmc": {
            "address": bmc.url,
            "username": USER,
            "password": {"secret": f"file:bmc/{name}.dc1"},
            "ca": "trust/bmc-ca.pem",
            "system": "",
        },
    }


def test_servers_powers_on_a_site_and_lists_its_hosts(stack, estate):
    authority = Authority(estate / "trust", "bmc-ca")
    with FakeBmc(authority).running() as db, FakeBmc(authority).running() as web:
        for name in ("db1", "web1"):
            private(estate / "secrets" / "bmc" / f"{name}.dc1", PASSWORD)
        machines = [machine("db1", db, address="10.40.0.14"), machine("web1", web, address="")]
        stack.config(site={"name": "dc1", "machines": machines})

        stack.preview(program("servers"))
        first, second = stack.preview_outputs()["hosts"]
        assert (first["name"], first["address"], first["labels"]) == (
            "db1.dc1",
            "10.40.0.14",
            {"role": "db", "site": "dc1"},
        )
        assert (second["name"], second["labels"]["role"]) == ("web1.dc1", "web"), "known although its address is not"
        assert second["address"] != "192.0.2.30"
        assert db.requests == web.requests == []

        stack.up()
        assert (db.machine.power, web.machine.power) == ("On", "On")
        assert stack.outputs()["hosts"] == [
            {
                "name": "db1.dc1",
                "address": "10.40.0.14",
                "labels": {"role": "db", "site": "dc1"},
                "host_keys": ["ssh-ed25519 AAAA"],
                "site": "dc1",
                "machine": "db1",
                "addresses": {"dc1": "10.41.0.40"},
            },
            {
                "name": "web1.dc1",
                "address": "192.0.2.30",
                "labels": {"role": "web", "site": "dc1"},
                "host_keys": ["ssh-ed25519 AAAA"],
                "site": "dc1",
                "machine": "web1",
                "addresses": {"dc1": "10.41.0.40"},
            },
        ]
        stack.destroy()
        assert (db.machine.power, web.machine.power) == ("Off", "Off")


def test_servers_can_be_narrowed_to_some_labels(stack, estate):
    with FakeBmc(Authority(estate / "trust", "bmc-ca")).running() as bmc:
        machines = [machine("db1", bmc, address="10.40.0.14"), machine("web1", bmc, address="10.40.0.13")]
        stack.config(site={"name": "dc1", "machines": machines}, select={"role": "web"})
        assert stack.preview(program("servers")) == {"create": 2}
        assert [host["name"] for host in stack.preview_outputs()["hosts"]] == ["web1.dc1"]


def test_a_site_that_is_none_is_said_by_the_program(stack):
    stack.config(site={"name": "dc1", "machines": [{"name": "db1"}]})
    with pytest.raises(Failed, match=r"the config value 'site' is not a Site document: machines\.0\.bmc"):
        stack.preview(program("servers"))


@pytest.mark.skipif(not Path(knot.KNOTD).exists(), reason="the package knot is not installed")
def test_names_publishes_records(stack, estate, tmp_path):
    private(estate / "secrets" / "tsig", knot.SECRET)
    (tmp_path / "knot").mkdir()
    with knot.running(tmp_path / "knot") as server:
        stack.config(
            server="127.0.0.1",
            port=server.port,
            zone=knot.ZONE,
            key_name=knot.KEY,
            key_secret_ref="file:tsig",
            records=[{"name": "records", "type": "A", "ttl": 60, "values": ["10.41.0.20"]}],
        )
        stack.up(program("names"))
        names = {"records A": {"fqdn": "records.two-sites.test.", "records": ["10.41.0.20"]}}
        assert stack.outputs()["names"] == names
        assert set(stack.preview()) == {"same"}
        assert knot.SECRET not in stack.state_text()
        stack.destroy()
