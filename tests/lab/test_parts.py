"""Parts of a lab that need no host: its filter, its documents, its faults, its folder, its keys."""

from __future__ import annotations

import json
import ssl
from ipaddress import IPv4Address

import pytest
import yaml

from ismgr_automation.core.errors import Refused, SettingsError
from ismgr_automation.estate.documents import Site
from ismgr_automation.lab import documents, faults, folder, keys, names, networks
from ismgr_automation.lab.faults import Fault, Kind
from ismgr_automation.lab.folder import Folder, Phase, Record
from ismgr_automation.lab.topology import SITES, Segment, draw

TOPOLOGY = draw("demo", 0)
BRIDGES = {segment: f"podman{number}" for number, segment in enumerate(Segment)}


@pytest.fixture
def home(tmp_path, monkeypatch) -> Folder:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(folder, "RUN", tmp_path / "run")
    return folder.folder_of("demo")


def filled(home: Folder) -> Folder:
    home.write(Record(name="demo", index=0, image="an-image", phase=Phase.UP))
    for path in (home.operator_key, home.tsig, home.authority):
        folder.write_private(path, f"content of {path.name}")
    for machine in TOPOLOGY.servers:
        folder.write_private(home.bmc(machine, "password"), f"password of {machine.name}")
        folder.write_private(home.host_key(machine), keys.ssh_key_pair("x").public + "\n")
    return home


def test_the_filter_names_the_management_network_by_mac_and_address_and_each_bridge():
    script = networks.rules(TOPOLOGY, BRIDGES)
    assert "ether saddr & ff:ff:ff:ff:ff:00 == 02:69:73:00:00:00" in script
    assert "ip saddr 10.40.0.0/24" in script
    for machine in TOPOLOGY.machines:
        assert machine.interfaces[0].mac.startswith("02:69:73:00:00:")
        assert not any(card.mac.startswith("02:69:73:00:00:") for card in machine.interfaces[1:])
    for bridge in BRIDGES.values():
        assert f'iifname "{bridge}" oifname != "{bridge}" drop' in script


def test_nothing_new_comes_to_the_host_from_any_network_and_no_advice_on_routes():
    script = networks.rules(TOPOLOGY, BRIDGES)
    every = ", ".join(f'"{bridge}"' for bridge in BRIDGES.values())
    drops = [f"iifname {{ {every} }} {what} drop" for what in ("icmp type redirect counter", "counter")]
    accept = f"iifname {{ {every} }} ct state established,related accept"
    assert script.index(drops[0]) < script.index(accept) < script.index(drops[1])


def test_two_labs_filter_in_tables_of_their_own():
    assert networks.table("my-lab") != networks.table("demo")
    assert "ismgr_lab_demo" in networks.rules(TOPOLOGY, BRIDGES)


@pytest.mark.parametrize("site", SITES)
def test_a_written_site_is_a_valid_document_with_all_that_a_machine_needs(home, tmp_path, site):
    written = documents.write(TOPOLOGY, filled(home), tmp_path / "estate")
    assert f"sites/{site}.yaml" in {str(path) for path in written}
    document = Site.model_validate(yaml.safe_load((tmp_path / "estate" / "sites" / f"{site}.yaml").read_text()))
    assert [machine.name for machine in document.machines] == ["gw1", "edge1", "web1", "db1"]
    for machine in document.machines:
        planned = TOPOLOGY.machine(f"{machine.name}.{site}")
        assert machine.address == str(planned.management)
        assert machine.bmc.address == f"https://{planned.bmc}"
        assert machine.host_keys[0].startswith("ssh-ed25519 ")
        assert machine.labels == {"role": str(planned.role), "site": str(site)}
        secret = machine.bmc.password.secret.removeprefix("file:")
        assert (tmp_path / "estate/.secrets" / secret).read_text() == f"password of {planned.name}"
        assert machine.bmc.ca == "trust/bmc-ca.pem"
        assert (tmp_path / "estate" / machine.bmc.ca).is_file()


def test_written_secrets_are_for_their_owner_only_and_nothing_else_holds_them(home, tmp_path):
    written = documents.write(TOPOLOGY, filled(home), tmp_path / "estate")
    secrets = [path for path in written if path.parts[0] == ".secrets"]
    assert len(secrets) == 2 + len(TOPOLOGY.servers)
    for path in written:
        if path in secrets:
            assert (tmp_path / "estate" / path).stat().st_mode & 0o077 == 0
        else:
            assert "password of" not in (tmp_path / "estate" / path).read_text()


def test_faults_come_in_order_and_run_out(tmp_path):
    path = tmp_path / "db1.json"
    everything = frozenset(Kind)
    faults.arrange(path, [Fault(kind=Kind.UNAVAILABLE, times=2), Fault(kind=Kind.SLOW, seconds=1.5)])
    taken = [faults.take(path, "GET", everything) for _ in range(4)]
    assert [one.kind if one else None for one in taken] == [Kind.UNAVAILABLE, Kind.UNAVAILABLE, Kind.SLOW, None]
    assert taken[2] is not None
    assert taken[2].seconds == 1.5


def test_a_fault_waits_for_its_method_and_its_place(tmp_path):
    path = tmp_path / "db1.json"
    faults.arrange(path, [Fault(kind=Kind.UNAVAILABLE, methods=("POST",)), Fault(kind=Kind.LIES)])
    assert faults.take(path, "GET", frozenset({Kind.UNAVAILABLE})) is None
    assert faults.take(path, "POST", frozenset({Kind.SLOW})) is None
    assert faults.take(path, "POST", frozenset({Kind.LIES})) == Fault(kind=Kind.LIES)
    assert faults.take(path, "POST", frozenset({Kind.UNAVAILABLE})) is not None
    assert faults.ordered(path) == ()


def test_cleared_faults_are_gone(tmp_path):
    faults.arrange(tmp_path / "x.json", [Fault(kind=Kind.SILENT)])
    faults.clear(tmp_path / "x.json")
    assert faults.ordered(tmp_path / "x.json") == ()


def test_a_record_is_read_as_it_was_written(home):
    record = Record(name="demo", index=0, image="an-image", phase=Phase.STARTING)
    home.write(record)
    assert home.read() == record
    assert home.record.stat().st_mode & 0o077 == 0


def test_a_record_remembers_how_many_web_machines_there_are_and_an_older_one_has_one(home):
    home.write(Record(name="demo", index=0, image="an-image", phase=Phase.UP, webs=7))
    body = json.loads(home.record.read_text())
    assert home.read().topology == draw("demo", 0, 7)
    home.record.write_text(json.dumps({key: value for key, value in body.items() if key != "webs"}))
    assert home.read().topology == TOPOLOGY


def test_no_record_and_half_a_record_are_no_lab(home):
    assert home.read() is None
    home.root.mkdir(parents=True)
    home.record.write_text('{"format": "ismgr.l')
    assert home.read() is None


def test_a_record_of_another_format_is_an_error_that_says_the_way_out(home):
    home.root.mkdir(parents=True)
    home.record.write_text('{"format": "ismgr.lab/9"}')
    with pytest.raises(SettingsError, match="ismgr lab down --name demo"):
        home.read()


def test_a_lab_keeps_its_place_and_others_avoid_it_and_those_of_other_users(home):
    folder.folder_of("mine").write(Record(name="mine", index=2, image="x", phase=Phase.UP))
    assert folder.take_index("mine", {}) == 2
    assert folder.take_index("other", {"foreign": 3}) == 4
    assert folder.take_index("foreign", {"foreign": 3}) == 3


def test_two_at_work_on_one_lab_are_one_too_many(home):
    with folder.at_work("demo"), folder.at_work("mine"):
        second = folder.at_work("demo")
        with pytest.raises(Refused, match="at work on the lab demo"):
            second.__enter__()
    with folder.at_work("demo"):
        assert not home.root.exists()


def test_the_folder_of_all_labs_goes_with_the_last_one(home, tmp_path):
    with folder.alone():
        home.root.mkdir(parents=True)
    folder.tidy()
    assert home.root.is_dir()
    home.root.rmdir()
    folder.tidy()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_leaves_no_half(home, monkeypatch):
    path = home.root / "x"
    folder.write_private(path, "before")
    with pytest.raises(UnicodeEncodeError):
        folder.write_private(path, "\ud800")
    assert path.read_text() == "before"
    assert [child.name for child in home.root.iterdir()] == ["x"]


def test_bmc_certificates_are_for_one_address_each_and_their_authority_signs_nothing_else():
    addresses = {"a": IPv4Address("10.0.0.1"), "b": IPv4Address("10.0.0.2")}
    authority, certificates = keys.bmc_certificates("demo", addresses)
    context = ssl.create_default_context(cadata=authority)
    assert len(context.get_ca_certs()) == 1
    assert certificates["a"].key != certificates["b"].key
    assert "PRIVATE KEY" not in authority
    assert "PRIVATE" not in repr(certificates["a"])


def test_private_keys_are_not_in_a_repr():
    pair = keys.ssh_key_pair("somebody")
    assert "PRIVATE" in pair.private
    assert "PRIVATE" not in repr(pair)
    assert pair.public.startswith("ssh-ed25519 ")


def test_the_zone_asks_for_the_key_on_updates_and_transfers():
    text = names.configuration(TOPOLOGY, "c2VjcmV0")
    assert "secret: c2VjcmV0" in text
    assert "action: [transfer, update]" in text
    assert "acl: signed" in text
    assert "ns      A   10.43.0.5" in names.zone(TOPOLOGY)
