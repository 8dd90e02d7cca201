"""A running lab: who reaches whom, power over Redfish, reboots that can be proven, names."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping

import pytest
import requests
import sushy
from sushy import auth, exceptions

from ismgr_automation.lab import Fault, FaultKind, Lab, faults, networks
from ismgr_automation.lab.topology import TSIG_KEY, ZONE, Segment
from tests.fixtures_lab import answers_ssh, switch_off, switch_on, system, until

pytestmark = pytest.mark.lab

SITES_ON = ("gw1.dc1", "gw1.dc2", "db1.dc1", "web1.dc1", "db1.dc2")


@pytest.fixture(scope="module")
def sites(lab: Lab) -> Lab:
    """The lab with both gateways and three machines on."""
    switch_on(lab, *SITES_ON)
    return lab


def reached(lab: Lab, name: str, targets: Mapping[str, tuple[object, int]]) -> set[str]:
    """Which targets (by name: address and port) a machine gets a connection to, all tried at once.

    A second is long where everything is one host.
    """
    tries = "".join(
        f"(timeout 1 bash -c 'exec 3<>/dev/tcp/{address}/{port}' 2>/dev/null && echo {target}) & "
        for target, (address, port) in targets.items()
    )
    return set(lab.run(name, ["bash", "-c", f"{tries} wait"]).stdout.split())


def reaches(lab: Lab, name: str, address: object, port: int = 22) -> bool:
    """Whether a machine gets a connection to an address."""
    return reached(lab, name, {"it": (address, port)}) == {"it"}


def boot_time(lab: Lab, name: str) -> str:
    """Field 22 of the init process: when this boot began. It differs after a reboot, in a container too."""
    finished = subprocess.run(
        lab.ssh_command(name, ("cut", "-d' '", "-f22", "/proc/1/stat")), capture_output=True, text=True, check=False
    )
    return finished.stdout.strip()


def ssh(lab: Lab, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(lab.ssh_command(name, words), capture_output=True, text=True, check=False)


# who reaches whom


def test_the_controller_reaches_every_machine_over_management(sites: Lab):
    for name in (*SITES_ON, "ns", "client"):
        until(f"{name} answers", lambda name=name: answers_ssh(sites, name))


@pytest.mark.parametrize("name", ["gw1.dc1", "db1.dc1", "client"])
def test_no_machine_reaches_another_over_management(sites: Lab, name):
    targets = {other: (sites.machine(other).management, 22) for other in (*SITES_ON, "ns", "client")}
    until("it reaches itself alone", lambda: reached(sites, name, targets) == {name})


def test_a_machine_with_another_address_and_mac_still_reaches_nobody_over_management(sites: Lab):
    address = sites.topology.network(Segment.MANAGEMENT).network_address + 77
    change = f"ip address add {address}/24 dev mgmt0 && ip link set mgmt0 address 02:00:00:00:00:77"
    mac = sites.machine("web1.dc1").interfaces[0].mac
    restore = f"ip address del {address}/24 dev mgmt0; ip link set mgmt0 address {mac}"
    try:
        assert sites.run("web1.dc1", ["sh", "-c", change]).code == 0
        assert not reaches(sites, "web1.dc1", sites.machine("db1.dc1").management)
    finally:
        assert sites.run("web1.dc1", ["sh", "-c", restore]).code == 0


def test_neither_the_filter_nor_the_isolation_of_ports_is_alone(sites: Lab):
    bridge = networks.bridges(sites.topology)[Segment.MANAGEMENT]
    target = sites.machine("db1.dc1").management

    def isolated() -> list[bool]:
        look = ["ip", "-json", "-details", "link", "show", "master", bridge]
        shown = subprocess.run(look, check=True, capture_output=True).stdout
        return [row["linkinfo"]["info_slave_data"]["isolated"] for row in json.loads(shown) if row]

    assert len(isolated()) >= len(SITES_ON) + 2
    until("every port is isolated", lambda: all(isolated()))
    table = ("table", "bridge", networks.table(sites.record.name))
    subprocess.run(["nft", "delete", *table], check=True)
    try:
        assert not reaches(sites, "web1.dc1", target)
    finally:
        networks.guard(sites.topology, networks.bridges(sites.topology))


@pytest.mark.parametrize("name", ["gw1.dc1", "db1.dc1", "client"])
def test_no_machine_reaches_a_bmc_or_the_host(sites: Lab, name):
    targets: dict[str, tuple[object, int]] = {one.name: (one.bmc, 443) for one in sites.topology.servers}
    targets |= {f"host:{port}": (sites.topology.controller, port) for port in (22, 53, 443)}
    assert reached(sites, name, targets) == set()


def test_machines_of_a_site_reach_each_other_and_the_other_site_and_the_wan(sites: Lab):
    for name, target, segment in (
        ("web1.dc1", "db1.dc1", Segment.DC1),
        ("web1.dc1", "db1.dc2", Segment.DC2),
        ("db1.dc2", "db1.dc1", Segment.DC1),
        ("db1.dc1", "client", Segment.WAN),
        ("client", "db1.dc2", Segment.DC2),
    ):
        assert reaches(sites, name, sites.machine(target).address(segment)), f"{name} to {target}"


def test_an_address_is_seen_as_it_is_across_the_sites(sites: Lab):
    source, target = (
        sites.machine("db1.dc2").address(Segment.DC2),
        sites.machine("db1.dc1").address(Segment.DC1),
    )
    answer = "SYSTEM:echo $SOCAT_PEERADDR"
    listen = ["systemd-run", "--collect", "--quiet", "socat", "TCP-LISTEN:7777,reuseaddr", answer]
    assert sites.run("db1.dc1", listen).code == 0
    asked = ["socat", "-T", "5", "-", f"TCP:{target}:7777,retry=50,interval=0.1"]
    assert sites.run("db1.dc2", asked).stdout.strip() == str(source)


def test_sites_meet_only_through_their_gateways(sites: Lab):
    target = sites.machine("db1.dc2").address(Segment.DC2)
    assert reaches(sites, "db1.dc1", target)
    switch_off(sites, "gw1.dc2")
    try:
        assert not reaches(sites, "db1.dc1", target)
        assert reaches(sites, "db1.dc1", sites.machine("client").address(Segment.WAN))
        assert answers_ssh(sites, "db1.dc2")
    finally:
        switch_on(sites, "gw1.dc2")
    until("the sites meet again", lambda: reaches(sites, "db1.dc1", target))


# the controller's window on the wide area network


@pytest.fixture
def listener() -> Iterator[int]:
    """The port of something on the host that answers on every address."""
    with socket.create_server(("", 0)) as server:
        yield server.getsockname()[1]


def greets(address: object, port: int = 22) -> bool:
    """Whether the host gets a connection."""
    try:
        socket.create_connection((str(address), port), timeout=1).close()
    except OSError:
        return False
    return True


def test_the_controller_reaches_both_sites_from_the_wide_area_network_with_its_own_address(sites: Lab):
    target = sites.machine("db1.dc1").address(Segment.DC1)
    assert greets(sites.machine("db1.dc2").address(Segment.DC2))
    listen = ["systemd-run", "--collect", "--quiet", "socat", "TCP-LISTEN:7778", "SYSTEM:echo $SOCAT_PEERADDR"]
    assert sites.run("db1.dc1", listen).code == 0
    until("db1.dc1 listens", lambda: "7778" in sites.run("db1.dc1", ["ss", "-Hltn", "sport", "=", "7778"]).stdout)
    with socket.create_connection((str(target), 7778), timeout=5) as connection:
        assert connection.recv(64).decode().strip() == str(sites.topology.window.address)


def test_the_controller_meets_a_site_only_through_its_gateway(sites: Lab):
    target = sites.machine("db1.dc2").address(Segment.DC2)
    assert greets(target)
    switch_off(sites, "gw1.dc2")
    try:
        assert not greets(target)
        assert greets(sites.machine("db1.dc1").address(Segment.DC1))
    finally:
        switch_on(sites, "gw1.dc2")
    until("the controller meets dc2 again", lambda: greets(target))


@pytest.mark.parametrize("name", ["gw1.dc1", "db1.dc1", "client"])
def test_no_machine_opens_a_connection_to_the_host_through_its_window(sites: Lab, listener: int, name):
    window, controller = sites.topology.window.address, sites.topology.controller
    assert greets(window, listener), "it does listen"
    assert greets(controller, listener)
    targets: dict[str, tuple[object, int]] = {"window": (window, listener), "management": (controller, listener)}
    targets["ns"] = (sites.machine("ns").address(Segment.WAN), 22)
    assert reached(sites, name, targets) == {"ns"}


def test_no_machine_comes_to_another_address_of_the_host_by_the_window(sites: Lab, listener: int):
    window, controller = sites.topology.window.address, sites.topology.controller
    change = ["ip", "route", "add", f"{controller}/32", "via", str(window), "dev", "wan0"]
    assert sites.run("client", change).code == 0
    try:
        assert not reaches(sites, "client", controller, listener)
    finally:
        assert sites.run("client", ["ip", "route", "del", f"{controller}/32"]).code == 0


ROUTERS = {
    "to a site": ("client", "db1.dc2", Segment.DC2),
    "to a neighbour on the wide area network": ("gw1.dc1", "gw1.dc2", Segment.WAN),
    "to management": ("gw1.dc1", "db1.dc2", Segment.MANAGEMENT),
}


@pytest.mark.parametrize(("name", "target", "segment"), ROUTERS.values(), ids=ROUTERS)
def test_the_host_is_nobodys_router(sites: Lab, name, target, segment):
    address, window = sites.machine(target).address(segment), sites.topology.window.address
    before = reaches(sites, name, address)
    assert before == (segment is not Segment.MANAGEMENT)
    assert sites.run(name, ["ip", "route", "add", f"{address}/32", "via", str(window), "dev", "wan0"]).code == 0
    try:
        assert not reaches(sites, name, address)
    finally:
        assert sites.run(name, ["ip", "route", "del", f"{address}/32"]).code == 0
    assert reaches(sites, name, address) == before


def test_two_machines_that_agree_to_use_the_host_as_router_do_not_meet_over_management(sites: Lab):
    one, other = "web1.dc1", "db1.dc2"
    ends = {name: sites.machine(name).management for name in (one, other)}
    change = f"ip route {{}} {{}}/32 via {sites.topology.controller} dev mgmt0"
    try:
        for name, peer in ((one, other), (other, one)):
            assert sites.run(name, ["sh", "-c", change.format("add", ends[peer])]).code == 0
        assert not reaches(sites, one, ends[other])
    finally:
        for name, peer in ((one, other), (other, one)):
            assert sites.run(name, ["sh", "-c", change.format("del", ends[peer])]).code == 0


# identity


def test_ssh_checks_the_recorded_host_key_and_sudo_needs_no_password(sites: Lab):
    assert ssh(sites, "db1.dc1", "sudo", "-n", "id", "-u").stdout.strip() == "0"
    assert ssh(sites, "db1.dc1", "hostname").stdout.strip() == "db1.dc1"


def test_a_foreign_host_key_is_refused(sites: Lab, tmp_path):
    known = tmp_path / "known_hosts"
    address = sites.machine("db1.dc1").management
    wrong = sites.folder.host_key(sites.machine("web1.dc1")).read_text()
    known.write_text(f"{address} {wrong}")
    command = [
        word.replace(str(sites.folder.known_hosts), str(known)) for word in sites.ssh_command("db1.dc1", ["true"])
    ]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 255


def test_each_machine_has_a_host_key_and_a_machine_id_of_its_own(sites: Lab):
    keys = {sites.folder.host_key(machine).read_text() for machine in sites.topology.machines}
    assert len(keys) == len(sites.topology.machines)
    ids = {sites.run(name, ["cat", "/etc/machine-id"]).stdout for name in SITES_ON}
    assert len(ids) == len(SITES_ON)


def test_no_service_of_a_role_runs_before_its_role(sites: Lab):
    for unit in ("haproxy", "knot", "postgresql", "chrony", "nftables"):
        assert sites.run("db1.dc1", ["systemctl", "is-enabled", unit]).stdout.strip() == "disabled", unit
    assert sites.run("db1.dc1", ["pg_lsclusters", "--no-header"]).stdout == ""
    assert sites.run("db1.dc1", ["systemctl", "--failed", "--quiet"]).stdout == ""


# power and reboots


def test_power_goes_off_and_on_over_redfish_and_is_the_life_of_the_machine(sites: Lab):
    machine = system(sites, "web1.dc1")
    assert machine.power_state is sushy.PowerState.ON
    machine.reset_system(sushy.RESET_FORCE_OFF)
    machine.refresh()
    assert machine.power_state is sushy.PowerState.OFF
    assert not answers_ssh(sites, "web1.dc1")
    machine.reset_system(sushy.RESET_ON)
    until("web1.dc1 is back", lambda: answers_ssh(sites, "web1.dc1"))
    machine.reset_system(sushy.RESET_GRACEFUL_SHUTDOWN)
    until("web1.dc1 has shut down", lambda: off(machine))
    switch_on(sites, "web1.dc1")


def off(machine) -> bool:
    machine.refresh()
    return machine.power_state is sushy.PowerState.OFF


@pytest.mark.parametrize("way", ["inside", "graceful", "forced"])
def test_a_reboot_comes_back_and_can_be_proven(sites: Lab, way):
    before = boot_time(sites, "web1.dc1")
    assert before
    match way:
        case "inside":
            ssh(sites, "web1.dc1", "sudo", "systemctl", "reboot")
        case "graceful":
            system(sites, "web1.dc1").reset_system(sushy.RESET_GRACEFUL_RESTART)
        case _:
            system(sites, "web1.dc1").reset_system(sushy.RESET_FORCE_RESTART)
    until("web1.dc1 has booted again", lambda: boot_time(sites, "web1.dc1") not in {"", before})
    assert system(sites, "web1.dc1").power_state is sushy.PowerState.ON
    gateway = sites.machine("gw1.dc1").address(Segment.DC1)
    assert reaches(sites, "web1.dc1", gateway), "routes are back after a reboot"


def test_a_machine_that_switches_itself_off_stays_off(sites: Lab):
    ssh(sites, "web1.dc1", "sudo", "systemctl", "poweroff")
    machine = system(sites, "web1.dc1")
    until("web1.dc1 is off", lambda: off(machine))
    switch_on(sites, "web1.dc1")


def test_the_name_server_comes_back_by_itself(lab: Lab):
    before = boot_time(lab, "ns")
    ssh(lab, "ns", "sudo", "systemctl", "poweroff")
    until("ns has booted again", lambda: boot_time(lab, "ns") not in {"", before})


# the BMC


def test_a_wrong_credential_is_rejected_and_changes_nothing(healthy_bmcs: Lab):
    lab = healthy_bmcs
    for user, password in (
        ("admin", "wrong"),
        ("root", lab.bmc_credential("edge1.dc1")[1]),
        lab.bmc_credential("edge1.dc2"),
    ):
        with pytest.raises(exceptions.AccessError):
            sushy.Sushy(
                lab.bmc_url("edge1.dc1"), verify=str(lab.folder.authority), auth=auth.BasicAuth(user, password)
            ).get_system()
    url = f"{lab.bmc_url('edge1.dc1')}/redfish/v1/Systems/{lab.machine('edge1.dc1').uuid}/Actions/ComputerSystem.Reset"
    answer = requests.post(url, json={"ResetType": "On"}, verify=str(lab.folder.authority), timeout=5)
    assert answer.status_code == 401
    assert not lab_machine_on(lab, "edge1.dc1")


def lab_machine_on(lab: Lab, name: str) -> bool:
    return next(one.on for one in lab.status().machines if one.machine.name == name)


def test_a_certificate_of_another_authority_is_not_trusted(healthy_bmcs: Lab):
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(f"{healthy_bmcs.bmc_url('edge1.dc1')}/redfish/v1", timeout=5)
    host, authority = str(healthy_bmcs.machine("edge1.dc1").bmc), str(healthy_bmcs.folder.authority)
    assert "BEGIN CERTIFICATE" in ssl.get_server_certificate((host, 443), ca_certs=authority)


def test_a_bmc_knows_its_own_machine_and_no_other(healthy_bmcs: Lab):
    own, other = healthy_bmcs.machine("edge1.dc1"), healthy_bmcs.machine("edge1.dc2")
    session = requests.Session()
    session.trust_env = False  # a bundle named in the environment would win over ours
    session.auth, session.verify = healthy_bmcs.bmc_credential("edge1.dc1"), str(healthy_bmcs.folder.authority)
    url = f"{healthy_bmcs.bmc_url('edge1.dc1')}/redfish/v1/Systems"
    assert [row["@odata.id"] for row in session.get(url, timeout=5).json()["Members"]] == [
        f"/redfish/v1/Systems/{own.uuid}"
    ]
    assert session.get(f"{url}/{other.uuid}", timeout=5).status_code == 404
    answer = session.patch(f"{url}/{other.uuid}", json={"AssetTag": "stolen"}, timeout=5)
    assert answer.status_code == 404


def test_a_bmc_describes_its_machine(healthy_bmcs: Lab):
    planned = healthy_bmcs.machine("gw1.dc1")
    machine = system(healthy_bmcs, "gw1.dc1")
    assert machine.uuid == planned.uuid
    assert machine.json["SerialNumber"] == planned.serial
    assert machine.json["HostName"] == "gw1.dc1"
    assert machine.bios_version
    assert machine.managers[0].firmware_version
    cards = {card.json["Id"]: card.json for card in machine.ethernet_interfaces.get_members()}
    assert {name: row["IPv4Addresses"][0]["Address"] for name, row in cards.items()} == {
        card.name: str(card.address) for card in planned.interfaces
    }
    assert {row["MACAddress"] for row in cards.values()} == {card.mac for card in planned.interfaces}


def test_asset_tag_and_boot_device_hold_and_once_ends_with_the_next_boot(healthy_bmcs: Lab):
    machine = system(healthy_bmcs, "edge1.dc2")
    machine._conn.patch(machine.path, data={"AssetTag": "A-17"})
    machine.set_system_boot_options(target=sushy.BOOT_SOURCE_TARGET_PXE, enabled=sushy.BOOT_SOURCE_ENABLED_ONCE)
    machine.refresh()
    assert machine.json["AssetTag"] == "A-17"
    assert (machine.boot.target, machine.boot.enabled) == (
        sushy.BOOT_SOURCE_TARGET_PXE,
        sushy.BOOT_SOURCE_ENABLED_ONCE,
    )
    machine.reset_system(sushy.RESET_ON)
    machine.refresh()
    assert machine.boot.enabled is sushy.BOOT_SOURCE_ENABLED_DISABLED
    assert machine.json["AssetTag"] == "A-17"
    machine.reset_system(sushy.RESET_FORCE_OFF)


def test_bios_settings_wait_for_the_next_boot_and_unknown_ones_are_refused(healthy_bmcs: Lab):
    machine = system(healthy_bmcs, "edge1.dc2")
    wanted = "Disabled" if machine.bios.attributes["ProcTurboMode"] == "Enabled" else "Enabled"
    machine.bios.set_attribute("ProcTurboMode", wanted)
    machine.bios.refresh()
    assert machine.bios.attributes["ProcTurboMode"] != wanted
    assert machine.bios.pending_attributes["ProcTurboMode"] == wanted
    machine.reset_system(sushy.RESET_ON)
    machine.bios.refresh()
    assert machine.bios.attributes["ProcTurboMode"] == wanted
    machine.reset_system(sushy.RESET_FORCE_OFF)
    with pytest.raises(exceptions.BadRequestError, match="no BIOS attribute NoSuch"):
        machine.bios.set_attribute("NoSuch", "1")


@pytest.mark.parametrize(
    "body",
    [
        {"Boot": {"BootSourceOverrideTarget": "Floppy"}},
        {"Boot": {"BootSourceOverrideEnabled": "Sometimes"}},
        {"Boot": {"BootSourceOverrideMode": "Legacy"}},
        {},
    ],
    ids=["target", "enabled", "mode", "nothing"],
)
def test_a_patch_that_makes_no_sense_is_refused(healthy_bmcs: Lab, body):
    machine = system(healthy_bmcs, "edge1.dc2")
    with pytest.raises(exceptions.BadRequestError):
        machine._conn.patch(machine.path, data=body)


def test_an_ordered_503_comes_as_often_as_ordered(healthy_bmcs: Lab):
    url, authority = f"{healthy_bmcs.bmc_url('edge1.dc2')}/redfish/v1", str(healthy_bmcs.folder.authority)
    healthy_bmcs.arrange("edge1.dc2", Fault(kind=FaultKind.UNAVAILABLE, times=2))
    assert [requests.get(url, verify=authority, timeout=5).status_code for _ in range(3)] == [503, 503, 200]


def test_a_silent_bmc_gives_no_answer(healthy_bmcs: Lab):
    url, authority = f"{healthy_bmcs.bmc_url('edge1.dc2')}/redfish/v1", str(healthy_bmcs.folder.authority)
    healthy_bmcs.arrange("edge1.dc2", Fault(kind=FaultKind.SILENT))
    with pytest.raises(requests.exceptions.ConnectionError):
        requests.get(url, verify=authority, timeout=5)
    assert requests.get(url, verify=authority, timeout=5).status_code == 200


def test_a_slow_answer_is_late_and_others_are_not(healthy_bmcs: Lab):
    url, authority = f"{healthy_bmcs.bmc_url('edge1.dc2')}/redfish/v1", str(healthy_bmcs.folder.authority)
    healthy_bmcs.arrange("edge1.dc2", Fault(kind=FaultKind.SLOW, seconds=20))
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.get(url, verify=authority, timeout=(5, 0.3))
    until("the order was taken", lambda: not faults.ordered(healthy_bmcs.folder.faults("edge1.dc2")))
    assert requests.get(url, verify=authority, timeout=5).status_code == 200


@pytest.mark.parametrize("kind", [FaultKind.LIES, FaultKind.IGNORES])
def test_a_bmc_that_does_nothing_lies_or_does_not(healthy_bmcs: Lab, kind):
    machine = system(healthy_bmcs, "edge1.dc2")
    healthy_bmcs.arrange("edge1.dc2", Fault(kind=kind, times=2))
    machine.reset_system(sushy.RESET_ON)
    machine.refresh()
    assert machine.power_state is (sushy.PowerState.ON if kind is FaultKind.LIES else sushy.PowerState.OFF)
    assert not lab_machine_on(healthy_bmcs, "edge1.dc2")
    healthy_bmcs.arrange("edge1.dc2")
    machine.refresh()
    assert machine.power_state is sushy.PowerState.OFF


def test_a_client_that_says_nothing_does_not_stop_a_bmc(healthy_bmcs: Lab):
    url, authority = f"{healthy_bmcs.bmc_url('edge1.dc2')}/redfish/v1", str(healthy_bmcs.folder.authority)
    with socket.create_connection((str(healthy_bmcs.machine("edge1.dc2").bmc), 443), timeout=5):
        assert requests.get(url, verify=authority, timeout=5).status_code == 200


# names


def test_names_are_changed_by_signed_updates_only_and_the_client_sees_them(lab: Lab):
    import dns.query
    import dns.rcode
    import dns.tsigkeyring
    import dns.update

    server = str(lab.machine("ns").management)
    update = dns.update.UpdateMessage(ZONE)
    update.replace("www", 5, "A", "10.43.0.11")
    assert dns.query.tcp(update, server, timeout=5).rcode() in {dns.rcode.REFUSED, dns.rcode.NOTAUTH}
    update.use_tsig(dns.tsigkeyring.from_text({f"{TSIG_KEY}.": lab.folder.tsig.read_text()}))
    assert dns.query.tcp(update, server, timeout=5).rcode() == dns.rcode.NOERROR
    assert "10.43.0.11" in lab.run("client", ["getent", "hosts", f"www.{ZONE}"]).stdout


def test_the_zone_is_transferred_to_those_with_the_key_only(lab: Lab):
    import dns.query
    import dns.tsigkeyring
    import dns.xfr
    import dns.zone

    server = str(lab.machine("ns").management)
    zone = dns.zone.Zone(ZONE)
    with pytest.raises(dns.xfr.TransferError):
        dns.query.inbound_xfr(server, zone, timeout=5)
    keyring = dns.tsigkeyring.from_text({f"{TSIG_KEY}.": lab.folder.tsig.read_text()})
    query, _serial = dns.xfr.make_query(zone, keyring=keyring)
    dns.query.inbound_xfr(server, zone, query, timeout=5)
    assert zone.find_node("ns")
